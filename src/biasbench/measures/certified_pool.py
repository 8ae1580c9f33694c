"""The rows that attackers are fitted, selected and read on: a pool in folds, and the test draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench.data import SPLITS
from biasbench.errors import CellError
from biasbench.measures.attackers import Job
from biasbench.measures.draws import IntArray
from biasbench.rng import Part, generator

FAR = 1e4
"""Standard deviations beyond which a value counts as this far; no value of the rows fitted on is (n < 1e8)."""
ROUNDING = 64 * np.finfo(np.float64).eps
"""A column that spreads less than this share of its largest value is constant but for rounding."""


class Pool:
    """A job's rows in memory: the pool (train, then val), then the test draw.

    Attributes:
        table: [P + T, K] scores or 0/1 labels, or [P + T] classes.
        codes: [P + T] the protected attribute, 0..G-1.
        size: P.
        judged: The rows of the pool that kinds and stages are chosen on: the validation draw.
        fold: [P] the fold of each row of the pool; folds have equal shares of groups and of train and val.

    Raises:
        CellError: When a score is not finite, a group has fewer rows in the pool than there are folds, or
            none in the validation or test draw.
    """

    def __init__(self, job: Job, folds: int) -> None:
        draws = [job.draws[split] for split in SPLITS]
        self.stream, self.width, self.groups, self.folds = job.stream, job.width, job.groups, folds
        self.table = np.concatenate([draw.table()[draw.rows] for draw in draws])
        self.codes = np.concatenate([draw.codes for draw in draws])
        if not np.isfinite(self.table).all():
            raise CellError("a score that the attacker should read is not finite")
        train, val = (len(draw.rows) for draw in draws[:2])
        self.size, self.judged = train + val, slice(train, train + val)
        for where, part, least in (
            ("train and val", slice(self.size), folds),
            ("val", self.judged, 1),
            ("test", slice(self.size, None), 1),
        ):
            rows = np.bincount(self.codes[part], minlength=self.groups)
            if rows.min() < least:
                raise CellError(f"group {rows.argmin()} has {rows.min()} rows in {where}, {least} needed")
        self.fold = self._folded(np.repeat([0, 1], [train, val]))

    def _folded(self, split: IntArray) -> IntArray:
        """[P] folds, dealt in turn to the shuffled rows of each split and group."""
        rng = generator(*self.stream, "folds")
        part = split * self.groups + self.codes[: self.size]
        fold, dealt = np.empty(self.size, np.int64), 0
        for one in np.unique(part):
            rows = rng.permutation(np.flatnonzero(part == one))
            fold[rows] = (dealt + np.arange(len(rows))) % self.folds
            dealt += len(rows)
        return fold

    def whole(self) -> NDArray[Any]:
        """The table: one function for all that share it."""
        return self.table

    def fits(self, half: bool = False) -> list[Fit]:
        """One fit a fold: on the other folds or, per group, half of their rows; read on the fold and the test draw."""
        test = np.arange(self.size, len(self.codes))
        found = []
        for fold in range(self.folds):
            train = np.flatnonzero(self.fold != fold)
            if half:
                train = self._half(train, fold)
            held = np.flatnonzero(self.fold == fold)
            found.append(Fit(self, (*self.stream, "fold", fold, half), train, np.concatenate([held, test])))
        return found

    def _half(self, rows: IntArray, fold: int) -> IntArray:
        rng, codes = generator(*self.stream, "half", fold), self.codes[rows]
        parts = [rng.permutation(rows[codes == g]) for g in range(self.groups)]
        return np.sort(np.concatenate([part[: -(-len(part) // 2)] for part in parts]))

    def together(self, told: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """What the models of all folds say of every row.

        Args:
            told: A fold's [S, n, G] probabilities of the rows that its fit reads, at S stages.

        Returns:
            [S, P + T, G]: a row of the pool by the model that has not seen it, a test row by the mean of all models.
        """
        stages, _, groups = told[0].shape
        out = np.zeros((stages, len(self.codes), groups), np.float32)
        for fold, said in enumerate(told):
            held = np.flatnonzero(self.fold == fold)
            out[:, held] = said[:, : len(held)]
            out[:, self.size :] += said[:, len(held) :] / self.folds
        return out


@dataclass(frozen=True, eq=False)
class Fit:
    """One model to fit: the rows it learns from and the rows it is read on.

    Attributes:
        pool: Where the rows lie.
        stream: Names its random numbers.
        train: [n] rows of the pool.
        read: [m] rows of the held-out fold, then the test draw.
    """

    pool: Pool
    stream: tuple[Part, ...]
    train: IntArray
    read: IntArray

    def tables(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """[n, K] and [m, K] standardised by the rows it learns from."""
        return standardised(self._dense(self.train), self._dense(self.read))

    def _dense(self, rows: IntArray) -> NDArray[Any]:
        taken = self.pool.table[rows]
        return taken if taken.ndim == 2 else (taken[:, None] == np.arange(self.pool.width)).astype(np.uint8)


def standardised(train: NDArray[Any], read: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both with the mean and standard deviation of `train`, whatever the scale and offset of a column.

    Args:
        train: [n, K] finite numbers.
        read: [m, K] finite numbers.

    Returns:
        float32; a column that is constant in `train`, but for rounding, is 0 in both.

    Example:
        >>> one, other = standardised(np.array([[1e-12, 7], [3e-12, 7]]), np.array([[5e-12, 8]]))
        >>> one.tolist(), other.tolist()
        ([[-1.0, 0.0], [1.0, 0.0]], [[3.0, 0.0]])
    """
    scale = np.abs(train.astype(np.float64)).max(0, initial=0)
    scale[scale == 0] = 1
    x = train / scale  # within ±1, so that no square leaves the range of numbers
    mean = x.mean(0)
    spread = np.sqrt(np.square(x - mean).mean(0))
    constant = spread <= ROUNDING
    spread[constant] = 1

    def scaled(table: NDArray[Any]) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):  # a row that is read may lie beyond anything: it is then far
            z = np.clip((table / scale - mean) / spread, -FAR, FAR)
        z[:, constant] = 0
        narrow: NDArray[np.float32] = z.astype(np.float32)
        return narrow

    return scaled(train), scaled(read)
