"""Annotators who get the protected attribute wrong: codes with symmetric noise, and what accuracy it hides."""

from __future__ import annotations

import numpy as np

from biasbench.errors import UsageError
from biasbench.measures.draws import IntArray


def noisy(codes: IntArray, share: float, groups: int, rng: np.random.Generator) -> IntArray:
    """Codes of which a share is wrong: replaced by another group's, drawn uniformly.

    One stream gives nested noise: what is wrong at a share is wrong in the same way at any larger one.

    Args:
        codes: [N] codes in 0..G-1; -1 stays as it is.
        share: Share of the known codes to replace, 0..1, rounded to whole rows.
        groups: G.
        rng: Stream.

    Raises:
        UsageError: When the share is out of range or there is no other group.

    Example:
        >>> noisy(np.array([0, 1, -1, 0]), 1.0, 2, np.random.default_rng(0))
        array([ 1,  0, -1,  1])
    """
    if not 0 <= share <= 1:
        raise UsageError(f"a share of {share} is outside 0..1")
    if groups < 2:
        raise UsageError("attribute noise needs two groups")
    known = rng.permutation(np.flatnonzero(codes >= 0))
    step = rng.integers(1, groups, size=len(known))
    wrong = known[: round(share * len(known))]
    out = codes.copy()
    out[wrong] = (codes[wrong] + step[: len(wrong)]) % groups
    return out


def mistaken(codes: IntArray, noisy_codes: IntArray, groups: int) -> float:
    """Share of wrong codes in a balanced draw by noisy codes: the q that `denoised` is for.

    Where groups differ in size, more of the rows that bear the smaller one's code belong elsewhere,
    and a draw balanced by noisy codes has more wrong ones than the data.

    Args:
        codes: [N] true codes in 0..G-1, -1 unknown.
        noisy_codes: [N] the same with noise.
        groups: G.

    Returns:
        Mean over the groups of the share of wrong codes among the rows that bear the group's noisy code,
        0..1; NaN when no row bears a group's.

    Example:
        >>> mistaken(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 2)
        0.25
    """
    known = noisy_codes >= 0
    borne = np.bincount(noisy_codes[known], minlength=groups)
    wrong = np.bincount(noisy_codes[known & (codes != noisy_codes)], minlength=groups)
    return float((wrong / borne).mean()) if borne.all() else float("nan")


def denoised(accuracy: float, q: float, groups: int) -> float:
    """What predictions would score against true codes, from what they score against noisy ones.

    A right prediction counts where the code is right, (1 - q); a wrong one where noise made it the code,
    q / (G - 1). Solved for the true accuracy; with two groups it is (accuracy - q) / (1 - 2q). It assumes that

    * codes are wrong independently of the example and of what is predicted, each wrong group alike;
    * accuracy is measured on a draw balanced by noisy codes, in which a share q is wrong (see `mistaken`); with more
      than two groups this also needs groups of equal size before the noise.

    It corrects the codes that predictions are compared with. That an attacker learnt from noisy codes, and predicts
    worse for it, it cannot undo: where training codes are noisy too, the result is a lower estimate.

    Args:
        accuracy: Measured against noisy codes, 0..1, unfolded.
        q: Share of wrong codes.
        groups: G.

    Returns:
        Accuracy, not clipped: on few rows it may leave 0..1.

    Raises:
        UsageError: When q is not in 0..1, or so large that codes say nothing, or less than that, of the group.

    Example:
        >>> round(denoised(0.74, 0.1, 2), 6)
        0.8
    """
    if groups < 2:
        raise UsageError("attribute noise needs two groups")
    stray = q / (groups - 1)
    slope = 1 - q - stray
    if not (q >= 0 and slope > 1e-9):
        raise UsageError(f"with {groups} groups, codes of which a share of {q} is wrong say nothing that can be undone")
    return (accuracy - stray) / slope
