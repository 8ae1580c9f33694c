"""Combinations of labels that occur, with their counts by group: found from the examples that have them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biasbench.errors import CellError
from biasbench.measures.counts import IntArray
from biasbench.measures.figures import FloatArray

Combination = tuple[int, ...]
Counts = tuple[FloatArray, FloatArray]
MOST = 200_000
"""More combinations than this are refused."""


@dataclass(frozen=True, eq=False)
class Part:
    """Labels [n, K] and groups [G, n] of some examples, as 0.0 and 1.0: their product counts exactly."""

    labels: FloatArray
    members: FloatArray

    @classmethod
    def of(cls, labels: NDArray[np.uint8], codes: IntArray, groups: NDArray[np.bool_]) -> Part:
        """The examples whose group is one of `groups` [G]."""
        kept = groups[codes]
        members = codes[kept] == np.arange(len(groups))[:, None]
        return cls(labels[kept].astype(np.float64), members.astype(np.float64))

    def counted(self, rows: IntArray, first: int) -> FloatArray:
        """[G, K - first] how many of `rows` have each label from `first` on."""
        out: FloatArray = self.members[:, rows] @ self.labels[rows][:, first:]
        return out

    def having(self, rows: IntArray, label: int) -> IntArray:
        """Those of `rows` that have the label."""
        out: IntArray = rows[self.labels[rows, label] == 1]
        return out


def occurring(
    reference: Part, measured: Part, predicted: Part, min_count: int, max_size: int | None
) -> dict[Combination, Counts]:
    """Counts by group, in `reference` and in `predicted`, of each combination that occurs often enough.

    An example has a combination when it has all its labels.

    Args:
        reference: True labels of the reference.
        measured: True labels of the measured split.
        predicted: Predicted labels of the measured split.
        min_count: Examples that must have it in `reference`, and in `measured`.
        max_size: Most labels; None sets no limit.

    Returns:
        Two arrays [G] for each combination.

    Raises:
        CellError: When there are more than `MOST`.

    Example:
        >>> part = Part.of(np.array([[1, 1, 0], [1, 0, 0]], np.uint8), np.array([0, 1]), np.array([True, True]))
        >>> {m: reference.tolist() for m, (reference, _) in occurring(part, part, part, 1, None).items()}
        {(0,): [1.0, 1.0], (1,): [1.0, 0.0], (0, 1): [1.0, 0.0]}
    """
    found: dict[Combination, Counts] = {}
    for m, counts in _grown((reference, measured, predicted), min_count, max_size):
        found[m] = counts
        if len(found) > MOST:
            raise CellError(f"more than {MOST:,} label combinations occur", fix="Give max_size, or a larger min_count")
    return found


def _grown(
    parts: tuple[Part, Part, Part], min_count: int, max_size: int | None
) -> Iterator[tuple[Combination, Counts]]:
    """Depth first: a longer combination has no more examples, so that a rare one ends its branch."""
    reference, measured, predicted = parts
    k = reference.labels.shape[1]
    waiting: list[tuple[Combination, list[IntArray]]] = [((), [np.arange(len(part.labels)) for part in parts])]
    while waiting:
        m, rows = waiting.pop()
        first = m[-1] + 1 if m else 0
        true, said = reference.counted(rows[0], first), predicted.counted(rows[2], first)
        often = (true.sum(0) >= min_count) & (measured.counted(rows[1], first).sum(0) >= min_count)
        for j in np.flatnonzero(often):
            longer = (*m, first + int(j))
            yield longer, (true[:, j], said[:, j])
            if len(longer) != max_size and longer[-1] + 1 < k:
                waiting.append((longer, [p.having(r, longer[-1]) for p, r in zip(parts, rows, strict=True)]))
