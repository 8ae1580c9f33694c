"""The positive control: a leak of known strength, planted beside what an attacker reads, that it must find.

Scores scaled down by 1e-8 hide from the published attacker (its input BatchNorm divides by at least the root of 1e-5)
without being any fairer. A planted column that is scaled as the scores are hides with them: an attacker that misses it
says nothing about the scores either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biasbench.data import Split
from biasbench.errors import CellError, UsageError
from biasbench.measures.draws import IntArray
from biasbench.rng import Part, seed_for, uniforms
from biasbench.scoring import one_hot

if TYPE_CHECKING:
    from biasbench.measures.reader import Draw, Table

MARGIN = 0.03
"""How much less than the planted leak an attacker may find, besides chance."""


def planted(
    draws: Mapping[Split, Draw], width: int, groups: int, strength: float, stream: tuple[Part, ...]
) -> tuple[dict[Split, Draw], int]:
    """The same draws, with G - 1 more columns that tell the group.

    For every row a group is named: its own with probability `strength`, else another one, drawn uniformly. What is
    named depends on the stream, the table and the row alone, not on what else is drawn. The columns are the one-hot
    vector of the named group without its first entry (of two groups: one bit):

    * beside 0/1 labels as they are;
    * beside classes too, which become one-hot vectors;
    * beside scores centred, and scaled to the median standard deviation of the columns of the training draw that are
      not constant. Where all are, to 1.

    Args:
        draws: Of train, val and test, which read tables of one kind. Tables are made when the planted ones are, and
            only the rows that are drawn are kept; draws that share a table share the planted one.
        width: K, the columns of the tables.
        groups: G.
        strength: Probability that the planted column is right, 0..1.
        stream: Names the random numbers.

    Returns:
        Draws of equal codes, and K + G - 1.

    Raises:
        UsageError: When the strength is out of range or there are fewer than two groups.
        CellError: When draws of one table disagree on a row's group.

    Example:
        >>> from biasbench.measures.reader import Draw
        >>> labels = np.array([[1, 0], [0, 1], [1, 1]], np.uint8)
        >>> draw = Draw(lambda: labels, np.array([2, 0]), np.array([1, 0]))
        >>> found, width = planted({"train": draw}, 2, 2, 1.0, ("doc",))
        >>> found["train"].table()[found["train"].rows], width
        (array([[1, 1, 1],
               [1, 0, 0]], dtype=uint8), 3)
    """
    if not 0 <= strength <= 1:
        raise UsageError(f"a strength of {strength} is outside 0..1")
    if groups < 2:
        raise UsageError("a planted leak needs two groups")
    scale = _Scale(draws["train"].table, draws["train"].rows)
    made: dict[Table, _Planted] = {}
    for split, draw in draws.items():
        if draw.table in made:
            continue
        same = [d for d in draws.values() if d.table == draw.table]
        rows, codes = _union([d.rows for d in same], [d.codes for d in same])
        claims = _claims(rows, codes, groups, strength, seed_for(*stream, "planted", split))
        made[draw.table] = _Planted(draw.table, rows, claims, width, groups, scale)
    beside = {
        split: replace(d, table=made[d.table], rows=np.searchsorted(made[d.table].rows, d.rows))
        for split, d in draws.items()
    }
    return beside, width + groups - 1


def expected(strength: float, groups: int = 2) -> float:
    """Accuracy, 0..1, that the best rule reaches at least on a balanced draw: it may read more than what was planted.

    The rule answers with the group that is named; where that is wrong more often than by guessing, with any other.

    Example:
        >>> expected(0.9), expected(0.1), round(expected(0.1, 4), 6)
        (0.9, 0.9, 0.3)
    """
    return max(strength, (1 - strength) / (groups - 1))


def tolerance(n: int, strength: float, groups: int = 2) -> float:
    """How far below `expected` an attacker may stay: three standard errors of n test rows, and 3 points; 0..1.

    Example:
        >>> round(tolerance(900, 0.9), 4)
        0.06
    """
    share = expected(strength, groups)
    return float(3 * np.sqrt(share * (1 - share) / n) + MARGIN)


def found(measured: float, n: int, strength: float, groups: int = 2) -> bool:
    """Whether an attacker found a planted leak.

    Args:
        measured: Its accuracy on n test rows, 0..1; not found where it is NaN.
        n: Rows of the test draw.
        strength: As it was planted.
        groups: G.

    Example:
        >>> found(0.86, 900, 0.9), found(0.51, 900, 0.9)
        (True, False)
    """
    return bool(measured >= expected(strength, groups) - tolerance(n, strength, groups))


@dataclass(frozen=True, eq=False)
class _Scale:
    """What planted columns beside scores are scaled to; read from the training draw once, when first needed."""

    table: Table
    rows: IntArray

    @cached_property
    def size(self) -> float:
        scores = self.table()[self.rows].astype(np.float64)
        varied = scores[:, (scores != scores[:1]).any(0)]  # rounding gives constant columns a deviation, too
        with np.errstate(over="ignore", invalid="ignore"):  # whoever reads the table refuses what is not finite
            spread = varied.std(0)
        return float(np.median(spread)) if spread.size else 1.0


@dataclass(frozen=True, eq=False)
class _Planted:
    """A table of the rows that are drawn, with the planted columns; makes it when called."""

    table: Table
    rows: IntArray
    claims: IntArray
    width: int
    groups: int
    scale: _Scale

    def __call__(self) -> NDArray[Any]:
        taken = self.table()[self.rows]
        named = one_hot(self.claims, self.groups)[:, 1:]  # [n, G - 1]
        if taken.ndim == 1 or taken.dtype.kind in "biu":
            return np.concatenate([one_hot(taken, self.width), named], 1)
        share = 1 / self.groups  # of each group, in a balanced draw
        columns = (named - share) / np.sqrt(share * (1 - share)) * self.scale.size
        return np.concatenate([taken, columns.astype(taken.dtype)], 1)


def _union(rows: list[IntArray], codes: list[IntArray]) -> tuple[IntArray, IntArray]:
    """Rows that any draw names, in order, and their codes."""
    known = np.concatenate(codes)
    union, first, same = np.unique(np.concatenate(rows), return_index=True, return_inverse=True)
    if (known[first][same] != known).any():
        raise CellError("draws of one table disagree on a row's group, in which nothing can be planted")
    return union, known[first]


def _claims(rows: IntArray, codes: IntArray, groups: int, strength: float, seed: int) -> IntArray:
    """[n] the group that is named for each row."""
    chance, which = uniforms(seed, rows, 2).T
    step = 1 + (which * (groups - 1)).astype(np.int64)
    return np.where(chance < strength, codes, (codes + step) % groups)
