"""The index of a COCO folder: read once from JSON, kept as Parquet under a key of its content.

`images.parquet` has every image, with a status that says whether and why it is dropped;
`region-NAME.parquet` has the boxes and raw segments that a region is made of, for the images that
can become rows; `index.json` has names and counts.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from biasbench import DataError, Progress, StoreError, io, printable
from biasbench.builtin.datasets import coco_side
from biasbench.builtin.datasets.captions import WordList, mentions
from biasbench.builtin.datasets.coco_check import check_captions, check_instances, int_column
from biasbench.builtin.datasets.coco_files import PARTS, Sources, content_hashes
from biasbench.builtin.datasets.coco_json import Captions, Instances, decode, read_file, refuse_repeated_keys

FORMAT = 1  # raise it when an index written before must not be read any more
STATUSES = ("kept", "no other object", "no people", "no caption", "no gender word", "both genders")
KEPT, NO_OTHER, NO_PEOPLE, NO_CAPTION, NO_WORD, BOTH = range(len(STATUSES))


@dataclass(frozen=True)
class Index:
    """An index in memory.

    Attributes:
        folder: Where it lies.
        images: Columns `part, image_id, file_name, height, width, status, gender`, a column
            `attribute/NAME` each, and a uint8 column `label/NAME` for each category but `person`;
            by part, then by image id.
        meta: Content of `index.json`: `labels`, `attributes`, `regions` (kind by name), `counts`.
    """

    folder: Path
    images: pd.DataFrame
    meta: dict[str, Any]

    def areas(self, region: str) -> pd.DataFrame:
        """What a region is made of: `image_id, x, y, w, h, segmentation`, by image id."""
        return read_parquet(self.folder / f"region-{region}.parquet")


def open_index(sources: Sources, words: WordList, cache: Path, progress: Progress | None = None) -> Index:
    """Load the index of these files, building it when their content is new.

    Args:
        sources: The annotation files.
        words: Decides genders.
        cache: Folder for indexes.
        progress: Called with (steps done, steps).

    Raises:
        DataError: When a file is missing, damaged or contradicts itself.
        StoreError: When the cache cannot be written.
    """
    hashes = content_hashes(sources.files(), cache / "hashes.json")
    identity = {"format": FORMAT, "year": sources.year, "files": hashes, "words": words.identity()}
    folder = cache / io.hash_json(identity)[:32]
    if folder.is_dir():
        try:
            return load_index(folder)
        except (StoreError, KeyError, TypeError):
            shutil.rmtree(folder, ignore_errors=True)  # a damaged cache is built again
    with io.writing_folder(folder) as aside:
        _build(sources, words, aside, progress)
        if content_hashes(sources.files(), cache / "hashes.json") != hashes:
            raise DataError("the files changed while they were read", where=printable(sources.folder), fix="Try again")
    return load_index(folder)


def load_index(folder: Path) -> Index:
    """An index that was built in a folder.

    Raises:
        StoreError: When it is damaged.
    """
    meta = io.read_json(folder / "index.json")
    images = read_parquet(folder / "images.parquet")
    if len(images) != meta["images"] or _region_hashes(folder) != meta["hashes"]:
        raise StoreError("the index is damaged", where=printable(folder))
    return Index(folder, images, meta)


def _region_hashes(folder: Path) -> dict[str, str]:
    return {path.name: io.hash_file(path) for path in sorted(folder.glob("region-*.parquet"))}


def read_parquet(path: Path) -> pd.DataFrame:
    """A Parquet file of ours, its page checksums verified.

    Raises:
        StoreError: When it is missing or damaged.
    """
    try:
        table = pq.read_table(path, page_checksum_verification=True, memory_map=False, partitioning=None)
        frame: pd.DataFrame = table.to_pandas()
        return frame
    except (OSError, pa.ArrowException) as error:
        raise StoreError("cannot be read as Parquet", where=printable(path), fix="Delete its folder") from error


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a Parquet file with page checksums, whole or not at all."""
    with io.writing(path) as aside:
        table = pa.Table.from_pandas(frame, preserve_index=False)
        pq.write_table(table, aside, compression="zstd", write_page_checksum=True)


def _build(sources: Sources, words: WordList, folder: Path, progress: Progress | None) -> None:
    steps = _Steps(progress, total=2 * len(PARTS) + 2)
    collecting = gc.isenabled()
    gc.disable()  # millions of records that form no cycles: the collector would only walk them
    try:
        parts = {part: _read_part(sources, part, words, steps) for part in PARTS}
    finally:
        if collecting:
            gc.enable()
    first, second = (parts[p] for p in PARTS)
    if first.categories != second.categories:
        raise DataError(
            "the two instances files have different categories", where=printable(sources.folder), fix="Use one release"
        )
    shared = np.intersect1d(first.images["image_id"], second.images["image_id"])
    if len(shared):
        more = f" (and {len(shared) - 1} more like it)" if len(shared) > 1 else ""
        raise DataError(
            f"image id {shared[0]} is in {' and in '.join(sources.instances[p].name for p in PARTS)}{more}",
            where=printable(sources.folder),
            fix="Training and evaluation must not share images",
        )
    groups = _add_attributes(sources, {p: parts[p].images for p in PARTS})
    images = pd.concat([parts[p].images for p in PARTS], ignore_index=True)
    regions = {"person": pd.concat([parts[p].people for p in PARTS], ignore_index=True)}
    sizes = {i: (h, w) for i, h, w in images[["image_id", "height", "width"]].itertuples(index=False)}
    for name, files in sources.regions.items():
        regions[name] = _read_region(files, images, sizes)
    steps.advance()
    write_parquet(images, folder / "images.parquet")
    for name, areas in regions.items():
        write_parquet(areas, folder / f"region-{name}.parquet")
    meta = {
        "labels": [name for _, name in first.categories if name != "person"],
        "attributes": groups,
        "regions": {name: _kind(areas) for name, areas in regions.items()},
        "counts": {f"{p}{sources.year}": parts[p].counts for p in PARTS},
        "images": len(images),
        "hashes": _region_hashes(folder),
    }
    io.write_json(folder / "index.json", meta)
    steps.advance()


class _Steps:
    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.done, self.total = progress, 0, total

    def advance(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


@dataclass(frozen=True)
class _Part:
    images: pd.DataFrame
    people: pd.DataFrame
    categories: list[tuple[int, str]]
    counts: dict[str, int]


def _read_part(sources: Sources, part: str, words: WordList, steps: _Steps) -> _Part:
    path = sources.instances[part]
    raw = read_file(path)
    content = decode(raw, Instances, path)
    warnings = check_instances(content, path)
    refuse_repeated_keys(raw, len(content.annotations), path)
    steps.advance()
    categories = sorted((c.id, c.name) for c in content.categories)
    content.images.sort(key=lambda i: i.id)
    ids = int_column(content.images, "id")
    captioned, mentioned = _read_captions(sources.captions[part], ids, words)
    steps.advance()
    person = next(i for i, name in categories if name == "person")
    present = np.zeros((len(ids), len(categories)), np.uint8)
    rows = np.searchsorted(ids, int_column(content.annotations, "image_id"))
    kinds = int_column(content.annotations, "category_id")
    present[rows, np.searchsorted([i for i, _ in categories], kinds)] = 1
    people = present[:, [i == person for i, _ in categories]].ravel() > 0
    other = present[:, [i != person for i, _ in categories]].any(1)
    man, woman = mentioned.T
    rules = [~people, ~captioned, ~(man | woman), man & woman, ~other]
    status = np.select(rules, [NO_PEOPLE, NO_CAPTION, NO_WORD, BOTH, NO_OTHER], KEPT)
    usable = (status == KEPT) | (status == NO_OTHER)
    images = pd.DataFrame(
        {
            "part": part,
            "image_id": ids,
            "file_name": [i.file_name for i in content.images],
            "height": int_column(content.images, "height"),
            "width": int_column(content.images, "width"),
            "status": status.astype(np.int8),
            "gender": np.where(usable, woman, -1).astype(np.int64),
        }
    )
    labels = {f"label/{name}": present[:, k] for k, (_, name) in enumerate(categories) if name != "person"}
    chosen = np.flatnonzero((kinds == person) & usable[rows])
    chosen = chosen[np.argsort(rows[chosen], kind="stable")]
    areas = [content.annotations[r] for r in chosen]
    counts = {
        "images": len(ids),
        "annotations": len(content.annotations),
        "crowd annotations": warnings.crowd,
        "boxes outside their image or empty": warnings.outside_boxes,
        "annotations with a degenerate polygon": warnings.degenerate,
        "images with people": int(people.sum()),
        "images without a caption": int((~captioned).sum()),
        **{name: int((status == code).sum()) for code, name in enumerate(STATUSES)},
    }
    return _Part(pd.concat([images, pd.DataFrame(labels)], axis=1), _people_table(areas), categories, counts)


def _people_table(areas: Sequence[Any]) -> pd.DataFrame:
    boxes = np.array([a.bbox for a in areas], np.float64).reshape(-1, 4)
    return pd.DataFrame(
        {
            "image_id": int_column(areas, "image_id"),
            **{side: boxes[:, k] for k, side in enumerate("xywh")},
            "segmentation": np.array([bytes(a.segmentation) for a in areas], object),
        }
    )


def _read_captions(
    path: Path, ids: np.ndarray[Any, np.dtype[np.int64]], words: WordList
) -> tuple[np.ndarray[Any, np.dtype[np.bool_]], np.ndarray[Any, np.dtype[np.bool_]]]:
    """Whether each image has a caption [N], and whether its captions mention a man, a woman [N, 2]."""
    content = decode(read_file(path), Captions, path)
    check_captions(content, ids, path)
    rows = np.searchsorted(ids, int_column(content.annotations, "image_id"))
    found = np.array([mentions((c.caption,), words) for c in content.annotations], np.bool_).reshape(-1, 2)
    captioned, mentioned = np.zeros(len(ids), np.bool_), np.zeros((len(ids), 2), np.bool_)
    captioned[rows] = True
    np.logical_or.at(mentioned, rows, found)
    return captioned, mentioned


def _add_attributes(sources: Sources, images: dict[str, pd.DataFrame]) -> coco_side.Groups:
    """Join the side tables of attributes into the images of each part, in place; returns their groups."""
    if not sources.attributes:
        return {}
    tables = {p: coco_side.read_attributes(sources.attributes[p], list(images[p]["image_id"])) for p in PARTS}
    codes, groups = coco_side.encode_attributes(tables, coco_side.read_groups(sources.groups), sources.attributes)
    for part in PARTS:
        joined = codes[part].reindex(images[part]["image_id"], fill_value=-1)
        for name in groups:
            images[part][f"attribute/{name}"] = joined[name].to_numpy(np.int64)
    return groups


def _read_region(files: dict[str, Path], images: pd.DataFrame, sizes: dict[int, tuple[int, int]]) -> pd.DataFrame:
    tables = []
    for part in PARTS:
        own = images.loc[images["part"] == part, "image_id"]
        tables.append(coco_side.read_region(files[part], {i: sizes[i] for i in own}))
    if len({_kind(t) for t in tables if len(t)}) > 1:
        raise DataError("the two parts must both have boxes, or both segments", where=printable(files["train"]))
    return pd.concat(tables, ignore_index=True).sort_values("image_id", kind="stable", ignore_index=True)


def _kind(areas: pd.DataFrame) -> Literal["boxes", "masks"]:
    return "boxes" if len(areas) and not areas["x"].isna().any() and not areas["segmentation"].iloc[0] else "masks"
