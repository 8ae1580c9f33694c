"""All rows of Table 4 of Wang et al. 2019 with shared stages and caches, against each row trained on its own.

The rows of benchmarks/scenes-table4.toml that are in the table, with the `short` profile:

* shared: one results folder and one cache, as in `biasbench run scenes-table4`. Rows that start from the finished plain
  model find it; rows that see the same pictures find them decoded, and passed through the frozen layers;
* alone: a results folder and a cache for each row, so that each decodes, fills its own stored activations, and trains
  what it starts from;
* plain: alone and without stored activations, as a script for each row would do it: every epoch passes every picture
  through the whole network.

First the counts, which are the planner's (`--dry-run`), for whole scenes: multiplications in the network, a step
backwards counted as two forwards, of training alone. A method's own modules are in no count. With `--measure`, the
first two are also trained one after the other in this process, by turns, on a small part of the scenes.

Wanted: 2.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from runpy import run_path

import click
from cells import TINY, plan, scenes, train
from sides import by_turns, ratio, tell, timed

from biasbench.benchmark import load_benchmark
from biasbench.costs.counts import Work
from biasbench.costs.work import plan_work
from biasbench.plugins import load_plugins

IN_TABLE = 10  # rows of the file; what follows them is not in the table
SIDE = 64  # of a picture, pixels
COUNTED = {
    "trainings": "trainings", "epochs": "epochs", "decoded_images": "files decoded",
    "feature_rows": "pictures through frozen layers", "training_rows": "pictures trained on, all epochs",
}  # fmt: skip
SMALL = ["original", "adv-conv5", "blackout-segm"]
WHOLE = {"train": 2500, "val": 1000}


def multiplied(work: Work, weights: Mapping[str, int]) -> float:
    """Multiplications of all passes, for one and the same crop."""
    total = 0.0
    for job in work.jobs:
        for part in job.parts:
            if part.name.startswith(("features", "stage", "init")):
                for one in part.passes:
                    first = len(one.segments) - one.trained
                    each = sum(weights[tap] * (3 if i >= first else 1) for i, tap in enumerate(one.segments))
                    total += part.times * one.images * each
    return total


def count(rows: list[str], sizes: Mapping[str, int], network: str) -> None:
    """Of each way, for whole scenes."""
    plugins = load_plugins([TINY])
    outline = plugins.backbones.find(network).load().outline(network)
    weights = run_path(str(Path(__file__).with_name("full_matrix.py")))["multiplications"](outline)
    with tempfile.TemporaryDirectory(prefix="biasbench-perf-") as name:
        folder, ways = Path(name), {}
        for way in ("shared", "alone", "plain"):
            cells, _ = plan(folder, rows, scenes(**sizes), network, {"cache": way != "plain"})
            groups = [cells] if way == "shared" else [[cell] for cell in cells]
            works = [plan_work(group, None, folder / "none", plugins) for group in groups]
            ways[way] = sum(multiplied(work, weights) for work in works)
            totals = [work.totals() for work in works]
            told = ", ".join(f"{what} {sum(one[key] for one in totals):,}" for key, what in COUNTED.items())
            click.echo(f"{way}: {ways[way]:.3g} multiplications at 224 px, {told}")
    click.echo(f"{len(cells)} of {len(rows)} rows can run here; {network}, {sizes['train']} pictures to train on")
    click.echo(f"ratio of counts alone: {ways['alone'] / ways['shared']:.2f}")
    click.echo(f"ratio of counts plain: {ways['plain'] / ways['shared']:.2f} (at least 2 is wanted)")


@click.command(help=__doc__)
@click.option("--measure", is_flag=True, help="Train too.")
@click.option("--pictures", type=click.IntRange(min=64), default=600, show_default=True, help="Of the training.")
@click.option("--network", default="resnet18", show_default=True)
@click.option("--turns", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--small", is_flag=True, help="Three rows, 64 pictures, a network of three layers: does it run at all?")
def main(pictures: int, network: str, turns: int, *, measure: bool, small: bool) -> None:
    """See the text of this file."""
    rows = [row.method for row in load_benchmark(Path("scenes-table4")).rows][:IN_TABLE]
    if small:
        rows, pictures, network, turns, measure = SMALL, 64, "tiny", 1, True
    count(rows, {"train": pictures, "val": pictures} if small else WHOLE, network)
    if not measure:
        return
    data = scenes(pictures, pictures * 2 // 5)
    recipe = {"crop": SIDE, "short_side": SIDE * 8 // 7}
    with tempfile.TemporaryDirectory(prefix="biasbench-perf-") as name:
        folder, number = Path(name), iter(range(10**6))

        def run(methods: list[str]) -> None:
            own = str(next(number))
            cells, jobs = plan(folder, methods, data, network, recipe, results=f"results-{own}", cache=f"cache-{own}")
            for cell in cells:
                train(cell, jobs)

        plan(folder, rows, data, network, recipe)  # draws the scenes
        sides = {
            "shared": lambda: timed(lambda: run(rows)),
            "alone": lambda: timed(lambda: [run([row]) for row in rows]),
        }
        found = by_turns(sides, turns)
    click.echo(f"{pictures} pictures to train on, {network}, {SIDE} px")
    per = dict.fromkeys(found, 1.0)
    tell(found, per, "for all rows")
    ratio(found, per, "alone", "shared", name="ratio measured alone")


if __name__ == "__main__":
    main()
