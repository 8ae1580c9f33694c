"""Labels made as inaccurate as a model: bit flips, and the flip rate that gives an F1.

The perturbation r(Y, a) of Wang et al. 2019, section 3, as released for COCO: every bit of
the label vector is flipped independently with one probability p. The release sweeps p and
leaves its choice to the reader; here p is solved for. Under flips the hits of a class with
P positives among n rows are Binomial(P, 1 - p) and its false alarms Binomial(n - P, p),
independent of each other, so the expected macro F1 is a sum that needs no simulation. It
falls strictly with p, because hits fall and false alarms rise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Calibration:
    """A flip rate and what it yields.

    Attributes:
        p: Probability of flipping a bit, 0..0.5.
        f1: Expected macro F1 at p, 0..1.
        target: The macro F1 asked for, 0..1.
    """

    p: float
    f1: float
    target: float

    @property
    def out_of_reach(self) -> bool:
        """Whether no p in 0..0.5 gives the target within 0.1 point: p is then the nearest end."""
        return abs(self.f1 - self.target) > 1e-3


def flip(labels: NDArray[np.uint8], p: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """[n, K] labels with each bit flipped with probability p.

    One stream gives nested flips: what flips at p also flips at any larger p.

    Example:
        >>> flip(np.zeros((1, 4), np.uint8), 1.0, np.random.default_rng(0))
        array([[1, 1, 1, 1]], dtype=uint8)
    """
    return labels ^ (rng.random(labels.shape) < p).astype(np.uint8)


def expected_f1(positives: NDArray[Any], n: int, p: float) -> float:
    """Exact expectation of the macro F1 of flipped labels against clean ones.

    Args:
        positives: [K] rows that carry each label.
        n: Rows.
        p: Flip rate, 0..1.

    Returns:
        In 0..1; a class without positives counts 0.

    Example:
        >>> expected_f1(np.array([1]), 1, 0.25)  # kept (F1 = 1) three times of four
        0.75
    """
    values, counts = np.unique(positives, return_counts=True)
    each = [_expected_class_f1(int(v), n, p) for v in values]
    return float(np.dot(each, counts) / counts.sum())


def _expected_class_f1(positives: int, n: int, p: float) -> float:
    if positives == 0:
        return 0.0
    hits, hits_p = _binomial(positives, 1 - p)
    alarms, alarms_p = _binomial(n - positives, p)
    f1 = 2 * hits[:, None] / (hits[:, None] + alarms[None, :] + positives)
    return float(hits_p @ f1 @ alarms_p)


def _binomial(n: int, p: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts that matter, and their probabilities; the tails left out weigh under 1e-15."""
    from scipy.special import gammaln, xlog1py, xlogy

    reach = 10 * np.sqrt(n * p * (1 - p)) + 25
    k = np.arange(max(0, int(n * p - reach)), min(n, int(n * p + reach) + 1) + 1, dtype=np.float64)
    log = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1) + xlogy(k, p) + xlog1py(n - k, -p)
    mass = np.exp(log)
    return k, mass / mass.sum()


def calibrate(positives: NDArray[Any], n: int, target: float) -> Calibration:
    """The flip rate at which labels are expected to score `target`.

    Args:
        positives: [K] rows that carry each label, in the draw that F1 is read on.
        n: Rows of that draw.
        target: Macro F1 to hit, 0..1.

    Returns:
        A calibration with p in 0..0.5; at 0.5 the labels are pure noise.

    Example:
        >>> round(calibrate(np.array([1]), 1, 0.75).p, 6)
        0.25
    """
    from scipy.optimize import brentq

    for end, beyond in ((0.0, 1), (0.5, -1)):
        f1 = expected_f1(positives, n, end)
        if beyond * (target - f1) >= 0:
            return Calibration(end, f1, target)
    p = float(brentq(lambda q: expected_f1(positives, n, q) - target, 0.0, 0.5, xtol=1e-9))
    return Calibration(p, expected_f1(positives, n, p), target)
