"""VGG-M, the network CNN-M of Chatfield et al. 2014, and its registration with timm.

| layer | CNN-M (paper, table 1) | output for 224 x 224 pixels |
|---|---|---|
| conv1 | 96 x 7 x 7, stride 2, LRN, 3 x 3 pool of stride 2 | 109, pooled 54 |
| conv2 | 256 x 5 x 5, stride 2, pad 1, LRN, 3 x 3 pool of stride 2 | 26, pooled 13 |
| conv3, conv4 | 512 x 3 x 3, pad 1 | 13 |
| conv5 | 512 x 3 x 3, pad 1, 3 x 3 pool of stride 2 | 13, pooled 6 |
| fc6, fc7 | 4096, dropout 0.5 | |
| fc8 | the classifier | |

Every convolution is followed by ReLU, every LRN comes after it. Constants, and where they were read:

* Layers, strides, pads: `vgg_m` in `cnn_imagenet_init.m` of MatConvNet (github.com/vlfeat/matconvnet,
  examples/imagenet), Caffe's `VGG_CNN_M` deploy file as kept in github.com/rbgirshick/py-faster-rcnn.
* Pooling never pads on top or left. pool2 takes a last window that reaches one pixel over the edge: MatConvNet's
  pad `[0 1 0 1]`, Caffe's rounding up. At 224 pixels the other two pools come out even.
* LRN over n = 5 channels with beta 0.75, k = 2 and alpha = 1e-4 per channel: `[5 2 0.0001 0.75]` in MatConvNet's
  `vl_nnnormalize`, whose sum is not divided by n. Caffe and torch divide, so there alpha is 5e-4. (A network that is
  trained anew by MatConvNet's example has `[5 1 0.0001/5 0.75]` instead; a file that states its own is believed.)
* Batch norm: the published VGG-M for faces (`vgg_m_face_bn_dag`, robots.ox.ac.uk/~albanie/pytorch-models.html) has
  one before every ReLU up to fc7 in place of LRN and dropout, as `cnn_imagenet_init.m` with `batchNormalization`.
* Input: RGB from 0 to 255 less a mean, not divided by a deviation. The mean of `vgg_m_face_bn_dag` is its own; for
  ImageNet 123.68, 116.779, 103.939 (MatConvNet's `import-ref-models.sh`; the same in Caffe's order BGR).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

Norm = Literal["lrn", "batch"]
WIDTHS = {"conv1": 96, "conv2": 256, "conv3": 512, "conv4": 512, "conv5": 512, "fc6": 4096, "fc7": 4096}
KERNELS = {"conv1": (7, 2, 0), "conv2": (5, 2, 1)}  # size, stride, pad; the others' are (3, 1, 1)
STRIDES = {"conv1": 2, "conv2": 8, "conv3": 16, "conv4": 16, "conv5": 16, "pool5": 32}
SIDE = 6  # of the map that fc6 reads
MEANS: dict[Norm, tuple[float, float, float]] = {  # RGB, 0 to 255
    "lrn": (123.68, 116.779, 103.939),
    "batch": (131.45376586914062, 103.98748016357422, 91.46234893798828),
}
LEAST = 59  # pixels: conv1 27, pool1 13, conv2 6, pool2 3, pool5 1


class VggM(nn.Module):
    """VGG-M as a timm model: `timm.create_model("vgg_m")`, with batch norm `"vgg_m_bn"`.

    Takes RGB images [B, 3, H, W] less their mean, in units of 1/255 (timm's `pretrained_cfg` says so).

    Args:
        norm: `"lrn"`, or `"batch"` for batch norm without LRN and dropout.
        num_classes: Width of the classifier; 0 for none.
        in_chans: Channels of the input.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     network = VggM(num_classes=10)
        >>> network(torch.zeros(2, 3, 224, 224, device="meta")).shape
        torch.Size([2, 10])
        >>> sum(p.numel() for p in network.parameters())
        98852490
    """

    def __init__(self, norm: Norm = "lrn", num_classes: int = 1000, in_chans: int = 3) -> None:
        super().__init__()
        self.norm: Norm = norm
        self.num_features, self.head_hidden_size = WIDTHS["conv5"], WIDTHS["fc7"]
        self.feature_info = [
            {"num_chs": WIDTHS[name], "reduction": STRIDES[name], "module": f"relu{i}"}
            for i, name in enumerate(("conv1", "conv2", "conv3", "conv4", "conv5"), start=1)
        ]
        width = in_chans
        for i, (name, after) in enumerate(WIDTHS.items(), start=1):
            if name.startswith("fc"):
                self.add_module(name, nn.Linear(width * SIDE**2 if name == "fc6" else width, after))
            else:
                size, stride, pad = KERNELS.get(name, (3, 1, 1))
                self.add_module(name, nn.Conv2d(width, after, size, stride, pad))
            if norm == "batch":
                self.add_module(f"bn{i}", (nn.BatchNorm1d if name.startswith("fc") else nn.BatchNorm2d)(after))
            self.add_module(f"relu{i}", nn.ReLU())
            if i <= 2 and norm == "lrn":
                self.add_module(f"norm{i}", nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0))
            if i in (1, 2, 5):
                self.add_module(f"pool{i}", nn.MaxPool2d(3, 2, ceil_mode=i == 2))
            if name == "conv5":
                self.flat = Flat()
            if i >= 6 and norm == "lrn":
                self.add_module(f"dropout{i}", nn.Dropout(0.5))
            width = after
        self.fc8: nn.Module
        self.reset_classifier(num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):  # He et al. 2015, as MatConvNet's `xavierimproved`
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def between(self, first: str, last: str) -> Iterator[tuple[str, nn.Module]]:
        """The layers from one to another, both included, in order, under their names."""
        names = list(self._modules)
        for name in names[names.index(first) : names.index(last) + 1]:
            yield name, self.get_submodule(name)

    def forward_features(self, x: Tensor) -> Tensor:
        """The pooled map of conv5, [B, 512, 6, 6] at 224 pixels."""
        for _, layer in self.between("conv1", "pool5"):
            x = layer(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """[B, classes], or the output of fc7 [B, 4096], from the pooled map."""
        for _, layer in self.between("flat", list(self._modules)[-2]):
            x = layer(x)
        return x if pre_logits else self.fc8(x)

    def forward(self, x: Tensor) -> Tensor:
        """[B, classes]; without classifier the output of fc7, [B, 4096]."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.fc8

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer; 0 takes it away. `global_pool` is timm's, and has no say here."""
        self.num_classes = num_classes
        self.fc8 = nn.Linear(self.head_hidden_size, num_classes) if num_classes else nn.Identity()


class Flat(nn.Module):
    """[B, C, H, W] to [B, 36 C], channel by channel; a map that is not 6 x 6 is averaged to that size first."""

    def forward(self, x: Tensor) -> Tensor:
        """At 224 pixels nothing is averaged."""
        if x.shape[2:] != (SIDE, SIDE):
            x = adaptive_avg_pool2d(x, SIDE)
        return x.flatten(1)


def _config(norm: Norm, classes: int) -> dict[str, Any]:
    return {
        "num_classes": classes,
        "input_size": (3, 224, 224),
        "crop_pct": 224 / 256,
        "interpolation": "bilinear",
        "mean": tuple(value / 255 for value in MEANS[norm]),
        "std": (1 / 255,) * 3,
        "first_conv": "conv1",
        "classifier": "fc8",
    }


default_cfgs = generate_default_cfgs({"vgg_m": _config("lrn", 1000), "vgg_m_bn": _config("batch", 2622)})


@register_model
def vgg_m(pretrained: bool = False, **options: Any) -> nn.Module:
    """VGG-M with local response normalisation; timm has no weights for it."""
    network: nn.Module = build_model_with_cfg(VggM, "vgg_m", pretrained, norm="lrn", **options)
    return network


@register_model
def vgg_m_bn(pretrained: bool = False, **options: Any) -> nn.Module:
    """VGG-M with batch norm; timm has no weights for it."""
    network: nn.Module = build_model_with_cfg(VggM, "vgg_m_bn", pretrained, norm="batch", **options)
    return network


MODELS = ("vgg_m", "vgg_m_bn")
