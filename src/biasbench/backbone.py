"""Backbones: an image model cut into segments between named taps.

The taps carry the field's names: `image`, `conv1` … `conv5`, `embedding`. The output of
segment `t` is the activation at tap `t`; `image` is the input itself, [B, 3, H, W] RGB in
[0, 1]; normalising it is the first segment's business.

How the harness makes one, given what the user typed:

    resolved = cls.resolve_weights(name, weights)     # in the plan: label and digest, nothing is loaded
    backbone = cls.create(name, resolved, options)    # in the cell

A plugin's backbone needs neither: the defaults call `cls(**options)` and load a weights
file by its own parameter names. A class that wants to know the name that was typed, or to
load weights itself, takes `model: str` or `weights: ResolvedWeights` in its `__init__`;
the harness supplies these two (`Backbone.supplied`), they are no options.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from abc import ABC
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from biasbench.errors import UsageError, did_you_mean, printable
from biasbench.rng import seed_for
from biasbench.weights import SUFFIXES, ResolvedWeights, load_strict

Visit = Callable[[str, Tensor], Tensor]


class Backbone(nn.Module, ABC):
    """A chain of named segments from the image to the embedding.

    Subclasses fill `segments` (in order, ending with `"embedding"`) and `channels`.

    Attributes:
        name: What the user types.
        segments: Tap name to the module that computes it from the previous tap.
        channels: Channels of each tap's activation in order, `image` (3) included:
            [B, C, H, W], or [B, C] for a vector such as `embedding`.
        strides: Input pixels per cell of each tap that is a map of the image (1 for
            `image`); a tap without a stride, such as a transformer's tokens, is none.
        resumable: Whether a pass may start at any tap. If not, activations can be visited
            and replaced in a full pass, but there is no `tail` and no other start.
        weights: Where the parameters came from, as the leaderboard shows it.
        weights_digest: Hash of the parameters' source, part of a run's key.
        notes: What a tap stands for where the architecture has no such layer.
        suffixes: Of the files of weights that it reads.
        fresh: Segments that no file of weights fills: they start anew with every seed, and stand last.
    """

    supplied: ClassVar[tuple[str, ...]] = ("model", "weights")
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES
    name: str
    segments: nn.ModuleDict
    channels: Mapping[str, int]
    strides: Mapping[str, int]
    weights: str = "random"
    weights_digest: str = "random"
    notes: Mapping[str, str] = {}
    resumable: bool = True
    fresh: tuple[str, ...] = ()

    @classmethod
    def accepts(cls, name: str) -> bool:
        """Whether this class answers to `name`; asked of classes registered with `any_name`."""
        return name == cls.name

    @classmethod
    def known_names(cls) -> Sequence[str]:
        """Names to suggest from when none was accepted; asked of classes registered with `any_name`."""
        return (cls.name,)

    @classmethod
    def resolve_weights(cls, name: str, weights: str = "auto") -> ResolvedWeights:
        """Where the parameters come from: `auto` and `random` are random, anything else is a file.

        Args:
            name: The backbone, as typed.
            weights: What the user asked for.

        Raises:
            UsageError: When there are no such weights; the choices are in the message.
        """
        if weights in ("auto", "random"):
            return ResolvedWeights.random()
        if Path(weights).suffix in cls.suffixes or Path(weights).exists():
            return ResolvedWeights.of_file(Path(weights), suffixes=cls.suffixes)
        raise UsageError(
            f"unknown weights {printable(weights)!r} for {name}",
            fix=f"Use auto, random, or the path of a file ({', '.join(cls.suffixes)})",
        )

    @classmethod
    def create(
        cls, name: str, weights: str | ResolvedWeights = "auto", options: Mapping[str, Any] | None = None
    ) -> Self:
        """The backbone with its parameters, on the CPU.

        Random parameters come from the stream `("weights", name)`: the same in every
        process, and no other stream is moved.

        Args:
            name: The backbone, as typed.
            weights: A choice or, so that nothing is searched twice, an already resolved one.
            options: Keyword arguments of `__init__`.

        Raises:
            UsageError: When there are no such weights.
            DataError: When they do not fit, naming what is missing or unexpected.
        """
        resolved = cls.resolve_weights(name, weights) if isinstance(weights, str) else weights
        parameters = inspect.signature(cls.__init__).parameters
        supplied = {k: v for k, v in (("model", name), ("weights", resolved)) if k in parameters}
        with seeded("weights", name):
            backbone = cls(**supplied, **(options or {}))
        if "weights" not in supplied and resolved.kind != "random":
            load_strict(backbone, resolved.read(), printable(resolved.path))
        backbone.weights, backbone.weights_digest = resolved.label, resolved.digest
        return backbone

    @classmethod
    def outline(cls, name: str, options: Mapping[str, Any] | None = None) -> Self:
        """The backbone without numbers, on torch's meta device: taps, channels, strides and notes for a plan."""
        with torch.device("meta"):
            return cls.create(name, "random", options)

    def start_fresh(self, seed: int) -> None:
        """Draw the parameters of the `fresh` segments from a stream of the seed's own."""

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of the activations, first to last."""
        return ("image", *self.segments)

    def check_tap(self, tap: str) -> None:
        """Raise a `UsageError` that names the taps there are, unless `tap` is one."""
        if tap not in self.taps:
            hint = did_you_mean(tap, self.taps)
            known = f"Its taps: {', '.join(self.taps)}"
            raise UsageError(f"{self.name} has no tap {tap!r}", fix=f"{hint} {known}".strip())

    def after(self, tap: str) -> tuple[str, ...]:
        """Names of the segments that run after `tap`."""
        self.check_tap(tap)
        return self.taps[self.taps.index(tap) + 1 :]

    def run(self, x: Tensor, start: str, stop: str, visit: Visit | None = None) -> Tensor:
        """The activation at `stop`, given the one at `start`.

        Args:
            x: Activation at tap `start`; for `"image"`, [B, 3, H, W] in [0, 1].
            start: Tap of `x`.
            stop: Tap to return.
            visit: Called with each tap passed, `start` excluded and `stop` included; what
                it returns goes on in place of the activation.

        Example (with any backbone `b`): `b.run(b.run(x, "image", "conv4"), "conv4", "embedding")`
        equals `b(x)`.
        """
        names = self.after(start)
        self.check_tap(stop)
        if stop != start and stop not in names:
            raise UsageError(f"{self.name}: tap {stop!r} does not come after {start!r}")
        for name in names[: names.index(stop) + 1] if stop != start else ():
            x = self.segments[name](x)
            if visit is not None:
                x = visit(name, x)
        return x

    def shape_at(self, tap: str, side: int) -> tuple[int, ...]:
        """[C, H, W] at `tap` for one square input of `side` pixels, or [D] at the embedding; by a real pass."""
        self.check_tap(tap)
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        with torch.no_grad():
            x = torch.zeros(1, 3, side, side, device=next(self.parameters()).device)
            shape = tuple(self.run(x, "image", tap).shape[1:])
        for module, mode in modes:
            module.training = mode
        return shape

    def forward(self, x: Tensor) -> Tensor:
        """The embedding [B, D] of images [B, 3, H, W] in [0, 1]."""
        return self.run(x, "image", "embedding")

    def tail(self, tap: str) -> nn.Module:
        """A fresh trainable copy of everything that follows `tap`, ending at the embedding."""
        return copy.deepcopy(nn.Sequential(*(self.segments[name] for name in self.after(tap))))


@contextlib.contextmanager
def seeded(*name: str) -> Iterator[None]:
    """Draw torch's CPU numbers from a named stream inside the block; the global state comes back after it.

    Example:
        >>> with seeded("doc"):
        ...     a = torch.rand(2)
        >>> with seeded("doc"):
        ...     bool((torch.rand(2) == a).all())
        True
    """
    state = torch.random.get_rng_state()
    torch.default_generator.manual_seed(seed_for(*name))
    try:
        yield
    finally:
        torch.random.set_rng_state(state)
