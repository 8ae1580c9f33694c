"""What one step of training sees: rows, and what each of them stands for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """A batch of A attackers.

    Attributes:
        features: [U, A, K] float32 of padded width, or [U, A] int64 classes, which stand for one-hot vectors.
        aims: [U, A, G] the part of the batch that has this row and this group: they add up to 1.
        shares: [U, A, 1] the part of the batch that has this row.
        rows: Rows of each attacker, U at most; what stands behind them is to be left out.
        size: B, the examples.
    """

    features: Tensor
    aims: Tensor
    shares: Tensor
    rows: tuple[int, ...]
    size: int


def every_row(features: Tensor, codes: Tensor, groups: int) -> Batch:
    """Each example as a row of its own.

    Args:
        features: [B, A, K] float32.
        codes: [B, A] int64: the protected attribute.
        groups: G.
    """
    b, a = codes.shape
    part = features.new_full((1, 1, 1), 1 / b)
    aims = features.new_zeros(b, a, groups).scatter_(2, codes.unsqueeze(2), part.expand(b, a, 1))
    return Batch(features, aims, part.expand(b, a, 1), (b,) * a, b)


def distinct_rows(classes: Tensor, codes: Tensor, width: int, groups: int) -> Batch:
    """Examples of one class as one row: 128 images hold some 80 of imSitu's verbs.

    Nothing is lost by it, because an attacker says the same of equal rows of a batch; the statistics
    of its BatchNorm and its gradients are sums in which a row counts as often as it stands there.

    Args:
        classes: [B, A] int64, 0..K-1.
        codes: [B, A] int64: the protected attribute.
        width: K.
        groups: G.

    Example:
        >>> batch = distinct_rows(torch.tensor([[4], [1], [4]]), torch.tensor([[0], [0], [1]]), width=6, groups=2)
        >>> batch.features.tolist(), batch.aims[:, 0].mul(3).tolist()
        ([[1], [4]], [[1.0, 0.0], [1.0, 1.0]])
    """
    b, a = codes.shape
    cells = (torch.arange(a, device=classes.device) * width + classes) * groups + codes
    counts = torch.bincount(cells.view(-1), minlength=a * width * groups).view(a, width, groups)
    present = counts.sum(2) > 0
    rows = present.sum(1)  # [A]
    most = int(rows.max())
    found = present.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]  # [A, U], ascending
    aims = counts.gather(1, found.unsqueeze(2).expand(a, most, groups)) / b  # [A, U, G], an attacker's side by side
    shares = aims.sum(2, keepdim=True)
    count = tuple(rows.tolist()) if classes.device.type == "cpu" else (most,) * a
    return Batch(found.t().contiguous(), aims.transpose(0, 1), shares.transpose(0, 1), count, b)
