"""Demographic parity and equalised odds: how far rates of predictions lie apart between groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from biasbench.measures.counts import Scope
from biasbench.measures.figures import FloatArray, mean_defined, ratio, said, undefined

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Gap:
    """How far a rate lies apart between groups, in percent points.

    Attributes:
        name: What is compared.
        value: Mean of `per_label` over the labels that have one; NaN when none has.
        per_label: [K] points, highest less lowest rate; NaN where fewer than two groups have a rate.
        rates: [G, K] percent; NaN where a group has no example to take the rate over.
        undefined: Labels without a gap.
        undefined_rates: Pairs of group and label without a rate.
        unknown: Examples left out because their attribute is unknown.
        label_names: K names.
        groups: G names.
    """

    name: str
    value: float
    per_label: FloatArray
    rates: FloatArray
    undefined: int
    undefined_rates: int
    unknown: int
    label_names: tuple[str, ...]
    groups: tuple[str, ...]

    @property
    def reason(self) -> str:
        """Why `value` is NaN; else empty."""
        return "no label has a rate in two groups" if np.isnan(self.value) else ""

    def __str__(self) -> str:
        notes = [(self.undefined, "undefined labels"), (self.unknown, "left out, attribute unknown")]
        return said(self.value, self.name, notes, self.reason)

    def to_frame(self) -> pd.DataFrame:
        """One row per label: its gap and each group's rate."""
        import pandas as pd

        rates = {f"rate {group}": self.rates[g] for g, group in enumerate(self.groups)}
        return pd.DataFrame({"label": self.label_names, "gap": self.per_label, **rates})


@dataclass(frozen=True, eq=False)
class EqualisedOddsGap:
    """The larger of the gaps in true and in false positive rate, in percent points.

    Attributes:
        value: Mean of `per_label` over the labels that have one; NaN when none has.
        per_label: [K] points, the larger of the label's two gaps; NaN where either is undefined.
        true_positive: Gap in P(predicted | has the label).
        false_positive: Gap in P(predicted | does not have the label).
        undefined: Labels without a value.
    """

    value: float
    per_label: FloatArray
    true_positive: Gap
    false_positive: Gap
    undefined: int

    @property
    def reason(self) -> str:
        """Why `value` is NaN; else empty."""
        return "no label has both rates in two groups" if np.isnan(self.value) else ""

    def __str__(self) -> str:
        notes = [
            (self.undefined, "undefined labels"),
            (self.true_positive.unknown, "left out, attribute unknown"),
        ]
        return said(self.value, "equalised odds gap", notes, self.reason)

    def to_frame(self) -> pd.DataFrame:
        """One row per label: the larger gap, both gaps, and each group's rates."""
        import pandas as pd

        both = {"true_positive": self.true_positive, "false_positive": self.false_positive}
        columns = {f"{kind}_gap": gap.per_label for kind, gap in both.items()}
        rates = {
            f"{kind}_rate {group}": gap.rates[g] for kind, gap in both.items() for g, group in enumerate(gap.groups)
        }
        names = self.true_positive.label_names
        return pd.DataFrame({"label": names, "gap": self.per_label, **columns, **rates})


def demographic_parity_gap(
    labels: ArrayLike,
    attribute: ArrayLike,
    *,
    label_names: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
) -> Gap:
    """Demographic parity: highest less lowest P(predicted | group), for each label.

    For one label this is the demographic parity difference between groups (Agarwal, Beygelzimer, Dudík,
    Langford and Wallach, ICML 2018, definition 1; `fairlearn.metrics.demographic_parity_difference`). The figure is
    the mean over labels. Groups without an example take no part.

    Args:
        labels: Predicted labels: [N, K] in {0, 1}, or [N] classes, which count as one-hot.
        attribute: [N] codes 0..G-1; examples with -1 (unknown) are left out.
        label_names: K names; for classes they also say how many there are (default: as many as occur).
        groups: G names.

    Returns:
        In percent points, 0..100.

    Raises:
        DataError: When an array has another shape, type or range.

    Example:
        >>> print(demographic_parity_gap(np.array([[1], [1], [1], [0]]), np.array([0, 0, 1, 1])))
        demographic parity gap 50.00 points
    """
    scope = Scope.of((labels,), (attribute,), label_names, groups)
    rows = scope.rows(attribute, {"labels": labels})
    rates = ratio(scope.count(rows.labels["labels"], rows.codes), scope.sizes(rows.codes)[:, None])
    return _gap("demographic parity gap", rates, scope, rows.unknown)


def equalised_odds_gap(
    targets: ArrayLike,
    labels: ArrayLike,
    attribute: ArrayLike,
    *,
    label_names: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
) -> EqualisedOddsGap:
    """Equalised odds: the larger gap between groups of true and of false positive rate, for each label.

    For one label this is the equalized odds difference (Hardt, Price and Srebro, NeurIPS 2016, definition 2.1;
    `fairlearn.metrics.equalized_odds_difference` with its default, the worst case). The figure is the mean over
    labels; both gaps are given alone too. A rate with nothing to be taken over, such as the true positive rate of
    a group without a positive, is undefined and takes no part, where fairlearn counts it 0.

    Args:
        targets: True labels: [N, K] in {0, 1}, or [N] classes, which count as one-hot.
        labels: Predicted labels, as `targets`.
        attribute: [N] codes 0..G-1; examples with -1 (unknown) are left out.
        label_names: K names; for classes they also say how many there are (default: as many as occur).
        groups: G names.

    Returns:
        In percent points, 0..100.

    Raises:
        DataError: When an array has another shape, type or range.

    Example:
        >>> truth, group = np.array([[1], [0], [1], [0]]), np.array([0, 0, 1, 1])
        >>> print(equalised_odds_gap(truth, np.array([[1], [0], [0], [0]]), group))
        equalised odds gap 100.00 points
    """
    scope = Scope.of((targets, labels), (attribute,), label_names, groups)
    rows = scope.rows(attribute, {"targets": targets, "labels": labels})
    true, predicted = rows.labels["targets"], rows.labels["labels"]
    both = scope.count(true & predicted, rows.codes)
    positive = scope.count(true, rows.codes)
    negative = scope.sizes(rows.codes)[:, None] - positive
    wrong = scope.count(predicted, rows.codes) - both
    true_positive = _gap("true positive rate gap", ratio(both, positive), scope, rows.unknown)
    false_positive = _gap("false positive rate gap", ratio(wrong, negative), scope, rows.unknown)
    per_label = np.maximum(true_positive.per_label, false_positive.per_label)  # NaN where either is
    return EqualisedOddsGap(mean_defined(per_label), per_label, true_positive, false_positive, undefined(per_label))


def _gap(name: str, rates: FloatArray, scope: Scope, unknown: int) -> Gap:
    """Highest less lowest of [G, K] rates, over the groups that have one."""
    defined = ~np.isnan(rates)
    highest = np.where(defined, rates, -np.inf).max(0, initial=-np.inf)
    lowest = np.where(defined, rates, np.inf).min(0, initial=np.inf)
    enough = defined.sum(0) > 1
    per_label = np.full(len(enough), np.nan)
    per_label[enough] = 100 * (highest - lowest)[enough]
    return Gap(
        name,
        mean_defined(per_label),
        per_label,
        100 * rates,
        undefined(per_label),
        undefined(rates),
        unknown,
        scope.label_names,
        scope.groups,
    )
