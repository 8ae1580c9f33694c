"""Cutting timm networks into segments by the field's names.

| tap | ResNet | EfficientNet | ConvNeXt | ViT |
|---|---|---|---|---|
| conv1 | stem, stride 2 | blocks of stride 2 | – | – |
| conv2 | layer1, stride 4 | stride 4 | stage 1, stride 4 | – |
| conv3 | layer2, stride 8 | stride 8 | stage 2, stride 8 | – |
| conv4 | layer3, stride 16 | stride 16 | stage 3, stride 16 | two thirds of the blocks |
| conv5 | layer4, stride 32 | stride 32 | stage 4, stride 32 | all blocks |
| embedding | global pool | conv_head, global pool | pool and norm | norm, class token or pool |

The segments are the network's own modules; nothing is copied.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from timm.models.convnext import ConvNeXt
from timm.models.efficientnet import EfficientNet
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from biasbench.builtin.backbones.vit import TokenBlocks, TokenEmbedding, TokenStem

_CONVS = ("conv1", "conv2", "conv3", "conv4", "conv5")


@dataclass(frozen=True)
class Cut:
    """A network in segments.

    Attributes:
        segments: Tap to module, in order; the first one normalises.
        channels: Channels of each tap but the image.
        strides: Input pixels per cell of each spatial tap but the image.
        notes: What a tap stands for where the architecture has no such layer.
    """

    segments: Mapping[str, nn.Module]
    channels: Mapping[str, int]
    strides: Mapping[str, int]
    notes: Mapping[str, str] = field(default_factory=dict)


def cut(network: nn.Module, normalise: nn.Module) -> Cut | None:
    """The segments of a network of a known family, or None.

    Args:
        network: A timm model without classifier.
        normalise: Goes before everything else.
    """
    # Exact classes: a subclass may have another forward pass.
    net = cast("Any", network)
    if type(network) is ResNet:
        stem = {"conv1": net.conv1, "bn1": net.bn1, "act1": net.act1}
        parts = [
            chain(normalise=normalise, **stem),
            chain(maxpool=net.maxpool, layer1=net.layer1),
            chain(layer2=net.layer2),
            chain(layer3=net.layer3),
            chain(layer4=net.layer4),
        ]
        return _by_stride(net, parts, chain(global_pool=net.global_pool))
    if type(network) is EfficientNet:
        return _efficientnet(net, normalise)
    if type(network) is ConvNeXt:
        stages = list(net.stages)
        parts = [chain(normalise=normalise, stem=net.stem, stage=stages[0]), *(chain(stage=s) for s in stages[1:])]
        note = {"conv1": "ConvNeXt has none: its stem goes to stride 4 at once"}
        return _by_stride(net, parts, chain(norm_pre=net.norm_pre, head=net.head), note)
    if type(network) is VisionTransformer:
        return _transformer(net, normalise)
    return None


def chain(**modules: nn.Module) -> nn.Sequential:
    """Modules one after the other, under their names."""
    return nn.Sequential(OrderedDict(modules))


def _efficientnet(net: Any, normalise: nn.Module) -> Cut | None:
    blocks, names = list(net.blocks), [str(f["module"]) for f in net.feature_info]
    if not all(name.startswith("blocks.") for name in names):
        return None
    ends = [int(name.removeprefix("blocks.")) + 1 for name in names]  # blocks up to each stride
    parts, start = [], 0
    for end in ends:
        stem = {"normalise": normalise, "conv_stem": net.conv_stem, "bn1": net.bn1} if not start else {}
        parts.append(chain(**stem, **{f"block{i}": blocks[i] for i in range(start, end)}))
        start = end
    rest = {f"block{i}": blocks[i] for i in range(start, len(blocks))}
    return _by_stride(net, parts, chain(**rest, conv_head=net.conv_head, bn2=net.bn2, global_pool=net.global_pool))


def _by_stride(
    net: Any, parts: Sequence[nn.Module], embedding: nn.Module, notes: Mapping[str, str] | None = None
) -> Cut | None:
    """Names the parts after timm's record of their channels and strides; None if the strides are unusual."""
    names = _CONVS[-len(parts) :]
    strides = [int(f["reduction"]) for f in net.feature_info]
    if strides != [2 ** (_CONVS.index(n) + 1) for n in names]:
        return None
    channels = {n: int(f["num_chs"]) for n, f in zip(names, net.feature_info, strict=True)}
    segments = dict(zip(names, parts, strict=True))
    width = int(net.head_hidden_size or net.num_features)
    return Cut(
        {**segments, "embedding": embedding},
        {**channels, "embedding": width},
        dict(zip(names, strides, strict=True)),
        notes or {},
    )


def _transformer(net: Any, normalise: nn.Module) -> Cut:
    blocks, width = list(net.blocks), int(net.embed_dim)
    third = -(-2 * len(blocks) // 3)  # two thirds of the blocks, rounded up
    embedding = TokenEmbedding(net)
    early, late = TokenBlocks(blocks[:third]), TokenBlocks(blocks[third:])
    stem = TokenStem(net)  # from here on, `net` has no blocks of its own
    what = f"[B, {width}, N, 1], class and other prefix tokens first, then the patches row by row"
    notes = {
        "conv4": f"tokens after block {third} of {len(blocks)}: {what}",
        "conv5": f"tokens after the last block, before the final norm: {what}",
    }
    return Cut(
        {
            "conv4": chain(normalise=normalise, stem=stem, blocks=early),
            "conv5": chain(blocks=late),
            "embedding": embedding,
        },
        {"conv4": width, "conv5": width, "embedding": int(net.head_hidden_size or net.num_features)},
        {},
        notes,
    )
