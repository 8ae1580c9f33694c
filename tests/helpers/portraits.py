"""A plugin file with a data set of age, gender and pose, biased in training and balanced in the test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from biasbench import Dataset, hookimpl
from biasbench import io as files


class Portraits(Dataset):
    """48 + 24 + 48 little pictures, bright where old and blue where men; young women and old men in training.

    Args:
        root: Where the pictures are made.
        cache: Not used.
        task: What is predicted, age or gender.
    """

    name = "portraits"
    task = "multiclass"
    default_backbone = "tiny"
    crop = 32
    short_side = 32
    attribute_names: Mapping[str, tuple[str, ...]] = {
        "gender": ("woman", "man"),
        "age": ("young", "middle", "old"),
        "pose": ("left", "right"),
    }

    def __init__(self, root: Path, cache: Path, *, task: str = "age") -> None:
        super().__init__(root, cache)
        self.told = task
        self.primary_attribute = "gender" if task == "age" else "age"

    @property
    def label_names(self) -> tuple[str, ...]:
        return self.attribute_names[self.told]

    @classmethod
    def home(cls, cache: Path, options: Mapping[str, Any]) -> Path:
        return cache / f"portraits-{options['task']}"

    def prepare(self, progress: Any = None) -> None:
        from PIL import Image

        if self.root.exists():
            return
        with files.writing_folder(self.root) as folder:
            for split in ("train", "val", "test"):
                for i, row in self.table(split).iterrows():
                    pixels = np.random.default_rng(i).integers(0, 60, (32, 32, 3)) + 60 * row["attribute/age"]
                    pixels[..., 2] += 70 * row["attribute/gender"]
                    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / row["path"])

    def table(self, split: str) -> pd.DataFrame:
        n = {"train": 48, "val": 24, "test": 48}[split]
        i = np.arange(n)
        gender = np.arange(n) % 2
        age = i // 2 % 3 if split == "test" else i // 2 % 2 + gender
        table = pd.DataFrame({
            "id": [f"{split}-{k}" for k in i], "path": [f"{split}-{k}.png" for k in i],
            "attribute/gender": gender, "attribute/age": age,
            "attribute/pose": np.where(i % 5 == 4, -1, i % 4 == 0).astype(np.int64),
        })  # fmt: skip
        return table.assign(label=table[f"attribute/{self.told}"])


@hookimpl
def biasbench_datasets() -> list[type]:
    return [Portraits]
