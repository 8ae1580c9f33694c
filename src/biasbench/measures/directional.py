"""Directional bias amplification of Wang and Russakovsky 2021: from attribute to task, and from task to attribute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from biasbench.measures.counts import IntArray, Reference, Rows, Scope, read_splits
from biasbench.measures.figures import FloatArray, mean_defined, ratio, said, undefined, why_undefined

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Direction:
    """One direction, in percent points, signed.

    Attributes:
        value: Mean of `per_pair` over the pairs that have one; NaN when none has.
        per_pair: [G, K] points; NaN where undefined.
        undefined: Pairs of group and label without a value.
        balanced: Pairs that are independent in the reference: nothing to amplify, counted 0 as released.
        reason: Why `value` is NaN; else empty.
    """

    value: float
    per_pair: FloatArray
    undefined: int
    balanced: int
    reason: str


@dataclass(frozen=True, eq=False)
class DirectionalAmplification:
    """Directional bias amplification, both ways.

    Attributes:
        attribute_to_task: How predictions of a label change with the group.
        task_to_attribute: How predictions of the group change with a label; NaN without predicted attributes.
        unknown: Examples left out because their attribute is unknown: measured ones, then reference ones.
        label_names: K names.
        groups: G names.
    """

    attribute_to_task: Direction
    task_to_attribute: Direction
    unknown: tuple[int, int]
    label_names: tuple[str, ...]
    groups: tuple[str, ...]

    @property
    def value(self) -> float:
        """Attribute to task: the direction that every model has."""
        return self.attribute_to_task.value

    def __str__(self) -> str:
        ways = {"attribute to task": self.attribute_to_task, "task to attribute": self.task_to_attribute}
        notes = [(self.unknown[0], "left out, attribute unknown")]
        return "\n".join(
            said(
                way.value,
                f"directional amplification, {name},",
                [(way.undefined, "undefined pairs"), *notes],
                way.reason,
            )
            for name, way in ways.items()
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per group and label."""
        import pandas as pd

        return pd.DataFrame(
            {
                "group": np.repeat(np.array(self.groups, object), len(self.label_names)),
                "label": np.tile(np.array(self.label_names, object), len(self.groups)),
                "attribute_to_task": self.attribute_to_task.per_pair.ravel(),
                "task_to_attribute": self.task_to_attribute.per_pair.ravel(),
            }
        )


def directional_amplification(
    targets: ArrayLike,
    labels: ArrayLike,
    attribute: ArrayLike,
    *,
    reference: Reference | None = None,
    attribute_predictions: ArrayLike | None = None,
    label_names: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
) -> DirectionalAmplification:
    """BiasAmp→ (Wang and Russakovsky, "Directional Bias Amplification", ICML 2021, its defining equation), signed.

    For each group a and label t, y says whether they occur together more often than if they were independent,
    P(A=a, T=t) > P(A=a) P(T=t), in the reference data. The change is, on the measured split,

    * attribute to task: P(T^=t | A=a) - P(T=t | A=a),
    * task to attribute: P(A^=a | T=t) - P(A=a | T=t);

    it counts with its sign where y holds and negated where they occur together less often. The figure is the
    mean over all G × K pairs: an attribute of two groups has two rows, one of many has as many. Above 0, the
    model strengthens the data's associations.

    As in the authors' released `directional_biasamp.py`, y comes from the training labels when they are given (else
    from the measured ones), both terms of the change come from the measured split, and a pair that is exactly
    independent counts 0 (the paper's text would negate its change). Independence is decided on integer counts,
    without rounding. Undefined, and left out of the mean: pairs of a group or label that the reference does not
    have, of a group that the measured split does not have, and for task to attribute of a label without a measured
    example.

    Args:
        targets: True labels: [N, K] in {0, 1}, or [N] classes.
        labels: Predicted labels, as `targets`.
        attribute: [N] codes 0..G-1; examples with -1 (unknown) are left out.
        reference: Targets and attribute of the training split; None takes `targets` and `attribute`.
        attribute_predictions: [N] predicted codes 0..G-1; without them there is no task to attribute.
        label_names: K names; for classes they also say how many there are (default: as many as occur).
        groups: G names.

    Returns:
        In percent points, -100..100.

    Raises:
        DataError: When an array has another shape, type or range.

    Example:
        >>> truth, group = np.array([[1], [1], [0], [1], [0], [0]]), np.array([0, 0, 0, 1, 1, 1])
        >>> predicted = np.array([[1], [1], [1], [0], [0], [0]])  # 2/3 and 1/3 became 1 and 0
        >>> print(directional_amplification(truth, predicted, group))
        directional amplification, attribute to task, 33.33 points
        directional amplification, task to attribute, undefined: no predicted attribute
    """
    scope, test, train = read_splits(targets, labels, attribute, reference, attribute_predictions, label_names, groups)
    sign = _association(scope, train)
    occurring = int((scope.sizes(train.codes) > 0).sum())
    to_task = _direction(_labels_given_group(scope, test), sign, occurring)
    if attribute_predictions is not None:
        to_attribute = _direction(_group_given_labels(scope, test), sign, occurring)
    else:
        nan = np.full(sign.shape, np.nan)
        to_attribute = Direction(math.nan, nan, nan.size, 0, "no predicted attribute")
    return DirectionalAmplification(
        to_task, to_attribute, (test.unknown, train.unknown), scope.label_names, scope.groups
    )


def _association(scope: Scope, train: Rows) -> FloatArray:
    """[G, K] +1, 0 or -1: group and label together more, as or less often than if independent; NaN undefined."""
    pairs = scope.count(train.labels["targets"], train.codes)  # [G, K]
    in_group, with_label = scope.sizes(train.codes)[:, None], train.labels["targets"].sum(0, dtype=np.int64)
    sign = np.sign(pairs * len(train.codes) - in_group * with_label).astype(np.float64)
    sign[np.broadcast_to((in_group == 0) | (with_label == 0), sign.shape)] = np.nan
    return sign if (in_group > 0).sum() > 1 else np.full(sign.shape, np.nan)


def _labels_given_group(scope: Scope, test: Rows) -> FloatArray:
    """[G, K] P(T^=t | A=a) - P(T=t | A=a)."""
    size = scope.sizes(test.codes)[:, None]
    return ratio(scope.count(test.labels["labels"], test.codes) - scope.count(test.labels["targets"], test.codes), size)


def _group_given_labels(scope: Scope, test: Rows) -> FloatArray:
    """[G, K] P(A^=a | T=t) - P(A=a | T=t)."""
    true = test.labels["targets"]
    predicted: IntArray = scope.count(true, test.extra["attribute_predictions"])
    change = ratio(predicted - scope.count(true, test.codes), true.sum(0, dtype=np.int64))
    change[scope.sizes(test.codes) == 0] = np.nan
    return change


def _direction(change: FloatArray, sign: FloatArray, groups: int) -> Direction:
    per_pair = 100 * sign * change + 0.0  # no -0
    value = mean_defined(per_pair)
    balanced = int(((sign == 0) & ~np.isnan(per_pair)).sum())
    return Direction(value, per_pair, undefined(per_pair), balanced, why_undefined(value, groups, "pair"))
