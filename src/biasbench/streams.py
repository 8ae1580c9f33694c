"""Which examples come next: every order is a pure function of a name and a counter."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from biasbench.data import IntArray
from biasbench.errors import CellError
from biasbench.rng import Part, generator


def epoch_batches(rows: IntArray, size: int, name: tuple[Part, ...], most: int | None = None) -> list[IntArray]:
    """One pass over `rows` in random order, cut into near-equal batches of at most `size`.

    Near-equal, so that no batch is too small for batch-norm.

    Example:
        >>> [len(b) for b in epoch_batches(np.arange(10), 4, ("doc",))]
        [4, 3, 3]
    """
    order = generator(*name).permutation(rows)
    return np.array_split(order, max(1, -(-len(rows) // size)))[:most]


def chunks(rows: IntArray, size: int) -> list[IntArray]:
    """Rows in order, at most `size` at a time: how evaluation walks a split.

    Example:
        >>> [c.tolist() for c in chunks(np.arange(3), 2)]
        [[0, 1], [2]]
    """
    return [rows[a : a + size] for a in range(0, len(rows), size)]


class Stream:
    """An endless, optionally balanced sequence of batches.

    Its only state is `cursor`, the number of batches drawn: setting it is resuming.

    Args:
        rows: Rows to draw from.
        size: Rows per batch.
        name: Name of the random stream.
        groups: [len(rows)] group codes to balance over; rows with -1 are left out. None
            draws each row once per pass.

    Raises:
        CellError: When a group to balance over has no row.

    Example:
        >>> s = Stream(np.arange(6), 4, ("doc",), np.array([0, 0, 0, 0, 0, 1]))
        >>> sorted((s.next() == 5).tolist())
        [False, False, True, True]
    """

    def __init__(
        self, rows: IntArray, size: int, name: tuple[Part, ...], groups: NDArray[np.int64] | None = None
    ) -> None:
        self.name, self.cursor = name, 0
        if groups is None:
            self._pools = [np.asarray(rows)]
        else:
            codes = np.unique(groups[groups >= 0])
            self._pools = [np.asarray(rows)[groups == g] for g in codes]
            if len(codes) < 2:
                raise CellError("batches cannot be balanced: the training rows have fewer than two groups")
        self._size = max(size, len(self._pools))
        self._order = lru_cache(maxsize=2 * len(self._pools))(self._permutation)

    def _permutation(self, pool: int, turn: int) -> IntArray:
        return generator(*self.name, pool, turn).permutation(self._pools[pool])

    def next(self) -> IntArray:
        """The next batch of rows."""
        count = len(self._pools)
        share = -(-self._size // count)  # rows per group, rounded up: equal shares
        batch: list[int] = []
        for pool, rows in enumerate(self._pools):
            first = self.cursor * share
            positions = np.arange(first, first + share)
            turns = positions // len(rows)
            batch.extend(int(self._order(pool, int(t))[p % len(rows)]) for p, t in zip(positions, turns, strict=True))
        self.cursor += 1
        return np.asarray(batch, np.int64)
