"""Adversarial removal of a protected attribute from the image itself, by a mask."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import timm
import torch
from torch import Tensor, nn

from biasbench import Activations, Batch, BuildInfo, Phase, UsageError
from biasbench.builtin.backbones import hub
from biasbench.builtin.backbones.networks import make_network
from biasbench.builtin.backbones.timm import Normalise
from biasbench.builtin.methods.adversary_base import AdversaryBase, in_mode, reverse_gradient
from biasbench.builtin.methods.masknet import STRIDE, MaskNet

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels, RGB in [0, 1]
PRETRAINED = "resnet18.tv_in1k"


class ImageAdversary(AdversaryBase):
    """A network paints over what an adversary can read the protected attribute off, in the image.

    A U-Net proposes a mask for each image, one value a pixel for all colours. Image times mask
    goes to the task's network, in training and evaluation alike, and to the adversary, a
    ResNet-18. The mask network minimises task loss + `beta` x mean |masked - image| - `weight` x
    the adversary's cross-entropy. The crop's side must be a multiple of 32; others are refused.

    Three ways to play:

    * `"alternate"`: the paper's game. The adversary takes `repeat` steps of its own per task
      step; the task's step moves the task's network and the mask network.
    * `"reversal"`: the same game in one step for all, with the gradient from the adversary into
      the mask multiplied by -`weight`. `repeat` and, after the warm-up, `lr` have no say.
    * `"released"`: what the released commands do, which is no game. The adversary first learns
      on unmasked images (`warmup` steps, in place of a file that was not published). Then the
      mask network alone learns against it and against the task's network, both frozen, for
      `mask_steps` steps at the recipe's learning rate. Then the mask is frozen, and the task's
      network and the adversary are fine-tuned on masked images. What is frozen keeps its
      batch-norm statistics; in the release they move.

    The mask network and the adversary read images normalised with ImageNet's mean and deviation,
    whatever the backbone's own. Examples whose attribute is unknown leave the adversary's terms.

    Every forward pass runs at least two networks on whole images, and no activation can be
    cached: a step costs many times one of `adv-conv5`. Where two cores have to do, take
    `channels=16`, about a sixteenth of the multiplications.

    Args:
        attribute: The protected attribute; `a*b` for an intersection.
        weight: The paper's lambda. Released: 5 for COCO, 10 for imSitu.
        beta: Weight of mean |masked - image|, normalised pixels. Released: 0.1 for COCO, 1 for imSitu.
        update: `"alternate"`, `"reversal"` or `"released"`.
        fill: What a closed mask leaves: `"mean"`, ImageNet's mean colour (released: the normalised
            image is multiplied), or `"black"` (the paper: the original image is).
        weights: Where the adversary starts: `"random"`, or `"imagenet"`, torchvision's ResNet-18
            as timm hands it out; the row says which.
        warmup: Steps of the adversary alone before anything else learns.
        mask_steps: Steps of the mask network alone, with `"released"`.
        repeat: Adversary steps per task step, with `"alternate"`.
        lr: Learning rate of the adversary's own steps, absolute.
        channels: Of the first level of the mask network and of the adversary's blocks; published: 64.
        balance: Draw the adversary's own batches with equal shares of every group.
        task_stream: `"balanced"` draws the task's (and the mask network's) batches that way too,
            as released.

    Example:
        >>> ImageAdversary(attribute="gender").touches
        ('image',)
    """

    name = "adv-image"
    source = "Wang et al., ICCV 2019, sections 5.1 and 5.3"
    steps: Tensor
    std: Tensor
    closed: Tensor

    def __init__(
        self,
        attribute: str | None = None,
        weight: float = 5.0,
        beta: float = 0.1,
        update: Literal["alternate", "reversal", "released"] = "alternate",
        fill: Literal["mean", "black"] = "mean",
        weights: Literal["random", "imagenet"] = "random",
        warmup: int = 100,
        mask_steps: int = 100,
        repeat: int = 2,
        lr: float = 1e-3,
        channels: int = 64,
        balance: bool = True,
        task_stream: Literal["natural", "balanced"] = "natural",
    ) -> None:
        super().__init__("image", attribute, weight, warmup, repeat, lr, balance, task_stream)
        if not (math.isfinite(beta) and beta >= 0):
            raise UsageError(f"adv-image: beta must be at least 0, not {beta}")
        for option, value in (("mask_steps", mask_steps), ("channels", channels)):
            if value < 1:
                raise UsageError(f"adv-image: {option} must be at least 1, not {value}")
        if weights == "imagenet" and channels != 64:
            raise UsageError("adv-image: ImageNet weights fit 64 channels only", fix="Use weights='random'")
        self.beta, self.update, self.fill, self.weights = beta, update, fill, weights
        self.mask_steps, self.channels = mask_steps, channels
        self.touches = ("image",)
        self.flags = (f"adv-image: adversary weights={weights}",)

    def check(self, info: BuildInfo) -> None:
        """Refuse a crop that cannot be halved and doubled five times.

        Raises:
            UsageError: When the crop is no multiple of 32.
        """
        if info.crop % STRIDE:
            raise UsageError(
                f"adv-image: a crop of {info.crop} pixels is no multiple of {STRIDE}",
                fix=f"Use --set recipe.crop={max(1, info.crop // STRIDE) * STRIDE}",
            )

    def build(self, info: BuildInfo) -> None:
        """Create the mask network and the adversary.

        Raises:
            UsageError: For an unknown attribute, or ImageNet weights that are neither here nor on the hub.
        """
        groups = self.num_groups(info)
        self.mask = nn.Sequential(Normalise(MEAN, STD, self.name), MaskNet(self.channels))
        last = nn.Linear(8 * self.channels, groups)
        self.adversary = nn.Sequential(Normalise(MEAN, STD, self.name), self._network(), last)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))  # of the mask network alone
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)
        closed = MEAN if self.fill == "mean" else (0.0, 0.0, 0.0)
        self.register_buffer("closed", torch.tensor(closed).view(3, 1, 1), persistent=False)

    def _network(self) -> nn.Module:
        if self.weights == "imagenet":
            try:
                found = hub.pretrained(PRETRAINED)
            except UsageError as error:  # its own advice is about the backbone
                fix = f"Put {PRETRAINED} into the hub's cache, or use weights='random'"
                raise UsageError(f"adv-image: no ImageNet weights for the adversary: {error.what}", fix=fix) from error
            return make_network(PRETRAINED, found)
        widths = tuple(self.channels * factor for factor in (1, 2, 4, 8))
        network: nn.Module = timm.create_model("resnet18", num_classes=0, channels=widths)
        return network

    @property
    def mask_frozen(self) -> bool:
        """Whether the mask network has learnt all it will."""
        return self.update == "released" and int(self.steps) >= self.mask_steps

    def intervene(self, tap: str, x: Tensor, batch: Batch) -> Tensor:
        if self.mask_frozen:
            with torch.no_grad(), in_mode(self.mask, False):
                mask = self.mask(x)
        else:
            mask = self.mask(x)  # [B, 1, H, W]
        # The normalised image times the mask, in [0, 1] again: mean + mask * (x - mean).
        masked: Tensor = self.closed + mask * (x - self.closed)
        return masked

    def loss(self, out: Activations, batch: Batch) -> Mapping[str, Tensor]:
        x = out.taps["image"]
        if self.update == "alternate":
            return {"confusion": self.confuse(x, batch), "distance": self._kept(x, batch)}
        if self.update == "reversal":
            learn = self.learn(reverse_gradient(x, self.strength), batch)
            return {"adversary": learn, "distance": self._kept(x, batch)}
        return {"adversary": self.learn(x.detach(), batch)}

    def phases(self) -> Sequence[Phase]:
        released = self.update == "released"
        own = Phase(
            "adversary",
            params=list(self.adversary.parameters()),
            loss=lambda out, batch: self.learn(batch.images if released else out.taps["image"].detach(), batch),
            balance=self.attribute_name if self.balance else None,
            before=self.warmup,
            repeat=self.repeat if self.update == "alternate" else 0,
            lr=self.lr,
            absolute_lr=True,
        )
        if not released:
            return [own]
        mask = Phase(
            "mask",
            params=list(self.mask.parameters()),
            loss=self._mask_step,
            balance=self.balance_by(),
            before=self.mask_steps - int(self.steps),  # a second stage of the recipe finds it frozen
            repeat=0,
            detached=False,
            task=True,
        )
        return [own, mask]

    def _mask_step(self, out: Activations, batch: Batch) -> Tensor:
        x = out.taps["image"]
        self.steps += 1
        return self.confuse(x, batch) + self._kept(x, batch)

    def _kept(self, x: Tensor, batch: Batch) -> Tensor:
        return self.beta * self._distances(x, batch).mean()

    def _distances(self, x: Tensor, batch: Batch) -> Tensor:
        """[B] mean |masked - image| of each image, in normalised pixels."""
        distances: Tensor = ((x - batch.images).abs() / self.std).mean((1, 2, 3))
        return distances

    def diagnose(self, out: Activations, batch: Batch) -> Mapping[str, Tensor]:
        """`accuracy` of the adversary, and `distance`: mean |masked - image| in normalised pixels, [B]."""
        return {**super().diagnose(out, batch), "distance": self._distances(out.taps["image"], batch)}
