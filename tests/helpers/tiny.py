"""A backbone small enough for tests: `--plugin tests/helpers/tiny.py` registers it as `tiny`.

To use it in Python, load it as the harness does: `load_plugins([path]).backbones.find("tiny").load()`.
"""

from __future__ import annotations

from torch import nn

from biasbench import Backbone, hookimpl


class Tiny(Backbone):
    """Three convolutions and a projection: taps conv3 (stride 4), conv4 (8), conv5 (16) and embedding."""

    name = "tiny"

    def __init__(self, *, width: int = 8) -> None:
        super().__init__()
        channels = {"conv3": width, "conv4": 2 * width, "conv5": 4 * width}
        segments, last = {}, 3
        for tap, after in channels.items():
            stride = 4 if tap == "conv3" else 2
            conv = nn.Conv2d(last, after, 2 * stride - 1, stride, padding=stride - 1, bias=False)
            segments[tap] = nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())
            last = after
        segments["conv3"] = nn.Sequential(nn.BatchNorm2d(3), *segments["conv3"])
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, 2 * last), nn.ReLU())
        self.segments = nn.ModuleDict({**segments, "embedding": pool})
        self.channels = {"image": 3, **channels, "embedding": 2 * last}
        self.strides = {"image": 1, "conv3": 4, "conv4": 8, "conv5": 16}


@hookimpl
def biasbench_backbones() -> list[type]:
    return [Tiny]
