"""People and further regions as the masks and boxes that pixel edits use.

Masks are drawn from a user's segments by pycocotools, in a process of its own with limits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from biasbench import StoreError, sandbox
from biasbench.builtin.datasets import coco_segments
from biasbench.builtin.datasets.coco_index import Index, load_index, read_parquet, write_parquet

_MADE = "masks.parquet"
_MEMORY, _SECONDS = 8 << 30, 1800  # for all images: those of COCO 2014 take a tenth
BOX_EACH, BOX_UNION = "person-box-each", "person-box-union"


def region_names(index: Index) -> list[str]:
    """Every region that this index can give.

    `person` is the union of all person segments, crowds included; `person-box-each` are the
    annotated boxes; `person-box-union` is one rectangle around the pixels of `person`. The paper's
    release paints that rectangle without its last row and column; here it is whole.
    """
    return [*index.meta["regions"], BOX_EACH, BOX_UNION]


def region_table(index: Index, name: str, source: Path) -> pd.DataFrame:
    """A region of all images that can become rows, with `image_id` for `id` (see `Dataset.region`).

    Args:
        index: Of the annotations.
        name: One of `region_names`.
        source: Where the annotations lie, for errors.

    Raises:
        DataError: When the masks cannot be drawn.
    """
    if name == BOX_EACH:
        return boxes(index, "person")
    if name == BOX_UNION:
        masks = _masks(index, "person", source)
        return masks.loc[masks["x1"] > masks["x0"], ["image_id", "x0", "y0", "x1", "y1"]]
    if index.meta["regions"][name] == "boxes":
        return boxes(index, name)
    return _masks(index, name, source)[["image_id", "height", "width", "counts"]]


def boxes(index: Index, name: str) -> pd.DataFrame:
    """Annotated boxes, cut at the edges of the image; those with nothing left are gone."""
    areas = index.areas(name)
    sizes = index.images.set_index("image_id")[["height", "width"]].loc[areas["image_id"]]
    height, width = sizes["height"].to_numpy(np.float64), sizes["width"].to_numpy(np.float64)
    x, y, w, h = (areas[side].to_numpy(np.float64) for side in "xywh")
    table = pd.DataFrame(
        {
            "image_id": areas["image_id"].to_numpy(np.int64),
            "x0": np.clip(x, 0, width),
            "y0": np.clip(y, 0, height),
            "x1": np.clip(x + w, 0, width),
            "y1": np.clip(y + h, 0, height),
        }
    )
    return table[(table["x1"] > table["x0"]) & (table["y1"] > table["y0"])]


def _masks(index: Index, name: str, source: Path) -> pd.DataFrame:
    """One mask an image with its bounds; worked out once and kept beside the index."""
    path = index.folder / f"masks-{name}.parquet"
    if path.exists():
        try:
            return read_parquet(path)
        except StoreError:
            path.unlink(missing_ok=True)  # a damaged cache is made again
    options = {"index": str(index.folder), "name": name}
    with sandbox.read_apart(f"{__name__}:draw", source, options, memory=_MEMORY, seconds=_SECONDS) as made:
        masks = read_parquet(made / _MADE)
    write_parquet(masks, path)
    return masks


def draw(_source: Path, made: Path, index: str, name: str) -> None:
    """Draw the masks of an index's region into a folder: called in a process of its own."""
    read = load_index(Path(index))
    areas, images = read.areas(name), read.images
    sizes = dict(zip(images["image_id"], zip(images["height"], images["width"], strict=True), strict=True))
    rows = []
    for image_id, segments in areas.groupby("image_id", sort=True)["segmentation"]:
        height, width = sizes[image_id]
        counts = coco_segments.union(list(segments), height, width)
        rows.append((image_id, height, width, counts, *coco_segments.bounds(counts, height, width)))
    columns = ["image_id", "height", "width", "counts", "x0", "y0", "x1", "y1"]
    table = pd.DataFrame.from_records(rows, columns=columns)
    table = table.astype(dict.fromkeys(columns[:3], np.int64) | dict.fromkeys(columns[4:], np.float64))
    write_parquet(table, made / _MADE)
