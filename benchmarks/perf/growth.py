"""Costs grow linearly with pictures, methods and seeds: three sizes of each, by turns.

Cells train one after the other in this process, as a run has them, from an empty results folder and an empty cache;
what is measured are processor seconds. Sizes are n, 2 n and 4 n, and of each kind

    growth = (cost(4 n) - cost(2 n)) / (2 (cost(2 n) - cost(n))),

which is 1 for a straight line whatever it costs to begin, and 2 where costs grow with the square.

* pictures: the plain model, whose frozen layers are passed once and whose head and last stage are trained;
* methods: adversaries of different weights, which all start from one plain model;
* seeds: the plain model, whose stored activations all seeds share.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click
from cells import decoded, plan, scenes, train
from sides import Took, by_turns, shown, timed

FACTORS = (1, 2, 4)


@click.command(help=__doc__)
@click.option("--network", default="resnet18", show_default=True)
@click.option("--pictures", type=click.IntRange(min=64), default=200, show_default=True, help="n of the pictures.")
@click.option("--cells", type=click.IntRange(min=1), default=2, show_default=True, help="n of the methods and seeds.")
@click.option("--turns", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--small", is_flag=True, help="A network of three layers, 64 pictures: does it run at all?")
def main(network: str, pictures: int, cells: int, turns: int, *, small: bool) -> None:
    """See the text of this file."""
    if small:
        network, pictures, cells, turns = "tiny", 64, 1, 1
    with tempfile.TemporaryDirectory(prefix="biasbench-perf-") as name:
        folder, number = Path(name), iter(range(10**6))
        recipe = {"stages.0.epochs": 1, "stages.1.epochs": 1} if small else {}

        def cost(methods: Sequence[str], seeds: Sequence[int], count: int) -> Took:
            own = str(next(number))
            more: dict[str, Any] = {"results": f"results-{own}", "cache": f"cache-{own}", "seeds": seeds}
            planned, jobs = plan(folder, methods, scenes(count), network, recipe, **more)
            return timed(lambda: [train(cell, jobs) for cell in planned])

        def methods(count: int) -> list[str]:
            return [f"adv-conv5(weight={weight + 1}.0, warmup=1)" for weight in range(count)]

        plan_of_all, jobs = plan(folder, ["original"], scenes(pictures), network, recipe)
        decoded(plan_of_all[0], jobs)  # imports
        train(plan_of_all[0], jobs)
        kinds = {
            "pictures": (pictures, lambda n: cost(["original"], [0], n)),
            "methods": (cells, lambda n: cost(methods(n), [0], pictures)),
            "seeds": (cells, lambda n: cost(["original"], range(n), pictures)),
        }
        for kind, (least, of) in kinds.items():
            sizes = [factor * least for factor in FACTORS]
            sides = {str(n): lambda n=n, of=of: of(n) for n in sizes}
            found = by_turns(sides, turns)
            cpu = [median(took.cpu for took in found[str(n)]) for n in sizes]
            told = ", ".join(f"{n} {kind} {shown(seconds)}" for n, seconds in zip(sizes, cpu, strict=True))
            click.echo(f"{told} of CPU")
            growth = (cpu[2] - cpu[1]) / (2 * (cpu[1] - cpu[0]))
            click.echo(f"ratio {kind}: {growth:.2f} (growth; 1 is a straight line)")


if __name__ == "__main__":
    main()
