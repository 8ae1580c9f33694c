"""LAOFIW: faces labelled with ancestral origin (Alvi, Zisserman and Nellåker 2018, section 3.1).

    ROOT/
      black/0.jpg ...  chinese/ ...  indian/ ...  white/ ...     a folder for each origin, named like this or after it
      list.csv                                                   or laofiw.csv; optional: file, class_id, split

A list says which images there are; without one, all in the folders are. docs/data-cards.md tells what its labels
are and are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from biasbench import SPLITS, Progress
from biasbench.builtin.datasets.face_duplicates import duplicates
from biasbench.builtin.datasets.face_set import FaceSet
from biasbench.builtin.datasets.laofiw_list import (
    LISTS,
    ORIGINS,
    TEST,
    VAL,
    class_folders,
    find_list,
    read_folders,
    read_list,
)

PUBLISHED = 14_000  # images, "roughly"


class Laofiw(FaceSet):
    """Faces of four ancestral origins; there is no other attribute.

    The task is the origin, which other data sets' runs may use as an attribute; measured against itself here,
    it says nothing. Splits are those of the list, else 70 % train, 10 % val, 20 % test, fixed by file name.

    Args:
        root: The folder of the images, with or without a list.
        cache: Folder for what is remembered.

    Raises:
        DataError: On first use, when the list is damaged or an origin has no image.
    """

    name: ClassVar[str] = "laofiw"
    primary_attribute: str = "ancestry"
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"ancestry": ORIGINS}
    obtain: ClassVar[tuple[str, ...]] = (
        "get the images from https://www.robots.ox.ac.uk/~vgg/data/laofiw/",
        "put them into a folder for each origin (black, chinese, indian, white) and name the folder with --data-root",
    )

    def __init__(self, root: Path, cache: Path) -> None:
        super().__init__(root, cache, "ancestry")

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        if (folder / LISTS[0]).is_file():
            return True
        found = class_folders(folder)
        return set(found.values()) == set(range(len(ORIGINS))) or _looks_like_a_list(folder / LISTS[1])

    def prepare(self, progress: Progress | None = None) -> None:
        _ = self._read

    @cached_property
    def _read(self) -> tuple[pd.DataFrame, str]:
        path = find_list(self.root)
        if path is None:
            rows, own = read_folders(self.root), False
        else:
            rows, own = read_list(path)
        share = f"fixed by file name: {TEST:g} test, {VAL:g} val"
        return rows.assign(id=rows["path"]), f"of {path.name}" if path is not None and own else share

    @property
    def faces(self) -> pd.DataFrame:
        return self._read[0]

    def notes(self) -> Mapping[str, Any]:
        """Counts against the paper's, of origins and splits, and of images that are the same.

        Looking for the same images opens every one, the first time.
        """
        rows, splits = self._read
        codes = rows["attribute/ancestry"]
        found = duplicates(self.root, rows, "attribute/ancestry", self.cache / self.name)
        return {
            "images": len(rows),
            "in the paper": PUBLISHED,
            "fewer than in the paper": PUBLISHED - len(rows),
            "origins": {name: int((codes == k).sum()) for k, name in enumerate(ORIGINS)},
            "splits": splits,
            **{split: int((rows["split"] == split).sum()) for split in SPLITS},
            **found,
        }


def _looks_like_a_list(path: Path) -> bool:
    """Whether a file of a common name is ours, by its first line."""
    try:
        with open(path, "rb") as file:
            header = file.readline(1000).decode(errors="replace").lstrip("\ufeff").strip().split(",")
    except OSError:
        return False
    return "file" in header and "class_id" in header
