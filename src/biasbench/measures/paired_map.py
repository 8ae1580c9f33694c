"""Whether one model ranks better than another: the paired bootstrap of mean average precision over test images.

A resample has the same images for both models, so that what they share cancels out. Average precision is
not computed anew for each: the ranking of a class stays what it is, and only how often an image counts changes.
Between two positives of a ranking, it matters alone how many drawn images lie there; these counts of all
classes and of many resamples are one product of a sparse matrix with the table of counts, in whole numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from biasbench.data import Task
from biasbench.errors import DataError
from biasbench.measures.intervals import Interval
from biasbench.scoring import one_hot, ranking_scores

if TYPE_CHECKING:
    from scipy.sparse import csr_array

BLOCK = 64
"""Resamples at a time: their counts fit a processor's cache."""


class MapDifference(NamedTuple):
    """Mean average precision of one model minus another's.

    Attributes:
        interval: Over test images, in -1..1.
        better: Share of resamples in which the first is ahead, ties counted half.
        absent: Classes without a positive in a resample, on average; each counts 0 for both models there.
    """

    interval: Interval
    better: float
    absent: float


def map_difference(
    one: NDArray[Any],
    other: NDArray[Any],
    targets: NDArray[Any],
    task: Task,
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    draws: int = 2000,
) -> MapDifference:
    """How much better `one` ranks, with a percentile interval (Efron and Tibshirani 1993, chapter 13).

    Args:
        one: [N, K] raw logits.
        other: [N, K] raw logits of the other model on the same images.
        targets: [N, K] in {0, 1} (multi-label) or [N] classes.
        task: Multi-label or multi-class.
        rng: Of the resampling.
        level: Coverage, between 0 and 1.
        draws: Resamples.

    Raises:
        DataError: When the two have different shapes, or there are no images.
        CellError: When a score is not finite or targets do not fit.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> y = (rng.random((300, 4)) < 0.3).astype(int)
        >>> good, bad = y + rng.normal(0, 1, y.shape), rng.normal(0, 1, y.shape)
        >>> found = map_difference(good, bad, y, "multilabel", rng, draws=200)
        >>> found.interval.low > 0.1, found.better
        (True, 1.0)
    """
    if one.shape != other.shape or not one.size:
        raise DataError(f"the two models' scores have shapes {one.shape} and {other.shape}, or there are none")
    n = len(one)
    models = [_Rankings(scores, targets, task) for scores in (one, other)]
    whole = np.ones((n, 1), np.float32)
    mean = float(np.subtract(*(model.maps(whole)[0] for model in models)))
    found, absent = [], 0
    for times in resamples(n, draws, rng):
        found.append(np.subtract(*(model.maps(times) for model in models)))
        absent += models[0].absent(times)
    drawn = np.concatenate(found)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    better = float((drawn > 0).mean() + (drawn == 0).mean() / 2)
    return MapDifference(Interval(mean, float(low), float(high)), better, absent / draws)


def resamples(n: int, draws: int, rng: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    """How often each of `n` images is in each of some resamples of `n`: [n, at most 64] at a time.

    Example:
        >>> [times.shape for times in resamples(5, 70, np.random.default_rng(0))]
        [(5, 64), (5, 6)]
    """
    for first in range(0, draws, BLOCK):
        size = min(BLOCK, draws - first)
        rows = rng.integers(0, n, (size, n)) + np.arange(size)[:, None] * n
        counts = np.bincount(rows.ravel(), minlength=size * n).reshape(size, n)
        yield np.ascontiguousarray(counts.T, np.float32)


def resampled_map(
    scores: NDArray[Any], targets: NDArray[Any], task: Task, times: NDArray[np.float32]
) -> NDArray[np.float64]:
    """[D] `mean_average_precision` of resamples; image i counts `times[i, d]` times in resample d.

    Args:
        scores: [N, K] raw logits.
        targets: [N, K] in {0, 1} (multi-label) or [N] classes.
        task: Multi-label or multi-class.
        times: [N, D] whole numbers.

    Raises:
        CellError: When a score is not finite or targets do not fit.

    Example:
        >>> scores, targets = np.array([[2.0], [1.0], [0.0]]), np.array([[1], [0], [1]])
        >>> resampled_map(scores, targets, "multilabel", np.array([[1, 0], [1, 1], [1, 2]], np.float32)).round(3)
        array([0.833, 0.667])
    """
    return _Rankings(scores, targets, task).maps(times)


class _Rankings:
    """What average precision needs of the rankings of all classes.

    A step is a threshold at which a positive enters. `between` has the images whose score lies between a step and
    the one before it, `positives` those of them that are positive, and `first` says where each class's steps begin.
    """

    def __init__(self, scores: NDArray[Any], targets: NDArray[Any], task: Task) -> None:
        scores = ranking_scores(scores, targets, task)
        hot = one_hot(targets, scores.shape[1])
        self.classes, parts = scores.shape[1], [_steps(s, y) for s, y in zip(scores.T, hot.T, strict=True)]
        self.first = np.cumsum([0, *(steps for _, _, steps in parts)])
        shape = int(self.first[-1]), len(scores)
        self.between = _rows([images for images, _, _ in parts], [at for _, at, _ in parts], self.first, shape)
        kept = [hot[images, k] == 1 for k, (images, _, _) in enumerate(parts)]
        self.positives = _rows(
            [images[y] for (images, _, _), y in zip(parts, kept, strict=True)],
            [at[y] for (_, at, _), y in zip(parts, kept, strict=True)],
            self.first,
            shape,
        )

    def maps(self, times: NDArray[np.float32]) -> NDArray[np.float64]:
        """[D] means over classes."""
        drawn, true = self.between @ times, self.positives @ times  # [steps, D], whole numbers
        total = np.zeros(times.shape[1])
        for a, b in zip(self.first[:-1], self.first[1:], strict=True):
            if a < b:
                seen, found = (part[a:b].cumsum(0, dtype=np.float64) for part in (drawn, true))
                gained = (true[a:b] * (found / np.maximum(seen, 1))).sum(0)
                total += gained / np.maximum(found[-1], 1)
        means: NDArray[np.float64] = total / self.classes
        return means

    def absent(self, times: NDArray[np.float32]) -> int:
        """Classes without a positive, in all resamples together."""
        true = self.positives @ times
        steps = zip(self.first[:-1], self.first[1:], strict=True)
        return sum(int((~true[a:b].any(0)).sum()) for a, b in steps)


def _steps(scores: NDArray[Any], targets: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Of one class: images down to the last positive's score, the step that each belongs to, and how many steps."""
    order = np.argsort(-scores, kind="stable")
    ranked, true = scores[order], targets[order] == 1
    last = np.append(ranked[1:] != ranked[:-1], True)  # of those of equal score
    tie = np.cumsum(last) - last  # which score, counted from the top
    ends = np.unique(tie[true])
    step = np.searchsorted(ends, tie)
    kept = step < len(ends)
    return order[kept], step[kept], len(ends)


def _rows(
    images: list[NDArray[np.int64]], steps: list[NDArray[np.int64]], first: NDArray[np.int64], shape: tuple[int, int]
) -> csr_array[np.float32]:
    from scipy.sparse import csr_array

    columns = np.concatenate(images)
    rows = np.concatenate([at + start for at, start in zip(steps, first[:-1], strict=True)])
    return csr_array((np.ones(len(columns), np.float32), (rows, columns)), shape=shape)
