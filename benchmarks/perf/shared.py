"""All rows of Table 4 of Wang et al. 2019 with shared stages and caches, against each row trained on its own.

The rows of benchmarks/scenes-table4.toml that are in the table, on a small part of the generated scenes, with the
`short` profile, one after the other in this process:

* shared: one results folder and one cache, as in `biasbench run scenes-table4`. Rows that start from the finished plain
  model find it; rows that see the same pictures find them decoded, and passed through the frozen layers;
* alone: a results folder and a cache for each row, so that each decodes, fills its own stored activations, and trains
  what it starts from.

What is counted is training, not measuring. The counts are the planner's (`--dry-run`).

Wanted: 2.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from cells import TINY, plan, scenes, train
from sides import by_turns, ratio, tell, timed

from biasbench.benchmark import load_benchmark
from biasbench.costs.work import plan_work
from biasbench.plugins import load_plugins

IN_TABLE = 10  # rows of the file; what follows them is not in the table
SIDE = 64  # of a picture, pixels
COUNTED = {
    "trainings": "trainings", "epochs": "epochs", "decoded_images": "files decoded",
    "feature_rows": "pictures through frozen layers", "training_rows": "pictures trained on, all epochs",
}  # fmt: skip
SMALL = ["original", "adv-conv5", "blackout-segm"]


@click.command(help=__doc__)
@click.option("--pictures", type=click.IntRange(min=64), default=600, show_default=True, help="To train on.")
@click.option("--network", default="resnet18", show_default=True)
@click.option("--turns", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--small", is_flag=True, help="Three rows, 64 pictures, a network of three layers: does it run at all?")
def main(pictures: int, network: str, turns: int, *, small: bool) -> None:
    """See the text of this file."""
    rows = [row.method for row in load_benchmark(Path("scenes-table4")).rows][:IN_TABLE]
    if small:
        rows, pictures, network, turns = SMALL, 64, "tiny", 1
    data = scenes(pictures, pictures * 2 // 5)
    with tempfile.TemporaryDirectory(prefix="biasbench-perf-") as name:
        folder = Path(name)
        number = iter(range(10**6))
        recipe = {"crop": SIDE, "short_side": SIDE * 8 // 7}

        def run(methods: list[str]) -> None:
            own = str(next(number))
            cells, jobs = plan(folder, methods, data, network, recipe, results=f"results-{own}", cache=f"cache-{own}")
            for cell in cells:
                train(cell, jobs)

        cells, _ = plan(folder, rows, data, network, recipe)
        plugins = load_plugins([TINY])
        together = plan_work(cells, None, folder / "none", plugins).totals()
        apart = [plan_work([cell], None, folder / "none", plugins).totals() for cell in cells]
        sides = {
            "shared": lambda: timed(lambda: run(rows)),
            "alone": lambda: timed(lambda: [run([row]) for row in rows]),
        }
        found = by_turns(sides, turns)
    click.echo(f"{len(cells)} of {len(rows)} rows can run here")
    click.echo(f"{pictures} pictures to train on, {network}, {SIDE} px")
    for key, what in COUNTED.items():
        click.echo(f"{what}: shared {together[key]:,}, alone {sum(one[key] for one in apart):,}")
    per = dict.fromkeys(found, 1.0)
    tell(found, per, "for all rows")
    ratio(found, per, "alone", "shared", 2)


if __name__ == "__main__":
    main()
