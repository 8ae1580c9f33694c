"""A data set of 48 small pictures on disk, for methods to be checked on."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from biasbench.data import SPLITS, Split, Task
from biasbench.rng import generator

ROWS: Mapping[Split, int] = {"train": 32, "val": 8, "test": 8}
SIDE = 32
LABELS = ("red", "green", "blue")
GROUPS = {"gender": 2, "age": 3}


@cache
def root() -> Path:
    """Folder of the pictures, for the life of the process: noise, brighter for one gender, tinted by the labels."""
    folder = Path(tempfile.mkdtemp(prefix="biasbench-conformance-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for split in SPLITS:
        frame = table(split, "multilabel")
        tint = frame[[f"label/{name}" for name in LABELS]].to_numpy(float) * 60
        light = frame["attribute/gender"].to_numpy(float) * 25
        noise = generator("conformance", "pixels", split).integers(20, 120, (len(frame), SIDE, SIDE, 3))
        pixels = (noise + tint[:, None, None] + light[:, None, None, None]).clip(0, 255).astype(np.uint8)
        for path, picture in zip(frame["path"], pixels, strict=True):
            Image.fromarray(picture).save(folder / path)
    return folder


def table(split: Split, task: Task) -> pd.DataFrame:
    """A split's table: three labels that lean to a gender, some attributes unknown."""
    rng, n = generator("conformance", "labels", split), ROWS[split]
    gender = np.arange(n) % 2
    likely = np.where(gender[:, None] == 1, [0.7, 0.5, 0.3], [0.3, 0.5, 0.7])
    hot = rng.random((n, 3)) < likely
    ids = [f"{split}-{i}" for i in range(n)]
    frame = pd.DataFrame({"id": ids, "path": [f"{i}.png" for i in ids]})
    if task == "multilabel":
        for k, name in enumerate(LABELS):
            frame[f"label/{name}"] = hot[:, k].astype(np.uint8)
    else:
        frame["label"] = hot.argmax(1).astype(np.int64)
    frame["attribute/gender"] = np.where(rng.random(n) < 0.1, -1, gender)
    frame["attribute/age"] = rng.integers(0, 3, n)
    return frame


def region(split: Split) -> pd.DataFrame:
    """One box an image, none in every fifth: any region that a method asks for."""
    ids = [f"{split}-{i}" for i in range(ROWS[split]) if i % 5]
    corner = np.arange(len(ids)) % 8 + 4.0
    return pd.DataFrame({"id": ids, "x0": corner, "y0": corner, "x1": corner + 14, "y1": corner + 16})
