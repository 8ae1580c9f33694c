"""Every measure of amplification and of gaps against answers derived by hand.

Defects that a published package and released code of this field have, and scenarios that they would fail:

* recall lost equally in both groups read as negative amplification: "half of all recall lost";
* label rates normalised over labels, so that multi-label figures are halved: "labels that occur together";
* zero for random and for extreme predictions of a combination: "random", "95 to 5";
* over-correction read as amplification, or the other way round: "over-correction";
* a skipped label shifting the ones after it: "a label that nobody has is undefined", "a class that does not occur
  keeps its place"; a skipped group: "codes are not positions".
"""

from __future__ import annotations

from collections import Counter

import pytest

import biasbench
from tests.measures import (
    conformance_directional,
    conformance_gaps,
    conformance_groups,
    conformance_mals,
    conformance_multi,
)
from tests.measures.conformance import Scenario, rows, same, wrong_answers

TABLES = (conformance_mals, conformance_directional, conformance_multi, conformance_gaps, conformance_groups)
SCENARIOS: list[Scenario] = [scenario for table in TABLES for scenario in table.SCENARIOS]
MEASURES = Counter(scenario.measure for scenario in SCENARIOS)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_answer(scenario: Scenario) -> None:
    assert scenario.wrong(biasbench) == ""


def test_every_measure_has_twenty_scenarios_of_different_names() -> None:
    assert min(MEASURES.values()) >= 20
    assert len(MEASURES) == 6
    assert len({str(s) for s in SCENARIOS}) == len(SCENARIOS)


# From fair to biased: one label that two in four of each group have; predictions leave b and take in a.
STEPS = (
    rows("a 1 x2", "a 0 x2", "b 1 x2", "b 0 x2"),
    rows("a 1 x2", "a 0>1", "a 0", "b 1", "b 1>0", "b 0 x2"),
    rows("a 1 x2", "a 0>1 x2", "b 1>0 x2", "b 0 x2"),
)
LEARNT = rows("a 1 x3", "a 0", "b 1", "b 0 x3").reference
WORSE_IS_MORE = {
    "bias_amplification": lambda m, r: m.bias_amplification(r.targets, r.labels, r.attribute, reference=LEARNT),
    "directional_amplification": lambda m, r: m.directional_amplification(
        r.targets, r.labels, r.attribute, reference=LEARNT
    ),
    "demographic_parity_gap": lambda m, r: m.demographic_parity_gap(r.labels, r.attribute),
    "equalised_odds_gap": lambda m, r: m.equalised_odds_gap(r.targets, r.labels, r.attribute),
    "worst_group": lambda m, r: m.worst_group(r.targets, r.labels, r.attribute),
}


@pytest.mark.parametrize("measure", WORSE_IS_MORE)
def test_a_more_biased_input_scores_worse(measure: str) -> None:
    values = [WORSE_IS_MORE[measure](biasbench, step).value for step in STEPS]
    assert values == sorted(values, reverse=measure == "worst_group")
    assert len(set(values)) == len(STEPS)


def test_multi_mals_is_a_distance_from_what_was_learnt() -> None:
    """It has no sign: with b*(a) = 3/4, b~(a) of 1/2, 3/4 and 1 is off by 25, 0 and 25."""
    away = [
        biasbench.multi_attribute_amplification(r.targets, r.labels, r.attribute, reference=LEARNT).value for r in STEPS
    ]
    assert away == [25, 0, 25]


def test_the_check_can_fail() -> None:
    assert not same(1.0, 1.00001)
    assert not same(float("nan"), 0.0)
    assert not same(0.0, float("nan"))
    assert not same([1.0, 2.0], [1.0])
    assert not same(("a",), ("b",))
    assert same(1.0, 1.0000001)
    scenario = SCENARIOS[0]
    wrong = Scenario(scenario.measure, scenario.name, scenario.call, {"value": 1.0})
    assert "value is 0.0, not 1.0" in wrong.wrong(biasbench)
    with pytest.raises(AttributeError):
        scenario.wrong(None)
    assert wrong_answers([wrong, scenario], biasbench) == [wrong.wrong(biasbench)]
