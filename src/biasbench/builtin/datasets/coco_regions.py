"""People and further regions as the masks and boxes that pixel edits use."""

from __future__ import annotations

import numpy as np
import pandas as pd

from biasbench import StoreError
from biasbench.builtin.datasets import coco_segments
from biasbench.builtin.datasets.coco_index import Index, read_parquet, write_parquet

BOX_EACH, BOX_UNION = "person-box-each", "person-box-union"


def region_names(index: Index) -> list[str]:
    """Every region that this index can give.

    `person` is the union of all person segments, crowds included; `person-box-each` are the
    annotated boxes; `person-box-union` is one rectangle around the pixels of `person`. The paper's
    release paints that rectangle without its last row and column; here it is whole.
    """
    return [*index.meta["regions"], BOX_EACH, BOX_UNION]


def region_table(index: Index, name: str) -> pd.DataFrame:
    """A region of all images that can become rows, with `image_id` for `id` (see `Dataset.region`)."""
    if name == BOX_EACH:
        return boxes(index, "person")
    if name == BOX_UNION:
        masks = _masks(index, "person")
        return masks.loc[masks["x1"] > masks["x0"], ["image_id", "x0", "y0", "x1", "y1"]]
    if index.meta["regions"][name] == "boxes":
        return boxes(index, name)
    return _masks(index, name)[["image_id", "height", "width", "counts"]]


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


def _masks(index: Index, name: str) -> pd.DataFrame:
    """One mask an image with its bounds; worked out once and kept beside the index."""
    path = index.folder / f"masks-{name}.parquet"
    if path.exists():
        try:
            return read_parquet(path)
        except StoreError:
            path.unlink(missing_ok=True)  # a damaged cache is made again
    masks = _draw(index, name)
    write_parquet(masks, path)
    return masks


def _draw(index: Index, name: str) -> pd.DataFrame:
    areas = index.areas(name)
    images = index.images
    sizes = dict(zip(images["image_id"], zip(images["height"], images["width"], strict=True), strict=True))
    rows = []
    for image_id, segments in areas.groupby("image_id", sort=True)["segmentation"]:
        height, width = sizes[image_id]
        counts = coco_segments.union(list(segments), height, width)
        rows.append((image_id, height, width, counts, *coco_segments.bounds(counts, height, width)))
    columns = ["image_id", "height", "width", "counts", "x0", "y0", "x1", "y1"]
    table = pd.DataFrame.from_records(rows, columns=columns)
    return table.astype(dict.fromkeys(columns[:3], np.int64) | dict.fromkeys(columns[4:], np.float64))
