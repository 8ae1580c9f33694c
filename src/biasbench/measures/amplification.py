"""Bias amplification of Zhao et al. 2017: how much further predictions lean than the data they were learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasbench.measures.counts import IntArray, Reference, read_splits
from biasbench.measures.figures import FloatArray, mean_defined, ratio, said, undefined, why_undefined

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class BiasAmplification:
    """Bias amplification in percent points, signed.

    Attributes:
        value: Mean of `per_label` over the labels that have one; NaN when none has.
        per_label: [K] points; NaN where the label occurs in no reference example or in no prediction.
        reference_bias: [G, K] percent: share of each group among the label's reference examples.
        predicted_bias: [G, K] percent: share of each group among the examples predicted to have the label.
        undefined: Labels without a value.
        balanced: Labels that lean to no group in the reference, whose value is 0 by definition.
        unknown: Examples left out because their attribute is unknown: measured ones, then reference ones.
        absent: Groups left out because the reference, or the measured split, has no example of them.
        reason: Why `value` is NaN; else empty.
        label_names: K names.
        groups: G names.
    """

    value: float
    per_label: FloatArray
    reference_bias: FloatArray
    predicted_bias: FloatArray
    undefined: int
    balanced: int
    unknown: tuple[int, int]
    absent: tuple[str, ...]
    reason: str
    label_names: tuple[str, ...]
    groups: tuple[str, ...]

    def __str__(self) -> str:
        notes = [(self.undefined, "undefined labels"), (self.unknown[0], "left out, attribute unknown")]
        return said(self.value, "bias amplification (Zhao et al. 2017)", notes, self.reason)

    def to_frame(self) -> pd.DataFrame:
        """One row per label: its value and each group's share in the reference and in the predictions."""
        import pandas as pd

        shares = {
            f"{kind} {group}": rows[g]
            for kind, rows in (("reference", self.reference_bias), ("predicted", self.predicted_bias))
            for g, group in enumerate(self.groups)
        }
        return pd.DataFrame({"label": self.label_names, "bias_amplification": self.per_label, **shares})


def bias_amplification(
    targets: ArrayLike,
    labels: ArrayLike,
    attribute: ArrayLike,
    *,
    reference: Reference | None = None,
    attribute_predictions: ArrayLike | None = None,
    label_names: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
) -> BiasAmplification:
    """Mean bias amplification (Zhao, Wang, Yatskar, Ordonez and Chang, EMNLP 2017, section 3), signed.

    With c(o, g) the number of examples that have label o and group g, b(o, g) = c(o, g) / sum_g' c(o, g').
    b* counts the true labels of the reference data, b~ the predicted labels of the measured split. A label's
    value is the sum of b~(o, g) - b*(o, g) over the groups g it leans to in the reference, b*(o, g) > 1 / G; the
    figure is the mean over labels. Above 0, predictions lean further than the data; below 0, less far, or the
    other way.

    The paper predicts the attribute together with the labels. Here predictions are counted under the true
    attribute unless `attribute_predictions` is given.

    A label that leans to no group (b* = 1 / G for all) counts 0, as published. Where released code counts what is
    undefined as 0, it is left out here: a label without a reference example or without a prediction has no
    value. G counts the groups that occur; a group without an example in the reference (or, when the true attribute
    is used, in the measured split) is left out on both sides. With fewer than two groups there is no figure.

    Args:
        targets: True labels: [N, K] in {0, 1}, or [N] classes.
        labels: Predicted labels, as `targets`.
        attribute: [N] codes 0..G-1; examples with -1 (unknown) are left out.
        reference: Targets and attribute of the training split; None takes `targets` and `attribute`.
        attribute_predictions: [N] predicted codes 0..G-1, used in place of `attribute` where that is known.
        label_names: K names; for classes they also say how many there are (default: as many as occur).
        groups: G names.

    Returns:
        In percent points, -100..100 for two groups.

    Raises:
        DataError: When an array has another shape, type or range.

    Example:
        >>> truth, group = np.array([[1], [1], [1], [1]]), np.array([0, 0, 0, 1])
        >>> predicted = np.array([[1], [1], [0], [0]])  # 75 % of the label are group 0, 100 % of the predictions
        >>> print(bias_amplification(truth, predicted, group))
        bias amplification (Zhao et al. 2017) 25.00 points
    """
    scope, test, train = read_splits(targets, labels, attribute, reference, attribute_predictions, label_names, groups)
    codes = test.extra.get("attribute_predictions", test.codes)
    present = compared(scope.sizes(train.codes), scope.sizes(test.codes) if attribute_predictions is None else None)
    true = scope.count(train.labels["targets"], train.codes) * present[:, None]
    predicted = scope.count(test.labels["labels"], codes) * present[:, None]
    per_label = 100 * summed(toward_biased(true, predicted, int(present.sum())))
    value = mean_defined(per_label)
    total = true.sum(0)
    return BiasAmplification(
        value=value,
        per_label=per_label,
        reference_bias=100 * ratio(true, total),
        predicted_bias=100 * ratio(predicted, predicted.sum(0)),
        undefined=undefined(per_label),
        balanced=int((~np.isnan(per_label) & (true * present.sum() <= total).all(0)).sum()),
        unknown=(test.unknown, train.unknown),
        absent=scope.named(~present),
        reason=why_undefined(value, int(present.sum()), "label"),
        label_names=scope.label_names,
        groups=scope.groups,
    )


def compared(reference: IntArray, measured: IntArray | None) -> NDArray[np.bool_]:
    """[G] whether a group has an example in the reference and in the measured split (None: not asked)."""
    return reference > 0 if measured is None else (reference > 0) & (measured > 0)


def toward_biased(reference: IntArray, predicted: IntArray, groups: int) -> FloatArray:
    """[G, M] b~ - b* where b* > 1 / `groups`, 0 where not; NaN in columns that are undefined.

    Args:
        reference: [G, M] counts c(m, g) of true labels, or of combinations of labels.
        predicted: [G, M] counts of predicted ones.
        groups: How many groups occur.

    Example:
        >>> toward_biased(np.array([[3, 1, 0], [1, 1, 0]]), np.array([[1, 2, 1], [1, 0, 1]]), 2)
        array([[-0.25,  0.  ,   nan],
               [ 0.  ,  0.  ,   nan]])
    """
    total = reference.sum(0)
    difference = ratio(predicted, predicted.sum(0)) - ratio(reference, total)
    biased = reference * groups > total  # exact: no share is rounded before it is compared
    out = np.where(biased | np.isnan(difference), difference, 0.0)
    return np.full(out.shape, np.nan) if groups < 2 else out


def summed(change: FloatArray) -> FloatArray:
    """[M] sums over groups of [G, M]; NaN without a group."""
    return change.sum(0) if len(change) else np.full(change.shape[1], np.nan)
