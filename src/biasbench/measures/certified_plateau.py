"""The certificate of a figure: what more rows, a larger model and longer training would gain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.5
"""Points a doubling may gain and still be called flat."""


@dataclass(frozen=True)
class Slope:
    """What a doubling gains on the same held-out rows.

    Attributes:
        gain: Points of accuracy on held-out rows of the validation draw.
        error: Its standard error over rows, in points.
    """

    gain: float
    error: float

    @property
    def flat(self) -> bool:
        """Whether the gain is below half a point or within two standard errors.

        Example:
            >>> Slope(3.0, 2.0).flat, Slope(0.4, 0.0).flat, Slope(3.0, 1.0).flat
            (True, True, False)
        """
        return self.gain < LEVEL or self.gain <= 2 * self.error


@dataclass(frozen=True)
class Plateau:
    """Whether the chosen attacker is at the end of what data, size and training give it.

    Attributes:
        slopes: By "data" (half the pool against all of it), "capacity" (against twice the units or
            leaves; against a network where the logistic regression was chosen) and "steps" (against
            twice the epochs or trees).
    """

    slopes: Mapping[str, Slope]

    @property
    def plateau(self) -> bool:
        """Whether every slope is flat."""
        return all(slope.flat for slope in self.slopes.values())

    @property
    def details(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "plateau": self.plateau,
            **{name: {"gain": slope.gain, "error": slope.error} for name, slope in self.slopes.items()},
        }


def slope(before: NDArray[np.bool_], after: NDArray[np.bool_], codes: NDArray[Any]) -> Slope:
    """What the step from one attacker to the next gains, paired by row.

    Args:
        before: [n] rows the one gets right.
        after: [n] rows the other gets right.
        codes: [n] groups; each counts the same.

    Example:
        >>> round(slope(np.array([0, 0, 1, 1] * 50) > 0, np.array([1, 0, 1, 1] * 50) > 0, np.arange(200) % 2).gain, 1)
        25.0
    """
    change = after.astype(np.float64) - before
    parts = [change[codes == g] for g in np.unique(codes)]
    gain = np.mean([part.mean() for part in parts])
    error = np.sqrt(sum(part.var() / len(part) for part in parts)) / len(parts)
    return Slope(100 * float(gain), 100 * float(error))


def balanced_accuracy(right: NDArray[np.bool_], codes: NDArray[Any]) -> float:
    """Mean over groups of the share of rows that are right, 0..1.

    Example:
        >>> balanced_accuracy(np.array([True, True, True, False]), np.array([0, 0, 0, 1]))
        0.5
    """
    return float(np.mean([right[codes == g].mean() for g in np.unique(codes)]))
