"""Adversarial removal of a protected attribute from an intermediate representation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from biasbench import Activations, Batch, BuildInfo, Method, Phase, UsageError, did_you_mean
from biasbench.builtin.methods._options import named


class Adversary(Method):
    """An adversary reads the protected attribute off a tap; the model learns to leave it no trace.

    The adversary flattens the activation and has four linear layers, the first three
    followed by batch norm and LeakyReLU(0.01), as in every published command.

    Two ways to play:

    * `"alternate"`: the adversary takes `repeat` steps of its own per task step, and the
      task's loss gains -`weight` x the adversary's cross-entropy, through which the
      adversary itself does not move. That term has no lower bound in theory; in practice
      the batch norm before the last layer, which uses the batch's own statistics here,
      bounds the adversary's logits and so the term. A run that diverges all the same has
      too large a `weight` or too fast a backbone: the symptom is an adversary accuracy
      below chance.
    * `"reversal"` (the released code): one step moves everything on task loss + adversary
      cross-entropy, with the gradient into the backbone multiplied by -`weight`. `repeat`
      and, after the warm-up, `lr` have no say.

    Examples whose attribute is unknown leave the adversary's terms and stay in the task's.
    Running batch-norm statistics of the adversary come from its own steps alone (with
    `"reversal"`: the joint ones), never from the confusion term.

    Args:
        at: The tap; any but `image`.
        attribute: The protected attribute; `a*b` for an intersection.
        weight: Strength of the pull away from the attribute (the paper's lambda; 2 is the
            released value for COCO).
        update: `"alternate"` or `"reversal"`.
        warmup: Steps of the adversary alone before the task starts.
        repeat: Adversary steps per task step.
        lr: Learning rate of the adversary's own steps, absolute.
        width: Units of each hidden layer.
        conv: Put a fresh copy of the layers that follow the tap in front, in place of the
            flattening. For ResNet-50 at conv4 these are the three convolutional blocks of
            the paper's conv4 adversary.
        balance: Draw the adversary's own batches with equal shares of every group.
        task_stream: `"balanced"` draws the task's batches that way too, as released.

    Example:
        >>> Adversary(at="conv4", attribute="gender").taps
        ('conv4',)
    """

    name = "adv"
    source = "Wang et al., ICCV 2019, sections 5.2 and 6"
    starts_from_init = True
    adversary: nn.Sequential

    def __init__(
        self,
        at: str = "conv5",
        attribute: str | None = None,
        weight: float = 2.0,
        update: Literal["alternate", "reversal"] = "alternate",
        warmup: int = 60,
        repeat: int = 2,
        lr: float = 1e-3,
        width: int = 300,
        conv: bool = False,
        balance: bool = True,
        task_stream: Literal["natural", "balanced"] = "natural",
    ) -> None:
        super().__init__()
        if at == "image":
            raise UsageError("adv: an adversary at 'image' has nothing to change there", fix="Use a tap such as conv5")
        for option, value, least in (("warmup", warmup, 0), ("repeat", repeat, 1), ("width", width, 1)):
            if value < least:
                raise UsageError(f"adv: {option} must be at least {least}, not {value}")
        if not (math.isfinite(weight) and weight >= 0 and math.isfinite(lr) and lr > 0):
            raise UsageError(f"adv: weight must be at least 0 and lr above 0, not {weight} and {lr}")
        self.at, self.attribute, self.strength, self.update = at, attribute, weight, update
        self.warmup, self.repeat, self.lr, self.width, self.conv = warmup, repeat, lr, width, conv
        self.balance, self.task_stream = balance, task_stream
        self.taps = self.moves = (at,)

    def build(self, info: BuildInfo) -> None:
        """Create the adversary.

        Raises:
            UsageError: For an unknown tap or attribute.
        """
        name = named(self.attribute, "adv")
        if name not in info.groups:
            hint = did_you_mean(name, info.groups)
            raise UsageError(f"adv: no protected attribute {name!r}", fix=hint or f"Known: {', '.join(info.groups)}")
        info.backbone.check_tap(self.at)
        if self.conv:
            front: nn.Module = info.backbone.tail(self.at).requires_grad_(True)
            size = info.backbone.channels["embedding"]
        else:
            front, size = nn.Flatten(), math.prod(info.tap_shape(self.at))
        layers = [front]
        for _ in range(3):
            layers += [nn.Linear(size, self.width), nn.BatchNorm1d(self.width), nn.LeakyReLU(0.01)]
            size = self.width
        self.adversary = nn.Sequential(*layers, nn.Linear(size, info.groups[name]))

    def balance_by(self) -> str | None:
        return named(self.attribute, "adv") if self.task_stream == "balanced" else None

    def phases(self) -> Sequence[Phase]:
        own = Phase(
            "adversary",
            params=list(self.adversary.parameters()),
            loss=lambda out, batch: self._learn(out.taps[self.at].detach(), batch),
            balance=named(self.attribute, "adv") if self.balance else None,
            before=self.warmup,
            repeat=self.repeat if self.update == "alternate" else 0,
            lr=self.lr,
            absolute_lr=True,
        )
        return [own]

    def loss(self, out: Activations, batch: Batch) -> Mapping[str, Tensor]:
        x = out.taps[self.at]
        if self.update == "reversal":
            return {"adversary": self._learn(reverse_gradient(x, self.strength), batch)}
        x, groups = self._known(x, batch)
        if not self._enough(groups):
            return {"confusion": x.sum() * 0.0}
        return {"confusion": -self.strength * cross_entropy(self._held(x), groups)}

    def diagnose(self, out: Activations, batch: Batch) -> Mapping[str, Tensor]:
        """`accuracy`: whether the adversary is right, [B], NaN where the attribute is unknown."""
        groups = batch.attributes[named(self.attribute, "adv")]
        hits = (self.adversary(out.taps[self.at]).argmax(1) == groups).float()
        return {"accuracy": hits.masked_fill(groups < 0, math.nan)}

    def _known(self, x: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        groups = batch.attributes[named(self.attribute, "adv")]  # [B]
        known = groups >= 0
        return x[known], groups[known]

    def _enough(self, groups: Tensor) -> bool:
        return len(groups) >= (2 if self.training else 1)  # batch norm has no variance of one example

    def _learn(self, x: Tensor, batch: Batch) -> Tensor:
        x, groups = self._known(x, batch)
        if not self._enough(groups):
            return torch.stack([p.sum() for p in self.adversary.parameters()]).sum() * 0.0
        return cross_entropy(self.adversary(x), groups)

    def _held(self, x: Tensor) -> Tensor:
        """The adversary's logits, with a gradient into `x` only and no trace in its statistics."""
        held: dict[str, Tensor] = {name: p.detach() for name, p in self.adversary.named_parameters()}
        held |= {name: b.clone() for name, b in self.adversary.named_buffers()}
        modes = [(module, module.training) for module in self.adversary.modules()]
        self.adversary.train(self.training)  # the harness holds norm layers that the task does not own
        try:
            logits: Tensor = functional_call(self.adversary, held, (x,))
        finally:
            for module, mode in modes:
                module.training = mode
        return logits


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * grads[0], None


def reverse_gradient(x: Tensor, scale: float) -> Tensor:
    """`x` itself, whose gradient comes back multiplied by -`scale` (Ganin and Lempitsky 2015).

    Example:
        >>> x = torch.ones(1, requires_grad=True)
        >>> (3 * reverse_gradient(x, 0.5)).backward()
        >>> x.grad
        tensor([-1.5000])
    """
    reversed_: Tensor = _Reverse.apply(x, scale)
    return reversed_
