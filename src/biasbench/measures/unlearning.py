"""What Alvi et al. 2018 report: accuracy by group, divergence of predictions, and how much was unlearned.

All take plain arrays; chance, accuracies and scores are percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasbench.errors import DataError
from biasbench.measures.figures import FloatArray, mean_defined

if TYPE_CHECKING:
    import pandas as pd

NEAR_CHANCE = 5.0
"""Points above chance within which Table 1 calls an attribute unlearned."""


@dataclass(frozen=True, eq=False)
class GroupAccuracy:
    """Accuracy of class predictions, in percent.

    Attributes:
        exact: Share of examples whose class is predicted.
        within: Share of examples predicted at most `step` classes away.
        class_mean: Mean over the classes that occur of each class's exact accuracy (recall).
        group_exact: [G]; NaN for a group without an example.
        group_within: [G]; NaN for a group without an example.
        n: [G] examples.
        unknown: Examples of unknown group: they count in the overall figures alone.
        absent_classes: Classes without an example.
        step: Classes away that still count.
        groups: G names.
    """

    exact: float
    within: float
    class_mean: float
    group_exact: FloatArray
    group_within: FloatArray
    n: NDArray[np.int64]
    unknown: int
    absent_classes: int
    step: int
    groups: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{name} {value:.1f}" for name, value in zip(self.groups, self.group_within, strict=True)]
        return f"{self.within:.1f} % within {self.step} ({', '.join(parts)}), {self.exact:.1f} % exact"

    def to_frame(self) -> pd.DataFrame:
        """One row per group."""
        import pandas as pd

        return pd.DataFrame({"group": self.groups, "exact": self.group_exact, "within": self.group_within, "n": self.n})


def group_accuracy(
    targets: ArrayLike, labels: ArrayLike, group: ArrayLike, *, num_labels: int, groups: Sequence[str], step: int = 1
) -> GroupAccuracy:
    """Accuracy exact and within some classes, over all examples and by group (Alvi et al. 2018, sections 5.4, 6.1).

    The paper counts an age as right within one class of its bin. That means something for ordered classes
    only; for others read `exact`.

    Args:
        targets: [N] true classes, 0..K-1.
        labels: [N] predicted classes.
        group: [N] protected attribute, 0..G-1, -1 = unknown.
        num_labels: K.
        groups: G names.
        step: Classes away that still count as right.

    Raises:
        DataError: When lengths differ or a code is out of range.

    Example:
        >>> got = group_accuracy([0, 1, 2, 2], [0, 2, 2, 0], [0, 0, 1, 1], num_labels=3, groups=("woman", "man"))
        >>> got.exact, got.within, got.group_within.tolist()
        (50.0, 75.0, [100.0, 50.0])
    """
    y, said, a = (_codes(x, name) for x, name in ((targets, "targets"), (labels, "labels"), (group, "group")))
    if not len(y) == len(said) == len(a):
        raise DataError(f"{len(y)} targets, {len(said)} labels and {len(a)} attributes do not fit together")
    for codes, size, least, name in (
        (y, num_labels, 0, "targets"), (said, num_labels, 0, "labels"), (a, len(groups), -1, "group"),
    ):  # fmt: skip
        if len(codes) and not (least <= codes.min() and codes.max() < size):
            raise DataError(f"{name} has codes outside {least}..{size - 1}")
    apart = np.abs(said - y)
    rows = [a == g for g in range(len(groups))]
    recall = np.array([_percent(apart[y == k] == 0) for k in range(num_labels)])
    return GroupAccuracy(
        _percent(apart == 0),
        _percent(apart <= step),
        mean_defined(recall),
        np.array([_percent(apart[r] == 0) for r in rows]),
        np.array([_percent(apart[r] <= step) for r in rows]),
        np.array([int(r.sum()) for r in rows], np.int64),
        int((a < 0).sum()),
        int(np.isnan(recall).sum()),
        step,
        tuple(groups),
    )


def prediction_divergence(
    labels: ArrayLike, group: ArrayLike, first: int, second: int, *, num_labels: int, smoothing: float = 0.5
) -> float:
    """KL(first || second) between the distributions of predicted classes of two groups, in nats.

    The paper gives 0.049 before and 0.027 after unlearning (section 6.1) without direction, base or what is
    done with empty classes. Here: natural logarithm, and `smoothing` examples are added to each class of both
    groups (0.5 is Jeffreys' prior), so that a class that one group never gets does not make it infinite.

    Args:
        labels: [N] predicted classes.
        group: [N] protected attribute, -1 = unknown.
        first: Group whose distribution weights the logarithms.
        second: Group compared with.
        num_labels: K.
        smoothing: Examples added to each class; with 0, the value may be infinite.

    Returns:
        NaN when a group has no example.

    Example:
        >>> round(prediction_divergence([0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 1, 1], 0, 1, num_labels=2, smoothing=0), 4)
        0.231
    """
    said, a = _codes(labels, "labels"), _codes(group, "group")
    if len(said) != len(a):
        raise DataError(f"{len(said)} labels and {len(a)} attributes do not fit together")
    counts = [np.bincount(said[a == g], minlength=num_labels) + smoothing for g in (first, second)]
    if any((a == g).sum() == 0 for g in (first, second)):
        return float("nan")
    p, q = (c / c.sum() for c in counts)
    with np.errstate(divide="ignore"):
        terms = np.where(p > 0, p * (np.log(np.where(p > 0, p, 1)) - np.log(q)), 0.0)
    return float(terms.sum())


def unlearned(baseline: float, blind: float, chance: float) -> float:
    """Part of what a classifier finds above chance that is gone, in percent (Table 1).

    (baseline - blind) / (baseline - chance); above 100 when the blind figure is below chance.

    Returns:
        NaN when the baseline is at chance or below: there was nothing to unlearn.

    Example:
        >>> round(unlearned(83, 25, 25)), round(unlearned(99, 56, 50))
        (100, 88)
    """
    above = baseline - chance
    return 100 * (baseline - blind) / above if above > 0 else float("nan")


def rescaled(class_mean_accuracy: float, classes: int) -> float:
    """Accuracy with chance at 0 and perfection at 100: 1 - e / e_max (Eq. 6).

    Args:
        class_mean_accuracy: Mean over classes, percent.
        classes: K: a random classifier errs in (K - 1) / K of all cases.

    Example:
        >>> rescaled(50, 2), rescaled(25, 4), rescaled(100, 5), rescaled(62.5, 4)
        (0.0, 0.0, 100.0, 50.0)
    """
    if classes < 2:
        return float("nan")
    worst = 100 * (1 - 1 / classes)
    return 100 * (1 - (100 - class_mean_accuracy) / worst)


def near_chance(accuracy: float, chance: float, points: float = NEAR_CHANCE) -> bool:
    """Whether an attribute is unlearned by the count of section 6.3: at most so many points above chance.

    Example:
        >>> near_chance(24, 20), near_chance(56, 50)
        (True, False)
    """
    return accuracy - chance <= points + 1e-9


def _codes(values: ArrayLike, name: str) -> NDArray[np.int64]:
    found: NDArray[Any] = np.asarray(values)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise DataError(f"{name} must be whole numbers in one dimension")
    return found.astype(np.int64)


def _percent(right: NDArray[np.bool_]) -> float:
    return 100 * float(right.mean()) if len(right) else float("nan")
