"""A plugin file with a data set that is nothing but labels: two attributes, and no picture anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from biasbench import Dataset, hookimpl


class Lists(Dataset):
    """Of 400 examples a split one label is the gender, the other one nobody's; a few are of a third tone."""

    name = "lists"
    label_names = ("red", "blue")
    attribute_names: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "gender": ("man", "woman"), "tone": ("dark", "light", "else"), "age": ("young", "old"),
    }  # fmt: skip

    @classmethod
    def home(cls, cache: Path, options: Mapping[str, Any]) -> Path:  # noqa: ARG003
        return cache / "lists"

    def table(self, split: str) -> pd.DataFrame:
        index = np.arange(412)
        gender = index % 2
        return pd.DataFrame({
            "id": [f"{split}-{i}" for i in index],
            "path": [f"{split}-{i}.png" for i in index],
            "label/red": gender.astype(np.uint8),
            "label/blue": (index // 4 % 2).astype(np.uint8),
            "attribute/gender": gender,
            "attribute/tone": np.where(index < 400, index // 2 % 2, 2),
            "attribute/age": np.zeros(412, np.int64) if split == "val" else gender,
        })  # fmt: skip


@hookimpl
def biasbench_datasets() -> list[Any]:
    return [Lists]
