"""A plugin file with a data set of 90 small pictures and a backbone of a few thousand parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from biasbench import Dataset, Entry, hookimpl
from biasbench import io as files

ROWS = {"train": 48, "val": 20, "test": 22}


class Tiny(Dataset):
    """Squares of a colour on noise; the colour goes with a label, the brightness with gender.

    Args:
        gap: Brightness between the genders, 0 to 1.
    """

    name = "tiny"
    default_backbone = "tinynet"
    crop = 32
    short_side = 32
    label_names = ("red", "blue")
    attribute_names: Mapping[str, tuple[str, ...]] = {"gender": ("a", "b")}

    def __init__(self, root: Path, cache: Path, *, gap: float = 0.4) -> None:
        super().__init__(root, cache)
        self.gap = gap

    @classmethod
    def home(cls, cache: Path, options: Mapping[str, Any]) -> Path:
        return cache / "data" / f"tiny-{options['gap']}"

    def prepare(self, progress: Any = None) -> None:
        if self.root.exists():
            return
        from PIL import Image

        with files.writing_folder(self.root) as folder:
            for split in ROWS:
                for row in self.table(split).itertuples():
                    red, blue, gender = row[3], row[4], row[5]
                    rng = np.random.default_rng(row[0])
                    pixels = rng.integers(0, 60, (32, 32, 3)) + int(100 * self.gap * gender)
                    pixels[:16, :, 0] += 90 * red
                    pixels[16:, :, 2] += 90 * blue
                    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / row[2])
            files.write_text(folder / "done", "")

    def table(self, split: str) -> pd.DataFrame:
        n = ROWS[split]
        index = np.arange(n)
        return pd.DataFrame({
            "id": [f"{split}-{i}" for i in index],
            "path": [f"{split}-{i}.png" for i in index],
            "label/red": (index % 3 == 0).astype(np.uint8),
            "label/blue": (index % 2 == 0).astype(np.uint8),
            "attribute/gender": (index % 4 < 2).astype(np.int64),
        })  # fmt: skip


def __getattr__(name: str) -> Any:
    """`TinyNet`, made on demand: a listing must not import torch."""
    if name != "TinyNet":
        raise AttributeError(name)
    from torch import nn

    from biasbench import Backbone, ResolvedWeights

    class TinyNet(Backbone):
        """Five convolutions."""

        name = "tinynet"

        def __init__(self, weights: ResolvedWeights) -> None:
            super().__init__()
            widths = (3, 4, 4, 8, 8, 8)
            self.segments = nn.ModuleDict({
                f"conv{i}": nn.Sequential(
                    nn.Conv2d(widths[i - 1], widths[i], 3, 1 + i % 2, 1), nn.BatchNorm2d(widths[i]), nn.ReLU()
                )
                for i in range(1, 6)
            })  # fmt: skip
            self.segments["embedding"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.channels = {"image": 3, **{f"conv{i}": widths[i] for i in range(1, 6)}, "embedding": 8}
            self.strides = {"image": 1, "conv1": 2, "conv2": 2, "conv3": 4, "conv4": 4, "conv5": 8}

    globals()[name] = TinyNet
    return TinyNet


@hookimpl
def biasbench_datasets() -> list[Any]:
    return [Tiny]


@hookimpl
def biasbench_backbones() -> list[Any]:
    return [Entry("tinynet", f"{__name__}:TinyNet", "five convolutions")]
