"""Images that are the same: byte by byte, or to the eye."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from biasbench import StoreError, io
from biasbench.builtin.datasets.coco_check import MAX_PIXELS
from biasbench.builtin.datasets.coco_index import read_parquet, write_parquet
from biasbench.builtin.datasets.face_files import hashes, memory_of

SIDE = 16  # bits in each direction
DISTANCE = 24  # bits of 256 in which near duplicates may differ
_BLOCK = 1024
Bits = NDArray[np.bool_]  # [N, 256]


def difference_hash(image: Image.Image) -> NDArray[np.bool_]:
    """[256] bits of a picture that say where brightness falls from left to right, at 17 by 16 pixels.

    The picture is made grey and scaled with Lanczos' filter. Scaling, compression, blur, watermarks and mild
    changes of colour move few bits; mirroring and cropping move many. The usual 64 bits do not tell aligned
    portraits of different people apart.

    Example:
        >>> bool(difference_hash(Image.new("RGB", (20, 20))).any())
        False
    """
    small = np.asarray(image.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.LANCZOS), np.int16)
    return (small[:, :-1] > small[:, 1:]).ravel()


def difference_hashes(root: Path, paths: Sequence[str], cache: Path) -> tuple[Bits, NDArray[np.bool_]]:
    """[N, 256] difference hashes, and [N] which files could be opened; computed once and remembered.

    Args:
        root: Folder that `paths` start from.
        paths: POSIX, relative.
        cache: Folder that remembers.
    """
    memory = memory_of(root, paths, cache, "pictures")
    try:
        known = read_parquet(memory)
        packed = np.frombuffer(b"".join(known["hash"]), np.uint8).reshape(len(known), -1)
        return np.unpackbits(packed, axis=1).astype(bool), known["opened"].to_numpy(bool)
    except (StoreError, KeyError, ValueError):
        pass  # not remembered yet, or damaged

    def one(path: str) -> NDArray[np.bool_] | None:
        try:
            with Image.open(io.safe_join(root, path), formats=["JPEG", "PNG"]) as image:
                return difference_hash(image) if image.width * image.height <= MAX_PIXELS else None
        except Exception:  # hostile bytes raise anything; the file is refused, by name, where pixels are read
            return None

    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # of pictures that are large or strangely tagged
        found = list(pool.map(one, paths))
    opened = np.array([bits is not None for bits in found], bool)
    values = np.array([np.zeros(SIDE**2, bool) if bits is None else bits for bits in found]).reshape(-1, SIDE**2)
    packed = np.packbits(values, axis=1)
    write_parquet(pd.DataFrame({"hash": [row.tobytes() for row in packed], "opened": opened}), memory)
    return values, opened


def near_pairs(bits: Bits, distance: int = DISTANCE) -> NDArray[np.int64]:
    """[P, 2] pairs of rows, the smaller first, whose bits differ in at most `distance` places.

    Example:
        >>> near_pairs(np.array([[0, 0, 0], [0, 0, 1], [0, 1, 1]], bool), 1).tolist()
        [[0, 1], [1, 2]]
    """
    signs = np.where(bits, 1, -1).astype(np.float32)  # a product of two rows counts, exactly, equal minus unequal
    found = []
    for start in range(0, len(signs), _BLOCK):
        differ = (signs.shape[1] - signs[start : start + _BLOCK] @ signs[start:].T) / 2  # [B, rest]
        a, b = np.nonzero(differ <= distance)
        found.append(np.stack([a, b], 1)[b > a] + start)
    return np.concatenate(found).astype(np.int64) if found else np.zeros((0, 2), np.int64)


def duplicates(root: Path, rows: pd.DataFrame, label: str, cache: Path) -> dict[str, Any]:
    """Counts of exact and near duplicates among images; files that are missing are left out.

    Args:
        root: Folder that paths start from.
        rows: Columns `path`, `split` and a column of labels.
        label: Its name.
        cache: Folder that remembers.

    Returns:
        JSON-able: images compared, and of each kind the groups, the images beyond the first of each group, and
        the groups that lie in two splits or have two labels. A near duplicate may be one through others.
    """
    paths = rows["path"].tolist()
    content = np.array(hashes(root, paths, cache), object)
    there = content != ""
    found: dict[str, Any] = {"images compared": int(there.sum())}
    if not there.any():
        return found
    found["exact duplicates"] = _told(np.unique(content[there].astype(str), return_inverse=True)[1], rows[there], label)
    values, opened = difference_hashes(root, paths, cache)
    found["near duplicates"] = {
        "rule": f"difference hashes of {SIDE**2} bits that differ in at most {DISTANCE}",
        "not opened": int(there.sum() - opened.sum()),
        **_told(near_groups(values[opened]), rows[opened], label),
    }
    return found


def near_groups(bits: Bits) -> NDArray[np.int64]:
    """[N] numbers of the groups that near pairs connect.

    Example:
        >>> near_groups(np.zeros((2, 256), bool)).tolist()
        [0, 0]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs, n = near_pairs(bits), len(bits)
    if not n:
        return np.zeros(0, np.int64)
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _told(group: NDArray[np.int64], rows: pd.DataFrame, label: str) -> dict[str, int]:
    same = (
        rows.assign(group=group).groupby("group").agg(n=("path", "size"), s=("split", "nunique"), c=(label, "nunique"))
    )
    several = same[same["n"] > 1]
    return {
        "groups": len(several),
        "images beyond the first": int((several["n"] - 1).sum()),
        "groups in two splits": int((several["s"] > 1).sum()),
        "groups of two classes": int((several["c"] > 1).sum()),
    }
