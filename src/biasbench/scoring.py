"""Macro F1 and mean average precision, as the papers compute them with scikit-learn.

Plain numpy, fast enough to be called every epoch, and tested equal to scikit-learn. The
convention for a class without a positive example is the papers': it counts 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench.data import Task
from biasbench.errors import CellError


def one_hot(labels: NDArray[Any], num_labels: int) -> NDArray[np.uint8]:
    """[N, K] uint8 from [N] classes; [N, K] labels are returned as they are.

    Example:
        >>> one_hot(np.array([1, 0]), 2)
        array([[0, 1],
               [1, 0]], dtype=uint8)
    """
    if labels.ndim == 2:
        return labels.astype(np.uint8, copy=False)
    hot = np.zeros((len(labels), num_labels), np.uint8)
    hot[np.arange(len(labels)), labels] = 1
    return hot


def macro_f1(labels: NDArray[Any], targets: NDArray[Any], task: Task, num_labels: int) -> float:
    """Unweighted mean over all K classes of F1 = 2 TP / (2 TP + FP + FN).

    Equals `sklearn.metrics.f1_score(average="macro", labels=range(K), zero_division=0)`:
    a class that is neither present nor predicted counts 0.

    Args:
        labels: Decoded labels: [N, K] in {0, 1} (multi-label) or [N] classes.
        targets: Truth, of the same shape.
        task: Multi-label or multi-class.
        num_labels: K.

    Returns:
        In 0..1; NaN without examples or classes.

    Example:
        >>> macro_f1(np.array([0, 0, 1]), np.array([0, 1, 1]), "multiclass", 2)
        0.6666666666666666
    """
    if labels.shape != targets.shape:
        raise CellError(f"labels of shape {labels.shape} do not fit targets of shape {targets.shape}")
    if len(targets) == 0 or num_labels == 0:
        return float("nan")
    if task == "multilabel":
        said, true = labels.astype(bool), targets.astype(bool)
        hits, total = (said & true).sum(0), said.sum(0) + true.sum(0)  # [K]
    else:
        hits = np.bincount(targets[labels == targets], minlength=num_labels)
        total = np.bincount(labels, minlength=num_labels) + np.bincount(targets, minlength=num_labels)
    return float((2 * hits / np.maximum(total, 1)).mean())


def mean_average_precision(scores: NDArray[Any], targets: NDArray[Any], task: Task) -> float:
    """Unweighted mean over all K classes of average precision, the area under steps.

    Equals `sklearn.metrics.average_precision_score(average="macro")` on sigmoid (multi-label)
    or softmax (multi-class) probabilities, ties included. The ranking is made from the
    logits themselves (multi-label) and from float64 log-probabilities (multi-class):
    monotone in the probabilities, without the ties that their saturation in float32 adds.
    A class without a positive counts 0.

    Args:
        scores: [N, K] raw logits.
        targets: [N, K] in {0, 1} (multi-label) or [N] classes.
        task: Multi-label or multi-class.

    Returns:
        In 0..1; NaN without examples or classes.

    Raises:
        CellError: When a score is not finite, or shapes disagree.

    Example:
        >>> mean_average_precision(np.array([[2.0], [1.0], [0.0]]), np.array([[1], [0], [1]]), "multilabel")
        0.8333333333333333
    """
    ranks = ranking_scores(scores, targets, task)
    if scores.size == 0:
        return float("nan")
    true = np.ascontiguousarray(one_hot(targets, scores.shape[1]).T)  # [K, N]
    return float(average_precision(np.ascontiguousarray(ranks.T), true).mean())


def ranking_scores(scores: NDArray[Any], targets: NDArray[Any], task: Task) -> NDArray[Any]:
    """[N, K] what each class's examples are ranked by: the logits, or their log-probabilities (multi-class).

    Raises:
        CellError: When a score is not finite, or shapes disagree.

    Example:
        >>> ranking_scores(np.array([[0.0, 0.0]]), np.array([1]), "multiclass").round(3)
        array([[-0.693, -0.693]])
    """
    if scores.ndim != 2 or targets.shape != (scores.shape if task == "multilabel" else scores.shape[:1]):
        raise CellError(f"scores of shape {scores.shape} do not fit targets of shape {targets.shape}")
    if not np.isfinite(scores).all():
        raise CellError("a score is not finite")
    return _log_softmax(scores) if task == "multiclass" and scores.size else scores


def average_precision(scores: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
    """[K] average precision of each row of [K, N] scores against [K, N] targets in {0, 1}.

    Examples of equal score share one threshold: each positive counts the precision at the
    end of its tie. A row without a positive gives 0.

    Example:
        >>> average_precision(np.array([[1.0, 1.0, 0.0]]), np.array([[1, 0, 0]]))
        array([0.5])
    """
    n = scores.shape[1]
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = np.take_along_axis(scores, order, 1)
    true = np.take_along_axis(targets, order, 1).astype(np.int64)
    precision = true.cumsum(1) / np.arange(1, n + 1)
    ends = np.full(scores.shape, n - 1)  # where the tie of each rank ends
    ends[:, :-1] = np.where(ranked[:, :-1] != ranked[:, 1:], np.arange(n - 1), n - 1)
    ends = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    gained = (true * np.take_along_axis(precision, ends, 1)).sum(1)
    out: NDArray[np.float64] = gained / np.maximum(true.sum(1), 1)
    return out


def _log_softmax(scores: NDArray[Any]) -> NDArray[np.float64]:
    shifted = scores.astype(np.float64) - scores.max(1, keepdims=True)
    out: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return out
