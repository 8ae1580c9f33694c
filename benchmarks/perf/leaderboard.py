"""The leaderboard over 100,000 cells: seconds and memory of a cold process, against their limits.

A results folder is filled by the store itself, run by run: 2,000 rows of 50 seeds with the columns of the built-in
metrics. It is kept in --folder, where the same command finds it again. The first reading makes the store's index;
after it every reading is a process of its own, by turns with a bare interpreter, which has to be paid in any case.
Figures mean something on an idle machine alone; --cells 2000 is a quick look.

Limits: 2 s and 300 MB.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import click
import numpy as np

from biasbench import generator
from biasbench.cli.leaderboard import declared_columns
from biasbench.plugins import load_plugins
from biasbench.store import Store

SEEDS = 50
SECONDS, MEGABYTES = 2.0, 300.0
FORMS = ("rich", "csv")


class Used(NamedTuple):
    """What a process took.

    Attributes:
        wall: Seconds.
        cpu: Seconds, of user and system.
        megabytes: Resident at most.
    """

    wall: float
    cpu: float
    megabytes: float


def used(command: list[str]) -> Used:
    """Run a command with its output thrown away.

    Raises:
        RuntimeError: When it fails.
    """
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Used(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit)


def fill(store: Store, cells: int) -> None:
    """Runs until there are so many, each with every column of the built-in metrics; those that are there are kept."""
    columns = declared_columns(load_plugins())
    rows = -(-cells // SEEDS)
    plan = []
    for number in range(cells):
        row, seed = number % rows, number // rows
        record = {
            "key": f"{number:020x}", "method": f"adv-conv5(weight={row % 100}.0)", "dataset": f"set-{row // 100}",
            "backbone": "resnet50", "profile": "short", "seed": seed, "weights": "random", "attribute": "gender",
            "protocol": "quick", "flags": ["weights=random", "views=1"],
        }  # fmt: skip
        plan.append({**record, "status": "missing", "reason": None, "values": {}})
        if not store.has_run(record["key"]):
            _commit(store, record, [c.key for c in columns])
        if number % 5000 == 4999:
            click.echo(f"{number + 1} runs", err=True)
    store.write_plan(plan)


def _commit(store: Store, record: dict[str, object], columns: list[str]) -> None:
    key = str(record["key"])
    rng = generator("leaderboard", key)
    spec = {name: record[name] for name in ("method", "dataset", "backbone", "profile", "seed", "weights")}
    spec["recipe"] = {"protocol": record["protocol"]}
    manifest = {"key": key, "spec": spec, "attribute": record["attribute"], "flags": record["flags"]}
    store.commit_run(store.aside("run", key), key, {**manifest, "environment": {"hash": "0" * 12}})
    means, stds = rng.uniform(0, 100, len(columns)), rng.uniform(0, 1, len(columns))
    figures = np.column_stack([means, stds]).tolist()
    values = {name: {"mean": m, "std": s, "n": 5} for name, (m, s) in zip(columns, figures, strict=True)}
    whole = {"metric": "all", "attribute": record["attribute"], "protocol": record["protocol"], "values": values}
    store.write_metrics(key, [{**whole, "rounds": {}, "details": {}, "flags": [], "error": None}])


@click.command(help=__doc__)
@click.option("--cells", type=click.IntRange(min=1), default=100_000, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("perf-leaderboard"), show_default=True)
@click.option("--times", type=click.IntRange(min=1), default=5, show_default=True, help="Readings of each kind.")
def main(cells: int, folder: Path, times: int) -> None:
    """See the text of this file."""
    began = time.perf_counter()
    fill(Store(folder, create=True), cells)
    click.echo(f"filled: {cells} cells of {-(-cells // SEEDS)} rows in {time.perf_counter() - began:.0f} s")
    command = [sys.executable, "-m", "biasbench", "leaderboard", "--results", str(folder), "--format"]
    first = used([*command, "csv"])
    index = (folder / "index.sqlite").stat().st_size / 2**20
    click.echo(f"first reading, which makes the index ({index:.0f} MB): {first.wall:.1f} s, {first.megabytes:.0f} MB")
    found: dict[str, list[Used]] = {form: [] for form in (*FORMS, "bare")}
    for _ in range(times):
        for form in FORMS:
            found[form].append(used([*command, form]))
        found["bare"].append(used([sys.executable, "-c", "pass"]))
    bare = median(u.wall for u in found["bare"])
    for form in FORMS:
        walls, memory = [u.wall for u in found[form]], max(u.megabytes for u in found[form])
        wall, spread = median(walls), max(walls) - min(walls)
        click.echo(
            f"{form}: {wall:.2f} s (spread {spread:.2f}; {wall / SECONDS:.2f} of the limit; {wall / bare:.0f} x a bare "
            f"interpreter), {median(u.cpu for u in found[form]):.2f} s of CPU, "
            f"{memory:.0f} MB ({memory / MEGABYTES:.2f} of the limit)"
        )


if __name__ == "__main__":
    main()
