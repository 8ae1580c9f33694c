"""VGG-M as a backbone, with weights from a MatConvNet or PyTorch file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from biasbench import Backbone, ResolvedWeights, UsageError, io
from biasbench.builtin.backbones.cuts import chain
from biasbench.builtin.backbones.vgg_m_apart import open_network
from biasbench.builtin.backbones.vgg_m_fill import fill_from_layers, fill_from_state
from biasbench.builtin.backbones.vgg_m_network import LEAST, MEANS, STRIDES, WIDTHS, VggM

_TAPS = ("conv1", "conv2", "conv3", "conv4", "conv5", "pool5", "fc6", "embedding")


class VggMBackbone(Backbone):
    """VGG-M, the network CNN-M of Chatfield et al. 2014, which Alvi et al. 2018 train from fc6 on.

    Five convolutions and two fully connected layers; the embedding is fc7 after ReLU, 4096 numbers. Made for crops of
    224 pixels; at other sizes the map before fc6 is averaged to 6 x 6. `timm.create_model("vgg_m")` builds the same
    network; its constants and their sources stand in `vgg_m_network.py`.

    Taps: conv1 to conv5 after ReLU, before LRN and pooling; pool5, the pooled map, a fifth of conv5's numbers: what is
    cached when fc6 is the first layer to train; fc6 after ReLU; embedding.

    Weights: a file. `.mat` of MatConvNet (SimpleNN or DagNN), or the state of `vgg_m_face_bn_dag` (`norm="batch"`) or
    of this network as `.safetensors`, which `biasbench import-weights` makes of a `.pth`. A MatConvNet file's own
    mean (`averageImage`), LRN constants and epsilon are used. Where it has no mean, and for every other file, the mean
    is the one published with `vgg_m_face_bn_dag` for `norm="batch"`, and ImageNet's for `norm="lrn"`. Without a file
    weights are random, and the row says so.

    Dropout acts in the segments that a stage trains.

    Args:
        weights: Supplied by the harness.
        norm: `"lrn"` as in the paper, or `"batch"`: batch norm in place of LRN and dropout, as in the network that was
            published for faces.

    Example:
        >>> backbone = VggMBackbone.outline("vgg-m")
        >>> backbone.taps[5:], backbone.shape_at("pool5", 224), backbone.channels["embedding"]
        (('conv5', 'pool5', 'fc6', 'embedding'), (512, 6, 6), 4096)
    """

    name = "vgg-m"
    suffixes = (*Backbone.suffixes, ".mat")

    def __init__(self, weights: ResolvedWeights, norm: Literal["lrn", "batch"] = "lrn") -> None:
        super().__init__()
        network = VggM(norm, num_classes=0)
        mean = _fill(network, weights)
        after_fc = "dropout" if norm == "lrn" else "relu"
        ends = [*(f"relu{i}" for i in range(1, 6)), "pool5", f"{after_fc}6", f"{after_fc}7"]
        layers = dict(network.between("conv1", ends[-1]))
        parts: list[dict[str, nn.Module]] = [{"centre": Centre(MEANS[norm] if mean is None else mean)}]
        for name, layer in layers.items():
            parts[-1][name] = layer
            if name in ends[:-1]:
                parts.append({})
        self.segments = nn.ModuleDict({tap: chain(**part) for tap, part in zip(_TAPS, parts, strict=True)})
        widths = {"image": 3, **WIDTHS, "pool5": WIDTHS["conv5"], "embedding": WIDTHS["fc7"]}
        self.channels = {tap: widths[tap] for tap in ("image", *_TAPS)}
        self.strides = {"image": 1, **STRIDES}
        self.notes = {"fc6": "[B, 4096]; at sizes other than 224 pixels pool5 is first averaged to 6 x 6"}

    @classmethod
    def resolve_weights(cls, name: str, weights: str = "auto") -> ResolvedWeights:
        if weights == "auto":
            return ResolvedWeights("random", "random (no file given)", "random")
        return super().resolve_weights(name, weights)


class Centre(nn.Module):
    """Images in [0, 1] to what VGG-M reads: RGB from 0 to 255 less a mean.

    Args:
        mean: Three numbers, or an image [H, W, 3], 0 to 255. An image is subtracted pixel by pixel; where pictures are
            of another size it is scaled to theirs, as MatConvNet's `cnn_imagenet.m` does.
    """

    def __init__(self, mean: Sequence[float] | Tensor) -> None:
        super().__init__()
        planes = torch.as_tensor(mean, dtype=torch.float32)
        planes = planes.view(3, 1, 1) if planes.ndim == 1 else planes.permute(2, 0, 1).contiguous()
        self.register_buffer("mean", planes, persistent=False)  # [3, 1, 1] or [3, H, W]

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] to the same.

        Raises:
            UsageError: When the pictures are too small for the network.
        """
        mean = self.mean
        assert isinstance(mean, Tensor)
        if min(x.shape[2:]) < LEAST:
            raise UsageError(
                f"vgg-m takes images of at least {LEAST}x{LEAST}, not {x.shape[2]}x{x.shape[3]}",
                fix="Choose a larger crop; 224 is what it was made for",
            )
        if mean.shape[1:] not in ((1, 1), x.shape[2:]):
            mean = interpolate(mean[None], x.shape[2:], mode="bilinear", antialias=True)[0]
        return 255 * x - mean


def _fill(network: VggM, weights: ResolvedWeights) -> Tensor | None:
    """Load what was resolved; the mean that the file states, if any."""
    if weights.path is None:
        return None
    if weights.path.suffix != ".mat":
        fill_from_state(network, weights.read(), weights.path)
        return None
    io.check_file(weights.path, weights.digest)
    layers, mean = open_network(weights.path)
    fill_from_layers(network, layers, weights.path)
    return None if mean is None else torch.from_numpy(mean)
