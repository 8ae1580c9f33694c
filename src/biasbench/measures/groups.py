"""The worst group: the lowest accuracy and F1 over groups, and over pairs of label and group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from biasbench.measures.counts import IntArray, Scope
from biasbench.measures.figures import FloatArray, mean_defined, ratio, undefined

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Worst:
    """The lowest of some figures.

    Attributes:
        value: Percent; NaN when none is defined.
        group: Code of its group; -1 when none is defined. The first of equally low ones.
        label: Number of its label for a pair, else -1.
        n: Examples it was taken over: of the group, or of the group with that label.
        name: Its group's name, for a pair "label, group"; empty when none is defined.
        undefined: Figures that are NaN and were passed over.
    """

    value: float
    group: int
    label: int
    n: int
    name: str
    undefined: int

    @property
    def reason(self) -> str:
        """Why `value` is NaN; else empty."""
        return "no example of a known group has a label" if np.isnan(self.value) else ""

    def __str__(self) -> str:
        return "undefined" if np.isnan(self.value) else f"{self.value:.2f} % ({self.name}, n = {self.n})"


@dataclass(frozen=True, eq=False)
class WorstGroup:
    """Accuracy and F1 by group and by pair of label and group, in percent, and the lowest of each.

    Attributes:
        accuracy: Lowest accuracy of a group.
        f1: Lowest macro F1 of a group.
        pair_accuracy: Lowest accuracy of a pair.
        pair_f1: Lowest F1 of a pair.
        group_accuracy: [G]; NaN for a group without an example.
        group_f1: [G] macro F1; NaN for a group without an example.
        pairs_accuracy: [G, K]; NaN where no example of the group has the label.
        pairs_f1: [G, K]; NaN where no example of the group has the label.
        n: [G] examples.
        positives: [G, K] examples that have the label.
        unknown: Examples left out because their attribute is unknown.
        absent: Groups without an example.
        label_names: K names.
        groups: G names.
    """

    accuracy: Worst
    f1: Worst
    pair_accuracy: Worst
    pair_f1: Worst
    group_accuracy: FloatArray
    group_f1: FloatArray
    pairs_accuracy: FloatArray
    pairs_f1: FloatArray
    n: IntArray
    positives: IntArray
    unknown: int
    absent: tuple[str, ...]
    label_names: tuple[str, ...]
    groups: tuple[str, ...]

    @property
    def value(self) -> float:
        """Lowest macro F1 of a group, percent."""
        return self.f1.value

    def __str__(self) -> str:
        return (
            f"worst group: macro F1 {self.f1}, accuracy {self.accuracy}\n"
            f"worst label and group: F1 {self.pair_f1}, accuracy {self.pair_accuracy}"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per group (label empty), then one per group and label."""
        import pandas as pd

        k = len(self.label_names)
        names = np.array(self.groups, object)
        return pd.DataFrame(
            {
                "group": np.concatenate([names, np.repeat(names, k)]),
                "label": [""] * len(names) + list(self.label_names) * len(names),
                "n": np.concatenate([self.n, self.positives.ravel()]),
                "accuracy": np.concatenate([self.group_accuracy, self.pairs_accuracy.ravel()]),
                "f1": np.concatenate([self.group_f1, self.pairs_f1.ravel()]),
            }
        )


def worst_group(
    targets: ArrayLike,
    labels: ArrayLike,
    attribute: ArrayLike,
    *,
    label_names: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
) -> WorstGroup:
    """The lowest accuracy and F1, over groups and over pairs of label and group.

    * Accuracy of a group: single-label, the share of its examples whose class is right; multi-label, the share of
      right decisions among all its examples and labels.
    * F1 of a pair of label and group: 2 TP / (2 TP + FP + FN) over the group's examples; undefined when none of
      them has the label (a single false positive would make 0 of it).
    * Macro F1 of a group: the mean of its pairs that have an F1.
    * Accuracy of a pair: the share of right decisions among the group's examples that have the label. These pairs
      are the groups of Sagawa, Koh, Hashimoto and Liang, ICLR 2020, section 2 (for multi-label data, with the
      label present).

    A group without an example is no group; what is undefined is passed over and counted.

    Args:
        targets: True labels: [N, K] in {0, 1}, or [N] classes.
        labels: Predicted labels, as `targets`.
        attribute: [N] codes 0..G-1; examples with -1 (unknown) are left out.
        label_names: K names; for classes they also say how many there are (default: as many as occur).
        groups: G names.

    Returns:
        In percent, 0..100.

    Raises:
        DataError: When an array has another shape, type or range.

    Example:
        >>> truth, predicted, group = np.array([0, 1, 0, 1]), np.array([0, 1, 0, 0]), np.array([0, 0, 1, 1])
        >>> print(worst_group(truth, predicted, group, label_names=("run", "sit"), groups=("man", "woman")))
        worst group: macro F1 33.33 % (woman, n = 2), accuracy 50.00 % (woman, n = 2)
        worst label and group: F1 0.00 % (sit, woman, n = 1), accuracy 0.00 % (sit, woman, n = 1)
    """
    scope = Scope.of((targets, labels), (attribute,), label_names, groups)
    rows = scope.rows(attribute, {"targets": targets, "labels": labels})
    true, predicted = rows.labels["targets"], rows.labels["labels"]
    n = scope.sizes(rows.codes)
    both, positives = scope.count(true & predicted, rows.codes), scope.count(true, rows.codes)
    either = positives + scope.count(predicted, rows.codes)  # 2 TP + FP + FN
    single = np.ndim(targets) == 1
    right = both.sum(1) if single else scope.count((true == predicted).astype(np.uint8), rows.codes).sum(1)
    group_accuracy = 100 * ratio(right, n if single else n * len(scope.label_names))
    pairs_accuracy = 100 * ratio(both, positives)
    pairs_f1 = 100 * ratio(2 * both, np.where(positives > 0, either, 0))
    group_f1 = np.array([mean_defined(f1) for f1 in pairs_f1], np.float64)
    return WorstGroup(
        _worst_of_groups(group_accuracy, n, scope),
        _worst_of_groups(group_f1, n, scope),
        _worst_of_pairs(pairs_accuracy, positives, scope),
        _worst_of_pairs(pairs_f1, positives, scope),
        group_accuracy,
        group_f1,
        pairs_accuracy,
        pairs_f1,
        n,
        positives,
        rows.unknown,
        scope.named(n == 0),
        scope.label_names,
        scope.groups,
    )


def _worst_of_groups(figures: FloatArray, n: IntArray, scope: Scope) -> Worst:
    if np.isnan(figures).all():
        return Worst(float("nan"), -1, -1, 0, "", undefined(figures))
    g = int(np.nanargmin(figures))
    return Worst(float(figures[g]), g, -1, int(n[g]), scope.groups[g], undefined(figures))


def _worst_of_pairs(figures: FloatArray, n: IntArray, scope: Scope) -> Worst:
    if np.isnan(figures).all():
        return Worst(float("nan"), -1, -1, 0, "", undefined(figures))
    g, k = (int(i) for i in np.unravel_index(np.nanargmin(figures), figures.shape))
    name = f"{scope.label_names[k]}, {scope.groups[g]}"
    return Worst(float(figures[g, k]), g, k, int(n[g, k]), name, undefined(figures))
