"""Any timm model as a backbone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from biasbench import Backbone, ResolvedWeights, UsageError
from biasbench.builtin.backbones import hub, networks
from biasbench.builtin.backbones.cuts import cut
from biasbench.builtin.backbones.fully import check_options, fully_connected, initialise
from biasbench.builtin.backbones.hooked import HookedNetwork, Visit, probe
from biasbench.builtin.backbones.vgg_m_network import MODELS as VGG_M


class Normalise(nn.Module):
    """Images in [0, 1] to what a network was trained on: (x - mean) / std.

    Args:
        mean: Per channel.
        std: Per channel.
        model: The network, for the message.
        size: [H, W] if the network takes one size only.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], model: str, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.model, self.size = model, size
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] to the same.

        Raises:
            UsageError: When the network takes another size only.
        """
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.std, Tensor)
        if self.size is not None and tuple(x.shape[2:]) != self.size:
            height, width = self.size
            raise UsageError(
                f"{self.model} takes images of {height}x{width} only, not {x.shape[2]}x{x.shape[3]}",
                fix="Choose a crop of that size, or another backbone",
            )
        return (x - self.mean) / self.std


class TimmBackbone(Backbone):
    """Any timm model, by its timm name, with taps by the field's names.

    ResNet, EfficientNet, ConvNeXt and ViT are cut into segments (`resumable`); of other
    models the taps can be visited and replaced in a full pass only.

    Weights: `auto` is the package's for `tf_efficientnet_lite0` and timm's pretrained ones
    for every other model; `hub` is timm's for all; `random`, `package:efficientnet-lite0`
    or the path of a file.

    With `fc` the network's pooled features are no longer the embedding but the tap `pool5`, and fully connected layers
    follow, which start from random numbers, the same for every seed: `fc6`, and `embedding`. A stage with
    `train = "fc6"` then trains these and the head, as Alvi et al. 2018 do, and what is cached of the frozen network is
    one vector an image instead of a map. A model that is not cut keeps no other tap, but can then be resumed at these.

    Args:
        model: timm's name, such as `resnet50` or `resnet50.a1_in1k`.
        weights: Supplied by the harness.
        fc: Units of one or two fully connected layers with ReLU; none for timm's own embedding.
        dropout: Share of their outputs that is dropped where they are trained.

    Example:
        >>> backbone = TimmBackbone.outline("resnet18")
        >>> backbone.taps, backbone.channels["conv5"], backbone.strides["conv5"]
        (('image', 'conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'embedding'), 512, 32)
        >>> backbone = TimmBackbone.outline("resnet18", {"fc": (256, 128)})
        >>> backbone.taps[5:], backbone.shape_at("pool5", 224), backbone.channels["embedding"]
        (('conv5', 'pool5', 'fc6', 'embedding'), (512,), 128)
    """

    name = "timm"

    def __init__(self, model: str, weights: ResolvedWeights, fc: tuple[int, ...] = (), dropout: float = 0.0) -> None:
        super().__init__()
        self.name = model
        check_options(model, fc, dropout)
        network = networks.make_network(model, weights)
        config = network.pretrained_cfg
        assert isinstance(config, dict)
        size = tuple(config["input_size"])
        # ViT is built for any size; see make_network.
        fixed = config["fixed_input_size"] and not getattr(network, "dynamic_img_size", False)
        normalise = Normalise(config["mean"], config["std"], model, size[1:] if fixed else None)
        self.hooked: HookedNetwork | None = None
        pieces = cut(network, normalise)
        if pieces is not None:
            self.segments = nn.ModuleDict(pieces.segments)
            self.channels = {"image": 3, **pieces.channels}
            self.strides = {"image": 1, **pieces.strides}
            self.notes = pieces.notes
            self._append(fc, dropout)
            return
        hooked = HookedNetwork(network, normalise)
        shapes = probe(hooked, model, size)
        if fc:
            hooked.modules_by_tap = {}
            self.segments = nn.ModuleDict({"embedding": hooked})
            self.channels, self.strides = {"image": 3, "embedding": shapes["embedding"][1]}, {"image": 1}
            self._append(fc, dropout)
            return
        self.resumable, self.hooked = False, hooked
        self.segments = nn.ModuleDict({"embedding": self.hooked})
        self.channels = {"image": 3, **{tap: shape[1] for tap, shape in shapes.items()}}
        self.strides = {"image": 1} | {
            tap: round(size[1] / shape[2]) for tap, shape in shapes.items() if len(shape) == 4 and shape[3] > 1
        }
        self.notes = {tap: f"output of {module}" for tap, module in self.hooked.modules_by_tap.items()}

    def _append(self, fc: tuple[int, ...], dropout: float) -> None:
        """Put fully connected layers behind what was the embedding so far."""
        if not fc:
            return
        segments, channels = dict(self.segments.items()), dict(self.channels)
        segments["pool5"], channels["pool5"] = segments.pop("embedding"), channels.pop("embedding")
        layers = fully_connected(self.name, channels["pool5"], fc, dropout)
        self.segments = nn.ModuleDict({**segments, **layers})
        self.channels = {**channels, **dict(zip(layers, fc, strict=True))}
        self.fresh = tuple(layers)
        self.notes = {**self.notes, "pool5": "[B, C]: the network's own embedding, before the layers of fc"}

    def start_fresh(self, seed: int) -> None:
        initialise((self.segments[name] for name in self.fresh), "weights", self.name, "fc", str(seed))

    @property
    def taps(self) -> tuple[str, ...]:
        return tuple(self.channels)

    @classmethod
    def accepts(cls, name: str) -> bool:
        return networks.accepts(name) and name not in VGG_M  # which answers to `vgg-m`, by a class of its own

    @classmethod
    def known_names(cls) -> list[str]:
        return [name for name in networks.names() if name not in VGG_M]

    @classmethod
    def resolve_weights(cls, name: str, weights: str = "auto") -> ResolvedWeights:
        networks.check_name(name)
        if weights == "auto":
            weights = hub.PACKAGED if name == hub.PACKAGED_FOR and hub.packaged_file() else "hub"
        if weights == hub.PACKAGED:
            return hub.packaged(name)
        if weights == "hub":
            return hub.pretrained(name)
        return super().resolve_weights(name, weights)

    def run(self, x: Tensor, start: str, stop: str, visit: Visit | None = None) -> Tensor:
        if self.hooked is None:
            return super().run(x, start, stop, visit)
        self.check_tap(start)
        if start not in ("image", stop):
            raise self._not_resumable(start)
        self.check_tap(stop)
        return x if stop == start else self.hooked.run(x, stop, visit)

    def tail(self, tap: str) -> nn.Module:
        if self.hooked is not None and tap != "image":
            self.check_tap(tap)
            raise self._not_resumable(tap)
        return super().tail(tap)

    def _not_resumable(self, tap: str) -> UsageError:
        return UsageError(
            f"{self.name} cannot be resumed at {tap!r}",
            fix="Only ResNet, EfficientNet, ConvNeXt and ViT models of timm are cut into segments; use one of them",
        )
