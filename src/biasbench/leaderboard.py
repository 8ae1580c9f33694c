"""From the store's records to rows: means over seeds, their spread, and why a row has none.

Nothing here reads a prediction. A row never averages two configurations, never replaces an
undefined figure by a number, and says how many of the planned seeds stand behind it.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from biasbench.errors import PluginError, UsageError, did_you_mean, printable

if TYPE_CHECKING:
    from biasbench.metric import Column

GROUP = ("method", "dataset", "backbone", "profile", "attribute", "protocol")
Record = Mapping[str, Any]
Status = Literal["ok", "partial", "failed", "n/a", "missing"]
MARKS = {
    "transductive": "what is said of one picture depends on the others of its split",
    "privileged": "predictions rest on what nobody knows of a new picture: regions that people annotated, or the "
    "protected attribute",
    "degenerate": "the same is said of every picture",
}
"""Flags that set rows apart (`Pipeline.row_flags` gives them), and what they mean."""


@dataclass(frozen=True)
class Figure:
    """One column of one row.

    Attributes:
        mean: Mean over seeds of each seed's mean; None = undefined for every seed.
        std: Spread, see `spread`; None with fewer than two values.
        n: Number of values behind mean and std: seeds, or rounds of the only seed.
        spread: `"seeds"`: std is the sample standard deviation (ddof = 1) over seeds;
            `"rounds"`: the population standard deviation over the rounds of the only seed;
            None: there is no std.
        seeds: Seeds for which the figure is defined.
    """

    mean: float | None
    std: float | None
    n: int
    spread: Literal["seeds", "rounds"] | None
    seeds: int


NOTHING = Figure(None, None, 0, None, 0)
MISSING = {"status": "missing", "reason": "not run yet", "values": {}}
"""What the record of a planned cell says that was never run."""


@dataclass(frozen=True)
class Row:
    """One line of the board.

    Attributes:
        status: `"ok"`: every planned seed has a score; `"partial"`: some have; else why none has.
        seeds: Seeds with a score.
        planned: All seeds that the plan named.
        reasons: Why seeds have no score, each once.
        flags: What a reader must know: `underpowered`, `weights=random`, …
        marks: Of `MARKS`, those that set the row apart.
        order: Place in the plan.
        notes: What methods reported of their predictions, by seed, split and name; None = undefined.
        figures: By column key; empty for a row without a score.
    """

    method: str
    dataset: str
    backbone: str
    profile: str
    attribute: str
    protocol: str
    weights: str
    status: Status
    seeds: tuple[int, ...]
    planned: tuple[int, ...]
    reasons: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    order: int = 0
    notes: Mapping[int, Mapping[str, Mapping[str, float | None]]] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)


RESERVED = tuple(Row.__dataclass_fields__)


def aggregate(records: Iterable[Record], columns: Sequence[Column]) -> list[Row]:
    """Rows of the leaderboard, in the order to show them.

    Records are grouped by method, data set, backbone, profile, attribute and protocol. Two
    scores of one seed in a group come from different configurations (other weights, an
    overridden recipe): they become separate rows, flagged as variants, never one mean.

    Args:
        records: As `Store.records()` yields them: the fields of `GROUP`, and `key`, `status`,
            `reason`, `seed`, `weights`, `flags`, `order`, `values` (column key to mean, std, n); `notes`
            where a method reported something, and `codes` (metric to identity of its code) where it was measured.
        columns: Of every metric, in the order to show them.

    Returns:
        Data sets and backbones in the order of the plan; within each, the plain model
        (`original`) first, then the order of the plan; rows with marks follow those without.

    Raises:
        PluginError: When a column's key is the name of a field of the row.

    Example:
        >>> from biasbench.metric import Column
        >>> one = dict(method="original", dataset="d", backbone="b", profile="p", attribute="gender", protocol="q",
        ...            status="ok", reason=None, weights="", flags=[], order=0, key="k")
        >>> seeds = [{**one, "seed": s, "values": {"map": {"mean": m, "std": None, "n": 1}}}
        ...          for s, m in ((1, 70.0), (2, 72.0))]
        >>> figure = aggregate(seeds, [Column("map", "mAP", "higher")])[0].figures["map"]
        >>> figure.mean, round(figure.std, 3), figure.n, figure.spread
        (71.0, 1.414, 2, 'seeds')
    """
    check_columns(columns)
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(group_of(record), []).append(record)
    return in_order([with_columns(row, columns) for group in groups.values() for row in group_rows(group)])


def check_columns(columns: Sequence[Column]) -> None:
    """Refuse a column that would hide a field of the row.

    Raises:
        PluginError: When a column's key is the name of a field of the row.
    """
    for column in columns:
        if column.key in RESERVED:
            raise PluginError(
                f"a metric's column may not be called {column.key!r}: the row has a field of that name",
                fix="Rename the column in the metric",
            )


def group_of(record: Record) -> tuple[str, ...]:
    """What a record shares with those it may be averaged with: the values of `GROUP`."""
    return tuple(str(record[k]) for k in GROUP)


def with_columns(row: Row, columns: Sequence[Column]) -> Row:
    """The row with these columns and no others; what it has no figure of is undefined."""
    return replace(row, figures={c.key: row.figures.get(c.key, NOTHING) for c in columns}) if row.seeds else row


def rank(row: Row) -> tuple[int, ...]:
    """Which rows a row may be compared with: those of equal rank. Unmarked rows come first.

    Example:
        >>> from dataclasses import replace
        >>> row = Row("original", "d", "b", "p", "gender", "q", "", "ok", (0,), (0,))
        >>> rank(row), rank(replace(row, marks=("privileged",)))
        ((), (1,))
    """
    return tuple(i for i, mark in enumerate(MARKS) if mark in row.marks)


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Rows in the order to show them: see `aggregate`."""
    return sorted(rows, key=_place(rows))


def _place(rows: Sequence[Row]) -> Any:
    first: dict[tuple[str, ...], int] = {}
    for row in rows:
        for key in ((row.dataset,), (row.dataset, row.backbone)):
            first[key] = min(first.get(key, row.order), row.order)

    def place(row: Row) -> tuple[Any, ...]:
        block = (row.dataset, row.backbone)
        return (
            first[block[:1]], row.dataset, first[block], row.backbone, row.profile, row.protocol, row.attribute,
            rank(row), row.method != "original", row.order, row.method, row.weights,
        )  # fmt: skip

    return place


def group_rows(group: Sequence[Record]) -> list[Row]:
    """One row, or one for each variant when a seed has several scores.

    Args:
        group: Records of one group, as for `aggregate`.

    Returns:
        Rows with every figure that some record has.
    """
    scored: dict[str, list[Record]] = {}
    rest: list[Record] = []
    for record in sorted(group, key=lambda r: (int(r["order"]), int(r["seed"]), str(r["key"]))):
        if record["status"] == "ok":
            scored.setdefault(str(record["weights"]), []).append(record)
        else:
            rest.append(record)
    variants = [v for same in scored.values() for v in _once_per_seed(same)]
    if not variants:
        return [_row(rest, ())]
    if len(variants) == 1:
        return [_row([*variants[0], *rest], ())]
    rows = [_row(v, (f"variant {i} of {len(variants)}",)) for i, v in enumerate(variants, 1)]
    return [*rows, _row(rest, ())] if rest else rows


def _once_per_seed(records: Sequence[Record]) -> list[list[Record]]:
    """The records dealt into as few lists as possible, none with one seed twice."""
    lists: list[list[Record]] = []
    for record in records:
        for known in lists:
            if all(r["seed"] != record["seed"] for r in known):
                known.append(record)
                break
        else:
            lists.append([record])
    return lists


def _row(records: Sequence[Record], extra: tuple[str, ...]) -> Row:
    ok = [r for r in records if r["status"] == "ok"]
    others = [r for r in records if r["status"] != "ok"]
    done = sorted({int(r["seed"]) for r in ok})
    late = [r for r in others if int(r["seed"]) not in done]  # a failure that a later run repaired is history
    status: Status = "partial" if ok and late else "ok" if ok else _worst(late)
    head = min(ok or records, key=lambda r: int(r["order"]))
    flags = dict.fromkeys(str(f) for r in ok or records for f in r["flags"])
    found = {flag.partition(":")[0] for flag in flags}
    names = dict.fromkeys(name for r in ok for name in r["values"])
    if len({r["environment"] for r in ok if r.get("environment")}) > 1:
        extra = (*extra, "mixed environments")  # other hardware or versions: not the same bits
    codes = {(name, code) for r in ok for name, code in r.get("codes", {}).items()}
    for name, seen in sorted(Counter(name for name, _ in codes).items()):
        if seen > 1:
            extra = (*extra, f"mixed versions of the metric {name}: measure again")
    return Row(
        **{k: str(head[k]) for k in GROUP},
        weights=str(head["weights"]),
        status=status,
        seeds=tuple(done),
        planned=tuple(sorted({*done, *(int(r["seed"]) for r in late)})),
        reasons=tuple(dict.fromkeys(_reason(r) for r in late)),
        flags=(*flags, *extra),
        marks=tuple(mark for mark in MARKS if mark in found),
        order=min(int(r["order"]) for r in records),
        notes={int(r["seed"]): r["notes"] for r in ok if r.get("notes")},
        figures={name: _figure([r["values"].get(name) for r in ok]) for name in names},
    )


def _worst(records: Sequence[Record]) -> Status:
    found = {r["status"] for r in records}
    return "failed" if "failed" in found else "missing" if "missing" in found else "n/a"


def _reason(record: Record) -> str:
    status, reason = str(record["status"]), printable(record.get("reason") or "")
    return f"{status}: {reason.removeprefix(f'{status}: ')}" if reason else status


def _figure(values: Sequence[Mapping[str, Any] | None]) -> Figure:
    """The figure of one column over seeds, each value being one seed's mean, std and n."""
    defined = [v for v in values if v is not None and _number(v["mean"]) is not None]
    means = [float(v["mean"]) for v in defined]
    if not means:
        return NOTHING
    if len(means) > 1:
        return Figure(statistics.fmean(means), statistics.stdev(means), len(means), "seeds", len(means))
    std, n = _number(defined[0]["std"]), int(defined[0]["n"])
    if std is None or n < 2:
        return Figure(means[0], None, 1, None, 1)
    return Figure(means[0], std, n, "rounds", 1)


def _number(value: Any) -> float | None:
    """A finite float, or None for what is undefined."""
    return float(value) if value is not None and math.isfinite(value) else None


def standard_error(figure: Figure) -> float | None:
    """Standard error of a figure's mean, or None without a spread.

    Over seeds s/√n; over rounds, whose spread has ddof = 0, s/√(n - 1).

    Example:
        >>> standard_error(Figure(70.0, 3.0, 9, "seeds", 9)), standard_error(Figure(70.0, 3.0, 10, "rounds", 1))
        (1.0, 1.0)
    """
    if figure.std is None:
        return None
    return figure.std / math.sqrt(figure.n if figure.spread == "seeds" else figure.n - 1)


def sort_rows(rows: Sequence[Row], columns: Sequence[Column], by: str) -> list[Row]:
    """Rows by one column, best first: by size for `higher` and `lower`, nearest to zero for `zero`.

    Rows with marks follow those without, sorted among themselves. Of a kind, rows for which some planned seed has
    no such figure follow those that have all: the seeds that are missing may be the bad ones. Rows without the
    figure come last of their kind, as they stood.

    Args:
        rows: From `aggregate`.
        columns: The columns that may be named.
        by: Key or title of a column, any case; a leading `-` turns the order round.

    Raises:
        UsageError: When there is no such column.
    """
    column, sign = find_column(columns, by.removeprefix("-")), -1.0 if by.startswith("-") else 1.0
    direction = {"higher": -1.0, "lower": 1.0, "zero": 1.0, "none": -1.0}[column.better]

    def key(row: Row) -> tuple[tuple[int, ...], bool, bool, float]:
        figure = row.figures.get(column.key)
        if figure is None or figure.mean is None:
            return rank(row), True, True, 0.0
        size = abs(figure.mean) if column.better == "zero" else figure.mean
        return rank(row), False, figure.seeds < len(row.planned), sign * direction * size

    return sorted(rows, key=key)


def find_column(columns: Sequence[Column], name: str) -> Column:
    """The column with this key or title.

    Raises:
        UsageError: When there is none; names the nearest.
    """
    for column in columns:
        if name.casefold() in (column.key.casefold(), column.title.casefold()):
            return column
    known = [c.key for c in columns]
    hint = did_you_mean(name, [*known, *(c.title for c in columns)])
    listing = f"Columns: {', '.join(known) or 'none'}"
    raise UsageError(f"no column {printable(name)!r}", fix=f"{hint} {listing}".strip())


def distinct(upper: Figure | None, lower: Figure | None) -> bool:
    """Whether two figures lie further apart than their combined spread, √(s₁² + s₂²).

    A figure without a spread supports no order.

    Example:
        >>> distinct(Figure(71, 1, 3, "seeds", 3), Figure(70, 1, 3, "seeds", 3))
        False
        >>> distinct(Figure(75, 1, 3, "seeds", 3), Figure(70, 1, 3, "seeds", 3))
        True
    """
    if upper is None or lower is None or upper.mean is None or lower.mean is None:
        return True  # the row without the figure is apart from those with one
    if upper.std is None or lower.std is None:
        return False
    return abs(upper.mean - lower.mean) > math.hypot(upper.std, lower.std)
