"""The index of the official files: read once from JSON, kept as Parquet under a key of its content.

`images.parquet` has every image with its verb, what its agents tell, and the agent's box; `index.json`
has the verbs that have an agent, and counts.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from biasbench import SPLITS, DataError, Progress, StoreError, io, printable
from biasbench.builtin.datasets.coco_check import refuse
from biasbench.builtin.datasets.coco_files import content_hashes
from biasbench.builtin.datasets.coco_index import read_parquet, write_parquet
from biasbench.builtin.datasets.situations.files import Annotations
from biasbench.builtin.datasets.situations.gender import MAN, WOMAN, noun_genders, told
from biasbench.builtin.datasets.situations.records import Record, read_records, read_space

FORMAT = 1  # raise it when an index written before must not be read any more
FRAMES = 3  # of each image, in the release
BOX = ("x0", "y0", "x1", "y1", "width", "height")
_NO_BOX = (np.nan,) * len(BOX)


@dataclass(frozen=True)
class Index:
    """An index in memory.

    Attributes:
        images: Columns `split, name, verb` (text), `told` (int64 bits, see `gender`), `gender` (int64: 0
            man, 1 woman, -1 otherwise), and `x0, y0, x1, y1, width, height` (float64 pixels, NaN without
            a box); by split, then by name.
        with_agent: Verbs that have the role `agent`.
        odd_frames: Images by split that have another number of frames than three.
    """

    images: pd.DataFrame
    with_agent: frozenset[str]
    odd_frames: Mapping[str, int]


def open_index(sources: Annotations, cache: Path, progress: Progress | None = None) -> Index:
    """Load the index of these files, building it when their content is new.

    Args:
        sources: The JSON files, of imSitu or of SWiG.
        cache: Folder for indexes.
        progress: Called with (files read, files).

    Raises:
        DataError: When a file is missing, damaged or contradicts itself or another.
        StoreError: When the cache cannot be written.
    """
    hashes = content_hashes(sources.files(), cache / "hashes.json")
    folder = cache / io.hash_json({"format": FORMAT, "files": hashes})[:32]
    if folder.is_dir():
        try:
            return _load(folder)
        except (StoreError, KeyError, TypeError):
            shutil.rmtree(folder, ignore_errors=True)  # a damaged cache is built again
    with io.writing_folder(folder) as aside:
        _build(sources, aside, progress)
        if content_hashes(sources.files(), cache / "hashes.json") != hashes:
            raise DataError("the files changed while they were read", where=printable(sources.space), fix="Try again")
    return _load(folder)


def _load(folder: Path) -> Index:
    meta = io.read_json(folder / "index.json")
    images = read_parquet(folder / "images.parquet")
    if len(images) != meta["images"]:
        raise StoreError("the index is damaged", where=printable(folder))
    return Index(images, frozenset(meta["with agent"]), meta["odd frames"])


def _build(sources: Annotations, folder: Path, progress: Progress | None) -> None:
    space = read_space(sources.space)
    genders = noun_genders({noun: entry.gloss for noun, entry in space.nouns.items()})
    parts: dict[str, pd.DataFrame] = {}
    odd_frames: dict[str, int] = {}
    collecting = gc.isenabled()
    gc.disable()  # hundreds of thousands of records that form no cycles: the collector would only walk them
    try:
        for done, split in enumerate(SPLITS, 1):
            records = read_records(sources.parts[split], space)
            parts[split] = _table(split, records, genders)
            odd_frames[split] = sum(len(r.frames) != FRAMES for r in records.values())
            if progress is not None:
                progress(done, len(SPLITS))
    finally:
        if collecting:
            gc.enable()
    images = pd.concat(parts.values(), ignore_index=True)
    for name, rows in images[images["name"].duplicated(keep=False)].groupby("name"):
        files = " and in ".join(sources.parts[s].name for s in rows["split"])
        refuse([f"image {printable(name)!r} is in {files}"], sources.space.parent, "An image belongs to one split")
    write_parquet(images, folder / "images.parquet")
    verbs = sorted(name for name, verb in space.verbs.items() if "agent" in verb.roles)
    io.write_json(folder / "index.json", {"images": len(images), "with agent": verbs, "odd frames": odd_frames})


def _table(split: str, records: Mapping[str, Record], genders: Mapping[str, int]) -> pd.DataFrame:
    names = sorted(records)
    ordered = [records[name] for name in names]
    bits = np.array([told((f.agent or "" for f in r.frames), genders) for r in ordered], np.int64)
    boxes = np.array([_box(r) for r in ordered], np.float64).reshape(-1, len(BOX))
    table = pd.DataFrame(
        {
            "split": split,
            "name": names,
            "verb": [r.verb for r in ordered],
            "told": bits,
            "gender": np.select([bits == MAN, bits == WOMAN], [0, 1], -1).astype(np.int64),
        }
    )
    return pd.concat([table, pd.DataFrame(boxes, columns=list(BOX))], axis=1)


def _box(record: Record) -> tuple[Any, ...]:
    box = record.bb.agent if record.bb is not None else None
    if box is None or -1 in box:
        return _NO_BOX
    return (*box, record.width, record.height)
