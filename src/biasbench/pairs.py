"""Runs made alike: one record for all attributes of a run, seeds dealt into rows, differences of paired seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from biasbench.leaderboard import Record
from biasbench.measures.intervals import rounds_interval

PREFIX = "attribute/"
"""Of the columns of a merged record: no attribute is then called as a field of a row."""


@dataclass(frozen=True)
class Run:
    """A run with its attributes side by side.

    Attributes:
        record: As `biasbench.leaderboard.aggregate` takes it; its values are those of one column, by attribute.
        figures: The defined ones, by attribute.
    """

    record: Record
    figures: Mapping[str, float]

    @property
    def key(self) -> str:
        """The run's key."""
        return str(self.record["key"])

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.record["seed"])

    @property
    def scored(self) -> bool:
        """Whether it has a score."""
        return bool(self.record["status"] == "ok")


def merge(records: Sequence[Record], column: str) -> Run:
    """A run's records of several attributes as one; what concerns only some attributes is said with their names.

    Args:
        records: Of one run and protocol, one an attribute.
        column: The key of the column to keep.

    Example:
        >>> one = dict(key="k", seed=0, status="ok", reason=None, flags=["smoke"])
        >>> run = merge([{**one, "attribute": "age", "values": {"f": {"mean": 60.0, "std": None, "n": 1}}},
        ...              {**one, "attribute": "pose", "values": {}, "flags": ["smoke", "underpowered"]}], "f")
        >>> run.figures, run.record["flags"]
        ({'age': 60.0}, ['smoke', 'pose: underpowered'])
    """
    scored = [r for r in records if r["status"] == "ok"]
    shown = scored or records
    flags: dict[str, None] = {}
    for record in shown:
        for flag in map(str, record["flags"]):
            common = all(flag in other["flags"] for other in shown)
            flags[flag if common else f"{record['attribute']}: {flag}"] = None
    if scored:
        flags |= {f"{r['attribute']} {r['status']}: {r['reason']}": None for r in records if r["status"] != "ok"}
    values = {str(r["attribute"]): r["values"].get(column) for r in scored}
    merged = {**shown[0], "attribute": "", "flags": list(flags), "values": {PREFIX + k: v for k, v in values.items()}}
    means = {name: value["mean"] for name, value in values.items() if value is not None}
    return Run(merged, {name: float(mean) for name, mean in means.items() if mean is not None and math.isfinite(mean)})


def once_per_seed(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs dealt into as few lists as possible, none with one seed twice; in the order of the plan.

    Example:
        >>> runs = [Run(dict(key=key, seed=seed, order=0), {}) for key, seed in (("a", 0), ("b", 1), ("c", 0))]
        >>> [[run.key for run in dealt] for dealt in once_per_seed(runs)]
        [['a', 'b'], ['c']]
    """
    lists: list[list[Run]] = []
    for run in sorted(runs, key=lambda r: (int(r.record["order"]), r.seed, r.key)):
        free = next((known for known in lists if all(r.seed != run.seed for r in known)), None)
        if free is None:
            lists.append([run])
        else:
            free.append(run)
    return lists


@dataclass(frozen=True)
class Difference:
    """A method's figure less the plain model's, over pairs of equal seed.

    Attributes:
        mean: Over pairs.
        std: Sample standard deviation (ddof = 1); None for one pair.
        n: Pairs.
        low: Lower end of the 95 % interval by Student's t with n - 1 degrees of freedom; None for one pair.
        high: Upper end.
    """

    mean: float
    std: float | None
    n: int
    low: float | None
    high: float | None


def difference(values: Sequence[float]) -> Difference | None:
    """Differences of paired seeds with the 95 % interval of their mean; None without any.

    Args:
        values: One a pair, points.

    Example:
        >>> found = difference([-30.0, -34.0])
        >>> found.mean, round(found.low, 2), round(found.high, 2)
        (-32.0, -57.41, -6.59)
        >>> difference([-30.0])
        Difference(mean=-30.0, std=None, n=1, low=None, high=None)
    """
    if len(values) < 2:
        return Difference(values[0], None, 1, None, None) if values else None
    found = rounds_interval(np.array(values))
    return Difference(found.mean, statistics.stdev(values), len(values), found.low, found.high)
