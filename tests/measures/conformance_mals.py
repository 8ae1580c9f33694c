"""Bias amplification (Zhao et al. 2017) by hand.

Most scenarios have one label that three men in four (group a) have: b*(a) = 3/4, and the answer is 100 (b~(a) - 3/4).
"""

from __future__ import annotations

from typing import Any

from tests.measures.conformance import Rows, Scenario, rows

NAN = float("nan")
SCENARIOS: list[Scenario] = []


def scenario(name: str, test: Rows, train: Rows | None = None, guessed: bool = False, **expected: Any) -> None:
    options: dict[str, Any] = {k: expected.pop(k) for k in ("groups", "label_names") if k in expected}
    if train is not None:
        options["reference"] = train.reference
    if guessed:
        options["attribute_predictions"] = test.guesses
    SCENARIOS.append(
        Scenario(
            "bias_amplification",
            name,
            lambda m: m.bias_amplification(test.targets, test.labels, test.attribute, **options),
            expected,
        )
    )


# fmt: off
# -- what predictions do, with b* = 3/4 --------------------------------------------------------------------------
scenario("perfect", rows("a 1 x3", "b 1"), value=0, undefined=0, reference_bias=[[75], [25]])
scenario("half of all recall lost, whatever the group", rows("a 1 x3", "a 1>0 x3", "b 1", "b 1>0"), value=0)
# Predicted for 2 of 4 in each group: b~ = 1/2.
scenario("random", rows("a 1 x2", "a 1>0", "a 0", "b 1", "b 0>1", "b 0 x2"), value=-25)
# Predicted for everybody, 8 a and 2 b: b~ = 4/5.
scenario("constant", rows("a 1 x3", "a 0>1 x5", "b 1", "b 0>1"), value=5)
scenario("fully skewed", rows("a 1 x3", "b 1>0"), value=25, predicted_bias=[[100], [0]])
scenario("over-correction, all the way", rows("a 1>0 x3", "b 1"), value=-75)  # 0 - 3/4
scenario("over-correction, half the way", rows("a 1", "a 1>0 x2", "b 1", "b 0>1 x2"), value=-50)  # 1/4 - 3/4
scenario("false positives count", rows("a 1 x3", "b 1", "b 0>1 x2"), value=-25)  # 3 of 6
scenario("95 to 5", rows("a 1 x3", "a 0>1 x16", "b 1"), value=20)  # 19 of 20
scenario("the other group leads", rows("b 1 x3", "a 1>0"), value=25)  # b*(b) = 3/4, b~(b) = 1
# -- labels ------------------------------------------------------------------------------------------------------
scenario("signs cancel", rows("a 10 x3", "b 10>00", "a 01", "a 01>00", "a 01>01", "b 01", "b 00>01"), value=0,
         per_label=[25, -25])  # label 1: 3 a and 1 b have it, 2 a and 2 b are said to: 1/2 - 3/4
scenario("a balanced label counts 0", rows("a 11 x2", "a 10>10", "b 11>00", "b 01>00"), value=12.5,
         per_label=[25, 0], balanced=1)  # label 1: 2 a, 2 b, predicted for a alone
scenario("frequent labels weigh no more", rows("a 10 x60", "b 10 x20", "a 01 x3", "b 01>00"), value=12.5)
scenario("a label that nobody has is undefined", rows("a 10 x3", "b 10>01"), value=25, per_label=[25, NAN], undefined=1)
scenario("a label that is never predicted is undefined", rows("a 11>10 x3", "b 11>00"), value=25,
         per_label=[25, NAN], undefined=1)
scenario("nothing is predicted", rows("a 1>0 x3", "b 1>0"), value=NAN, undefined=1, balanced=0,
         reason="no label occurs in the reference and in the predictions")
# Class 0: b*(a) = 3/4 and b~(a) = 1; class 1: the same for b.
scenario("single-label", rows("a 0 x3", "a 1>0", "b 1 x3", "b 0>1", single=True), value=25, per_label=[25, 25])
scenario("a class that does not occur keeps its place",
         rows("a 0 x3", "a 2>0", "b 2 x3", "b 0>2", single=True), value=25, per_label=[25, NAN, 25])
scenario("a class beyond those that occur", rows("a 0 x3", "b 0>1", single=True), label_names=("x", "y", "z"),
         value=25, per_label=[25, NAN, NAN], undefined=2)
# -- groups ------------------------------------------------------------------------------------------------------
# b* = (5, 4, 1) / 10, b~ = (8, 2, 0) / 10: a and b lie above 1/3: 3/10 - 2/10.
scenario("three groups, two above a third",
         rows("a 1 x5", "a 0>1 x3", "b 1 x2", "b 1>0 x2", "c 1>0"), value=10)
# b* = (2, 1, 0) / 3: b is exactly at 1/3 and does not count; a falls from 2/3 to 1/3.
scenario("exactly a third is no bias", rows("a 1", "a 1>0", "b 1", "b 0>1", "c 0"), value=-100 / 3)
# b* = (3, 2) / 5, above 1/2 for a alone; with a third group in the count both would lie above 1/3 and cancel.
scenario("a group that does not occur shifts nothing", rows("a 1 x3", "b 1>0 x2"), groups=("a", "b", "c"),
         value=40, absent=("c",))
scenario("codes are not positions", rows("a 1 x3", "c 1>0 x2"), value=40, absent=("1",),
         reference_bias=[[60], [0], [40]])
scenario("a group only in training is left out there", rows("a 1 x3", "b 1>0"),
         rows("a 1 x3", "b 1", "c 1 x4"), value=25, absent=("2",))
scenario("unknown attributes are left out", rows("a 1 x3", "b 1>0", "? 1 x5", "? 0>1"),
         rows("a 1 x3", "b 1", "? 1 x2"), value=25, unknown=(6, 2))
scenario("one group", rows("a 1 x3"), value=NAN, reason="1 group with examples, two are needed")
scenario("one group is left to measure", rows("a 1 x3"), rows("a 1 x3", "b 1"), value=NAN, absent=("1",))
scenario("no example", rows(k=2), value=NAN, undefined=2, per_label=[NAN, NAN])
scenario("no known example", rows("? 1 x3"), value=NAN, unknown=(3, 3))
# -- splits and predicted attributes -----------------------------------------------------------------------------
# Learnt from 3 to 1, said of 1 and 1; with the splits swapped the label would be balanced, and count 0.
scenario("the reference is the training split", rows("a 1", "b 1"), rows("a 1 x3", "b 1"), value=-25)
scenario("predicted attributes", rows("a 1 x3", "b 1:a"), guessed=True, value=25)
scenario("a predicted attribute takes the true one's place", rows("a 1:b x3", "b 1"), guessed=True, value=-75)
scenario("predicted attributes of unknown examples are left out", rows("a 1 x3", "b 1", "? 1:b x4"), guessed=True,
         value=0, unknown=(4, 4))
