"""A plugin file with methods that misbehave, and a data set without masks."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from biasbench import Dataset, Method, hookimpl
from biasbench import io as files


class Bomb(Method):
    """Dies without a word at training step `step`, if its marker file is there; then the marker is gone."""

    name = "bomb"

    def __init__(self, *, marker: str, step: int = 3) -> None:
        super().__init__()
        self.marker, self.step, self.seen = Path(marker), step, 0

    def weight(self, losses, batch):
        self.seen += 1
        if self.seen == self.step and self.marker.exists():
            self.marker.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.ones_like(losses)


class NotANumber(Method):
    """Its loss is NaN."""

    name = "nan"

    def loss(self, out, batch):
        return {"nan": out.scores["label"].sum() * float("nan")}


class NaNAbstain(Method):
    """Says NaN where it would rather say nothing, after training."""

    name = "abstain"

    def postprocess(self, outputs, reference, head):
        scores = outputs.scores["label"].copy()
        scores[0, 0] = np.nan
        return type(outputs)({"label": scores}, outputs.labels, outputs.ids)


class Crash(Method):
    """Raises what nobody expects."""

    name = "crash"

    def weight(self, losses, batch):
        raise ZeroDivisionError("a stranger's mistake")


class Shuffler(Method):
    """Hands its predictions back under other examples' names."""

    name = "shuffler"

    def postprocess(self, outputs, reference, head):
        return type(outputs)(outputs.scores, outputs.labels, [*outputs.ids[1:], outputs.ids[1]])


class Plain(Dataset):
    """40 + 20 + 20 little pictures: two labels, gender, no masks."""

    name = "plain"
    default_backbone = "tiny"
    crop = 32
    short_side = 32
    label_names = ("left", "right")
    attribute_names: Mapping[str, tuple[str, ...]] = {"gender": ("man", "woman")}

    @classmethod
    def home(cls, cache: Path, options: Mapping[str, Any]) -> Path:
        assert not options
        return cache / "plain"

    def prepare(self, progress: Any = None) -> None:
        from PIL import Image

        if self.root.exists():
            return
        with files.writing_folder(self.root) as folder:
            for split in ("train", "val", "test"):
                for i, row in enumerate(self.table(split).itertuples(index=False)):
                    pixels = np.random.default_rng(i).integers(0, 80, (32, 32, 3))
                    pixels[:, :16] += 150 * row[2]
                    pixels[:, 16:] += 150 * row[3]
                    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / row[1])

    def table(self, split: str) -> pd.DataFrame:
        n = {"train": 40, "val": 20, "test": 20}[split]
        i = np.arange(n)
        return pd.DataFrame(
            {
                "id": [f"{split}-{k}" for k in i],
                "path": [f"{split}-{k}.png" for k in i],
                "label/left": (i % 2).astype(np.uint8),
                "label/right": (i // 2 % 2).astype(np.uint8),
                "attribute/gender": (i // 4 % 2).astype(np.int64),
            }
        )


@hookimpl
def biasbench_methods():
    return [Bomb, NotANumber, NaNAbstain, Crash, Shuffler]


@hookimpl
def biasbench_datasets():
    return [Plain]
