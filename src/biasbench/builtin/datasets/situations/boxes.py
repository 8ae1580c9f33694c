"""The agents' boxes, in the pixels of the images that are there.

The boxes are drawn on SWiG's images (`images_512`); imSitu's resized ones are squeezed to 256 by 256.
So a box is scaled by the sides of the image file, which its header tells.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from biasbench import StoreError, io
from biasbench.builtin.datasets.coco_index import read_parquet, write_parquet

SIDES = ("x0", "y0", "x1", "y1")


def cut(boxes: pd.DataFrame) -> pd.DataFrame:
    """Boxes cut at the edges of the image they were drawn on; those with nothing left are gone.

    Args:
        boxes: Columns `x0, y0, x1, y1, width, height`, NaN where there is no box.

    Example:
        >>> rows = [[-5, 2, 10, 20, 8, 30], [4, 4, 4, 9, 8, 30]]
        >>> cut(pd.DataFrame(rows, columns=["x0", "y0", "x1", "y1", "width", "height"])).to_numpy().tolist()
        [[0, 2, 8, 20, 8, 30]]
    """
    out = boxes.dropna(subset=[*SIDES]).copy()
    for low, high, side in (("x0", "x1", "width"), ("y0", "y1", "height")):
        out[low], out[high] = out[low].clip(0, out[side]), out[high].clip(0, out[side])
    return out[(out["x1"] > out["x0"]) & (out["y1"] > out["y0"])]


def scaled(boxes: pd.DataFrame, root: Path, cache: Path) -> pd.DataFrame:
    """Boxes in pixels of the image files; where a file is missing, as they were drawn.

    Args:
        boxes: Columns `id`, `path`, `x0, y0, x1, y1` and `width, height` of the image they were drawn on.
        root: Folder that `path` starts from.
        cache: Folder that remembers the sizes of images.

    Returns:
        Columns `id, x0, y0, x1, y1` (float64), and bool `distorted`: the image has another aspect
        than the one the box was drawn on, and is not squeezed to a square.
    """
    sizes = image_sizes(root, list(boxes["path"]), cache).astype(np.float64)  # [N, 2] height, width
    drawn = boxes[["height", "width"]].to_numpy(np.float64)
    sizes = np.where(sizes > 0, sizes, drawn)
    scale_y, scale_x = (sizes / drawn).T
    out = pd.DataFrame({"id": boxes["id"].to_numpy()})
    for side in SIDES:
        out[side] = boxes[side].to_numpy(np.float64) * (scale_x if side.startswith("x") else scale_y)
    square = sizes[:, 0] == sizes[:, 1]
    # A pixel more or less on a short side of 256 is no other aspect.
    out["distorted"] = (np.abs(scale_x / scale_y - 1) > 0.01) & ~square
    return out


def image_sizes(root: Path, paths: Sequence[str], cache: Path) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """[N, 2] height and width of image files, 0 for one that is missing or unreadable.

    Headers are read once and remembered under the names, sizes and times of the files.
    """
    stamps = [_stamp(root / path) for path in paths]
    key = io.hash_json([list(paths), stamps])[:32]
    memory = cache / "sizes" / f"{key}.parquet"
    try:
        return read_parquet(memory)[["height", "width"]].to_numpy(np.int64)
    except (StoreError, KeyError):
        pass  # not remembered yet, or damaged
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # only headers are read here
        found = list(pool.map(lambda path, stamp: _size(root, path) if stamp else (0, 0), paths, stamps))
    sizes = np.array(found, np.int64).reshape(-1, 2)
    write_parquet(pd.DataFrame({"height": sizes[:, 0], "width": sizes[:, 1]}), memory)
    return sizes


def _stamp(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _size(root: Path, path: str) -> tuple[int, int]:
    try:
        with Image.open(io.safe_join(root, path), formats=["JPEG", "PNG"]) as image:
            return image.height, image.width
    except Exception:  # hostile bytes raise anything; the file is refused, by name, where pixels are read
        return 0, 0
