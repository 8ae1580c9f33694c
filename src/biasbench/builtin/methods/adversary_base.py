"""What adversaries have in common, whatever they read: their draws, their steps, their pull."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from biasbench import Activations, Batch, BuildInfo, Method, UsageError, did_you_mean
from biasbench.builtin.methods._hits import hits
from biasbench.builtin.methods._options import named


class AdversaryBase(Method):
    """A method with an `adversary` that reads the protected attribute off the tap `at`.

    Subclasses make `adversary` in `build`, from the activation at `at` to one logit a group,
    and say who moves when.
    """

    starts_from_init = True
    adversary: nn.Sequential

    def __init__(
        self,
        at: str,
        attribute: str | None,
        weight: float,
        warmup: int,
        repeat: int,
        lr: float,
        balance: bool,
        task_stream: str,
    ) -> None:
        super().__init__()
        for option, value, least in (("warmup", warmup, 0), ("repeat", repeat, 1)):
            if value < least:
                raise UsageError(f"{self.name}: {option} must be at least {least}, not {value}")
        if not (math.isfinite(weight) and weight >= 0 and math.isfinite(lr) and lr > 0):
            raise UsageError(f"{self.name}: weight must be at least 0 and lr above 0, not {weight} and {lr}")
        self.at, self.attribute, self.strength = at, attribute, weight
        self.warmup, self.repeat, self.lr = warmup, repeat, lr
        self.balance, self.task_stream = balance, task_stream
        self.taps = (at,)

    @property
    def attribute_name(self) -> str:
        """The protected attribute; the harness has filled in None."""
        return named(self.attribute, self.name)

    def num_groups(self, info: BuildInfo) -> int:
        """How many groups the attribute has.

        Raises:
            UsageError: For an unknown attribute.
        """
        name = self.attribute_name
        if name not in info.groups:
            hint = did_you_mean(name, info.groups)
            raise UsageError(
                f"{self.name}: no protected attribute {name!r}", fix=hint or f"Known: {', '.join(info.groups)}"
            )
        return info.groups[name]

    def balance_by(self) -> str | None:
        return self.attribute_name if self.task_stream == "balanced" else None

    def diagnose(self, out: Activations, batch: Batch) -> Mapping[str, Tensor]:
        """`accuracy`: the adversary's class-mean accuracy."""
        return {"accuracy": hits(self.adversary(out.taps[self.at]), batch.attributes[self.attribute_name])}

    def learn(self, x: Tensor, batch: Batch) -> Tensor:
        """The adversary's cross-entropy on the examples whose attribute is known."""
        x, groups = self._known(x, batch)
        if not self._enough(groups):
            return torch.stack([p.sum() for p in self.adversary.parameters()]).sum() * 0.0
        return cross_entropy(self.adversary(x), groups)

    def confuse(self, x: Tensor, batch: Batch) -> Tensor:
        """-`strength` x the same, with a gradient into `x` only and no trace in the adversary's statistics."""
        x, groups = self._known(x, batch)
        if not self._enough(groups):
            return x.sum() * 0.0
        return -self.strength * cross_entropy(self._held(x), groups)

    def _known(self, x: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        groups = batch.attributes[self.attribute_name]  # [B]
        known = groups >= 0
        return x[known], groups[known]

    def _enough(self, groups: Tensor) -> bool:
        return len(groups) >= (2 if self.training else 1)  # batch norm has no variance of one example

    def _held(self, x: Tensor) -> Tensor:
        held: dict[str, Tensor] = {name: p.detach() for name, p in self.adversary.named_parameters()}
        held |= {name: b.clone() for name, b in self.adversary.named_buffers()}
        with in_mode(self.adversary, self.training):  # the harness holds norm layers that the task does not own
            logits: Tensor = functional_call(self.adversary, held, (x,))
        return logits


@contextmanager
def in_mode(module: nn.Module, training: bool) -> Iterator[None]:
    """`module` in training or evaluation mode inside the block, as it was after it.

    Example:
        >>> layer = nn.Dropout()
        >>> with in_mode(layer, False):
        ...     layer.training
        False
        >>> layer.training
        True
    """
    modes = [(part, part.training) for part in module.modules()]
    module.train(training)
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


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
