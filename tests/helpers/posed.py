"""A plugin file with a second data set, labelled with nothing but a pose: bright above, in the middle or below."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from biasbench import Dataset, hookimpl
from biasbench import io as files


class Posed(Dataset):
    """30 + 6 + 6 little pictures of three classes, which are also the protected attribute."""

    name = "posed"
    task = "multiclass"
    primary_attribute = "pose"
    default_backbone = "tiny"
    crop = 32
    short_side = 32
    label_names = ("up", "ahead", "down")
    attribute_names: Mapping[str, tuple[str, ...]] = {"tilt": ("left", "right"), "pose": label_names}

    @classmethod
    def home(cls, cache: Path, options: Mapping[str, Any]) -> Path:
        assert not options
        return cache / "posed"

    def prepare(self, progress: Any = None) -> None:
        from PIL import Image

        if self.root.exists():
            return
        with files.writing_folder(self.root) as folder:
            for split in ("train", "val", "test"):
                for i, row in enumerate(self.table(split).itertuples(index=False)):
                    pixels = np.random.default_rng(1000 + i).integers(0, 80, (32, 32, 3))
                    pixels[10 * row[2] : 10 * row[2] + 12] += 150
                    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / row[1])

    def table(self, split: str) -> pd.DataFrame:
        i = np.arange({"train": 30, "val": 6, "test": 6}[split])
        return pd.DataFrame(
            {
                "id": [f"{split}-{k}" for k in i],
                "path": [f"{split}-{k}.png" for k in i],
                "label": (i % 3).astype(np.int64),
                "attribute/tilt": (i // 3 % 2).astype(np.int64),
                "attribute/pose": np.where(i % 7 == 6, -1, i % 3).astype(np.int64),
            }
        )


@hookimpl
def biasbench_datasets() -> list[type]:
    return [Posed]
