"""Whether a method beats randomisation: its bias amplification against noise of the same F1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from biasbench.measures.intervals import rounds_interval

Floats = NDArray[np.float64]
Verdict = Literal["better", "worse", "not told apart", "unknown"]


@dataclass(frozen=True)
class Score:
    """One trained model.

    Attributes:
        f1: Macro F1, percent.
        delta: Bias amplification by round of the attackers, points.
    """

    f1: float
    delta: tuple[float, ...]


Scores = Mapping[int, Score]  # by seed


@dataclass(frozen=True)
class Margin:
    """A method's Δ minus that of noise at the method's F1; below 0 the method amplifies less.

    Attributes:
        difference: Points; NaN = undefined, see `reason`.
        error: Standard error; NaN = not known.
        low: Lower end of the 95 % interval (Student's t).
        high: Upper end.
        n: Seeds, or rounds of the only seed.
        over: What n counts and the error is over; None where the difference is undefined.
        reason: Why the difference, or its error, is undefined.
    """

    difference: float
    error: float
    low: float
    high: float
    n: int
    over: Literal["seeds", "rounds"] | None
    reason: str = ""

    @property
    def verdict(self) -> Verdict:
        """`better` or `worse` where the 95 % interval leaves out 0."""
        if not np.isfinite([self.low, self.high]).all():
            return "unknown"
        return "better" if self.high < 0 else "worse" if self.low > 0 else "not told apart"


def margin(method: Scores, curve: Sequence[Scores]) -> Margin:
    """The difference between a method and the randomisation curve at the method's F1.

    Every seed has its own curve: the plain model and the levels of noise on it, joined by straight
    lines in F1. Differences are taken within a seed, round by round, since the cells of a seed share
    the attackers' draws. With two seeds or more, the error is over the seeds; with one, over its rounds,
    and then says nothing of another training. Nothing is extrapolated.

    Args:
        method: Scores of the method.
        curve: Scores of the plain model and of each level of noise.

    Example:
        >>> noise = [{0: Score(50.0, (10.0, 12.0))}, {0: Score(40.0, (6.0, 6.0))}]
        >>> found = margin({0: Score(45.0, (5.0, 5.0))}, noise)
        >>> found.difference, found.error, found.verdict
        (-3.5, 0.5, 'not told apart')
    """
    found = {seed: _differences(score, [c[seed] for c in curve if seed in c]) for seed, score in sorted(method.items())}
    defined = [d for d in found.values() if isinstance(d, np.ndarray)]
    if not defined:
        return _undefined(next((str(d) for d in found.values()), "no score"))
    over: Literal["seeds", "rounds"] = "seeds" if len(defined) > 1 else "rounds"
    values = np.array([d.mean() for d in defined]) if len(defined) > 1 else defined[0]
    if len(values) < 2:
        return Margin(float(values[0]), np.nan, np.nan, np.nan, 1, over, "one seed and one round: no spread")
    low, high = rounds_interval(values).low, rounds_interval(values).high
    return Margin(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))), low, high, len(values), over)


def _undefined(reason: str) -> Margin:
    return Margin(np.nan, np.nan, np.nan, np.nan, 0, None, reason)


def _differences(score: Score, points: Sequence[Score]) -> Floats | str:
    """[R] by round, or why there is none."""
    if len(points) < 2:
        return "no levels of noise with its seed"
    if len({len(p.delta) for p in (*points, score)}) > 1:
        return "noise was measured with another number of rounds"
    f1 = np.unique([p.f1 for p in points])  # levels of equal F1 are averaged
    if not f1[0] <= score.f1 <= f1[-1]:
        return f"its F1 {score.f1:.2f} lies outside the curve's {f1[0]:.2f} to {f1[-1]:.2f}"
    levels = np.array([np.mean([p.delta for p in points if p.f1 == x], 0) for x in f1])  # [P, R]
    at = np.array([np.interp(score.f1, f1, level) for level in levels.T])
    found: Floats = np.array(score.delta) - at
    return found
