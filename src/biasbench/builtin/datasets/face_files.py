"""What the bytes of image files tell without decoding: which are copies of each other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from biasbench import BiasBenchError, Progress, StoreError, io
from biasbench.builtin.datasets.coco_index import read_parquet, write_parquet


def stamps(root: Path, paths: Sequence[str]) -> list[list[int]]:
    """Size and time of each file; empty where there is none."""
    found = []
    for path in paths:
        try:
            status = (root / path).stat()
            found.append([status.st_size, status.st_mtime_ns])
        except OSError:
            found.append([])
    return found


def memory_of(root: Path, paths: Sequence[str], cache: Path, kind: str) -> Path:
    """Where something about these files is remembered, under their names, sizes and times."""
    key = io.hash_json([kind, str(root.resolve()), list(paths), stamps(root, paths)])
    return cache / f"{kind}-{key[:32]}.parquet"


def hashes(root: Path, paths: Sequence[str], cache: Path, progress: Progress | None = None) -> list[str]:
    """SHA-256 of each file, the empty text for one that is missing or unreadable; read once and remembered.

    Args:
        root: Folder that `paths` start from.
        paths: POSIX, relative.
        cache: Folder that remembers.
        progress: Called with (files done, files).
    """
    memory = memory_of(root, paths, cache, "hashes")
    try:
        return [str(text) for text in read_parquet(memory)["sha256"]]
    except (StoreError, KeyError):
        pass  # not remembered yet, or damaged

    def one(path: str) -> str:
        try:
            return io.hash_file(io.safe_join(root, path))
        except BiasBenchError:
            return ""

    found = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for done, text in enumerate(pool.map(one, paths), 1):
            found.append(text)
            if progress is not None and (done % 500 == 0 or done == len(paths)):
                progress(done, len(paths))
    write_parquet(pd.DataFrame({"sha256": found}), memory)
    return found
