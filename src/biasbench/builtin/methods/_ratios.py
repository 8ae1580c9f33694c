"""Choosing rows so that no label's groups differ by more than a factor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# The published subsets for alpha = 1 let 41 men stand beside 38 women (1.0789): exact
# equality of many overlapping labels would leave next to nothing.
TOLERANCE = 1.08


def allowed(scarcest: NDArray[np.integer], limit: float | NDArray[np.float64]) -> Ints:
    """The largest count beside a scarcest group of `scarcest` that keeps a ratio of at most `limit`.

    Example:
        >>> allowed(np.array([0, 10]), 1.5)
        array([ 0, 15])
    """
    out: Ints = np.floor(limit * scarcest + 1e-9).astype(np.int64)
    return out


def cap_classes(labels: Ints, groups: Ints, ratio: float, rng: np.random.Generator) -> Bools:
    """One label per row: the exact rule of the published subsets.

    Of each label, every group keeps at most `ratio` times the rows of its scarcest group,
    or `ratio` rows where that group has none; which ones is drawn.

    Args:
        labels: [N] classes.
        groups: [N] in 0..G-1.
        ratio: At least 1.
        rng: Draws the rows that stay.

    Returns:
        [N] rows that stay.

    Example:
        >>> keep = cap_classes(np.zeros(5, int), np.array([0, 0, 0, 0, 1]), 2.0, np.random.default_rng(0))
        >>> int(keep[:4].sum()), bool(keep[4])
        (2, True)
    """
    keep = np.zeros(len(labels), bool)
    sizes = np.arange(int(groups.max()) + 1)
    for label in np.unique(labels):
        mine = labels == label
        counts = np.array([(mine & (groups == g)).sum() for g in sizes])
        most = int(allowed(np.maximum(counts.min(), 1), ratio))
        for g in sizes:
            rows = np.flatnonzero(mine & (groups == g))
            keep[rng.permutation(rows)[:most]] = True
    return keep


def thin(labels: NDArray[np.uint8], groups: Ints, ratio: float, rng: np.random.Generator) -> Bools:
    """Several labels per row: drop rows with few labels first, until every label obeys the bound.

    A label obeys when its largest group has at most `max(ratio, TOLERANCE)` times the
    rows of its scarcest; one that has rows of some groups only must vanish. The whole set
    obeys `ratio` itself: at 1 the groups are equal in size.

    The paper visits the labels in turn and drops the rows of the larger group that have
    the fewest labels. Counting *all* labels makes the labels chase each other down (in
    some orders of visit nothing is left), so here only the labels count of which the
    row's group has none to spare; rare labels are visited first; and rows that fit again
    in the end, those with most labels first, come back.

    Args:
        labels: [N, K] in {0, 1}.
        groups: [N] in 0..G-1.
        ratio: At least 1.
        rng: Breaks ties between rows.

    Returns:
        [N] rows that stay.

    Example:
        >>> y = np.array([[1, 0], [1, 1], [1, 0], [1, 1]], np.uint8)
        >>> thin(y, np.array([0, 0, 0, 1]), 1.0, np.random.default_rng(0)).tolist()
        [False, True, False, True]
    """
    everyone = np.ones((len(labels), 1), np.int64)
    y = np.concatenate([labels.astype(np.int64), everyone], axis=1)  # [N, K + 1]
    limit = np.full(y.shape[1], max(ratio, TOLERANCE))
    limit[-1] = ratio
    search = _Search(y, groups, limit, rng.random(len(y)))
    search.drop()
    search.refill()
    return search.keep


class _Search:
    """The rows kept so far, with their counts by group and label."""

    def __init__(self, y: Ints, groups: Ints, limit: NDArray[np.float64], ties: NDArray[np.float64]) -> None:
        self.y, self.groups, self.limit, self.ties = y, groups, limit, ties
        self.size = y.sum(1)  # [N] labels of each row
        self.keep = np.ones(len(y), bool)
        self.members = [groups == g for g in range(int(groups.max()) + 1)]
        self.counts = np.stack([y[m].sum(0) for m in self.members])  # [G, K + 1]

    def drop(self) -> None:
        """Drop rows until no label is in excess."""
        while True:
            bad = np.flatnonzero(self.counts.max(0) > allowed(self.counts.min(0), self.limit))
            if not len(bad):
                return
            for k in bad[np.argsort(self.counts.max(0)[bad], kind="stable")]:
                for g in range(len(self.members)):
                    self._drop_from(g, k)

    def _drop_from(self, g: int, k: int) -> None:
        excess = self.counts[g] - allowed(self.counts.min(0), self.limit)  # [K + 1]
        if excess[k] <= 0:
            return
        rows = np.flatnonzero(self.keep & self.members[g] & (self.y[:, k] > 0))
        needed = self.y[rows] @ (excess <= 0)  # labels of the row that have none to spare
        rows = rows[np.lexsort((self.ties[rows], needed))][: excess[k]]
        self.keep[rows] = False
        self.counts[g] -= self.y[rows].sum(0)

    def refill(self) -> None:
        """Take rows back while every bound still holds: one by one, or one of each group together."""
        order = np.lexsort((self.ties, -self.size))
        self._twins(order)
        while self._singles(order) or self._together(order):
            pass

    def _twins(self, order: Ints) -> None:
        # One more of each group with the same labels brings every ratio nearer to 1.
        _, kind = np.unique(self.y, axis=0, return_inverse=True)
        dropped = order[~self.keep[order]]
        pools: dict[int, list[list[int]]] = {}
        for row in dropped:
            pools.setdefault(int(kind[row]), [[] for _ in self.members])[self.groups[row]].append(int(row))
        for pool in pools.values():
            for rows in zip(*pool, strict=False):
                for row in rows:
                    self._take(row)

    def _singles(self, order: Ints) -> int:
        taken = 0
        for g in range(len(self.members)):
            for row in order[self._fitting(g, self.limit)[order]]:
                mine = self.y[row] > 0
                if (self.counts[g, mine] < self._most(g, self.limit)[mine]).all():
                    self._take(row)
                    taken += 1
        return taken

    def _together(self, order: Ints) -> int:
        # One more of each group cannot break the bound on the whole set, so it is lifted.
        lifted = np.append(self.limit[:-1], 2.0 * len(self.y))
        rows = []
        for g in range(len(self.members)):
            fitting = order[self._fitting(g, lifted)[order]]
            if not len(fitting):
                return 0
            rows.append(fitting[0])
        for row in rows:
            self._take(row)
        return len(rows)

    def _most(self, g: int, limit: NDArray[np.float64]) -> NDArray[np.float64]:
        out: NDArray[np.float64] = np.floor(limit * np.delete(self.counts, g, axis=0).min(0) + 1e-9)
        return out

    def _fitting(self, g: int, limit: NDArray[np.float64]) -> Bools:
        full = self.counts[g] >= self._most(g, limit)  # [K + 1]
        out: Bools = ~self.keep & self.members[g] & ~(self.y[:, full] > 0).any(1)
        return out

    def _take(self, row: int) -> None:
        self.keep[row] = True
        self.counts[self.groups[row]] += self.y[row]
