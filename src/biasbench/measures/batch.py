"""What one step of training sees: rows, and what each of them stands for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """A batch of A attackers.

    Attributes:
        features: [A, U, K] float32 of padded width, or [U, A] int64 classes, which stand for one-hot vectors.
        aims: [A, U, G] the part of the batch that has this row and this group: they add up to 1.
        shares: [A, U, 1] the part of the batch that has this row.
        size: B, the examples.
        frequencies: [A, 1, K] the part of the batch that has each class; None where features are no classes.
    """

    features: Tensor
    aims: Tensor
    shares: Tensor
    size: int
    frequencies: Tensor | None = None


def pieces(rows: Tensor, size: int) -> Sequence[Tensor]:
    """Consecutive pieces of `rows`; a last piece of one row, which BatchNorm cannot take, joins its neighbour.

    Example:
        >>> [len(b) for b in pieces(torch.arange(7), 3)], [len(b) for b in pieces(torch.arange(8), 3)]
        ([3, 4], [3, 3, 2])
    """
    found = list(torch.split(rows, size))
    if len(found) > 1 and len(found[-1]) == 1:
        found[-2:] = [torch.cat(found[-2:])]
    return found


def every_row(features: Tensor, codes: Tensor, groups: int) -> Batch:
    """Each example as a row of its own.

    Args:
        features: [B, A, K] float32.
        codes: [B, A] int64: the protected attribute.
        groups: G.
    """
    b, a = codes.shape
    part = features.new_full((1, 1, 1), 1 / b)
    aims = features.new_zeros(a, b, groups).scatter_(2, codes.t().unsqueeze(2), part.expand(a, b, 1))
    return Batch(features.transpose(0, 1), aims, part.expand(a, b, 1), b)


def distinct_rows(classes: Tensor, codes: Tensor, size: int, width: int, groups: int) -> Iterator[Batch]:
    """An epoch's batches, with examples of one class as one row: 128 images hold some 80 of imSitu's verbs.

    Nothing is lost by it, because an attacker says the same of equal rows of a batch; the statistics
    of its BatchNorm and its gradients are sums in which a row counts as often as it stands there.
    Attackers have as many rows as the one with most of them; the others' last rows have share 0.

    Args:
        classes: [n, A] int64, 0..K-1.
        codes: [n, A] int64: the protected attribute.
        size: Examples of a batch; they are cut as by `pieces`.
        width: K.
        groups: G.

    Example:
        >>> classes, codes = torch.tensor([[4], [1], [4]]), torch.tensor([[0], [0], [1]])
        >>> (batch,) = distinct_rows(classes, codes, size=3, width=6, groups=2)
        >>> batch.features.tolist(), batch.aims[0].mul(3).tolist()
        ([[1], [4]], [[1.0, 0.0], [1.0, 1.0]])
    """
    n, a = classes.shape
    sizes = torch.tensor([len(piece) for piece in pieces(torch.arange(n), size)], device=classes.device)
    p = len(sizes)
    at = torch.arange(p, device=classes.device).repeat_interleave(sizes, output_size=n)  # [n] the batch
    cells = at.unsqueeze(1) * a + torch.arange(a, device=classes.device)  # [n, A]
    cells = (cells * width + classes) * groups + codes
    counts = torch.bincount(cells.view(-1), minlength=p * a * width * groups).view(p, a, width, groups)
    present = counts.sum(3) > 0  # [P, A, K]
    most = present.sum(2).amax(1).tolist()
    found = present.to(torch.uint8).argsort(dim=2, descending=True, stable=True)  # [P, A, K], those present first
    parts = counts / sizes.view(p, 1, 1, 1)
    frequencies = parts.sum(3).unsqueeze(2)
    aims = parts.gather(2, found.unsqueeze(3).expand_as(parts))
    shares = aims.sum(3, keepdim=True)
    of_each = (found.transpose(1, 2), aims, shares, frequencies)
    for u, b, rows, aim, share, frequency in zip(most, sizes.tolist(), *(x.unbind() for x in of_each), strict=True):
        yield Batch(rows[:u].contiguous(), aim[:, :u], share[:, :u], b, frequency)
