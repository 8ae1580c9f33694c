"""Which image is in which split: a published part, a coin that depends on its id alone, or a list."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from biasbench import SPLITS, DataError, Split, printable
from biasbench.builtin.datasets.coco_check import refuse
from biasbench.builtin.datasets.coco_json import read_file


def half(image_id: int) -> Split:
    """The split of an image of COCO's validation part: `"val"` or `"test"`.

    Example:
        >>> [half(i) for i in (42, 73, 74, 133)]
        ['val', 'test', 'val', 'test']
    """
    return "test" if hashlib.sha256(f"coco-split-1:{image_id}".encode()).digest()[0] & 128 else "val"


def by_part(images: pd.DataFrame) -> pd.Series[str]:
    """The split of each image when no lists are given."""
    trained, ids = (images["part"] == "train").tolist(), images["image_id"].tolist()  # plain values: a row in 1 µs
    found = ["train" if train else half(i) for train, i in zip(trained, ids, strict=True)]
    return pd.Series(found, images.index, dtype=object)


def by_lists(images: pd.DataFrame, lists: str, root: Path) -> pd.Series[str]:
    """The split of each image by id lists, "" for those in none.

    Args:
        images: With column `image_id`.
        lists: A folder with `train.txt`, `val.txt` and `test.txt`, or a template with `{split}`.
        root: Folder that a relative path starts from.

    Raises:
        DataError: Naming file and line of an id that is unknown, listed before or no number.
    """
    chosen = pd.Series("", pd.Index(images["image_id"]), dtype=object)
    places: dict[int, str] = {}
    for split in SPLITS:
        path = root / (lists.replace("{split}", split) if "{split}" in lists else f"{lists}/{split}.txt")
        try:
            lines = read_file(path).decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise DataError("not a text file of image ids", where=printable(path)) from error
        unknown, twice = [], []
        for number, line in enumerate(lines, 1):
            text = line.partition("#")[0].strip()
            if not text:
                continue
            image_id = int(text) if text.isascii() and text.isdigit() and len(text) < 18 else -1
            if image_id not in chosen.index:
                unknown.append(f"line {number}: {printable(text)!r} is not the id of an image here")
            elif image_id in places:
                twice.append(f"line {number}: image {image_id} is listed already ({places[image_id]})")
            else:
                places[image_id] = f"{path.name}, line {number}"
                chosen[image_id] = split
        refuse(unknown, path, "Use lists made for this release")
        refuse(twice, path, "An image belongs to one split")
    return chosen.reset_index(drop=True)
