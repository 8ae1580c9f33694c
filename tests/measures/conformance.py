"""What the conformance tables are written with: examples as text, scenarios with closed-form answers, and the check.

A scenario calls measures through an object that has them as attributes, so that the same tables run on the shipped
functions and on mutated ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

LINE = re.compile(r"(?P<group>[a-d?]) (?P<true>\d*)(>(?P<said>\d*))?(:(?P<guess>[a-d]))?( x(?P<times>\d+))?")
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Rows:
    """Examples of one split, as arrays."""

    targets: np.ndarray
    labels: np.ndarray
    attribute: np.ndarray
    guesses: np.ndarray

    @property
    def reference(self) -> tuple[np.ndarray, np.ndarray]:
        return self.targets, self.attribute


def rows(*lines: str, single: bool = False, k: int | None = None) -> Rows:
    """Examples from lines "GROUP TRUE>PREDICTED:GUESSED xTIMES".

    Groups are a, b, c, d for codes 0 to 3, ? for unknown. TRUE and PREDICTED are one digit a label ("101" has labels
    0 and 2) or, with `single`, one digit: the class. PREDICTED defaults to TRUE, the guessed group to the group, the
    number of such examples to 1. `k` gives the number of labels where there is no line.

    Example:
        >>> rows("a 10>11 x2", "? 01").targets.tolist()
        [[1, 0], [1, 0], [0, 1]]
    """
    found = []
    for line in lines:
        match = LINE.fullmatch(line)
        assert match, line
        said = match["true"] if match["said"] is None else match["said"]
        group = "?abcd".index(match["group"]) - 1
        guess = max(group, 0) if match["guess"] is None else "abcd".index(match["guess"])
        found += [(match["true"], said, group, guess)] * int(match["times"] or 1)
    width = k if k is not None else len(found[0][0]) if found else 1
    codes = np.array([[group, guess] for _, _, group, guess in found], np.int64).reshape(-1, 2)
    return Rows(*(_labels([f[i] for f in found], single, width) for i in (0, 1)), codes[:, 0], codes[:, 1])


def _labels(texts: list[str], single: bool, k: int) -> np.ndarray:
    if single:
        return np.array([int(t) for t in texts], np.int64)
    return np.array([[int(c) for c in t] for t in texts], np.uint8).reshape(len(texts), k)


@dataclass(frozen=True)
class Scenario:
    """A call with a known answer.

    Attributes:
        measure: Name of the function that is called.
        name: What the scenario is about; unique in its measure.
        call: From the measures to a result.
        expected: Attribute paths of the result to a number, an array, a text or a tuple; NaN is undefined.
    """

    measure: str
    name: str
    call: Callable[[Any], Any]
    expected: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.measure}: {self.name}"

    def wrong(self, measures: Any) -> str:
        """What is wrong with the answer; empty when nothing is."""
        result = self.call(measures)
        for path, expected in self.expected.items():
            got = reduce(getattr, path.split("."), result)
            if not same(got, expected):
                return f"{self}: {path} is {got}, not {expected}"
        return ""


def same(got: Any, expected: Any) -> bool:
    """Equal texts, or numbers equal to within `TOLERANCE` and undefined in the same places."""
    if isinstance(expected, str) or (isinstance(expected, tuple) and not isinstance(next(iter(expected), 0.0), float)):
        return bool(got == expected)
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    return got.shape == expected.shape and np.allclose(got, expected, rtol=0, atol=TOLERANCE, equal_nan=True)


def wrong_answers(scenarios: Iterable[Scenario], measures: Any) -> list[str]:
    """What is wrong, scenario by scenario. A scenario that crashes gives no answer, neither right nor wrong."""
    found = []
    for scenario in scenarios:
        with suppress(Exception):
            found.append(scenario.wrong(measures))
    return [wrong for wrong in found if wrong]
