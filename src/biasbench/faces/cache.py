"""What a detector found, kept: one folder for the images of a table, whole or still in parts.

`part-<n>.parquet` are boxes of 100 images each, written as they are found, so that a job that is killed
loses at most one part. When all are there they become `boxes.parquet` (`id, x0, y0, x1, y1`), and
`faces.json` says how many images were looked at, in how many a face was found, and the file's hash.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasbench import io
from biasbench.data import Progress, table_digest
from biasbench.errors import IntegrityError, StoreError
from biasbench.images import Image, read_image, store_key

Detect = Callable[[Image], NDArray[np.float64]]  # [H, W, 3] RGB to [N, 4] boxes
SIDES = ("x0", "y0", "x1", "y1")
_FORMAT = "faces/1"
_PART = 100  # images: a few seconds of work, which a kill may lose


def boxes_key(table: pd.DataFrame, root: Path, identity: str) -> str:
    """The name of the folder: ids, paths, sizes and times of the images, the decoder, and the detector.

    Example:
        >>> table = pd.DataFrame({"id": ["a"], "path": ["none.jpg"]})
        >>> boxes_key(table, Path(), "one") == boxes_key(table, Path(), "another")
        False
    """
    images = store_key(table, root, 0)  # 0: at their own size
    return io.hash_bytes(f"{_FORMAT} {images} {table_digest(table[['id']])} {identity}".encode())[:32]


def boxes_file(folder: Path) -> Path:
    """Where a finished folder has its boxes."""
    return folder / "boxes.parquet"


def found_in(folder: Path) -> tuple[int, int] | None:
    """Number of images, and of those with a face; None unless the folder is finished and undamaged."""
    try:
        told = io.read_json(folder / "faces.json")
        if told["format"] != _FORMAT:
            return None
        io.check_file(boxes_file(folder), told["sha256"])
        return int(told["images"]), int(told["with face"])
    except (StoreError, IntegrityError, KeyError, TypeError, ValueError):
        return None


def build(folder: Path, table: pd.DataFrame, root: Path, detect: Detect, progress: Progress | None = None) -> None:
    """Look for faces in every image of a table, unless that is done; what a killed job found is kept.

    Args:
        folder: Named by `boxes_key`.
        table: Columns `id` and `path`.
        root: Folder that the paths are relative to.
        detect: Finds faces; called from several threads.
        progress: Called with (images done, images).

    Raises:
        DataError: When an image cannot be read.
        StoreError: When the disk is full or the folder cannot be written.
    """
    from filelock import FileLock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f"{folder.name}.lock"):  # one looks, the others wait
            if found_in(folder) is None:
                _build(folder, table, root, detect, progress or (lambda _done, _total: None))
    except OSError as error:
        raise io.unwritable(folder, error) from error


def _build(folder: Path, table: pd.DataFrame, root: Path, detect: Detect, progress: Progress) -> None:
    io.sweep(folder)
    parts = []
    for number, start in enumerate(range(0, len(table), _PART)):
        rows = table.iloc[start : start + _PART]
        path = folder / f"part-{number}.parquet"
        found = _kept(path)
        if found is None:
            found = _detect(rows, root, detect)
            _write(path, found)
        parts.append(found)
        progress(start + len(rows), len(table))
    boxes = pd.concat(parts, ignore_index=True) if parts else _frame([], [])
    _write(boxes_file(folder), boxes)
    told = {"format": _FORMAT, "images": len(table), "with face": int(boxes["id"].nunique())}
    io.write_json(folder / "faces.json", {**told, "sha256": io.hash_file(boxes_file(folder))})
    for path in folder.glob("part-*.parquet"):
        path.unlink(missing_ok=True)


def _kept(path: Path) -> pd.DataFrame | None:
    """A part that an earlier job finished."""
    try:
        return pd.read_parquet(path, columns=["id", *SIDES])
    except Exception:  # absent, or damaged in whatever way: it is made again
        return None


def _detect(rows: pd.DataFrame, root: Path, detect: Detect) -> pd.DataFrame:
    def work(name: str) -> NDArray[np.float64]:
        return detect(read_image(io.safe_join(root, name)))

    with ThreadPoolExecutor(_cores()) as pool:
        found = list(pool.map(work, rows["path"].astype(str)))
    ids = [id_ for id_, boxes in zip(rows["id"].astype(str), found, strict=True) for _ in boxes]
    return _frame(ids, found)


def _frame(ids: list[str], found: list[NDArray[np.float64]]) -> pd.DataFrame:
    boxes = np.concatenate([np.zeros((0, 4)), *found])
    return pd.DataFrame({"id": pd.Series(ids, dtype=str), **{side: boxes[:, k] for k, side in enumerate(SIDES)}})


def _write(path: Path, frame: pd.DataFrame) -> None:
    with io.writing(path) as aside:
        frame.to_parquet(aside, compression="zstd", index=False)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
