"""What a model said, as logits for the attacker and as decoded labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from biasbench.audit.cells import Cells, first, said
from biasbench.data import Task

Kind = Literal["logits", "probabilities"]
NEAREST, FARTHEST = 1e-12, 1e-3
"""Bounds of what stands for a distance of nothing between a probability and 0 or 1."""


def check_scores(cells: Cells, kind: Kind) -> NDArray[Any]:
    """[N, K] scores that are what they are called.

    Returns:
        float32 for logits of at most that precision, else float64.

    Raises:
        DataError: For a score that is not finite, a logit that float32 cannot hold, or a
            probability outside 0..1, naming its row.
    """
    values = cells.numbers()
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    if (bad := ~np.isfinite(values)).any():
        row, value = first(values, bad)
        fix = "An attacker would learn nothing from it and the model would look fair: mend it or drop the example"
        raise cells.error(row, f"holds {said(value)}, which is not finite", fix)
    if (bad := np.abs(values) > np.finfo(np.float32).max).any():
        row, value = first(values, bad)
        raise cells.error(row, f"holds {said(value)}, which float32 cannot hold", "Give logits of a sane size")
    if kind == "probabilities":
        if (bad := (values < 0) | (values > 1)).any():
            row, value = first(values, bad)
            raise cells.error(row, f"holds {said(value)}, outside 0..1", "Call them logits if they are logits")
        return values.astype(np.float64)
    return values.astype(np.float32 if values.dtype.itemsize <= 4 else np.float64)


@dataclass(frozen=True)
class LogScores:
    """Probabilities on the scale of logits.

    Attributes:
        values: [N, K] float64.
        clipped: [N, K] where a probability was 0, 1 or nearer to them than `ends`.
        ends: How near to 0 and to 1 a probability was taken to be at most.
    """

    values: NDArray[np.float64]
    clipped: NDArray[np.bool_]
    ends: tuple[float, float]


def log_scores(probabilities: NDArray[np.float64], task: Task) -> LogScores:
    """What a network's last layer would have said, up to a constant.

    Log-odds log(p / (1 - p)) of several labels, log-probabilities of one label among many. A
    probability of 0 or 1 has been rounded: it is taken to lie half as far from that end as the
    nearest one of the whole array that does not, within 1e-12 and 1e-3. So neither end forms an
    outlier, and what float32 still tells near 0 is kept.

    Args:
        probabilities: [N, K] in 0..1, of all splits.
        task: Several labels, or one.

    Example:
        >>> log_scores(np.array([[0.5, 0.0], [0.2, 0.5]]), "multilabel").values.round(2) + 0.0
        array([[ 0.  , -6.91],
               [-1.39,  0.  ]])
    """
    low = _nearest(probabilities)
    high = _nearest(1 - probabilities) if task == "multilabel" else 0.0
    clipped = np.clip(probabilities, low, 1 - high)
    out = np.log(clipped)
    if task == "multilabel":
        out -= np.log1p(-clipped)
    return LogScores(out, clipped != probabilities, (low, high))


def _nearest(distances: NDArray[np.float64]) -> float:
    """Half the smallest distance above 0, within bounds.

    Example:
        >>> _nearest(np.array([0.0, 1e-4])), _nearest(np.array([0.0, 1.0])), _nearest(np.array([1e-30, 0.5]))
        (5e-05, 0.001, 1e-12)
    """
    smallest = float(distances[distances > 0].min(initial=1.0))
    return min(max(smallest / 2, NEAREST), FARTHEST)


def decode(scores: NDArray[Any], kind: Kind, task: Task) -> NDArray[Any]:
    """Labels: 1 where a label is at least as likely as not, or the likeliest class (the first of equals).

    Args:
        scores: [N, K] logits or probabilities.
        kind: Which of them.
        task: Several labels, or one.

    Returns:
        [N, K] uint8 or [N] int64.

    Example:
        >>> decode(np.array([[0.0, -0.1]]), "logits", "multilabel")
        array([[1, 0]], dtype=uint8)
    """
    if task == "multiclass":
        classes: NDArray[np.int64] = scores.argmax(1)
        return classes
    return (scores >= (0.0 if kind == "logits" else 0.5)).astype(np.uint8)


def doubts(scores: NDArray[Any], kind: Kind, task: Task) -> list[str]:
    """What looks odd in scores that are allowed.

    Example:
        >>> doubts(np.array([[0.2, 0.7]]), "logits", "multilabel")
        ['all logits lie in 0..1: call them scores if they are probabilities']
    """
    found = []
    if kind == "logits" and scores.min() >= 0 and scores.max() <= 1:
        found.append("all logits lie in 0..1: call them scores if they are probabilities")
    if kind == "probabilities" and task == "multiclass":
        off = int((np.abs(scores.sum(1) - 1) > 0.01).sum())
        if off:
            found.append(f"the scores of {off} of {len(scores)} examples do not sum to 1")
    return found
