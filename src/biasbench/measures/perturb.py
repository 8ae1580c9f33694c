"""Labels made as inaccurate as a model: two ways to damage them, and the rate that gives an F1.

The perturbation r(Y, a) of Wang et al. 2019, section 3. The paper does not define it; the released code has two kinds:

* "flips": every bit of the label vector is flipped independently with probability p. At p = 0.5 nothing is left.
* "replacement": with probability p the one label of an example is replaced by a uniformly drawn one, which may be the
  same. At p = 1 nothing is left. It needs exactly one label an example.

The release sweeps p and leaves its choice to the reader; here p is solved for. A class with P positives among n rows
has Binomial(P, kept) hits and Binomial(n - P, gained) false alarms, independent of each other, so the expected macro F1
is a sum that needs no simulation. It falls strictly with p, because hits fall and false alarms rise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from biasbench.errors import CellError, DataError, UsageError, did_you_mean, printable
from biasbench.scoring import one_hot

Kind = Literal["flips", "replacement"]
MOST: Mapping[Kind, float] = {"flips": 0.5, "replacement": 1.0}
"""The rate of each kind at which labels are pure noise."""


@dataclass(frozen=True)
class Calibration:
    """A rate and what it yields.

    Attributes:
        p: Probability of flipping a bit (0..0.5) or of replacing a label (0..1).
        f1: Expected macro F1 at p, 0..1.
        target: The macro F1 asked for, 0..1.
        kind: How labels are perturbed.
    """

    p: float
    f1: float
    target: float
    kind: Kind

    @property
    def out_of_reach(self) -> bool:
        """Whether no p gives the target within 0.1 point: p is then the nearest end of its range."""
        return abs(self.f1 - self.target) > 1e-3


def kind_for(name: str | None, single: bool) -> Kind:
    """The kind of that name; without one, replacement for single-label data and flips for multi-label data.

    Args:
        name: A kind, or None.
        single: Whether an example has exactly one label.

    Raises:
        UsageError: When there is no such kind, or replacement is asked of multi-label data.

    Example:
        >>> kind_for(None, single=True), kind_for("flips", single=True), kind_for(None, single=False)
        ('replacement', 'flips', 'flips')
    """
    known: dict[str, Kind] = {kind: kind for kind in MOST}
    if name is None:
        return "replacement" if single else "flips"
    if name not in known:
        fix = f"{did_you_mean(name, known)} Known: {', '.join(known)}".strip()
        raise UsageError(f"no perturbation {printable(name)!r}", fix=fix)
    if name == "replacement" and not single:
        raise UsageError("replacement needs one label an example, these data are multi-label", fix="Use flips")
    return known[name]


def perturb(labels: NDArray[Any], kind: Kind, p: float, rng: np.random.Generator, width: int) -> NDArray[Any]:
    """Labels damaged at rate p.

    One stream gives nested perturbations: what changes at p changes in the same way at any larger p.

    Args:
        labels: [n, K] in {0, 1} (multi-label) or [n] classes.
        kind: How.
        p: Rate, 0..1.
        rng: Stream.
        width: K.

    Returns:
        Flips: [n, K] uint8, also of single-label data, where it is one-hot no longer. Replacement: [n] int64.

    Raises:
        UsageError: When p is out of range, or replacement is asked of multi-label data.
        DataError: When `labels` do not fit `width`.

    Example:
        >>> perturb(np.array([2, 0]), "flips", 1.0, np.random.default_rng(0), 3)
        array([[1, 1, 0],
               [0, 1, 1]], dtype=uint8)
        >>> perturb(np.array([2, 0]), "replacement", 0.0, np.random.default_rng(0), 3)
        array([2, 0])
    """
    if not 0 <= p <= 1:
        raise UsageError(f"a rate of {p} is outside 0..1")
    _check(labels, kind, width)
    if kind == "flips":
        return one_hot(labels, width) ^ (rng.random((len(labels), width)) < p).astype(np.uint8)
    changed, drawn = rng.random(len(labels)) < p, rng.integers(width, size=len(labels))
    return np.where(changed, drawn, labels).astype(np.int64)


def expected_f1(positives: NDArray[Any], n: int, p: float, kind: Kind) -> float:
    """Exact expectation of the macro F1 of perturbed labels against clean ones.

    Args:
        positives: [K] rows that carry each label.
        n: Rows.
        p: Rate, 0..1.
        kind: How labels are perturbed.

    Returns:
        In 0..1; a class without positives counts 0, as in the papers' macro F1.

    Example:
        >>> expected_f1(np.array([1]), 1, 0.25, "flips")  # kept (F1 = 1) three times of four
        0.75
        >>> expected_f1(np.array([1, 0]), 1, 0.5, "replacement")  # again three of four; the other class counts 0
        0.375
    """
    width = len(positives)
    kept, gained = (1 - p, p) if kind == "flips" else (1 - p + p / width, p / width)
    values, counts = np.unique(positives, return_counts=True)
    each = [_class_f1(int(v), n, kept, gained) for v in values]
    return float(np.dot(each, counts) / width)


def calibrate(kind: Kind, targets: NDArray[Any], width: int, target: float) -> Calibration:
    """The rate at which labels are expected to score a macro F1.

    Args:
        kind: How labels are perturbed.
        targets: [n, K] or [n] clean labels of the draw that F1 is read on.
        width: K.
        target: Macro F1 to hit, 0..1.

    Returns:
        A calibration; where no rate gives the target, that of the nearest end of the range.

    Raises:
        UsageError: When replacement is asked of multi-label data.
        DataError: When `targets` do not fit `width`.
        CellError: When there is no example or label, or the target is not in 0..1.

    Example:
        >>> found = calibrate("flips", np.array([[1]]), 1, 0.75)
        >>> round(found.p, 6), found.out_of_reach
        (0.25, False)
        >>> round(calibrate("replacement", np.array([0]), 2, 0.375).p, 6)
        0.5
    """
    from scipy.optimize import brentq

    _check(targets, kind, width)
    if not targets.size:
        raise CellError("no labels to perturb")
    if not 0 <= target <= 1:
        raise CellError(f"labels cannot be perturbed to a macro F1 of {target}")
    n = len(targets)
    positives = targets.sum(0, dtype=np.int64) if targets.ndim == 2 else np.bincount(targets, minlength=width)
    for end, beyond in ((0.0, 1), (MOST[kind], -1)):
        f1 = expected_f1(positives, n, end, kind)
        if beyond * (target - f1) >= 0:
            return Calibration(end, f1, target, kind)
    p = float(brentq(lambda q: expected_f1(positives, n, q, kind) - target, 0.0, MOST[kind], xtol=1e-9))
    return Calibration(p, expected_f1(positives, n, p, kind), target, kind)


def _check(labels: NDArray[Any], kind: Kind, width: int) -> None:
    kind_for(kind, labels.ndim == 1)
    if labels.ndim == 2 and labels.shape[1] != width:
        raise DataError(f"{labels.shape[1]} labels, expected {width}")
    if labels.ndim == 1 and labels.size and not 0 <= labels.min() <= labels.max() < width:
        raise DataError(f"a class is outside 0..{width - 1}")


def _class_f1(positives: int, n: int, kept: float, gained: float) -> float:
    if positives == 0:
        return 0.0
    hits, hits_p = _binomial(positives, kept)
    alarms, alarms_p = _binomial(n - positives, gained)
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
