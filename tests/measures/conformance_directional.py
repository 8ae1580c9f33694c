"""Directional bias amplification (Wang and Russakovsky 2021) by hand.

With two groups and one label that goes with a, the answers are (D_a - D_b) / 2 for the changes D.
"""

from __future__ import annotations

from typing import Any

from tests.measures.conformance import Rows, Scenario, rows

NAN = float("nan")
SCENARIOS: list[Scenario] = []


def scenario(
    name: str, test: Rows, train: Rows | None = None, guessed: bool = False, at: Any = None, ta: Any = None, **more: Any
) -> None:
    options: dict[str, Any] = {k: more.pop(k) for k in ("groups", "label_names") if k in more}
    if train is not None:
        options["reference"] = train.reference
    if guessed:
        options["attribute_predictions"] = test.guesses
    expected = {k.replace("__", "."): v for k, v in more.items()}
    expected |= {} if at is None else {"attribute_to_task.value": at, "value": at}
    expected |= {} if ta is None else {"task_to_attribute.value": ta}
    SCENARIOS.append(
        Scenario(
            "directional_amplification",
            name,
            lambda m: m.directional_amplification(test.targets, test.labels, test.attribute, **options),
            expected,
        )
    )


# fmt: off
# -- attribute to task: P(1|a) = 3/4, P(1|b) = 1/4, four examples each ---------------------------------------------
scenario("perfect", rows("a 1 x3", "a 0", "b 1", "b 0 x3"), at=0)
scenario("fully skewed", rows("a 1 x3", "a 0>1", "b 1>0", "b 0 x3"), at=25)  # +1/4 and -1/4
scenario("reversed", rows("a 1", "a 1>0 x2", "a 0", "b 1", "b 0>1 x2", "b 0"), at=-50)  # -1/2 and +1/2
scenario("random", rows("a 1 x2", "a 1>0", "a 0", "b 1", "b 0>1", "b 0 x2"), at=-25)  # 1/2 in both groups
scenario("always", rows("a 1 x3", "a 0>1", "b 1", "b 0>1 x3"), at=-25)  # +1/4 and +3/4
scenario("never", rows("a 1>0 x3", "a 0", "b 1>0", "b 0 x3"), at=-25)  # -3/4 and -1/4
scenario("as much more in both groups", rows("a 1 x3", "a 0>1", "b 1", "b 0>1", "b 0 x2"), at=0)  # +1/4 twice
# 4 of 8 to 2 of 8, and 2 of 8 to 1 of 8: (-1/4 + 1/8) / 2.
scenario("half of all recall lost", rows("a 1 x2", "a 1>0 x2", "a 0 x4", "b 1", "b 1>0", "b 0 x6"), at=-6.25)
scenario("half skewed", rows("a 1 x6", "a 0>1", "a 0", "b 1", "b 1>0", "b 0 x6"), at=12.5)  # +1/8 and -1/8
# -- which direction a pair has -------------------------------------------------------------------------------------
scenario("independent in the reference", rows("a 1 x2", "a 0>1 x2", "b 1>0 x2", "b 0 x2"), at=0,
         attribute_to_task__balanced=2)
# Measured, the label goes with b; learnt, with a: a gained 1/4 and b lost 1/4.
scenario("the direction is learnt from training", rows("a 1", "a 0>1", "a 0 x2", "b 1 x2", "b 1>0", "b 0"),
         rows("a 1 x3", "a 0", "b 1", "b 0 x3"), at=25)
# Changes are measured within the test split: perfect predictions change nothing, whatever was learnt.
scenario("both terms are of the measured split", rows("a 1", "a 0", "b 1", "b 0"),
         rows("a 1 x9", "a 0", "b 1", "b 0 x9"), at=0)
# 4 of 8 a and 2 of 2 b: most who have the label are a, yet it goes with b. a gains 1/8, against its direction.
scenario("base rates", rows("a 1 x4", "a 0>1", "a 0 x3", "b 1 x2"), at=-6.25)
# 3 of 4 a and 12 of 16 b: independent, but 3/20 and 15/20 x 4/20 are different floats.
scenario("independence is exact", rows("a 1 x3", "a 0>1", "b 1 x12", "b 0 x4"), at=0, attribute_to_task__balanced=2)
# -- labels ---------------------------------------------------------------------------------------------------------
# Label 1 is everybody's, hence independent: (1/4 + 1/4 + 0 + 0) / 4. Rates are per group, not per label of a group.
scenario("labels that occur together", rows("a 11 x3", "a 01>11", "b 11>01", "b 01 x3"), at=12.5,
         attribute_to_task__per_pair=[[25, 0], [25, 0]])
scenario("signs cancel", rows("a 11 x2", "a 11>10", "a 00>10", "b 11>01", "b 00>01", "b 00 x2"), at=0,
         attribute_to_task__per_pair=[[25, -25], [25, -25]])  # label 1: 3/4 to 1/2, and 1/4 to 1/2
scenario("a label missing in the reference is undefined", rows("a 11 x3", "a 01>11", "b 10>00", "b 00 x3"),
         rows("a 10 x3", "a 00", "b 10", "b 00 x3"), at=25, attribute_to_task__undefined=2)
# Learnt as a's; nobody measured has it, one a of four is said to: (1/4 - 0) / 2. Nobody to guess the group of.
scenario("a label missing in the measured split", rows("a 0>1", "a 0 x3", "b 0 x4"),
         rows("a 1 x3", "a 0", "b 1", "b 0 x3"), guessed=True, at=12.5, ta=NAN, task_to_attribute__undefined=2)
# Class 0 of a: 3/4 to 1; class 1 of a: 1/4 to 0, against; and the same for b.
scenario("single-label", rows("a 0 x3", "a 1>0", "b 1 x3", "b 0>1", single=True), at=25)
# -- groups ---------------------------------------------------------------------------------------------------------
# Rates 3/4, 2/4, 1/4 around 1/2: directions +, 0, -; changes +1/4, +1/4, -1/4: (1/4 + 0 + 1/4) / 3.
scenario("three groups", rows("a 1 x3", "a 0>1", "b 1 x2", "b 0>1", "b 0", "c 1>0", "c 0 x3"), at=50 / 3,
         attribute_to_task__balanced=1, attribute_to_task__per_pair=[[25], [0], [25]])
# b is at 1/2 and the whole at 7/12: every group of three has its own direction: (+, -, -).
scenario("three groups, two against", rows("a 1 x4", "b 1 x2", "b 0>1", "b 0", "c 1", "c 0 x3"), at=-25 / 3)
scenario("a group that does not occur is undefined", rows("a 1 x3", "a 0>1", "b 1>0", "b 0 x3"),
         groups=("a", "b", "c"), at=25, attribute_to_task__undefined=1)
scenario("codes are not positions", rows("a 1 x3", "a 0>1", "c 1>0", "c 0 x3"), at=25,
         attribute_to_task__per_pair=[[25], [NAN], [25]])
scenario("a group missing in the measured split", rows("a 1 x3", "a 0>1"), rows("a 1 x3", "a 0", "b 1", "b 0 x3"),
         at=25, attribute_to_task__undefined=1)
scenario("unknown attributes are left out", rows("a 1 x3", "a 0>1", "b 1>0", "b 0 x3", "? 1>0 x9"), at=25,
         unknown=(9, 9))
scenario("unknown attributes of the reference are left out", rows("a 1 x3", "a 0>1", "b 1>0", "b 0 x3"),
         rows("a 1 x3", "a 0", "b 1 x2", "b 0 x2", "? 1 x99"), at=25, unknown=(0, 99))
scenario("one group", rows("a 1", "a 0>1"), at=NAN, attribute_to_task__reason="1 group with examples, two are needed")
scenario("no example", rows(k=2), at=NAN, attribute_to_task__undefined=0)
scenario("no known example", rows("? 1", "? 0"), at=NAN, ta=NAN)
# -- task to attribute: 3 a and 1 b of four each have the label, P(a|1) = 3/4 -----------------------------------------
scenario("no predicted attribute", rows("a 1 x3", "a 0", "b 1", "b 0 x3"), at=0, ta=NAN,
         task_to_attribute__reason="no predicted attribute")
scenario("attributes guessed right", rows("a 1>0 x3", "a 0", "b 1", "b 0 x3"), guessed=True, ta=0, at=-37.5)
scenario("everybody with the label is taken for a", rows("a 1 x3", "a 0", "b 1:a", "b 0 x3"), guessed=True,
         at=0, ta=25, task_to_attribute__per_pair=[[25], [25]])  # 3/4 to 1, 1/4 to 0
scenario("most with the label are taken for b", rows("a 1", "a 1:b x2", "a 0", "b 1", "b 0 x3"), guessed=True,
         ta=-50)  # 3/4 to 1/4
scenario("guesses without the label do not count", rows("a 1 x3", "a 0:b", "b 1", "b 0:a x3"), guessed=True, ta=0)
scenario("guesses are read beside the true label", rows("a 1>0 x3", "a 0", "b 1>0:a", "b 0 x3"), guessed=True, ta=25)
# Learnt: the label goes with a. Measured, all four are a, half of them taken for b: a falls by 1/2, b is undefined.
scenario("task to attribute, a group missing in the measured split", rows("a 1 x2", "a 1:b x2"),
         rows("a 1 x3", "a 0", "b 1", "b 0 x3"), guessed=True, ta=-50, task_to_attribute__undefined=1)
scenario("task to attribute, three groups",  # P(.|1) = (3, 2, 1)/6 to (6, 0, 0)/6: +1/2, 0, and -1/6 against
         rows("a 1 x3", "a 0", "b 1:a x2", "b 0 x2", "c 1:a", "c 0 x3"), guessed=True, ta=100 * (1 / 2 + 1 / 6) / 3)
scenario("task to attribute, two labels",  # label 0: as above +25; label 1 goes with b: P(b|1) 3/4 to 1/4
         rows("a 10 x3", "a 01", "b 10:a", "b 01:a x2", "b 01"), guessed=True, ta=(25 + 25 - 50 - 50) / 4)
scenario("everybody with the label is taken for b", rows("a 1:b x3", "a 0", "b 1", "b 0 x3"), guessed=True, ta=-75)
scenario("random guesses", rows("a 1 x2", "a 1:b", "a 0", "b 1", "b 0 x3"), guessed=True, ta=-25)  # 3/4 to 1/2
scenario("guesses for the other group", rows("b 1 x3", "b 0", "a 1:b", "a 0 x3"), guessed=True, ta=25)
# Learnt, the label goes with b: guessing a more often is less of what was learnt.
scenario("task to attribute, the direction is learnt from training", rows("a 1 x3", "a 0", "b 1:a", "b 0 x3"),
         rows("b 1 x3", "b 0", "a 1", "a 0 x3"), guessed=True, ta=-25)
scenario("task to attribute, independent in the reference", rows("a 1 x2", "a 0 x2", "b 1:a x2", "b 0 x2"),
         guessed=True, ta=0, task_to_attribute__balanced=2)
scenario("task to attribute, unknown attributes are left out", rows("a 1 x3", "a 0", "b 1:a", "b 0 x3", "? 1:b x9"),
         guessed=True, ta=25, unknown=(9, 9))
scenario("task to attribute, a group that does not occur", rows("a 1 x3", "a 0", "b 1:a", "b 0 x3"),
         groups=("a", "b", "c"), guessed=True, ta=25, task_to_attribute__undefined=1)
scenario("task to attribute, codes are not positions", rows("a 1 x3", "a 0", "c 1:a", "c 0 x3"), guessed=True, ta=25,
         task_to_attribute__per_pair=[[25], [NAN], [25]])
# a stays at 3/4, b falls from 1/4 to 0, and c, whom nobody is, is undefined: (0 + 1/4) / 2.
scenario("task to attribute, a group is guessed that does not occur", rows("a 1 x3", "a 0", "b 1:c", "b 0 x3"),
         guessed=True, ta=12.5, task_to_attribute__undefined=1)
# Class 0: 3/4 to 1; class 1 is guessed right: (1/4 + 1/4 + 0 + 0) / 4.
scenario("task to attribute, single-label", rows("a 0 x3", "a 1", "b 1 x3", "b 0:a", single=True), guessed=True,
         ta=12.5)
scenario("task to attribute, a label missing in the reference", rows("a 11 x3", "a 01", "b 11:a", "b 01 x3"),
         rows("a 10 x3", "a 00", "b 10", "b 00 x3"), guessed=True, ta=25, task_to_attribute__undefined=2)
scenario("task to attribute, one group", rows("a 1", "a 0"), guessed=True, ta=NAN,
         task_to_attribute__reason="1 group with examples, two are needed")
scenario("task to attribute, no example", rows(k=2), guessed=True, ta=NAN)
