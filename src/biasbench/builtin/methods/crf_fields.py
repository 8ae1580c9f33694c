"""Exact inference in the two random fields of the CRF heads.

Both join the labels of a picture with one group g of a protected attribute. The potential of
label k in group g is linear in the embedding, as in Zhao et al. 2017 (section 4): their released
COCO potentials give each picture a score for each gender and, for each gender and object, one
score for present and one for absent. Only the difference of those two matters, `pairwise` here;
what the absent scores add up to goes into the group's own potential, `unary`. A separate score
of the label alone would be redundant.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional


class Field(ABC):
    """One batch of pictures' potentials, and what follows from them.

    Attributes:
        pairwise: [B, K, G] potential of each label in each group.
    """

    pairwise: Tensor

    @abstractmethod
    def label_scores(self) -> Tensor:
        """[B, K] exact marginals of the labels, as scores."""

    @abstractmethod
    def group_scores(self) -> Tensor:
        """[B, G] exact log marginals of the groups."""

    @property
    @abstractmethod
    def potentials(self) -> dict[str, Tensor]:
        """What the field is made of, by the name of its score."""

    @abstractmethod
    def decode(self) -> tuple[Tensor, Tensor, Tensor]:
        """The most probable labels and group: labels as `Head.decode` has them, [B] groups, [B] their potential."""

    @abstractmethod
    def counts(self, labels: Tensor, groups: Tensor) -> Tensor:
        """[K, G] pictures that carry each label in each group, of decoded labels and groups."""

    @abstractmethod
    def lowered(self, by: Tensor) -> Field:
        """The field with `by`, [K, G], taken off every picture's `pairwise`."""


class StarField(Field):
    """Several labels per picture: P(y, g | x) ~ exp(unary_g + sum_k y_k pairwise_kg).

    Given the group, labels are independent, so that sums and maxima over all 2^K G states are exact
    and cost K G steps.

    Args:
        unary: [B, G].
        pairwise: [B, K, G].

    Example:
        >>> field = StarField(torch.zeros(1, 2), torch.tensor([[[3.0, -1.0]]]))
        >>> [part.tolist() for part in field.decode()]
        [[[1]], [0], [3.0]]
    """

    def __init__(self, unary: Tensor, pairwise: Tensor) -> None:
        self.unary, self.pairwise = unary, pairwise

    @property
    def potentials(self) -> dict[str, Tensor]:
        return {"unary": self.unary, "pairwise": self.pairwise}

    def group_scores(self) -> Tensor:
        return functional.log_softmax(self.unary + functional.softplus(self.pairwise).sum(1), 1)

    def label_scores(self) -> Tensor:
        """[B, K] log-odds log P(y_k = 1) - log P(y_k = 0)."""
        group = self.group_scores()[:, None]  # [B, 1, G]
        present = torch.logsumexp(group + functional.logsigmoid(self.pairwise), 2)
        return present - torch.logsumexp(group + functional.logsigmoid(-self.pairwise), 2)

    def log_joint(self, targets: Tensor, weights: Tensor) -> Tensor:
        """[B, G] log P(targets, g) of every group g, for targets [B, K] in {0, 1}.

        `weights`, [K], multiply log P(y_k | g); with 1 the log-likelihood is exact.
        """
        sign = (2 * targets - 1)[:, :, None]  # log P(y_k | g) = logsigmoid(+-pairwise)
        given = functional.logsigmoid(sign * self.pairwise) * weights[:, None]
        return self.group_scores() + given.sum(1)

    def decode(self) -> tuple[Tensor, Tensor, Tensor]:
        value, groups = (self.unary + functional.relu(self.pairwise).sum(1)).max(1)
        chosen = self.pairwise.gather(2, groups[:, None, None].expand(-1, self.pairwise.shape[1], 1))
        return (chosen[:, :, 0] >= 0).to(torch.uint8), groups, value

    def counts(self, labels: Tensor, groups: Tensor) -> Tensor:
        return labels.T.double() @ functional.one_hot(groups, self.unary.shape[1]).double()

    def lowered(self, by: Tensor) -> StarField:
        return StarField(self.unary, self.pairwise - by)


class JointField(Field):
    """One label per picture: a softmax over all pairs of label and group.

    Args:
        pairwise: [B, K, G].

    Example:
        >>> field = JointField(torch.tensor([[[0.0, 1.0], [2.0, 0.0]]]))
        >>> [part.tolist() for part in field.decode()]
        [[1], [0], [2.0]]
    """

    def __init__(self, pairwise: Tensor) -> None:
        self.pairwise = pairwise

    @property
    def potentials(self) -> dict[str, Tensor]:
        return {"pairwise": self.pairwise}

    def _log_p(self) -> Tensor:
        return functional.log_softmax(self.pairwise.flatten(1), 1).view_as(self.pairwise)

    def group_scores(self) -> Tensor:
        return torch.logsumexp(self._log_p(), 1)

    def label_scores(self) -> Tensor:
        """[B, K] log P(y = k)."""
        return torch.logsumexp(self._log_p(), 2)

    def log_joint(self, targets: Tensor) -> Tensor:
        """[B, G] log P(targets, g) of every group g, for targets [B]."""
        return self._log_p()[torch.arange(len(targets), device=targets.device), targets]

    def decode(self) -> tuple[Tensor, Tensor, Tensor]:
        value, state = self.pairwise.flatten(1).max(1)
        groups = self.pairwise.shape[2]
        return state // groups, state % groups, value

    def counts(self, labels: Tensor, groups: Tensor) -> Tensor:
        k, g = self.pairwise.shape[1:]
        return torch.bincount(labels * g + groups, minlength=k * g).view(k, g).double()

    def lowered(self, by: Tensor) -> JointField:
        return JointField(self.pairwise - by)
