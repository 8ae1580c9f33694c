"""Demographic parity and equalised odds by hand: rates are counts over counts, and the gap is highest less lowest."""

from __future__ import annotations

from typing import Any

from tests.measures.conformance import Rows, Scenario, rows

NAN = float("nan")
SCENARIOS: list[Scenario] = []


def _options(expected: dict[str, Any]) -> dict[str, Any]:
    return {k: expected.pop(k) for k in ("groups", "label_names") if k in expected}


def parity(name: str, test: Rows, **expected: Any) -> None:
    options = _options(expected)
    SCENARIOS.append(
        Scenario(
            "demographic_parity_gap",
            name,
            lambda m: m.demographic_parity_gap(test.labels, test.attribute, **options),
            expected,
        )
    )


def odds(name: str, test: Rows, **expected: Any) -> None:
    """`tpr` and `fpr` are the means of the two gaps."""
    options = _options(expected)
    parts = {"tpr": "true_positive.value", "fpr": "false_positive.value"}
    SCENARIOS.append(
        Scenario(
            "equalised_odds_gap",
            name,
            lambda m: m.equalised_odds_gap(test.targets, test.labels, test.attribute, **options),
            {parts.get(key, key.replace("__", ".")): value for key, value in expected.items()},
        )
    )


# fmt: off
# == demographic parity: P(predicted | group) ========================================================================
parity("equal rates", rows("a 1", "a 0", "b 1", "b 0"), value=0)
parity("all of one group, none of the other", rows("a 1 x2", "b 0 x2"), value=100, rates=[[100], [0]])
parity("half the way", rows("a 1 x2", "b 1", "b 0"), value=50)
parity("three quarters", rows("a 1 x3", "a 0", "b 0 x4"), value=75)
parity("the other group leads", rows("a 1", "a 0", "b 1 x2"), value=50)
parity("always", rows("a 1 x3", "b 1 x2"), value=0)
parity("never", rows("a 0 x3", "b 0 x2"), value=0)
parity("groups of different size", rows("a 1", "a 0 x3", "b 1"), value=75)  # 1 - 1/4, though 1 of each is predicted
parity("equal shares, unequal rates", rows("a 1 x2", "a 0 x2", "b 1 x2", "b 0 x6"), value=25)  # 1/2 - 1/4
parity("the truth does not matter", rows("a 0>1", "a 1>0", "b 1", "b 0"), value=0)
parity("three groups: highest less lowest", rows("a 1 x4", "b 1 x2", "b 0 x2", "c 1", "c 0 x3"), value=75)
parity("three groups, two tied", rows("a 1 x3", "a 0", "b 1 x2", "b 0 x2", "c 1 x2", "c 0 x2"), value=25)
parity("four groups", rows("a 1", "b 0", "c 1", "d 1", "d 0"), value=100)
parity("mean over labels", rows("a 110 x2", "b 010", "b 000"), value=(100 + 50 + 0) / 3, per_label=[100, 50, 0])
parity("gaps do not cancel", rows("a 10 x2", "b 01 x2"), value=100)
parity("single-label", rows("a 0 x3", "a 1", "b 0", "b 1 x3", single=True), value=50, per_label=[50, 50])
parity("a class that is never predicted has no gap", rows("a 0 x3", "a 1", "b 0", "b 1 x3", single=True),
       label_names=("x", "y", "z"), value=100 / 3, per_label=[50, 50, 0])
parity("a group that does not occur takes no part", rows("a 1 x2", "b 1", "b 0"), groups=("a", "b", "c"), value=50,
       undefined_rates=1, undefined=0)
parity("codes are not positions", rows("a 1 x2", "c 1", "c 0"), value=50, rates=[[100], [NAN], [50]])
parity("unknown attributes are left out", rows("a 1 x2", "b 1", "b 0", "? 1 x5", "? 0"), value=50, unknown=6)
parity("one group", rows("a 1", "a 0"), value=NAN, undefined=1, reason="no label has a rate in two groups")
parity("one known group", rows("a 1", "? 0"), value=NAN, undefined=1, unknown=1)
parity("no example", rows(k=2), value=NAN, undefined=2, per_label=[NAN, NAN])

# == equalised odds: true and false positive rates, here of two positives and two negatives a group ===================
odds("perfect", rows("a 1 x2", "a 0 x2", "b 1 x2", "b 0 x2"), value=0, tpr=0, fpr=0)
odds("perfect on skewed data", rows("a 1 x9", "a 0", "b 1", "b 0 x9"), value=0)
odds("random", rows("a 1", "a 1>0", "a 0>1", "a 0", "b 1", "b 1>0", "b 0>1", "b 0"), value=0, tpr=0, fpr=0)
odds("always", rows("a 1 x3", "a 0>1", "b 1", "b 0>1 x3"), value=0)
odds("never", rows("a 1>0 x3", "a 0", "b 1>0", "b 0 x3"), value=0)
odds("missed in one group", rows("a 1 x2", "a 0 x2", "b 1", "b 1>0", "b 0 x2"), value=50, tpr=50, fpr=0)
odds("found too often in one group", rows("a 1 x2", "a 0 x2", "b 1 x2", "b 0", "b 0>1"), value=50, tpr=0, fpr=50)
odds("by group alone", rows("a 1 x2", "a 0>1 x2", "b 1>0 x2", "b 0 x2"), value=100, tpr=100, fpr=100)
odds("the other group leads", rows("b 1 x2", "b 0>1 x2", "a 1>0 x2", "a 0 x2"), value=100)
odds("the larger gap: true positives", rows("a 1 x4", "a 0 x4", "b 1", "b 1>0 x3", "b 0 x3", "b 0>1"), value=75,
     tpr=75, fpr=25)
odds("the larger gap: false positives", rows("a 1 x4", "a 0 x4", "b 1 x3", "b 1>0", "b 0", "b 0>1 x3"), value=75,
     tpr=25, fpr=75)
# b: 1 of 4 and 3 of 4; a: 3 of 4 and 1 of 4: gaps of 1/2 in opposite directions.
odds("opposite gaps do not cancel", rows("a 1 x3", "a 1>0", "a 0 x3", "a 0>1", "b 1", "b 1>0 x3", "b 0", "b 0>1 x3"),
     value=50, tpr=50, fpr=50)
odds("same accuracy, other errors", rows("a 1", "a 1>0", "a 0 x2", "b 1 x2", "b 0", "b 0>1"), value=50, tpr=50, fpr=50)
odds("rates of groups of different size", rows("a 1 x1", "a 1>0 x3", "a 0", "b 1", "b 0 x7"), value=75)
odds("three groups: highest less lowest", rows("a 1 x4", "a 0", "b 1 x2", "b 1>0 x2", "b 0", "c 1", "c 1>0 x3", "c 0"),
     value=75, tpr=75)
# TPR: b has no positive, which leaves a and c: 1 - 1/2; FPR: 0, 1/4 and 0.
odds("a group without a positive has no true positive rate",
     rows("a 1 x2", "a 0 x4", "b 0 x3", "b 0>1", "c 1", "c 1>0", "c 0 x4"), value=50, tpr=50, fpr=25,
     true_positive__rates=[[100], [NAN], [50]], true_positive__undefined_rates=1)
odds("one group has positives", rows("a 1 x2", "a 0 x2", "b 0", "b 0>1"), value=NAN, tpr=NAN, fpr=50, undefined=1)
odds("nobody is negative", rows("a 1 x2", "b 1", "b 1>0"), value=NAN, tpr=50, fpr=NAN, undefined=1)
odds("mean over labels", rows("a 11 x2", "a 00 x2", "b 11", "b 11>01", "b 00 x2"), value=25, per_label=[50, 0])
odds("an undefined label is left out", rows("a 10 x2", "a 00 x2", "b 10", "b 10>00", "b 00 x2"), value=50,
     per_label=[50, NAN], undefined=1)
odds("gaps of each label", rows("a 11", "a 10>11", "a 01", "a 00", "b 11", "b 10", "b 01>00", "b 00"), value=25,
     per_label=[0, 50], tpr=25, fpr=25)  # label 1: 2 of 2 against 1 of 2, and 1 of 2 against 0 of 2
# Class 0: TPR 1 and 1/2, FPR 0 and 0; class 1: TPR 1 and 1, FPR 0 and 1/2.
odds("single-label", rows("a 0 x2", "a 1 x2", "b 0", "b 0>1", "b 1 x2", single=True), value=50, tpr=25, fpr=25)
odds("a group that does not occur takes no part", rows("a 1 x2", "a 0 x2", "b 1", "b 1>0", "b 0 x2"),
     groups=("a", "b", "c"), value=50)
odds("codes are not positions", rows("a 1 x2", "a 0 x2", "c 1", "c 1>0", "c 0 x2"), value=50,
     true_positive__rates=[[100], [NAN], [50]])
odds("unknown attributes are left out", rows("a 1 x2", "a 0 x2", "b 1", "b 1>0", "b 0 x2", "? 0>1 x9"), value=50,
     true_positive__unknown=9, false_positive__unknown=9)
odds("one group", rows("a 1", "a 0>1"), value=NAN, tpr=NAN, fpr=NAN, reason="no label has both rates in two groups")
odds("no example", rows(k=2), value=NAN, undefined=2)
