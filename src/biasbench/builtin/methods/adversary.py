"""Adversarial removal of a protected attribute from an intermediate representation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from biasbench import Activations, Batch, BuildInfo, Phase, UsageError
from biasbench.builtin.methods.adversary_base import AdversaryBase, reverse_gradient


class Adversary(AdversaryBase):
    """An adversary reads the protected attribute off a tap; the model learns to leave it no trace.

    The adversary flattens the activation and has four linear layers, the first three
    followed by batch norm and LeakyReLU(0.01), as in every published command. At early taps
    the flattened map is long (conv1 of a ResNet-50 at 224 pixels: 241 million parameters in
    the first layer); `conv` is shorter there.

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
        conv: What stands in front in place of the flattening. True: a fresh copy of the layers
            that follow the tap; for ResNet-50 at conv4 these are the three convolutional blocks
            of the paper's conv4 adversary. `"plain"`: five convolutions without norm or
            non-linearity that squeeze C channels to C/4 and widen them again (1x1, 1x1, 3x3,
            1x1, 1x1), then the mean over the map; at conv5 the released adversary with `--adv_conv`.
        balance: Draw the adversary's own batches with equal shares of every group.
        task_stream: `"balanced"` draws the task's batches that way too, as released.

    Example:
        >>> Adversary(at="conv4", attribute="gender").taps
        ('conv4',)
    """

    name = "adv"
    source = "Wang et al., ICCV 2019, sections 5.2 and 6"

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
        conv: bool | Literal["plain"] = False,
        balance: bool = True,
        task_stream: Literal["natural", "balanced"] = "natural",
    ) -> None:
        super().__init__(at, attribute, weight, warmup, repeat, lr, balance, task_stream)
        if at == "image":
            raise UsageError("adv: an adversary at 'image' has nothing to change there", fix="Use a tap such as conv5")
        if width < 1:
            raise UsageError(f"adv: width must be at least 1, not {width}")
        self.update, self.width, self.conv = update, width, conv
        self.moves = (at,)

    def build(self, info: BuildInfo) -> None:
        """Create the adversary.

        Raises:
            UsageError: For an unknown tap or attribute, or convolutions at a tap that is no map.
        """
        groups = self.num_groups(info)
        info.backbone.check_tap(self.at)
        front, size = self._front(info)
        layers: list[nn.Module] = [front]
        for _ in range(3):
            layers += [nn.Linear(size, self.width), nn.BatchNorm1d(self.width), nn.LeakyReLU(0.01)]
            size = self.width
        self.adversary = nn.Sequential(*layers, nn.Linear(size, groups))

    def _front(self, info: BuildInfo) -> tuple[nn.Module, int]:
        """What turns the activation into a vector, and that vector's length."""
        if self.conv is True:
            return info.backbone.tail(self.at).requires_grad_(True), info.backbone.channels["embedding"]
        shape = info.tap_shape(self.at)
        if self.conv is False:
            return nn.Flatten(), math.prod(shape)
        if len(shape) != 3 or shape[0] < 4:
            raise UsageError(f"adv: no convolutions fit {self.at}, whose shape is {shape}", fix="Use conv=False")
        return plain_convolutions(shape[0]), shape[0]

    def phases(self) -> Sequence[Phase]:
        own = Phase(
            "adversary",
            params=list(self.adversary.parameters()),
            loss=lambda out, batch: self.learn(out.taps[self.at].detach(), batch),
            balance=self.attribute_name if self.balance else None,
            before=self.warmup,
            repeat=self.repeat if self.update == "alternate" else 0,
            lr=self.lr,
            absolute_lr=True,
        )
        return [own]

    def loss(self, out: Activations, batch: Batch) -> Mapping[str, Tensor]:
        x = out.taps[self.at]
        if self.update == "reversal":
            return {"adversary": self.learn(reverse_gradient(x, self.strength), batch)}
        return {"confusion": self.confuse(x, batch)}


def plain_convolutions(channels: int) -> nn.Sequential:
    """The released conv5 adversary's front for a map of `channels` channels: [B, C, H, W] to [B, C].

    Example:
        >>> [tuple(layer.weight.shape) for layer in plain_convolutions(8)[:5]]
        [(4, 8, 1, 1), (2, 4, 1, 1), (2, 2, 3, 3), (4, 2, 1, 1), (8, 4, 1, 1)]
    """
    widths = [channels, channels // 2, channels // 4, channels // 4, channels // 2, channels]
    layers = [
        nn.Conv2d(before, after, 1 + 2 * (i == 2), padding=int(i == 2), bias=False)
        for i, (before, after) in enumerate(pairwise(widths))
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
