"""Multi-attribute bias amplification of Zhao, Andrews and Xiang 2023: over combinations of labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from biasbench.errors import UsageError
from biasbench.measures.amplification import compared, summed, toward_biased
from biasbench.measures.combinations import Combination, Part, occurring
from biasbench.measures.counts import Reference, read_splits
from biasbench.measures.figures import FloatArray, mean_defined, said, undefined, why_undefined

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class MultiAttributeAmplification:
    """Multi_MALS: mean and variance, over combinations of labels.

    Attributes:
        value: Percent points: mean over combinations of the summed absolute changes; 0 is best. NaN when no
            combination has a value.
        variance: Points²: population variance of the signed changes of all groups and combinations.
        signed: Percent points: the same mean without the absolute value.
        combinations: M combinations, each a tuple of label numbers, by size and then by number.
        change: [G, M] points, signed; 0 where the group is not one that the combination leans to, NaN where
            undefined.
        undefined: Combinations without a value: never predicted.
        unknown: Examples left out because their attribute is unknown: measured ones, then reference ones.
        absent: Groups left out because the reference or the measured split has no example of them.
        reason: Why `value` is NaN; else empty.
        label_names: K names.
        groups: G names.
    """

    value: float
    variance: float
    signed: float
    combinations: tuple[Combination, ...]
    change: FloatArray
    undefined: int
    unknown: tuple[int, int]
    absent: tuple[str, ...]
    reason: str
    label_names: tuple[str, ...]
    groups: tuple[str, ...]

    def __str__(self) -> str:
        notes = [
            (len(self.combinations), "label combinations"),
            (self.undefined, "undefined ones"),
            (self.unknown[0], "left out, attribute unknown"),
        ]
        first = said(self.value, "multi-attribute amplification (Multi_MALS)", notes, self.reason)
        return (
            first if self.reason else f"{first}\nvariance {self.variance:.2f} points², signed {self.signed:.2f} points"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per combination: its labels, its size and each group's change."""
        import pandas as pd

        return pd.DataFrame(
            {
                "labels": [" & ".join(self.label_names[k] for k in m) for m in self.combinations],
                "size": [len(m) for m in self.combinations],
                **{f"change {group}": self.change[g] for g, group in enumerate(self.groups)},
            }
        )


def multi_attribute_amplification(
    targets: ArrayLike,
    labels: ArrayLike,
    attribute: ArrayLike,
    *,
    reference: Reference | None = None,
    attribute_predictions: ArrayLike | None = None,
    min_count: int = 1,
    max_size: int | None = None,
    label_sets_only: bool = False,
    label_names: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
) -> MultiAttributeAmplification:
    """Multi_MALS (Zhao, Andrews and Xiang, "Men Also Do Laundry", ICML 2023, its undirected metric).

    A combination m is a set of one or more labels; an example has it when it has all of them, whatever else it
    has. For each m and each group g it leans to in the reference, bias*(m, g) > 1 / G, the change is
    D = bias~(m, g) - bias*(m, g), the share of g among the examples predicted to have m less its share among the
    reference examples that have m; for other groups D = 0. The figure is 1/M sum_m sum_g |D|, so that
    amplification and its opposite do not cancel, with the variance of D over all groups and combinations.

    Combinations are those that occur at least `min_count` times (published: once) in the true labels of the
    reference and of the measured split. They are found from the examples that have them, not by listing all
    subsets of K labels. The authors' released code takes fewer: only those that are all the labels of at least
    `min_count` reference examples; `label_sets_only` does the same.

    As in `bias_amplification`, predictions are counted under the true attribute unless
    `attribute_predictions` is given (the paper predicts both), a combination that is never predicted has no value
    and is left out (the released code counts it 0), and groups that do not occur are left out.

    Args:
        targets: True labels: [N, K] in {0, 1}, or [N] classes (then every combination is a single class).
        labels: Predicted labels, as `targets`.
        attribute: [N] codes 0..G-1; examples with -1 (unknown) are left out.
        reference: Targets and attribute of the training split; None takes `targets` and `attribute`.
        attribute_predictions: [N] predicted codes 0..G-1, used in place of `attribute` where that is known.
        min_count: Examples of known attribute that a combination needs in each of the two splits.
        max_size: Most labels in a combination; None sets no limit.
        label_sets_only: Only combinations that are the whole label set of a reference example, as released.
        label_names: K names; for classes they also say how many there are (default: as many as occur).
        groups: G names.

    Raises:
        DataError: When an array has another shape, type or range.
        UsageError: When `min_count` or `max_size` is below 1.
        CellError: When more than 200,000 combinations occur.

    Example:
        >>> truth, group = np.array([[1, 1], [1, 1], [1, 0], [1, 1]]), np.array([0, 0, 1, 1])
        >>> predicted = np.array([[1, 1], [1, 1], [1, 0], [1, 0]])
        >>> print(multi_attribute_amplification(truth, predicted, group))  # {1} and {0, 1}: from 2/3 to all
        multi-attribute amplification (Multi_MALS) 22.22 points (label combinations: 3)
        variance 246.91 points², signed 22.22 points
    """
    for name, number in (("min_count", min_count), ("max_size", max_size)):
        if number is not None and number < 1:
            raise UsageError(f"{name} is {number}", fix="Give 1 or more")
    scope, test, train = read_splits(targets, labels, attribute, reference, attribute_predictions, label_names, groups)
    codes = test.extra.get("attribute_predictions", test.codes)
    by_truth = attribute_predictions is None
    present = compared(scope.sizes(train.codes), scope.sizes(test.codes) if by_truth else None)
    reference_part = Part.of(train.labels["targets"], train.codes, present)
    measured = Part.of(test.labels["targets"], test.codes, present if by_truth else np.ones_like(present))
    predicted = Part.of(test.labels["labels"], codes, present)
    found = occurring(reference_part, measured, predicted, min_count, max_size)
    if label_sets_only:
        whole = Counter(tuple(map(int, np.flatnonzero(row))) for row in reference_part.labels)
        found = {m: counts for m, counts in found.items() if whole[m] >= min_count}
    order = sorted(found, key=lambda m: (len(m), m))
    counts = np.array([found[m] for m in order], np.int64).reshape(len(order), 2, len(scope.groups))
    change = 100 * toward_biased(counts[:, 0].T, counts[:, 1].T, int(present.sum()))  # [G, M]
    value = mean_defined(summed(np.abs(change)))
    pairs = change[present]
    return MultiAttributeAmplification(
        value=value,
        variance=float(np.var(pairs[~np.isnan(pairs)])) if not np.isnan(value) else value,
        signed=mean_defined(summed(change)),
        combinations=tuple(order),
        change=change,
        undefined=undefined(summed(change)),
        unknown=(test.unknown, train.unknown),
        absent=scope.named(~present),
        reason=why_undefined(value, int(present.sum()), "label combination"),
        label_names=scope.label_names,
        groups=scope.groups,
    )
