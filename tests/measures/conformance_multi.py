"""Multi_MALS (Zhao, Andrews and Xiang 2023) by hand.

A combination that 3 a and 1 b have leans to a, with b*(a) = 3/4; its change is 100 (b~(a) - 3/4).
"""

from __future__ import annotations

from typing import Any

from tests.measures.conformance import Rows, Scenario, rows

NAN = float("nan")
SCENARIOS: list[Scenario] = []
OPTIONS = ("groups", "label_names", "min_count", "max_size", "label_sets_only")


def scenario(name: str, test: Rows, train: Rows | None = None, guessed: bool = False, **expected: Any) -> None:
    options: dict[str, Any] = {k: expected.pop(k) for k in OPTIONS if k in expected}
    if train is not None:
        options["reference"] = train.reference
    if guessed:
        options["attribute_predictions"] = test.guesses
    SCENARIOS.append(
        Scenario(
            "multi_attribute_amplification",
            name,
            lambda m: m.multi_attribute_amplification(test.targets, test.labels, test.attribute, **options),
            expected,
        )
    )


# fmt: off
# -- one label: the absolute value of Zhao et al. 2017; D is (change, 0) over the two groups, its variance change²/4 --
scenario("perfect", rows("a 1 x3", "b 1"), value=0, variance=0, signed=0, combinations=((0,),))
scenario("fully skewed", rows("a 1 x3", "b 1>0"), value=25, signed=25, variance=625 / 4, change=[[25], [0]])
scenario("over-correction is not rewarded", rows("a 1>0 x3", "b 1"), value=75, signed=-75, variance=5625 / 4)
scenario("random", rows("a 1 x2", "a 1>0", "a 0", "b 1", "b 0>1", "b 0 x2"), value=25, signed=-25)
scenario("95 to 5", rows("a 1 x3", "a 0>1 x16", "b 1"), value=20)  # 19 of 20
scenario("constant", rows("a 1 x3", "a 0>1 x5", "b 1", "b 0>1"), value=5)  # 8 of 10
scenario("half of all recall lost", rows("a 1 x3", "a 1>0 x3", "b 1", "b 1>0"), value=0)
scenario("the other group leads", rows("b 1 x3", "a 1>0"), value=25, change=[[0], [25]])
scenario("balanced", rows("a 1 x2", "b 1>0 x2"), value=0)
# -- several labels -------------------------------------------------------------------------------------------------
# No example has both: label 0 by +25, label 1 by -25; D = (25, 0, -25, 0).
scenario("signs do not cancel", rows("a 10 x3", "b 10>00", "a 01 x2", "a 01>00", "b 01", "b 00>01"), value=25, signed=0,
         variance=312.5, combinations=((0,), (1,)))
# Label 0 is balanced; label 1 and both together: b*(a) = 2/3, said of a alone. D = (0, 0, 1/3, 0, 1/3, 0).
scenario("a combination counts as one more", rows("a 11 x2", "b 10", "b 11>10"), value=200 / 9, variance=20000 / 81,
         combinations=((0,), (1,), (0, 1)))
# Each label is 3 to 3 and so leans nowhere; together they are 3 to 1 and, as predicted, 3 to 0.
HIDDEN = rows("a 11 x3", "b 11>10", "b 10 x2", "b 01 x2")
scenario("bias that no single label shows", HIDDEN, value=25 / 3, variance=(625 - 625 / 6) / 6)
scenario("bias that no single label shows, singles", HIDDEN, max_size=1, value=0, combinations=((0,), (1,)))
# {1} and {0, 1} go from 3/4 to 1; {0} stays, and all that have label 2 are a, in truth and as predicted.
NESTED = rows("a 111 x3", "b 110>100")
scenario("an example has every subset of its labels", NESTED, value=50 / 7,
         combinations=((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)))
scenario("at most two", NESTED, max_size=2, value=50 / 6)
# 3 a and 1 b have all three, 2 more b have labels 0 and 2: of the seven, {1}, {0, 1}, {1, 2} and all go from 3/4 to 1.
scenario("three labels at once", rows("a 111 x3", "b 111>000", "b 101 x2"), value=100 / 7)
# As released: {0, 1} and {0, 1, 2} are somebody's labels; all 3 + 1 have the first, so that it goes from 3/4 to 1.
scenario("whole label sets", NESTED, label_sets_only=True, value=12.5, combinations=((0, 1), (0, 1, 2)))
scenario("whole label sets, twice", NESTED, label_sets_only=True, min_count=2, value=0, combinations=((0, 1, 2),))
scenario("all pairs of four", rows("a 1111 x3", "b 1111>0000"), max_size=2, value=25,
         combinations=((0,), (1,), (2,), (3,), (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)))
scenario("no label is no combination", rows("a 1 x3", "b 1>0", "a 0 x7", "b 0"), value=25, combinations=((0,),))
scenario("never predicted is undefined", rows("a 11>10 x3", "b 11>00"), value=25, undefined=2, variance=625 / 4)
# -- which combinations: label 0 has 4 examples, label 1 and the pair have 3 ----------------------------------------
COUNTED = rows("a 11 x3", "b 10>00")
scenario("three examples are enough", COUNTED, min_count=3, value=25 / 3)
scenario("three examples are too few", COUNTED, min_count=4, value=25, combinations=((0,),))
LEARNT = rows("a 11 x3", "b 11")
scenario("once in each split", rows("a 11", "b 10"), LEARNT, value=(25 + 25 + 25) / 3,  # 1/2, 1 and 1 from 3/4
         signed=(-25 + 25 + 25) / 3)
scenario("twice in each split", rows("a 11", "b 10"), LEARNT, min_count=2, value=25, combinations=((0,),))
scenario("only in training", rows("a 10", "b 01"), rows("a 11 x3", "b 11"), value=50,  # 3/4 to 1 and to 0
         combinations=((0,), (1,)))
scenario("only measured", rows("a 11 x3", "b 11"), rows("a 10", "b 01", "b 00"), value=50,  # 1 to 3/4 and to 1/4
         combinations=((0,), (1,)))
scenario("predicted alone", rows("a 10>11 x3", "b 10>11"), value=0, combinations=((0,),))
# -- groups ---------------------------------------------------------------------------------------------------------
# b* = (5, 4, 1) / 10 to (8, 2, 0) / 10: D = (30, -20, 0), as c lies below 1/3.
scenario("three groups", rows("a 1 x5", "a 0>1 x3", "b 1 x2", "b 1>0 x2", "c 1>0"), value=50, signed=10,
         variance=1300 / 3 - 100 / 9)
scenario("a group that does not occur shifts nothing", rows("a 1 x3", "b 1>0 x2"), groups=("a", "b", "c"),
         value=40, variance=400, absent=("c",))
scenario("a group only in training is left out there", rows("a 1 x3", "b 1>0"), rows("a 1 x3", "b 1", "c 1 x4"),
         value=25, absent=("2",))
scenario("unknown attributes are left out", rows("a 10 x3", "b 10>00", "? 11 x5"), value=25, unknown=(5, 5),
         combinations=((0,),))
scenario("single-label", rows("a 0 x3", "a 1>0", "b 1 x3", "b 0>1", single=True), value=25,
         combinations=((0,), (1,)))
scenario("predicted attributes", rows("a 1 x3", "b 1:a"), guessed=True, value=25)
scenario("a predicted attribute takes the true one's place", rows("a 1:b x3", "b 1"), guessed=True, value=75)
scenario("the reference is the training split", rows("a 1", "b 1"), rows("a 1 x3", "b 1"), value=25, signed=-25)
scenario("one group", rows("a 1 x3"), value=NAN, variance=NAN, reason="1 group with examples, two are needed")
scenario("no example", rows(k=2), value=NAN, variance=NAN, signed=NAN)
scenario("nobody has a label", rows("a 0", "b 0"), value=NAN, variance=NAN,
         reason="no label combination occurs in the reference and in the predictions")
