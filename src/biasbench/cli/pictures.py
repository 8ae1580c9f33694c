"""What `biasbench plot` draws, collected from the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from biasbench.derived import configuration
from biasbench.errors import CellError, UsageError, printable
from biasbench.grammar import parse
from biasbench.leaderboard import Record, aggregate
from biasbench.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biasbench.plots.frontier import Point
    from biasbench.plots.labels import Changes
    from biasbench.plots.margin import Score

MEASUREMENT = ("attribute", "protocol")


def blocks(store: Store, dataset: str | None, *, by_measurement: bool = True) -> list[tuple[str, list[Record]]]:
    """Scored records that belong in one picture, each lot with its title.

    A picture never mixes data sets, backbones, weights or recipes; nor, unless `by_measurement` is
    off, protected attributes or protocols. Without them each run is one record.

    Raises:
        UsageError: When `dataset` names none that is there.
    """
    scored = [r for r in store.records() if r["status"] == "ok"]
    known = dict.fromkeys(str(r["dataset"]) for r in scored)
    if dataset is not None and dataset not in known:
        raise UsageError(
            f"no results on {printable(dataset)!r}", fix=f"Data sets: {printable(', '.join(known) or 'none', 1000)}"
        )
    left_out = () if by_measurement else MEASUREMENT
    found: dict[tuple[str, ...], dict[str, Record]] = {}
    for record in scored:
        if dataset in (None, record["dataset"]):
            blank = {**record, **dict.fromkeys(left_out, "")}
            key = str(record["key"]) if left_out else f"{record['key']} {record['attribute']} {record['protocol']}"
            found.setdefault(configuration(blank), {}).setdefault(key, record)
    return [(", ".join(filter(None, key)), list(records.values())) for key, records in found.items()]


def by_seed(records: Sequence[Record]) -> dict[str, dict[int, Record]]:
    """Method, then seed, to its record, in the order of the records.

    Raises:
        UsageError: When two records differ in nothing that a row tells.
    """
    found: dict[str, dict[int, Record]] = {}
    for record in records:
        seeds = found.setdefault(str(record["method"]), {})
        if int(record["seed"]) in seeds:
            raise UsageError(
                f"two runs of {printable(record['method'])} with seed {record['seed']} differ in nothing that their "
                f"rows tell: {seeds[int(record['seed'])]['key']} and {record['key']}",
                fix="Keep them in two folders of results",
            )
        seeds[int(record["seed"])] = record
    return found


def runs_of(blocks: Sequence[tuple[str, Sequence[Record]]], methods: Sequence[str]) -> dict[str, list[Record]]:
    """By data set, the first run of each method; data sets that lack one are left out.

    All runs of a data set come from one block, so that their recipes agree.
    """
    found: dict[str, list[Record]] = {}
    for _, records in blocks:
        first = {str(r["method"]): r for r in reversed(records)}
        if all(method in first for method in methods):
            found.setdefault(str(records[0]["dataset"]), [first[method] for method in methods])
    return found


def points_of(store: Store, records: Sequence[Record], plain: str = "original") -> list[Point]:
    """The points of a frontier, in the order of the plan; rows without F1 or Δ are left out.

    Args:
        store: Where the rounds of Δ are.
        records: Of one picture.
        plain: The method whose noise is the randomisation curve.
    """
    from biasbench.metric import Column
    from biasbench.plots.families import levels
    from biasbench.plots.frontier import Point
    from biasbench.plots.margin import gain, margin

    scores = {
        method: {seed: s for seed, r in seeds.items() if (s := score_of(store, r)) is not None}
        for method, seeds in by_seed(records).items()
    }
    noisy = {method for method in scores if is_noise(method, plain)}
    curve = [s for method, s in scores.items() if method == plain or method in noisy]
    columns = (Column("f1", "F1", "higher"), Column("delta", "Δ", "lower"))
    rows = [r for r in aggregate(records, columns) if None not in (r.figures["f1"].mean, r.figures["delta"].mean)]
    points = []
    for row, (family, level) in zip(rows, levels([row.method for row in rows]), strict=True):
        f1, delta = row.figures["f1"], row.figures["delta"]
        assert f1.mean is not None  # for the type checker: rows without were left out
        assert delta.mean is not None
        on_curve = row.method == plain or row.method in noisy
        points.append(
            Point(
                row.method, f1.mean, delta.mean, f1.std, delta.std, row.method in noisy,
                margin=None if on_curve else margin(scores[row.method], curve),
                gain=None if on_curve else gain(scores[row.method], curve),
                family=family, level=level,
            )
        )  # fmt: skip
    return points


def is_noise(method: str, plain: str = "original") -> bool:
    """Whether a method is a plain one with one level of the randomisation baseline.

    Example:
        >>> is_noise("noise(0.5)"), is_noise("crf+noise(0.5)"), is_noise("crf + noise(0.5)", "crf")
        (True, False, True)
    """
    *before, last = parse(method)
    same = [c for c in parse(plain) if c.name != "original"]
    return last.name == "noise" and [c.text for c in before if c.name != "original"] == [c.text for c in same]


def score_of(store: Store, record: Record) -> Score | None:
    """F1 and the rounds of Δ of one run, or None unless both are defined."""
    from biasbench.plots.margin import Score

    f1, delta = ((record["values"].get(key) or {}).get("mean") for key in ("f1", "delta"))
    if f1 is None or delta is None:
        return None
    for found in store.metrics(record["key"]):
        if all(found[name] == record[name] for name in MEASUREMENT) and "delta" in found["values"]:
            return Score(float(f1), tuple(map(float, found["rounds"].get("delta", [delta]))))
    return Score(float(f1), (float(delta),))


def changes_of(store: Store, records: Sequence[Record], before: str, after: str) -> Changes | None:
    """F1 by label of two methods over the seeds that both have, or None without one.

    Raises:
        IntegrityError: When stored predictions were changed.
        CellError: When the runs are of other test examples.
    """
    from biasbench.plots.labels import label_changes

    methods = by_seed(records)
    first, second = methods.get(before, {}), methods.get(after, {})
    pairs: list[tuple[NDArray[Any], NDArray[Any]]] = []
    truth: tuple[NDArray[Any], list[str]] | None = None
    names: tuple[str, ...] = ()
    for seed in sorted(first.keys() & second.keys()):
        (old, y, ids, labels), (new, _, others, _) = (decoded(store, r["key"]) for r in (first[seed], second[seed]))
        if ids != others or (truth is not None and truth[1] != ids):
            raise CellError("the runs were tested on other examples", where=f"seed {seed}")
        pairs.append((old, new))
        truth, names = (y, ids), labels
    return None if truth is None else label_changes(names, truth[0], pairs)


def decoded(store: Store, key: str) -> tuple[NDArray[Any], NDArray[Any], list[str], tuple[str, ...]]:
    """Decoded labels, truth and ids of a run's test split, and the names of the labels."""
    import pandas as pd

    from biasbench.data import targets
    from biasbench.predict import read_outputs

    run = store.run(key)
    manifest = store.verify(run)
    outputs, table = read_outputs(run / "predictions" / "test"), pd.read_parquet(run / "truth" / "test.parquet")
    if list(outputs.ids) != table["id"].tolist():
        raise CellError("predictions and truth name different examples", where=printable(run))
    return outputs.labels, targets(table), list(outputs.ids), tuple(manifest["label_names"])
