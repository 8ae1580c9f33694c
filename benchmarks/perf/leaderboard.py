"""The leaderboard over 1,000, 10,000 and 100,000 cells: seconds and memory of a cold process, against their limits.

Results folders are filled by the store itself, run by run, without waiting for the disk: rows of --seeds seeds with the
columns of the built-in metrics, 100 methods a data set, of which the first is the plain model that others are compared
with; every second row lacks its last planned seed. They are kept in --folder, where the same command finds them again.

The first reading reads every file of every run and makes the store's index. After it every reading is a process of
its own, by turns with a bare interpreter, which has to be paid in any case; then one run of the plain model is
measured again, and the board is read once more: the rows of its data set are made anew. What a reading includes: the
interpreter, discovery of plugins, a look at the time stamp of every run, the SHA-256 of the plan, and printing. Files
are in the system's cache. Wall time means something on an idle machine alone; CPU time stands beside it.

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
from unittest import mock

import click
import numpy as np

from biasbench import generator
from biasbench.cli.leaderboard import declared_columns
from biasbench.plugins import load_plugins
from biasbench.store import Store

SECONDS, MEGABYTES = 2.0, 300.0
FORMS = ("rich", "csv")
SIZES = (1_000, 10_000, 100_000)


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


def fill(store: Store, cells: int, seeds: int) -> None:
    """Runs until there are so many, each with every column of the built-in metrics; those that are there are kept."""
    columns = declared_columns(load_plugins())
    rows = -(-cells // seeds)
    plan = []
    for number in range(cells):
        row, seed = number % rows, number // rows
        record = {
            "key": f"{number:020x}", "method": f"adv-conv5(weight={row % 100}.0)" if row % 100 else "original",
            "dataset": f"set-{row // 100}", "backbone": "resnet50", "profile": "short", "seed": seed,
            "weights": "random", "attribute": "gender", "protocol": "quick", "flags": ["weights=random", "views=1"],
        }  # fmt: skip
        plan.append({**record, "status": "missing", "reason": None, "values": {}})
        if not (seed == seeds - 1 and row % 2) and not store.has_run(record["key"]):
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


def again(store: Store) -> None:
    """Measure one run again, with another figure."""
    record = store.metrics(store.runs()[0])[0]
    record["values"]["f1"]["mean"] = record["values"]["f1"]["mean"] % 90 + 1
    store.write_metrics(store.runs()[0], [record])


def told(name: str, found: list[Used], bare: float) -> str:
    """A line: medians, spread, and shares of the limits."""
    walls, memory = [u.wall for u in found], max(u.megabytes for u in found)
    wall, cpu = median(walls), median(u.cpu for u in found)
    return (
        f"  {name:<22} {wall:6.2f} s (spread {max(walls) - min(walls):.2f}), {cpu:5.2f} s of CPU "
        f"({wall / SECONDS:.2f} and {cpu / SECONDS:.2f} of the limit, {cpu / bare:.0f} x a bare interpreter), "
        f"{memory:4.0f} MB ({memory / MEGABYTES:.2f})"
    )


@click.command(help=__doc__)
@click.option("--cells", type=click.IntRange(min=1), multiple=True, default=SIZES, show_default=True)
@click.option("--seeds", type=click.IntRange(min=1), default=50, show_default=True, help="Cells of each row.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("perf-leaderboard"), show_default=True)
@click.option("--times", type=click.IntRange(min=1), default=5, show_default=True, help="Readings of each kind.")
def main(cells: tuple[int, ...], seeds: int, folder: Path, times: int) -> None:
    """See the text of this file."""
    for size in cells:
        place = folder / f"{size}-of-{seeds}"
        store = Store(place, create=True)
        if not (place / "plan.json").exists():
            with mock.patch("os.fsync"):
                fill(store, size, seeds)
        (place / "index.sqlite").unlink(missing_ok=True)
        command = [sys.executable, "-m", "biasbench", "leaderboard", "--results", str(place), "--format"]
        first = used([*command, "csv"])
        index = (place / "index.sqlite").stat().st_size / 2**20
        found: dict[str, list[Used]] = {form: [] for form in (*FORMS, "bare")}
        for _ in range(times):
            for form in FORMS:
                found[form].append(used([*command, form]))
            found["bare"].append(used([sys.executable, "-c", "pass"]))
        again(store)
        found["csv, one run changed"] = [used([*command, "csv"])]
        bare = median(u.cpu for u in found.pop("bare"))
        click.echo(f"{size} cells, {-(-size // seeds)} rows; load of the machine {os.getloadavg()[0]:.1f}")
        click.echo(
            f"  first reading, which makes the index ({index:.0f} MB): {first.wall:.1f} s, {first.cpu:.1f} s of CPU, "
            f"{first.megabytes:.0f} MB"
        )
        for name, mine in found.items():
            click.echo(told(name, mine, bare))


if __name__ == "__main__":
    main()
