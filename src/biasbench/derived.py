"""Figures of a method against the plain model's: two rows of the leaderboard make one figure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from biasbench.leaderboard import GROUP, Record

if TYPE_CHECKING:
    from biasbench.metric import Column

CHANGES = ("recipe: ", "limit=", "precision=", "device=")  # flags that tell configurations apart


def configuration(record: Record) -> tuple[str, ...]:
    """Everything a record says of its making but the method and the seed."""
    flags = sorted(str(f) for f in record["flags"] if str(f).startswith(CHANGES))
    return (*(str(record[k]) for k in (*GROUP[1:], "weights")), *flags)


def delta_reduction(delta: float, original: float) -> float:
    """Percent of the plain model's bias amplification that a method takes away; NaN where there is none to take.

    Wang et al. 2019, section 5.4: "over 53 % and 67 %".

    Example:
        >>> round(delta_reduction(4.57, 9.93), 2), delta_reduction(1.0, -0.5)
        (53.98, nan)
    """
    return 100 * (original - delta) / original if original > 0 else math.nan


def derived_columns(columns: Sequence[Column]) -> list[Column]:
    """Columns made from other columns of two rows: the method's and the plain model's."""
    from biasbench.metric import Column

    if not {"delta", "f1"} <= {c.key for c in columns}:
        return []
    return [
        Column("delta_reduction", "Δ reduction", "higher", help="percent of original's Δ taken away, by seed; "
               "undefined where original's Δ is not above 0"),
        Column("f1_cost", "F1 cost", "lower", help="points of F1 below original's, by seed"),
    ]  # fmt: skip


def derive(records: Iterable[Record]) -> list[Record]:
    """The records, each with its `delta_reduction` and `f1_cost` against the plain model's record.

    A pair agrees in data set, backbone, weights, recipe, attribute, protocol and seed. The plain
    model itself, and a record without exactly one partner, has neither figure.

    Args:
        records: As for `aggregate`.
    """
    records = list(records)
    plain: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        if record["status"] == "ok" and record["method"] == "original":
            plain.setdefault((record["seed"], *configuration(record)), []).append(record)
    return [_derived(r, plain.get((r["seed"], *configuration(r)), ())) for r in records]


def _derived(record: Record, partners: Sequence[Record]) -> Record:
    if record["status"] != "ok" or record["method"] == "original" or len(partners) != 1:
        return record
    (own, other), found = (r["values"] for r in (record, partners[0])), {}
    if (pair := _means(own, other, "delta")) is not None:
        found["delta_reduction"] = {"mean": delta_reduction(*pair), "std": None, "n": 1}
    if (pair := _means(own, other, "f1")) is not None:
        found["f1_cost"] = {"mean": pair[1] - pair[0], "std": None, "n": 1}
    return {**record, "values": {**own, **found}}


def _means(own: Mapping[str, Any], other: Mapping[str, Any], key: str) -> tuple[float, float] | None:
    """One column's means of two records, or None unless both are defined."""
    a, b = ((values.get(key) or {}).get("mean") for values in (own, other))
    return None if a is None or b is None or not math.isfinite(a + b) else (float(a), float(b))
