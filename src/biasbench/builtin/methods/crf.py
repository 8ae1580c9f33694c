"""A head that predicts the labels together with the protected attribute."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from biasbench import Batch, BuildInfo, Head, Method, UsageError, did_you_mean
from biasbench.builtin.methods._options import named
from biasbench.builtin.methods.crf_fields import Field, JointField, StarField


class Crf(Method):
    """The labels and a protected attribute, predicted jointly by a conditional random field.

    Multi-label data get a star: the attribute in the middle, a potential for every pair of label
    and group. Data with one label per picture get one softmax over all pairs. Training maximises
    the log-likelihood of labels and attribute; where the attribute is unknown, that of the labels,
    summed over the groups. Inference is exact (`crf_fields`).

    No code and no training recipe of the published CRF on Wang et al.'s splits exist; potentials
    follow the released ones of Zhao et al., everything else is the harness's own recipe.

    Args:
        attribute: The protected attribute; `a*b` for an intersection.

    Example:
        >>> Crf("gender").stage
        'train'
    """

    name = "crf"
    source = "Zhao et al., EMNLP 2017, section 4; Wang et al., ICCV 2019, section 4.1, Tables 1 and 3"

    def __init__(self, attribute: str | None = None) -> None:
        super().__init__()
        self.attribute = attribute

    def head(self, info: BuildInfo) -> Head:
        """The head.

        Raises:
            UsageError: For an unknown attribute, or one with fewer than two groups.
        """
        name = named(self.attribute, "crf")
        if name not in info.groups:
            hint = did_you_mean(name, info.groups)
            raise UsageError(f"crf: no protected attribute {name!r}", fix=hint or f"Known: {', '.join(info.groups)}")
        if info.groups[name] < 2:
            raise UsageError(f"crf: {name!r} has {info.groups[name]} group; there is nothing to predict")
        cls = StarHead if info.task == "multilabel" else JointHead
        return cls(info.backbone.channels["embedding"], info.class_weights, name, info.groups[name])


class CrfHead(Head):
    """What both CRF heads share.

    Scores, all raw float32: `"label"` [B, K], exact marginals; one named after the attribute,
    [B, G] log marginals; `"pairwise"` [B, K, G] potentials and, from the star, `"unary"` [B, G],
    from which everything else can be computed again.

    Attributes:
        attribute: The protected attribute.
        groups: G.
        potential_scores: Names of the scores that hold potentials.
        group_score: Name of the attribute's score: what a file name cannot hold becomes a point.
    """

    provides = frozenset({"pairwise"})
    potential_scores: tuple[str, ...]
    class_weights: Tensor

    def __init__(self, channels: int, class_weights: Tensor, attribute: str, groups: int, extra: int) -> None:
        super().__init__()
        self.attribute, self.groups = attribute, groups
        self.group_score = re.sub(r"[^\w-]", ".", attribute)
        if self.group_score in ("label", "pairwise", "unary"):
            raise UsageError(f"crf: an attribute may not be called {attribute!r}; a score has that name")
        self.linear = nn.Linear(channels, len(class_weights) * groups + extra)
        self.register_buffer("class_weights", class_weights.float())

    @abstractmethod
    def field(self, scores: Mapping[str, Tensor]) -> Field:
        """The random field that scores describe."""

    def scores(self, field: Field) -> dict[str, Tensor]:
        """All scores of a field."""
        return {"label": field.label_scores(), self.group_score: field.group_scores(), **field.potentials}

    def _pairs(self, x: Tensor) -> Tensor:
        return x.view(len(x), len(self.class_weights), self.groups)

    def _likelihood(self, joint: Tensor, batch: Batch) -> Tensor:
        """[B] log-likelihood of labels and attribute, or of the labels alone where it is unknown, from [B, G]."""
        group = batch.attributes[self.attribute]
        known = joint.gather(1, group.clamp(min=0)[:, None])[:, 0]
        return torch.where(group >= 0, known, torch.logsumexp(joint, 1))

    def decode(self, scores: Mapping[str, Tensor]) -> Tensor:
        """The labels of the most probable pair of labels and group."""
        return self.field(scores).decode()[0]


class StarHead(CrfHead):
    """The multi-label head.

    Its loss is the negative log-likelihood over K, so that with class weights of 1 and an attribute
    that does not matter it is the plain head's loss plus the attribute's cross-entropy over K. Class
    weights multiply the labels' terms log P(y_k | g, x), as they do in the plain head; the
    attribute's own term weighs 1.

    Args:
        channels: Width D of the embedding.
        class_weights: [K] weight of each label's term.
        attribute: The protected attribute.
        groups: G.

    Example:
        >>> head = StarHead(4, torch.ones(3), "gender", 2)
        >>> {name: tuple(s.shape) for name, s in head(torch.zeros(5, 4)).items()}
        {'label': (5, 3), 'gender': (5, 2), 'unary': (5, 2), 'pairwise': (5, 3, 2)}
    """

    potential_scores = ("unary", "pairwise")

    def __init__(self, channels: int, class_weights: Tensor, attribute: str, groups: int) -> None:
        super().__init__(channels, class_weights, attribute, groups, groups)

    def field(self, scores: Mapping[str, Tensor]) -> StarField:
        return StarField(scores["unary"], scores["pairwise"])

    def forward(self, embedding: Tensor) -> dict[str, Tensor]:
        x = self.linear(embedding).float()  # log-sums need more digits than half precision has
        return self.scores(StarField(x[:, : self.groups], self._pairs(x[:, self.groups :])))

    def loss(self, scores: Mapping[str, Tensor], batch: Batch) -> Tensor:
        assert batch.targets is not None
        joint = self.field(scores).log_joint(batch.targets, self.class_weights)
        return -self._likelihood(joint, batch) / len(self.class_weights)


class JointHead(CrfHead):
    """The head for one label per picture: a softmax over all K G pairs.

    With class weights an example counts as in the plain head: the weight of its class over the
    batch's mean weight.

    Args:
        channels: Width D of the embedding.
        class_weights: [K] weight of each class.
        attribute: The protected attribute.
        groups: G.

    Example:
        >>> head = JointHead(4, torch.ones(3), "gender", 2)
        >>> {name: tuple(s.shape) for name, s in head(torch.zeros(5, 4)).items()}
        {'label': (5, 3), 'gender': (5, 2), 'pairwise': (5, 3, 2)}
    """

    potential_scores = ("pairwise",)

    def __init__(self, channels: int, class_weights: Tensor, attribute: str, groups: int) -> None:
        super().__init__(channels, class_weights, attribute, groups, 0)

    def field(self, scores: Mapping[str, Tensor]) -> JointField:
        return JointField(scores["pairwise"])

    def forward(self, embedding: Tensor) -> dict[str, Tensor]:
        return self.scores(JointField(self._pairs(self.linear(embedding).float())))

    def loss(self, scores: Mapping[str, Tensor], batch: Batch) -> Tensor:
        assert batch.targets is not None
        weight = self.class_weights[batch.targets]  # [B]
        joint = self.field(scores).log_joint(batch.targets)
        return -self._likelihood(joint, batch) * weight / weight.mean()
