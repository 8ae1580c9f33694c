"""An epoch of the frozen first stage on stored activations, against passing every picture through the network anew.

Two cells of the `short` profile's first stage (the head learns, all layers stand still) in this process, by turns: the
one as it is, the other with `recipe.cache = false`, which recomputes the network's output for every picture in every
epoch. An epoch has the training pictures, the validation pictures and the checkpoint. Making the stored activations is
told besides: it is paid once for all epochs and for all methods that see the same pictures.

Wanted: 30.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click
from cells import decoded, epochs, plan, scenes
from sides import Took, by_turns, ratio, shown, tell

EPOCHS = {"stored": 5, "recomputed": 1}


@click.command(help=__doc__)
@click.option("--network", default="resnet18", show_default=True)
@click.option("--pictures", type=click.IntRange(min=64), default=2500, show_default=True, help="To train on.")
@click.option("--turns", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--small", is_flag=True, help="A network of three layers and 64 pictures: does it run at all?")
def main(network: str, pictures: int, turns: int, *, small: bool) -> None:
    """See the text of this file."""
    if small:
        network, pictures, turns = "tiny", 64, 1
    val = pictures * 2 // 5
    made: list[Took] = []
    with tempfile.TemporaryDirectory(prefix="biasbench-perf-") as folder:

        def epoch(way: str) -> Took:
            """The median one of a cell."""
            recipe: dict[str, Any] = {
                "cache": way == "stored", "stages.0.epochs": EPOCHS[way], "stages.1.epochs": 0, "select": "last",
            }  # fmt: skip
            again = {"results": f"results-{way}-{len(made)}", "cache": f"cache-{len(made)}"}
            cells, jobs = plan(Path(folder), ["original"], scenes(pictures, val), network, recipe, **again)
            first, *found = epochs(decoded(cells[0], jobs))
            if way == "stored":
                made.append(first)
            return sorted(found, key=lambda took: took.cpu)[len(found) // 2]

        found = by_turns({way: lambda way=way: epoch(way) for way in EPOCHS}, turns)
    click.echo(f"{network}, 96 px, {pictures} pictures to train on and {val} of validation")
    per = dict.fromkeys(found, 1.0)
    tell(found, per, "an epoch")
    cost = min(took.cpu for took in made)
    click.echo(f"making the stored activations, of all splits and two views for training: {shown(cost)} of CPU, once")
    ratio(found, per, "recomputed", "stored", 30)


if __name__ == "__main__":
    main()
