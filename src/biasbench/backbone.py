"""Backbones: an image model cut into segments between named taps.

The taps carry the field's names: `image`, `conv1` … `conv5`, `embedding`. The output of
segment `t` is the activation at tap `t`; `image` is the input itself, [B, 3, H, W] RGB in
[0, 1]; normalising it is the first segment's business.
"""

from __future__ import annotations

import copy
from abc import ABC
from collections.abc import Callable, Mapping
from typing import ClassVar

from torch import Tensor, nn

from biasbench.errors import UsageError, did_you_mean

Visit = Callable[[str, Tensor], Tensor]


class Backbone(nn.Module, ABC):
    """A chain of named segments from the image to the embedding.

    Subclasses fill `segments` (in order, ending with `"embedding"`) and `channels`.

    Attributes:
        segments: Tap name to the module that computes it from the previous tap.
        channels: Channels of each tap's activation, `image` (3) included; [B, C, H, W] for
            all but `embedding`, which is [B, C].
        strides: Input pixels per cell of each spatial tap (1 for `image`).
        weights: Where the parameters came from, as the leaderboard shows it.
        weights_digest: Hash of the parameters' source, part of a run's key.
        notes: What a tap stands for where the architecture has no such layer.
    """

    name: ClassVar[str]
    segments: nn.ModuleDict
    channels: Mapping[str, int]
    strides: Mapping[str, int]
    weights: str = "random"
    weights_digest: str = "random"
    notes: Mapping[str, str] = {}

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
        if stop != start and stop not in names:
            raise UsageError(f"{self.name}: tap {stop!r} does not come after {start!r}")
        for name in names[: names.index(stop) + 1] if stop != start else ():
            x = self.segments[name](x)
            if visit is not None:
                x = visit(name, x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """The embedding [B, D] of images [B, 3, H, W] in [0, 1]."""
        return self.run(x, "image", "embedding")

    def tail(self, tap: str) -> nn.Module:
        """A fresh trainable copy of everything that follows `tap`, ending at the embedding."""
        return copy.deepcopy(nn.Sequential(*(self.segments[name] for name in self.after(tap))))
