"""Everything an audit measures beside leakage: accuracy, amplification, gaps, the worst group."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from biasbench.audit.file import AuditFile, AuditSplit, IntArray
from biasbench.data import Split
from biasbench.errors import BiasBenchError
from biasbench.measures.amplification import bias_amplification
from biasbench.measures.directional import directional_amplification
from biasbench.measures.gaps import demographic_parity_gap, equalised_odds_gap
from biasbench.measures.groups import Worst, worst_group
from biasbench.measures.multi import multi_attribute_amplification
from biasbench.metric import Better
from biasbench.scoring import macro_f1, mean_average_precision, one_hot


class Names(TypedDict):
    """What the measures call labels and groups."""

    label_names: tuple[str, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """One figure of a report.

    Attributes:
        key: Its name in JSON and CSV.
        title: Its name for people.
        mean: The figure, or its mean over rounds; NaN = undefined.
        std: Population standard deviation over rounds; None for a figure without rounds.
        n: Values behind the mean: rounds, else 1; 0 where it is undefined.
        unit: `%` or `points`, all from 0 to 100 or -100 to 100; `points²`.
        better: `higher`, `lower`, `zero`, or `none` for context.
        note: Why it is undefined, or what it leaves out; may be empty.
    """

    key: str
    title: str
    mean: float
    std: float | None
    n: int
    unit: str
    better: Better
    note: str = ""

    @classmethod
    def once(cls, key: str, title: str, value: float, unit: str, better: Better, note: str = "") -> Line:
        """A figure that is computed once."""
        return cls(key, title, value, None, 0 if math.isnan(value) else 1, unit, better, note)

    @property
    def shown(self) -> str:
        """`mean ± std unit`, two decimals.

        Example:
            >>> Line("delta", "", 1.234, 0.5, 3, "points", "lower").shown
            '1.23 ± 0.50 points'
            >>> Line.once("f1", "", math.nan, "%", "higher").shown
            'undefined'
        """
        if math.isnan(self.mean):
            return "undefined"
        spread = "" if self.std is None or self.n < 2 else f" ± {self.std:.2f}"
        return f"{self.mean:.2f}{spread} {self.unit}"

    def to_json(self) -> dict[str, Any]:
        """Mean, std, n; what is undefined is None, with a reason."""
        mean = None if math.isnan(self.mean) else self.mean
        std = None if self.std is None or math.isnan(self.std) else self.std
        return {"mean": mean, "std": std, "n": self.n, "unit": self.unit, "better": self.better, "note": self.note}


def group_figures(file: AuditFile, attribute: str) -> list[Line]:
    """Amplification, gaps and worst groups in the decoded labels of the test split.

    What predictions are compared with is the truth of the training split.

    Example:
        >>> import numpy as np
        >>> truth = np.array([[1], [1], [0], [0]], np.uint8)
        >>> said = np.array([[1.0], [-1.0], [-1.0], [-1.0]])
        >>> split = AuditSplit(("a", "b", "c", "d"), truth, said, (said >= 0).astype(np.uint8),
        ...                    {"gender": np.array([0, 1, 0, 1])})
        >>> file = AuditFile("f", "", "npz", "multilabel", {"train": split, "val": split, "test": split}, ("dog",),
        ...                  {"gender": ("man", "woman")}, "logits", 0.0, True, None, {}, (), ())
        >>> {line.key: round(line.mean, 1) for line in group_figures(file, "gender")}["true_positive_gap"]
        100.0
    """
    names: Names = {"label_names": file.label_names, "groups": file.groups(attribute)}
    test, codes = file.splits["test"], file.codes(attribute)
    return [
        *_amplification(file, codes, names),
        *_gaps(test, codes["test"], names),
        *_worst(test, codes["test"], names),
    ]


def accuracy_figures(file: AuditFile) -> list[Line]:
    """Mean average precision and macro F1 of the whole test split."""
    test, k = file.splits["test"], len(file.label_names)
    present = int(one_hot(test.targets, k).any(0).sum())
    note = f"{k - present} of {k} labels without an example count 0" if present < k else ""
    precision = mean_average_precision(test.scores, test.targets, file.task)
    f1 = macro_f1(test.labels, test.targets, file.task, k)
    return [
        Line.once("map", "mAP", 100 * precision, "%", "higher", note),
        Line.once("f1", "macro F1", 100 * f1, "%", "higher", note),
    ]


def _amplification(file: AuditFile, codes: Mapping[Split, IntArray], names: Names) -> Iterator[Line]:
    def points(key: str, title: str, value: float, better: Better, note: str) -> Line:
        return Line.once(key, title, value, "points", better, note)

    train, test = file.splits["train"], file.splits["test"]
    learnt: Any = {"reference": (train.targets, codes["train"]), **names}
    truth = (test.targets, test.labels, codes["test"])
    mals = bias_amplification(*truth, **learnt)
    note = mals.reason or _left_out(mals.undefined, "labels")
    yield points("mals", "bias amplification (MALS)", mals.value, "zero", note)
    way = directional_amplification(*truth, **learnt)
    there, back = way.attribute_to_task, way.task_to_attribute
    note = there.reason or _left_out(there.undefined, "pairs of label and group")
    yield points("directional_at", "directional, attribute to task", there.value, "zero", note)
    yield points("directional_ta", "directional, task to attribute", back.value, "zero", back.reason)
    value, variance = math.nan, math.nan
    try:
        multi = multi_attribute_amplification(*truth, **learnt)
        value, variance = multi.value, multi.variance
        note = multi.reason or f"{len(multi.combinations)} combinations, {multi.undefined} of them left out"
    except BiasBenchError as error:  # too many combinations: the other figures stand
        note = str(error)
    yield points("multi_mals", "over label combinations (Multi_MALS)", value, "lower", note)
    yield Line.once(
        "multi_mals_variance", "its variance", variance, "points²", "lower", note if math.isnan(value) else ""
    )


def _gaps(test: AuditSplit, codes: IntArray, names: Names) -> Iterator[Line]:
    parity = demographic_parity_gap(test.labels, codes, **names)
    odds = equalised_odds_gap(test.targets, test.labels, codes, **names)
    for key, title, gap in (
        ("demographic_parity_gap", "demographic parity gap", parity),
        ("equalised_odds_gap", "equalised odds gap", odds),
        ("true_positive_gap", "true positive rate gap", odds.true_positive),
        ("false_positive_gap", "false positive rate gap", odds.false_positive),
    ):
        note = gap.reason or _left_out(gap.undefined, "labels")
        yield Line.once(key, title, gap.value, "points", "lower", note)


def _worst(test: AuditSplit, codes: IntArray, names: Names) -> Iterator[Line]:
    worst = worst_group(test.targets, test.labels, codes, **names)

    def line(key: str, title: str, lowest: Worst) -> Line:
        note = f"{lowest.name}, n = {lowest.n}" if lowest.name else "no example whose group is known"
        return Line.once(key, title, lowest.value, "%", "higher", note)

    yield line("worst_group_f1", "worst group, macro F1", worst.f1)
    yield line("worst_group_accuracy", "worst group, accuracy", worst.accuracy)
    yield line("worst_pair_f1", "worst label and group, F1", worst.pair_f1)
    yield line("worst_pair_accuracy", "worst label and group, accuracy", worst.pair_accuracy)


def _left_out(count: int, what: str) -> str:
    return f"{count} {what} left out: undefined" if count else ""
