"""Heads: what turns an embedding into scores, a loss and decoded labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from biasbench.data import Batch, Task
from biasbench.errors import CellError


class Head(nn.Module, ABC):
    """The output structure of a model.

    Attributes:
        provides: What later methods may require of this head, such as `"pairwise"`.
        example_weight: Whether `loss` already divides by the class weights of the batch.
    """

    provides: frozenset[str] = frozenset()

    @abstractmethod
    def forward(self, embedding: Tensor) -> dict[str, Tensor]:
        """Scores by name from an embedding [B, D]; `"label"` is [B, K] raw logits."""

    @abstractmethod
    def loss(self, scores: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """[B] task loss of each example; the engine takes the weighted mean."""

    @abstractmethod
    def decode(self, scores: Mapping[str, Tensor]) -> Tensor:
        """Labels: [N, K] uint8 (multi-label) or [N] int64 (multi-class)."""


class _LinearHead(Head):
    """One linear layer from the embedding to K logits, and the weight of each label's loss."""

    class_weights: Tensor

    def __init__(self, channels: int, class_weights: Tensor) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, len(class_weights))
        self.register_buffer("class_weights", class_weights.float())

    def forward(self, embedding: Tensor) -> dict[str, Tensor]:
        return {"label": self.linear(embedding)}


class MultiLabelHead(_LinearHead):
    """One logistic unit per label, decoded at probability 0.5 (Wang et al. 2019, section 5).

    Args:
        channels: Width D of the embedding.
        class_weights: [K] weight of each label's term, for positives and negatives alike
            (the released code's `weight`), or None for 1.

    Example:
        >>> MultiLabelHead(4, torch.ones(3))(torch.zeros(2, 4))["label"].shape
        torch.Size([2, 3])
    """

    def loss(self, scores: Mapping[str, Tensor], batch: Batch) -> Tensor:
        assert batch.targets is not None
        terms = functional.binary_cross_entropy_with_logits(
            scores["label"], batch.targets, weight=self.class_weights, reduction="none"
        )
        return terms.mean(1)

    def decode(self, scores: Mapping[str, Tensor]) -> Tensor:
        return (scores["label"] >= 0).to(torch.uint8)


class MultiClassHead(_LinearHead):
    """Softmax over K classes, decoded by argmax.

    With class weights the batch mean equals PyTorch's weighted mean, which divides by the
    summed weights of the batch.

    Example:
        >>> MultiClassHead(4, torch.ones(3)).decode({"label": torch.eye(3)})
        tensor([0, 1, 2])
    """

    def loss(self, scores: Mapping[str, Tensor], batch: Batch) -> Tensor:
        assert batch.targets is not None
        weight = self.class_weights[batch.targets]  # [B]
        losses = functional.cross_entropy(scores["label"], batch.targets, reduction="none")
        return losses * weight / weight.mean()

    def decode(self, scores: Mapping[str, Tensor]) -> Tensor:
        return scores["label"].argmax(1)


def default_head(task: Task, channels: int, class_weights: Tensor) -> Head:
    """The plain head of a task."""
    return (MultiLabelHead if task == "multilabel" else MultiClassHead)(channels, class_weights)


def class_weights(targets: Tensor, task: Task, num_labels: int) -> Tensor:
    """[K] #negatives / #positives of each label on the training rows, as in the released code.

    A label without a positive has no finite weight there (the loss blows up, see
    docs/decisions.md); here it weighs as much as the rarest label that has one.

    Args:
        targets: [N, K] in {0, 1} or [N] int64.
        task: Multi-label or multi-class.
        num_labels: K.

    Raises:
        CellError: When no label has a positive.

    Example:
        >>> class_weights(torch.tensor([[1.0, 0], [0, 0], [0, 1], [0, 1]]), "multilabel", 2)
        tensor([3., 1.])
    """
    hot = targets.float() if task == "multilabel" else functional.one_hot(targets, num_labels).float()
    positives = hot.sum(0)  # [K]
    if not (positives > 0).any():
        raise CellError("no training row carries any label")
    weights = (len(hot) - positives) / positives.clamp(min=1)
    rarest = weights[positives > 0].max()
    # A label present in every row would weigh 0 and never be learnt against.
    return torch.where(positives > 0, weights, rarest).clamp(min=1 / max(1, len(hot)))
