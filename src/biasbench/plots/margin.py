"""Whether a method beats randomisation: its Δ against noise of the same F1, its F1 against noise of the same Δ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
Differences = Callable[[Score, Sequence[Score]], "Floats | str"]
NO_LEVELS = "no levels of noise with its seed"


@dataclass(frozen=True)
class Margin:
    """A method's figure minus that of noise which has the method's other figure.

    Attributes:
        difference: Points; NaN = undefined, see `reason`.
        error: Standard error; NaN = not known.
        low: Lower end of the 95 % interval (Student's t).
        high: Upper end.
        n: Seeds, or rounds of the only seed.
        over: What n counts and the error is over; None where the difference is undefined.
        reason: Why the difference, or its error, is undefined.
        higher: Whether a difference above 0 speaks for the method (F1), or one below 0 (Δ).
    """

    difference: float
    error: float
    low: float
    high: float
    n: int
    over: Literal["seeds", "rounds"] | None
    reason: str = ""
    higher: bool = False

    @property
    def verdict(self) -> Verdict:
        """`better` or `worse` where the 95 % interval leaves out 0."""
        if not np.isfinite([self.low, self.high]).all():
            return "unknown"
        low, high = (-self.high, -self.low) if self.higher else (self.low, self.high)
        return "better" if high < 0 else "worse" if low > 0 else "not told apart"


def margin(method: Scores, curve: Sequence[Scores]) -> Margin:
    """The difference in Δ between a method and the randomisation curve at the method's F1.

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
    return _over_seeds(method, curve, _deltas, higher=False)


def gain(method: Scores, curve: Sequence[Scores]) -> Margin:
    """The difference in F1 between a method and the best that randomisation reaches at no more than the method's Δ.

    On the same curve as `margin`, with Δ averaged over the rounds: one seed has no spread. The highest F1
    speaks for noise where Δ does not fall with every level. A Δ above that of the plain model is compared
    with the plain model itself; one below every level of noise is compared with nothing.

    Args:
        method: Scores of the method.
        curve: Scores of the plain model and of each level of noise.

    Example:
        >>> noise = [{0: Score(50.0, (10.0,))}, {0: Score(40.0, (6.0,))}]
        >>> gain({0: Score(48.0, (8.0,))}, noise).difference
        3.0
    """
    return _over_seeds(method, curve, _f1s, higher=True)


def _over_seeds(method: Scores, curve: Sequence[Scores], differences: Differences, *, higher: bool) -> Margin:
    found = {seed: differences(score, [c[seed] for c in curve if seed in c]) for seed, score in sorted(method.items())}
    defined = [d for d in found.values() if isinstance(d, np.ndarray)]
    if not defined:
        reason = next((str(d) for d in found.values()), "no score")
        return Margin(np.nan, np.nan, np.nan, np.nan, 0, None, reason, higher)
    over: Literal["seeds", "rounds"] = "seeds" if len(defined) > 1 else "rounds"
    values = np.array([d.mean() for d in defined]) if len(defined) > 1 else defined[0]
    if len(values) < 2:
        reason = "one seed and one round: no spread" if differences is _deltas else "one seed: no spread"
        return Margin(float(values[0]), np.nan, np.nan, np.nan, 1, over, reason, higher)
    low, high = rounds_interval(values).low, rounds_interval(values).high
    error = float(values.std(ddof=1) / np.sqrt(len(values)))
    return Margin(float(values.mean()), error, low, high, len(values), over, higher=higher)


def _deltas(score: Score, points: Sequence[Score]) -> Floats | str:
    """[R] by round, or why there is none."""
    if len(points) < 2:
        return NO_LEVELS
    if len({len(p.delta) for p in (*points, score)}) > 1:
        return "noise was measured with another number of rounds"
    f1, levels = _levels(points)
    if not f1[0] <= score.f1 <= f1[-1]:
        return f"its F1 {score.f1:.2f} lies outside the curve's {f1[0]:.2f} to {f1[-1]:.2f}"
    at = np.array([np.interp(score.f1, f1, level) for level in levels.T])
    found: Floats = np.array(score.delta) - at
    return found


def _f1s(score: Score, points: Sequence[Score]) -> Floats | str:
    """[1], or why there is none."""
    if len(points) < 2:
        return NO_LEVELS
    delta = float(np.mean(score.delta))
    f1, levels = _levels([Score(p.f1, (float(np.mean(p.delta)),)) for p in points])
    reached = np.flatnonzero(levels[:, 0] <= delta)
    if not len(reached):
        return f"its Δ {delta:.2f} lies below the curve, which falls to {levels.min():.2f}"
    at = reached[-1]  # the least noise whose Δ is no larger: what lies between it and the next is a straight line
    best = np.interp(delta, levels[at : at + 2, 0], f1[at : at + 2])
    return np.array([score.f1 - best])


def _levels(points: Sequence[Score]) -> tuple[Floats, Floats]:
    """F1 [P], rising, and Δ by round [P, R]; levels of equal F1 are averaged."""
    f1 = np.unique([p.f1 for p in points])
    return f1, np.array([np.mean([p.delta for p in points if p.f1 == x], 0) for x in f1])
