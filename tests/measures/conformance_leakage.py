"""Leakage of labels, with answers in closed form; and what the tables of leakage are written with.

Draws take all rows of the planted samples (see `leaks.py`), so that any rule an attacker can learn scores a known
fraction, to the last digit. Only shuffles, noise and perturbations leave room: four standard errors of the test draw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from biasbench import Sample
from biasbench.measures.figure import LeakageReport
from tests.measures.leaks import ONCE, TINY, agree, everywhere, splits

NAN = float("nan")
EXACT = 1e-6


@dataclass(frozen=True)
class Within:
    """A range, ends included."""

    low: float
    high: float


def near(percent: float, n: int) -> Within:
    """Four standard errors of an accuracy on n rows about what is expected, in percent."""
    error = 100 * (percent / 100 * (1 - percent / 100) / n) ** 0.5
    return Within(percent - 4 * error, percent + 4 * error)


@dataclass(frozen=True)
class Case:
    """A measurement with a known answer.

    Attributes:
        name: What it is about; unique.
        call: From the measuring modules, as one object, to facts by name.
        expected: Facts: a number or a list of them (NaN is undefined), a range, or a value that must be equal.
    """

    name: str
    call: Callable[[Any], Mapping[str, Any]]
    expected: Mapping[str, Any]

    def __str__(self) -> str:
        return self.name

    def wrong(self, measures: Any) -> str:
        """What is wrong with the answer; empty when nothing is."""
        got = self.call(measures)
        found = [f"{key} is {got[key]}, not {want}" for key, want in self.expected.items() if not fits(got[key], want)]
        return f"{self}: {'; '.join(found)}" if found else ""


def fits(got: Any, want: Any) -> bool:
    """Whether a fact is as expected."""
    if isinstance(want, Within):
        return got is not None and bool(want.low <= got <= want.high)
    if isinstance(want, float) or (isinstance(want, list) and isinstance(next(iter(want), ""), float)):
        got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
        return got.shape == want.shape and np.allclose(got, want, rtol=0, atol=EXACT, equal_nan=True)
    return type(got) is type(want) and bool(got == want)


def facts(report: LeakageReport) -> dict[str, Any]:
    """Means by name, `NAME std`, `NAME n`, `NAME low`, `NAME rounds`, … and what else a report says."""
    found: dict[str, Any] = {"figures": list(report.figures), "groups": list(report.groups), "chance": report.chance}
    for name, figure in report.figures.items():
        found |= {name: figure.mean, f"{name} std": figure.std, f"{name} n": figure.n}
        found |= dict(zip((f"{name} low", f"{name} high"), figure.interval or (NAN, NAN), strict=True))
        found |= {f"{name} rounds": figure.rounds.tolist(), f"{name} last": figure.last}
    for key, value in report.details.items():
        found |= {f"{key} {name}": v for name, v in value.items()} if isinstance(value, dict) else {}
        found |= {f"{key} {i}": v for i, v in enumerate(value)} if isinstance(value, list) else {}
    seen = {name: shown["found"] for name, shown in report.details.get("control", {}).items()}
    return {**found, **report.details, "control found": seen, "flags": list(report.flags)}


class Table(dict[str, Case]):
    """Cases by name."""

    def measured(self, name: str, samples: Any, protocol: Any = TINY, **rest: Any) -> None:
        """A measurement of planted samples, with one null draw of each kind; `expect` and options of `leakage`."""
        expect = rest.pop("expect")
        options = {"nulls": 1, "threads": 1, **rest}
        self.called(name, lambda m: facts(m.leakage(samples, protocol, **options)), expect)

    def called(self, name: str, call: Callable[[Any], Mapping[str, Any]], expect: Mapping[str, Any]) -> None:
        """Any other call."""
        assert name not in self
        self[name] = Case(name, call, expect)


CASES = Table()
case = CASES.measured

# fmt: off
# -- two groups -----------------------------------------------------------------------------------------------------
ALL_BITS = {"00": (25, 25), "01": (25, 25), "10": (25, 25), "11": (25, 25)}
case("perfect", everywhere(agree(100)),
     expect={"lambda_D": 100.0, "lambda_D std": 0.0, "lambda_D n": 2, "chance": 50.0, "flags": []})
# Both rounds take the same 200 rows: 1.96 standard errors of 3.06 points to either side.
case("three of four", everywhere(agree(75)),
     expect={"lambda_D low": Within(67, 70), "lambda_D high": Within(79, 82), "null_all low": NAN,
             "lambda_D": 75.0, "lambda_D rounds": [75.0, 75.0], "figures": ["lambda_D", "null_all", "null_train"]})
# Both groups have every combination equally often: any rule is right once for each time it is wrong.
case("random", everywhere(ALL_BITS), nulls=4, expect={"lambda_D": 50.0, "null_train": 50.0, "null_train n": 4})
case("constant labels", everywhere({"1": (100, 100)}), expect={"lambda_D": 50.0, "null_all": 50.0, "null_train": 50.0})
# Label 0 is only the first group's, half of it: (50 + 100) / 200.
case("a label of one group alone", everywhere({"0": (50, 0), "1": (50, 100)}), expect={"lambda_D": 75.0})
case("a label that nobody has", everywhere({"100": (80, 20), "010": (20, 80)}), replace(TINY, epochs=15),
     expect={"lambda_D": 80.0})
case("two bits that tell only together", everywhere({"00": (50, 0), "11": (50, 0), "01": (0, 50), "10": (0, 50)}),
     replace(ONCE, epochs=25), expect={"lambda_D": 100.0})
# A rule that cannot tell scores exactly one half of a balanced draw, and four fifths of these rows.
case("groups of 40 and 160", everywhere({"1": (40, 160)}),
     expect={"lambda_D": 50.0, "per_group": {"train": 40, "val": 40, "test": 40}, "flags": ["underpowered"]})
case("99 rows of a group are few", splits(agree(100), agree(99, 99), agree(100)), expect={"underpowered": True})
case("100 rows of a group are enough", everywhere(agree(90)), expect={"underpowered": False})
case("each split is read as what it is", splits(agree(100), agree(90), agree(70)), expect={"lambda_D": 70.0})
case("caps are by split", everywhere(agree(140, 140)), replace(ONCE, caps=(110, 120, 130)),
     expect={"per_group": {"train": 110, "val": 120, "test": 130}})
case("unknown attributes take no part",
     {s: Sample(np.vstack([p.targets, 1 - p.targets]), np.append(p.attribute, np.full(200, -1)))
      for s, p in everywhere(agree(75)).items()},
     expect={"lambda_D": 75.0, "unknown_share": {"train": 0.5, "val": 0.5, "test": 0.5}})
# -- below chance ---------------------------------------------------------------------------------------------------
case("an attacker that is always wrong knows everything", splits(agree(100), agree(100), agree(0)),
     expect={"lambda_D": 100.0})
case("the fold mirrors at chance", splits(agree(75), agree(75), agree(30)), expect={"lambda_D": 70.0})
case("without the fold it stays below", splits(agree(75), agree(75), agree(30)), replace(TINY, fold=False),
     expect={"lambda_D": 30.0})
# -- more groups ----------------------------------------------------------------------------------------------------
THREE = {"0": (100, 0, 0), "1": (0, 100, 0), "2": (0, 0, 100)}
case("three groups told", everywhere(THREE, single=True),
     expect={"lambda_D": 100.0, "chance": 100 / 3, "groups": ["0", "1", "2"]})
case("three groups not told", everywhere({"0": (50, 50, 50), "1": (50, 50, 50)}, single=True),
     expect={"lambda_D": 100 / 3, "null_train": 100 / 3})
case("three groups are not folded", splits(THREE, THREE, {"1": (100, 0, 0), "2": (0, 100, 0), "0": (0, 0, 100)},
                                           single=True), expect={"lambda_D": 0.0})
PAIRS = ("man*young", "man*old", "woman*young", "woman*old")
case("an intersection of which one factor shows", everywhere({"0": (100, 100, 0, 0), "1": (0, 0, 100, 100)}),
     groups=PAIRS, expect={"lambda_D": 50.0, "chance": 25.0, "dropped_groups": {}, "groups": list(PAIRS)})
case("a small intersection is left out and named", everywhere({"0": (100, 120, 0, 0), "1": (0, 0, 100, 99)}),
     groups=PAIRS, expect={"lambda_D": 200 / 3, "chance": 100 / 3, "groups": list(PAIRS[:3]),
                           "dropped_groups": {"woman*old": {"train": 99, "val": 99, "test": 99}}})
case("a group small in one split is left out of all",
     splits(THREE, THREE, {"0": (100, 0, 0), "1": (0, 90, 0), "2": (0, 0, 5)}, single=True),
     replace(TINY, epochs=15), minimum=6,
     expect={"lambda_D": 100.0, "groups": ["0", "1"], "per_group": {"train": 100, "val": 100, "test": 90},
             "dropped_groups": {"2": {"train": 100, "val": 100, "test": 5}}})
# The two that are left are mirrored in the test split.
LEFT = {"0": (100, 0, 5), "1": (0, 100, 5)}
case("two groups left of three are folded", splits(LEFT, LEFT, {"1": (100, 0, 5), "0": (0, 100, 5)}),
     expect={"lambda_D": 100.0, "chance": 50.0, "groups": ["0", "1"]})
# -- two attributes of the same rows: the first bit is the one, nothing tells of the other ---------------------------
ROWS = everywhere({"00": (50, 0), "01": (50, 0), "10": (0, 50), "11": (0, 50)})
OTHER = np.arange(200) % 2
case("one attribute shows", ROWS, expect={"lambda_D": 100.0})
case("another does not", {s: replace(p, attribute=OTHER) for s, p in ROWS.items()}, expect={"lambda_D": 50.0})
case("of both together one shows", {s: replace(p, attribute=2 * p.attribute + OTHER) for s, p in ROWS.items()},
     minimum=50, expect={"lambda_D": 50.0, "chance": 25.0})
# -- one label an example -------------------------------------------------------------------------------------------
case("ties are guessed", everywhere({"0": (60, 20), "1": (20, 60), "2": (20, 20)}, single=True),
     expect={"lambda_D": 70.0, "majority_rule test": 70.0, "majority_rule val": 70.0, "perturbation": "replacement"})
# The rule of training: 0 is the first group's, 1 the second's; then (30 + 50) / 200, which the attacker's fold mirrors.
TAUGHT = {"0": (60, 20), "1": (40, 80)}
case("the majority rule is that of training", splits(TAUGHT, TAUGHT, {"0": (30, 50), "1": (70, 50)}, single=True),
     expect={"lambda_D": 60.0, "majority_rule test": 40.0, "majority_rule val": 70.0})
case("multi-label data have no majority rule", everywhere(agree(75)),
     expect={"perturbation": "flips", "training_views": 0, "shrunk_scores": 0, "dropped_groups": {}})
# -- undefined ------------------------------------------------------------------------------------------------------
case("a group that a split lacks", splits(agree(75), {"0": (50, 0), "1": (50, 0)}, agree(75)), noises=(0.1,), f1=0.5,
     expect=dict.fromkeys(("lambda_D", "lambda_D_F1", "null_all", "null_train", "noise_10"), NAN) | {
     "undefined": "undefined: no example of 1 (val)", "flags": ["leakage undefined: no example of 1 (val)"]})
case("a named group that nobody is of", everywhere(agree(75)), groups=("man", "woman", "other"), minimum=1,
     expect={"lambda_D": 75.0, "groups": ["man", "woman"],
             "dropped_groups": {"other": {"train": 0, "val": 0, "test": 0}}})
case("no two groups are large enough", everywhere({"0": (99, 9, 9), "1": (1, 9, 9)}),
     expect={"lambda_D": NAN, "null_all": NAN, "per_group": {"train": 0, "val": 0, "test": 0}})
case("one group", everywhere({"0": (50,), "1": (50,)}), expect={"lambda_D": NAN})
