"""Intervals of a figure: over the test images, and over rounds.

Images are resampled within groups, all rounds of an image together, and the percentiles are
taken. For shares of right answers this is near the normal interval and a bias correction (BCa)
would move it little, but either has no width where an attacker is right on every image. Therefore
each group gets one image more that is right and one that is wrong (for a difference: one each way),
which gives intervals of sums of shares their nominal coverage also near 0 and 1 and with few rows
(Agresti and Caffo, The American Statistician 54, 2000).

Over images, the attackers are taken as given; over rounds, draws and attackers vary and the images
for the most part do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench.errors import DataError
from biasbench.measures.draws import IntArray

Rights = Sequence[NDArray[np.bool_]]
"""By round, [n] which rows of the test draw an attacker got right."""


@dataclass(frozen=True)
class Interval:
    """A figure and where it may lie.

    Attributes:
        mean: The figure.
        low: Lower end.
        high: Upper end; NaN, like `low`, where there is too little to tell.
    """

    mean: float
    low: float
    high: float


def bootstrap_interval(
    right: Rights,
    codes: Sequence[NDArray[Any]],
    rng: np.random.Generator,
    *,
    rows: Sequence[IntArray] | None = None,
    level: float = 0.95,
    draws: int = 2000,
) -> Interval:
    """Of the mean balanced accuracy, over test images.

    Args:
        right: By round, [n] which rows were right.
        codes: By round, [n] groups of these rows.
        rng: Of the resampling.
        rows: By round, [n] which images these rows are; without it row i is the same image in each round.
        level: Coverage, between 0 and 1.
        draws: Resamples.

    Returns:
        In 0..1: the mean over groups of the share of right rows of all rounds.

    Raises:
        DataError: When lengths disagree or an image changes its group.

    Example:
        >>> right, codes = np.arange(400) % 4 > 0, np.repeat([0, 1], 200)
        >>> found = bootstrap_interval([right], [codes], np.random.default_rng(0))
        >>> found.mean, 0.69 < found.low < 0.73, 0.77 < found.high < 0.81
        (0.75, True, True)
    """
    hits = [one.astype(np.int64) for one in right]
    return _bootstrap(hits, codes, rng, rows, level, draws, extremes=(1, 0))


def bootstrap_difference(
    right: Rights,
    other: Rights,
    codes: Sequence[NDArray[Any]],
    rng: np.random.Generator,
    *,
    rows: Sequence[IntArray] | None = None,
    level: float = 0.95,
    draws: int = 2000,
) -> Interval:
    """Of the difference of two mean balanced accuracies on the same rows, paired by image.

    Args:
        right: By round, [n] which rows the one attacker got right.
        other: By round, [n] which the other got right.
        codes: By round, [n] groups of these rows.
        rng: Of the resampling.
        rows: By round, [n] which images these rows are; without it row i is the same image in each round.
        level: Coverage, between 0 and 1.
        draws: Resamples.

    Returns:
        `right` minus `other`, in -1..1.

    Raises:
        DataError: When lengths disagree or an image changes its group.

    Example:
        >>> one, codes = np.arange(400) % 4 > 0, np.repeat([0, 1], 200)
        >>> found = bootstrap_difference([one], [one], [codes], np.random.default_rng(0))
        >>> found.mean, -0.02 < found.low < 0 < found.high < 0.02
        (0.0, True)
    """
    if [len(one) for one in right] != [len(one) for one in other]:
        raise DataError("the two attackers were read on different rows")
    changes = [one.astype(np.int64) - two for one, two in zip(right, other, strict=True)]
    return _bootstrap(changes, codes, rng, rows, level, draws, extremes=(1, -1))


def rounds_interval(values: NDArray[np.float64], level: float = 0.95) -> Interval:
    """Of the mean over rounds, by Student's t; NaN ends where there is one round only.

    Args:
        values: [R] one figure a round, in any unit.
        level: Coverage, between 0 and 1.

    Example:
        >>> found = rounds_interval(np.array([1.0, 3.0]), 0.5)
        >>> found.mean, round(found.low, 9), round(found.high, 9)
        (2.0, 1.0, 3.0)
    """
    from scipy.stats import t

    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Interval(mean, float("nan"), float("nan"))
    reach = float(t.ppf((1 + level) / 2, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
    return Interval(mean, mean - reach, mean + reach)


def _bootstrap(
    values: Sequence[IntArray],
    codes: Sequence[NDArray[Any]],
    rng: np.random.Generator,
    rows: Sequence[IntArray] | None,
    level: float,
    draws: int,
    extremes: tuple[int, int],
) -> Interval:
    rows = [np.arange(len(one)) for one in values] if rows is None else rows
    lengths = [[len(one) for one in parts] for parts in (values, codes, rows)]
    if not values or lengths[0] != lengths[1] or lengths[0] != lengths[2] or min(lengths[0]) == 0:
        raise DataError("right answers, groups and rows of a test draw must be equally many, and not none")
    _, first, image = np.unique(np.concatenate(rows), return_index=True, return_inverse=True)
    group = np.concatenate(codes)
    if (group[first][image] != group).any():
        raise DataError("an image is of one group in one round and of another in another")
    total = np.bincount(image, np.concatenate(values)).astype(np.int64)  # [I]
    times = np.bincount(image)  # [I] draws that an image is in
    means, drawn = [], np.zeros(draws)
    groups = np.unique(group)
    for g in groups:
        of = group[first] == g
        means.append(total[of].sum() / times[of].sum())
        drawn += _resampled(total[of], times[of], extremes, len(values), draws, rng)
    low, high = np.quantile(drawn / len(groups), [(1 - level) / 2, (1 + level) / 2])
    mean = float(np.mean(means))
    return Interval(mean, min(float(low), mean), max(float(high), mean))


def _resampled(
    total: IntArray, times: IntArray, extremes: tuple[int, int], rounds: int, draws: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """[draws] means of one group's images, drawn with replacement.

    Images that agree in their sum and in how often they were drawn are interchangeable: how many of
    each sort a resample has is multinomial.
    """
    added = rounds * np.array(extremes)
    pairs = np.stack([np.append(total, added), np.append(times, [rounds, rounds])])
    sorts, counts = np.unique(pairs, axis=1, return_counts=True)
    took = rng.multinomial(counts.sum(), counts / counts.sum(), size=draws)  # [draws, sorts]
    means: NDArray[np.float64] = (took @ sorts[0]) / (took @ sorts[1])
    return means
