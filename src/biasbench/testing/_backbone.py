"""The backbone of the conformance kit, offered like anyone's: `conformance`, with every tap."""

from __future__ import annotations

from torch import nn

from biasbench.backbone import Backbone
from biasbench.hookspecs import Entry, hookimpl

WIDTHS = {"conv1": 4, "conv2": 4, "conv3": 6, "conv4": 8, "conv5": 8}


class ConformanceNet(Backbone):
    """Five small convolutions with batch norm."""

    name = "conformance"

    def __init__(self) -> None:
        super().__init__()
        self.segments = nn.ModuleDict()
        last = 3
        for tap, width in WIDTHS.items():
            stride = 2 if tap in ("conv1", "conv3", "conv5") else 1
            self.segments[tap] = nn.Sequential(
                nn.Conv2d(last, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
            )
            last = width
        self.segments["embedding"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.channels = {"image": 3, **WIDTHS, "embedding": last}
        self.strides = {"image": 1, "conv1": 2, "conv2": 2, "conv3": 4, "conv4": 4, "conv5": 8}


@hookimpl
def biasbench_backbones() -> list[Entry]:
    """The kit's backbone."""
    return [Entry("conformance", f"{__package__ or 'biasbench.testing'}._backbone:ConformanceNet", "for the kit")]
