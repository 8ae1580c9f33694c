"""The worst group by hand: accuracy, and F1 = 2 TP / (2 TP + FP + FN)."""

from __future__ import annotations

from typing import Any

from tests.measures.conformance import Rows, Scenario, rows

NAN = float("nan")
SCENARIOS: list[Scenario] = []


def scenario(name: str, test: Rows, **expected: Any) -> None:
    """`f1`, `accuracy`, `pair_f1` and `pair_accuracy` are the lowest values; `f1__name` says whose."""
    options: dict[str, Any] = {k: expected.pop(k) for k in ("groups", "label_names") if k in expected}
    worst = ("f1", "accuracy", "pair_f1", "pair_accuracy")
    SCENARIOS.append(
        Scenario(
            "worst_group",
            name,
            lambda m: m.worst_group(test.targets, test.labels, test.attribute, **options),
            {f"{key}.value" if key in worst else key.replace("__", "."): value for key, value in expected.items()},
        )
    )


# fmt: off
# -- one label per example --------------------------------------------------------------------------------------------
scenario("perfect", rows("a 0", "a 1", "b 0", "b 1", single=True), f1=100, accuracy=100, pair_f1=100, pair_accuracy=100,
         f1__name="0", f1__n=2)
scenario("all of one group wrong", rows("a 0", "a 1", "b 0>1", "b 1>0", single=True), f1=0, accuracy=0, f1__group=1)
# b is always class 0: TP 1, FP 1 gives 2/3 for class 0, nothing for class 1.
ALWAYS = rows("a 0", "a 1", "b 0", "b 1>0", single=True)
scenario("constant in one group", ALWAYS, f1=100 / 3, accuracy=50, pair_f1=0, pair_accuracy=0, value=100 / 3)
scenario("names and n", ALWAYS, groups=("man", "woman"), label_names=("run", "sit"), f1__name="woman", f1__n=2,
         accuracy__name="woman", pair_f1__name="sit, woman", pair_f1__n=1, pair_f1__label=1, pair_accuracy__group=1)
scenario("the other group", rows("b 0", "b 1", "a 0", "a 1>0", single=True), f1=100 / 3, f1__group=0)
scenario("random in one group", rows("a 0 x2", "a 1 x2", "b 0", "b 0>1", "b 1", "b 1>0", single=True), f1=50,
         accuracy=50, pair_f1=50, pair_accuracy=50)
scenario("random in both groups: the first", rows("a 0", "a 0>1", "a 1", "a 1>0", "b 0", "b 0>1", "b 1", "b 1>0",
         single=True), f1=50, accuracy=50, f1__group=0)
# 98 of 100 right, but of the two b one: 1/2; class 0 of b: 2/3; class 1 of b is never predicted: 0.
scenario("a small group", rows("a 0 x98", "b 0", "b 1>0", single=True), accuracy=50, accuracy__n=2, f1=100 / 3)
# b loses one of four of class 1: F1 of class 0 is 8/9, of class 1 6/7.
scenario("F1 and accuracy", rows("a 0", "a 1", "b 0 x4", "b 1 x3", "b 1>0", single=True), accuracy=87.5,
         f1=100 * (8 / 9 + 6 / 7) / 2, pair_f1=600 / 7, pair_accuracy=75)
# The lowest F1 of a pair need not be the lowest accuracy: class 0 of b has all it should and three others'.
scenario("false positives lower F1, not accuracy of the pair", rows("a 0", "a 1", "b 0", "b 1>0 x3", "b 1 x9",
         single=True), pair_f1=40, pair_f1__label=0, pair_accuracy=75, pair_accuracy__label=1)
scenario("a class that a group does not have", rows("a 0 x2", "a 1 x2", "b 0 x2", "b 0>1 x2", single=True),
         f1=200 / 3, accuracy=50, pairs_f1=[[100, 100], [200 / 3, NAN]], pair_f1__undefined=1)
# b: class 0 missed (0), class 1 said once too often (2/3), class 2 right. Two of three examples are right.
scenario("three classes", rows("a 0", "a 1", "a 2", "b 0>1", "b 1", "b 2", single=True), accuracy=200 / 3,
         f1=100 * (0 + 2 / 3 + 1) / 3)
scenario("a class beyond those that occur", rows("a 0", "b 0", single=True), label_names=("x", "y"), f1=100,
         pair_f1__undefined=2)
# -- several labels per example ---------------------------------------------------------------------------------------
# 8 decisions in b: 7 right. Label 0 is found in 1 of 2 b (F1 2/3), label 1 in all.
scenario("share of right decisions", rows("a 11 x2", "a 00 x2", "b 11", "b 11>01", "b 00 x2"), accuracy=87.5,
         f1=100 * (2 / 3 + 1) / 2, pair_f1=200 / 3, pair_accuracy=50, group_accuracy=[100, 87.5])
scenario("one label", rows("a 1", "a 0", "b 1", "b 1>0", "b 0 x2"), accuracy=75, f1=200 / 3, pair_accuracy=50)
scenario("everything predicted", rows("a 10 x4", "b 10>11", "b 01>11"), accuracy=50, f1=200 / 3, pair_accuracy=100)
scenario("nothing predicted", rows("a 1", "b 1>0"), accuracy=0, f1=0, pair_f1=0, pair_accuracy=0)
# Label 1 is nobody's among the b: its false positive costs accuracy, and is no F1 of 0.
scenario("a label that a group does not have", rows("a 11 x2", "b 10", "b 10>11"), accuracy=75, f1=100, pair_f1=100,
         pairs_f1=[[100, 100], [100, NAN]], positives=[[2, 2], [2, 0]])
scenario("a group without any label", rows("a 1", "a 1>0", "b 0 x3"), accuracy=50, accuracy__group=0, f1=200 / 3,
         f1__undefined=1, group_f1=[200 / 3, NAN], group_accuracy=[50, 100])
scenario("nobody has a label", rows("a 0", "b 0>1"), accuracy=0, f1=NAN, pair_f1=NAN, pair_accuracy=NAN, value=NAN,
         f1__group=-1, f1__name="", f1__reason="no example of a known group has a label")
# F1 of a: 1 and 2/3 (one of two missed); of b: 2/3 and 0. The mean over groups would be 58.3.
scenario("macro over labels, lowest over groups", rows("a 11", "a 11>10", "b 11>10", "b 11>00"),
         group_f1=[100 * (1 + 2 / 3) / 2, 100 * (2 / 3 + 0) / 2], f1=100 / 3, pair_f1=0, accuracy=25)
# -- groups -----------------------------------------------------------------------------------------------------------
scenario("three groups", rows("a 1 x4", "b 1 x3", "b 1>0", "c 1", "c 1>0"), accuracy=50, accuracy__name="2", f1=200 / 3,
         group_accuracy=[100, 75, 50])
scenario("a group that does not occur is no group", rows("a 1", "b 1", "b 1>0"), groups=("a", "b", "c"), accuracy=50,
         accuracy__name="b", absent=("c",), accuracy__undefined=1)
scenario("codes are not positions", rows("a 1", "c 1", "c 1>0"), accuracy=50, accuracy__group=2, n=[1, 0, 2])
scenario("unknown attributes are left out", rows("a 1", "b 1", "b 1>0", "? 1>0 x9"), accuracy=50, unknown=9)
scenario("one group is the worst", rows("a 1", "a 1>0"), accuracy=50, f1=200 / 3)
scenario("no example", rows(k=2), accuracy=NAN, f1=NAN, accuracy__group=-1, accuracy__n=0)
scenario("no known example", rows("? 1", "? 0>1"), accuracy=NAN, f1=NAN, unknown=2)
