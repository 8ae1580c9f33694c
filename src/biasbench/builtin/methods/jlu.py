"""Joint learning and unlearning: a representation that serves the task and confuses every spurious attribute."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from biasbench import Activations, Batch, BuildInfo, Method, Phase, UsageError, did_you_mean
from biasbench.builtin.methods._hits import hits
from biasbench.builtin.methods._options import named

OWN = "train"
_FADE = 0.95  # of the running scores behind `dynamic`


@dataclass(frozen=True)
class Spurious:
    """A spurious attribute and where its labels come from.

    Attributes:
        data: The secondary data set as the user wrote it, or `"train"` for the task's own rows.
        attribute: Its name there; None = that data set's primary one.
    """

    data: str
    attribute: str | None


class JointUnlearning(Method):
    """One classifier for each spurious attribute; the representation learns the task and to confuse them all.

    In turns, as in Algorithm 1: the attributes' classifiers are trained on the representation as it is,
    which stands still (Eq. 1 and 5); then one step moves the representation and the task's head on
    L_p + `weight` x the mean confusion loss (Eq. 3 and 4), through which the classifiers do not move.

    * What the paper leaves open: a turn of the classifiers ends as soon as the gradient of their loss is
      shorter than `until`, after `steps` steps at most; before the first turn they take `warmup` steps.
    * The confusion loss is Eq. 2, the cross-entropy with the uniform distribution. Section 5.5 words it as
      a divergence between the softmax output and the uniform distribution, which has another gradient:
      `form="kl"`.
    * Labels may come from the task's own rows or from other data sets (`data`); confusion is computed on
      the same images as the classifier's loss. Rows whose attribute is unknown train no classifier, but
      are to be confusing too.
    * Running statistics of the backbone's norm layers never move in a classifier's step, nor on the
      images of another data set.

    Args:
        attributes: Spurious attributes that the task's own rows are labelled with; none here and none in
            `data` stands for `attribute`.
        data: Other data sets, each with its primary attribute or the one behind a colon:
            `('laofiw', 'imdb:age')`.
        attribute: The data set's primary attribute, filled in by the harness.
        at: The representation to be unlearnt from; any tap but `image`. Maps are averaged over their area.
        weight: Alpha, of the mean confusion loss; 0.1 as published.
        beta: Weight of every classifier's loss, or one for each, own attributes first; 1 as published.
        form: `"ce"`, or `"kl"` for KL(softmax || uniform).
        steps: Steps of the classifiers per step of the task, at most (ours).
        until: Length of the gradient at which a turn of theirs ends (ours).
        warmup: Steps of the classifiers before the task starts (ours).
        lr: Their learning rate, relative to the stage's; 10 as published.
        weighted: Weight their losses by the inverse frequency of the groups, as published.
        dynamic: Weight the attributes' confusion by how much of each is still known: the running score of
            Eq. 6, floored at a tenth. The paper names such a scheme as future work.

    Example:
        >>> JointUnlearning(attributes=("age", "pose")).taps
        ('embedding',)
    """

    name = "jlu"
    source = "Alvi, Zisserman and Nellåker 2018, section 4, Algorithm 1"
    known: Tensor

    def __init__(
        self,
        attributes: tuple[str, ...] = (),
        data: tuple[str, ...] = (),
        attribute: str | None = None,
        at: str = "embedding",
        weight: float = 0.1,
        beta: float | tuple[float, ...] = 1.0,
        form: Literal["ce", "kl"] = "ce",
        steps: int = 10,
        until: float = 0.05,
        warmup: int = 100,
        lr: float = 10.0,
        weighted: bool = True,
        dynamic: bool = False,
    ) -> None:
        super().__init__()
        for option, count, least in (("steps", steps, 1), ("warmup", warmup, 0)):
            if count < least:
                raise UsageError(f"jlu: {option} must be at least {least}, not {count}")
        for option, value in (("weight", weight), ("until", until), ("lr", lr)):
            if not (math.isfinite(value) and value >= 0) or (option == "lr" and value == 0):
                raise UsageError(f"jlu: {option} must be {'above' if option == 'lr' else 'at least'} 0, not {value}")
        if at == "image":
            raise UsageError("jlu: pixels are no representation that learns", fix="Use a tap such as embedding")
        if not attributes and not data:
            attributes = (named(attribute, self.name),)
        self.spurious = [*(Spurious(OWN, name) for name in attributes), *map(_elsewhere, data)]
        twice = {s for s in self.spurious if self.spurious.count(s) > 1}
        if twice:
            raise UsageError(f"jlu: {', '.join(sorted(str(s.attribute or s.data) for s in twice))} is named twice")
        betas = (beta,) * len(self.spurious) if isinstance(beta, (int, float)) else beta
        if len(betas) != len(self.spurious) or not all(math.isfinite(b) and b > 0 for b in betas):
            raise UsageError(f"jlu: beta must be above 0, one or {len(self.spurious)} of them, not {beta}")
        self.at, self.strength, self.betas, self.form = at, weight, betas, form
        self.steps, self.until, self.warmup, self.lr = steps, until, warmup, lr
        self.weighted, self.dynamic = weighted, dynamic
        self.taps = (at,)
        self.data = tuple(dict.fromkeys(s.data for s in self.spurious if s.data != OWN))
        self.requires = frozenset(
            f"attribute:{s.attribute}" if s.data == OWN else f"{s.data}/attribute:{s.attribute}"
            for s in self.spurious
            if s.attribute is not None
        )

    def build(self, info: BuildInfo) -> None:
        """Create one classifier an attribute.

        Raises:
            UsageError: For an unknown tap or attribute.
        """
        info.backbone.check_tap(self.at)
        width = info.tap_shape(self.at)[0]
        self.classifiers = nn.ModuleList()
        self.names: list[str] = []  # of the attribute, in each data set's own batches
        for i, spurious in enumerate(self.spurious):
            counts = info.counts if spurious.data == OWN else info.secondary[spurious.data]
            name = spurious.attribute or next(iter(counts))
            if name not in counts:
                hint = did_you_mean(name, counts) or f"Known: {', '.join(counts)}"
                place = "" if spurious.data == OWN else f" in {spurious.data}"
                raise UsageError(f"jlu: no protected attribute {name!r}{place}", fix=hint)
            self.names.append(name)
            self.classifiers.append(nn.Linear(width, len(counts[name])))
            self.register_buffer(f"class_weights_{i}", _inverse(counts[name], self.weighted))
        self.register_buffer("known", torch.ones(len(self.spurious)))

    # -- the two turns ---------------------------------------------------------------------
    def phases(self) -> Sequence[Phase]:
        """The classifiers' turn, and confusion on other data sets' images, which joins the task's."""
        found = []
        for data in dict.fromkeys(s.data for s in self.spurious):
            mine = [i for i, s in enumerate(self.spurious) if s.data == data]
            found.append(
                Phase(
                    f"classifiers-{data}",
                    params=[p for i in mine for p in self.classifiers[i].parameters()],
                    loss=lambda out, batch, mine=mine: self.classify(mine, out, batch),  # type: ignore[misc]
                    data=data,
                    before=self.warmup,
                    repeat=self.steps,
                    until=self.until,
                    lr=self.lr,
                )
            )
            if data != OWN:
                found.append(
                    Phase(
                        f"confusion-{data}",
                        params=(),
                        loss=lambda out, batch, mine=mine: self.confuse(mine, out),  # type: ignore[misc]  # noqa: ARG005
                        data=data,
                        joint=True,
                    )
                )
        return found

    def loss(self, out: Activations, batch: Batch) -> Mapping[str, Tensor]:
        """The confusion of the attributes that the task's own rows are labelled with."""
        mine = [i for i, s in enumerate(self.spurious) if s.data == OWN]
        return {"confusion": self.confuse(mine, out)} if mine else {}

    def classify(self, mine: Sequence[int], out: Activations, batch: Batch) -> Tensor:
        """Eq. 5 over some attributes: the weighted cross-entropy on the rows whose attribute is known."""
        x = pooled(out.taps[self.at]).detach()
        total = x.new_zeros(())
        for i in mine:
            groups = batch.attributes[self.names[i]]
            known = groups >= 0
            logits = self.classifiers[i](x[known])
            if len(logits) == 0:
                total = total + logits.sum() * 0.0
                continue
            self._note(i, logits, groups[known])
            weight = getattr(self, f"class_weights_{i}").to(logits.dtype)
            total = total + self.betas[i] * cross_entropy(logits, groups[known], weight)
        return total

    def confuse(self, mine: Sequence[int], out: Activations) -> Tensor:
        """`weight` / M x Eq. 2 over some of the M attributes, with a gradient into the representation only."""
        x = pooled(out.taps[self.at])
        share = self.shares()
        total = x.new_zeros(())
        for i in mine:
            layer = self.classifiers[i]
            assert isinstance(layer, nn.Linear)
            logits = linear(x, layer.weight.detach(), layer.bias.detach())
            total = total + share[i] * confusion(logits, self.form)
        return self.strength * total

    def shares(self) -> Tensor:
        """[M] each attribute's part of the confusion; they add up to 1."""
        if not self.dynamic:
            return torch.full_like(self.known, 1 / len(self.known))
        known = self.known.clamp(min=0.1)
        return known / known.sum()

    def _note(self, i: int, logits: Tensor, groups: Tensor) -> None:
        """Follow how much classifier i knows: Eq. 6, with the mean class error of the batches."""
        if self.training:
            right = (logits.detach().argmax(1) == groups).float()
            recall = torch.stack([right[groups == g].mean() for g in range(logits.shape[1]) if (groups == g).any()])
            chance = 1 / logits.shape[1]
            self.known[i].lerp_((recall.mean() - chance) / (1 - chance), 1 - _FADE)

    def diagnose(self, out: Activations, batch: Batch) -> Mapping[str, Tensor]:
        """What each classifier knows: its class-mean accuracy, or its score in training for another data set's.

        The task's validation rows have no labels of another data set; its classifier's running score of Eq. 6 over the
        batches it was trained on is all there is.
        """
        x, found = pooled(out.taps[self.at]), {}
        for i, spurious in enumerate(self.spurious):
            if spurious.data == OWN:
                found[f"accuracy {self.names[i]}"] = hits(self.classifiers[i](x), batch.attributes[self.names[i]])
            else:
                found[f"training score {spurious.data}:{self.names[i]}"] = self.known[i].expand(len(x))
        return found


def confusion(logits: Tensor, form: Literal["ce", "kl"] = "ce") -> Tensor:
    """How far predictions are from saying nothing.

    Args:
        logits: [B, G].
        form: `"ce"`: -(1/G) sum log p, least at log G (Eq. 2); `"kl"`: sum p log p + log G, least at 0.

    Example:
        >>> round(float(confusion(torch.zeros(1, 4))), 4), float(confusion(torch.zeros(1, 4), "kl"))
        (1.3863, 0.0)
    """
    told = logits.log_softmax(1)
    if form == "ce":
        return -told.mean()
    return (told.exp() * told).sum(1).mean() + math.log(logits.shape[1])


def pooled(x: Tensor) -> Tensor:
    """[B, C] of an embedding [B, C] or a map [B, C, H, W].

    Example:
        >>> pooled(torch.ones(2, 3, 4, 4)).shape
        torch.Size([2, 3])
    """
    return x.mean((2, 3)) if x.ndim == 4 else x


def _elsewhere(text: str) -> Spurious:
    """`imdb:age` or `laofiw`; options of the data set may hold colons of their own."""
    data, colon, name = text.rpartition(":")
    return Spurious(data, name) if colon and ")" not in name else Spurious(text, None)


def _inverse(counts: Sequence[int], weighted: bool) -> Tensor:
    """[G] inverse relative frequencies, of mean 1 over the groups that have rows; a group without any weighs 0."""
    n = torch.tensor(counts, dtype=torch.float32)
    if not weighted:
        return torch.ones(len(n))
    inverse = torch.where(n > 0, 1 / n.clamp(min=1), 0)
    return inverse / inverse[n > 0].mean()
