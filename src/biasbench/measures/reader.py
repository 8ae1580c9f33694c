"""The data of a stack of attackers: shared tables in memory, gathered by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biasbench.errors import CellError
from biasbench.measures.batch import Batch, distinct_rows, every_row, pieces
from biasbench.measures.draws import IntArray
from biasbench.measures.stacked import Shape, Stack, padded

SLAB = 1024
"""Rows that are read at once."""

Table = Callable[[], NDArray[Any]]


@dataclass(frozen=True)
class Draw:
    """What an attacker reads of one split: some rows of a table.

    Attributes:
        table: Makes the table when its turn comes: [N, K] logits or 0/1 labels, or [N] classes that
            stand for one-hot vectors. Draws that name the same function share the table.
        rows: [n] rows of the table.
        codes: [n] the protected attribute of these rows, 0..G-1.
        kind: Of the table; only attackers that read tables of one kind are stacked.
    """

    table: Table
    rows: IntArray
    codes: IntArray
    kind: str = ""


class Reader:
    """One split's draws of A attackers, which have n rows each.

    Labels lie in memory as bytes and classes as numbers. Rows that are equal are evaluated once:
    of one-hot labels there are at most K.

    Args:
        draws: One an attacker, of equal n and kind.
        device: Where the data lie.

    Raises:
        CellError: When a score is not finite: an attacker would find nothing and the model would
            look perfectly fair.
    """

    def __init__(self, draws: Sequence[Draw], device: torch.device) -> None:
        made: dict[Table, NDArray[Any]] = {table: table() for table in dict.fromkeys(d.table for d in draws)}
        starts = dict(zip(made, np.cumsum([0, *map(len, made.values())]), strict=False))
        self.size = len(draws[0].rows)
        self.table = _tensor(list(made.values()), device)
        self.rows = _stacked([draw.rows + starts[draw.table] for draw in draws], device)  # [n, A]
        self.codes = _stacked([draw.codes for draw in draws], device)  # [n, A]
        distinct = [_distinct(made[draw.table], draw.rows) for draw in draws]
        most = max(len(first) for first, _ in distinct)
        first = [np.resize(rows, most) + starts[d.table] for (rows, _), d in zip(distinct, draws, strict=True)]
        self.first = _stacked(first, device)  # [u, A]: where each distinct row stands in the table
        self.same = _stacked([inverse for _, inverse in distinct], device)  # [n, A] into 0..u-1

    def rows_at(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """Features and codes of rows `at` [B, A] of the draws: classes [B, A] or float32 [B, A, padded K], [B, A]."""
        return self._features(self.rows.gather(0, at)), self.codes.gather(0, at)

    def batches(self, order: Tensor, size: int, shape: Shape) -> Iterator[Batch]:
        """Batches of so many examples of the draws, in the order [n, A] of their rows."""
        if self.table.ndim == 1:
            yield from distinct_rows(*self.rows_at(order), size, padded(shape.inputs), shape.outputs)
        else:
            for at in pieces(order, size):
                yield every_row(*self.rows_at(at), shape.outputs)

    def right(self, stack: Stack) -> Tensor:
        """[n, A] which rows each attacker gets right.

        Raises:
            CellError: When an attacker's numbers overflow.
        """
        said = torch.cat([logits.argmax(2) for logits in self._read(stack)])
        return said.gather(0, self.same) == self.codes

    def probabilities(self, stack: Stack) -> Tensor:
        """[n, A, G] how probable each attacker finds each group.

        Raises:
            CellError: When an attacker's numbers overflow.
        """
        said = torch.cat([logits.softmax(2) for logits in self._read(stack)])
        return said.gather(0, self.same.unsqueeze(2).expand(-1, -1, said.shape[2]))

    def _read(self, stack: Stack) -> Iterator[Tensor]:
        """Logits of the distinct rows, a slab at a time; the next slab writes over them."""
        for logits in stack.read(self._features(rows) for rows in torch.split(self.first, SLAB)):
            check_finite(logits)
            yield logits

    def _features(self, rows: Tensor) -> Tensor:
        """[B, A] classes, or [B, A, K] float32 of padded width."""
        taken = self.table.index_select(0, rows.view(-1))
        return taken.view(rows.shape) if self.table.ndim == 1 else taken.float().view(*rows.shape, -1)


def check_finite(numbers: Tensor) -> None:
    """Refuse numbers that overflowed inside an attacker: it would sit at chance and look fair.

    Raises:
        CellError: When one is not finite.
    """
    if not torch.isfinite(numbers).all():
        raise CellError("the attacker's numbers overflowed", fix="Are the scores of a sane size?")


def _tensor(tables: Sequence[NDArray[Any]], device: torch.device) -> Tensor:
    """All tables as one: classes int64, labels uint8, scores float32; widths padded."""
    whole = np.concatenate(tables) if len(tables) > 1 else tables[0]
    if whole.ndim == 1:
        return torch.from_numpy(whole.astype(np.int64)).to(device)
    kind = np.uint8 if _is_binary(whole) else np.float32
    out = np.zeros((len(whole), padded(whole.shape[1])), kind)
    with np.errstate(over="ignore"):
        out[:, : whole.shape[1]] = whole
    if kind is np.float32 and not np.isfinite(out).all():
        raise CellError("a score that the attacker should read is not finite")
    return torch.from_numpy(out).to(device)


def _distinct(table: NDArray[Any], rows: IntArray) -> tuple[IntArray, IntArray]:
    """First rows of equal ones, and for each of `rows` which of them it equals; scores are not compared."""
    if table.ndim == 2 and not _is_binary(table):
        return rows, np.arange(len(rows))
    values = table[rows]
    if values.ndim == 2:
        packed = np.ascontiguousarray(np.packbits(values, axis=1))
        values = packed.view(f"V{packed.shape[1]}").ravel()
    _, first, same = np.unique(values, return_index=True, return_inverse=True)
    return rows[first], same


def _is_binary(table: NDArray[Any]) -> bool:
    """Whether a table holds labels, which bytes and bits can stand for."""
    return table.dtype.kind == "b" or (table.dtype.kind == "u" and (not table.size or int(table.max()) <= 1))


def _stacked(columns: Sequence[IntArray], device: torch.device) -> Tensor:
    return torch.from_numpy(np.stack(columns, 1).astype(np.int64)).to(device)
