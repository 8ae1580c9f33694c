"""UTKFace: faces with age, gender and race in their file names (Zhang, Song and Qi, CVPR 2017).

The folder, as released:

    ROOT/
      UTKFace/26_1_2_20170116184024662.jpg.chip.jpg ...     aligned and cropped; or crop_part1/, or ROOT itself

A part of the original pictures (part1, part2, part3) is read with `images="part1"`.
docs/data-cards.md tells what its labels are and are not.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from biasbench import Progress
from biasbench.builtin.datasets.face_ages import AGE_CLASSES
from biasbench.builtin.datasets.face_balance import GENDERS
from biasbench.builtin.datasets.face_files import hashes
from biasbench.builtin.datasets.face_set import FaceSet, below, folder_option
from biasbench.builtin.datasets.face_splits import Protocol, split_faces
from biasbench.builtin.datasets.utkface_names import ANCESTRIES, Listing, list_faces, read_name

FOLDERS = ("UTKFace", "crop_part1")


class Utkface(FaceSet):
    """Faces with age (12 classes), gender and race (as `ancestry`), as told by their file names.

    Images whose name does not tell all three are left out and counted. The release has neither splits nor
    identities: copies of one file go together, other pictures of one person may not.

    Args:
        root: The folder of the release.
        cache: Folder for what is remembered.
        task: What is predicted, `"age"`, `"gender"` or `"ancestry"`; the others are protected.
        bias: `"eb1"` trains on young women and old men, `"eb2"` on old women and young men; `"none"`.
        thresholds: Of the bias: `"30/40"` or `"35/45"`; young is below the first, old from the second on.
        balanced: Whether the test split has equally many women and men in each age class, or all that is withheld.
        val: Share of the different files in val.
        test: Share of the different files withheld for the test.
        images: Folder of the images below `root`; empty: the first that is there of `UTKFace`, `crop_part1` and
            `root` itself.

    Raises:
        UsageError: For an option that cannot be meant.
        DataError: On first use, when there is no such image.
    """

    name: ClassVar[str] = "utkface"
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"gender": GENDERS, "age": AGE_CLASSES, "ancestry": ANCESTRIES}
    obtain: ClassVar[tuple[str, ...]] = (
        "get the aligned and cropped faces (UTKFace.tar.gz) from https://susanqq.github.io/UTKFace/",
        "and name the folder that then holds UTKFace with --data-root",
    )

    def __init__(
        self,
        root: Path,
        cache: Path,
        *,
        task: str = "age",
        bias: str = "none",
        thresholds: str = "30/40",
        balanced: bool = True,
        val: float = 0.1,
        test: float = 0.2,
        images: str = "",
    ) -> None:
        super().__init__(root, cache, task)
        self.protocol = Protocol(self.name, bias, thresholds, balanced, val, test)
        self.images = images
        folder_option(self.name, self.root, images, FOLDERS)

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        if any((folder / name).is_dir() for name in FOLDERS):
            return True
        with os.scandir(folder) as entries:
            return any(_well_named(entry.name) for entry in entries)

    def prepare(self, progress: Progress | None = None) -> None:
        if "_split" not in self.__dict__:
            self.__dict__["_split"] = self._read(progress)

    @cached_property
    def _split(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        return self._read()

    @cached_property
    def _listing(self) -> Listing:
        return list_faces(self.root / folder_option(self.name, self.root, self.images, FOLDERS))

    def _read(self, progress: Progress | None = None) -> tuple[pd.DataFrame, dict[str, Any]]:
        folder = folder_option(self.name, self.root, self.images, FOLDERS)
        faces = self._listing.faces.rename(columns={"name": "id"})
        faces["path"] = [below(folder, name) for name in faces["id"]]
        content = hashes(self.root, faces["path"].tolist(), self.cache / self.name, progress)
        faces["identity"] = [text or name for text, name in zip(content, faces["id"], strict=True)]
        copies = faces.groupby("identity").filter(lambda group: len(group) > 1)
        labels = copies.groupby("identity")[["years", "attribute/gender", "attribute/ancestry"]].nunique()
        rows, notes = split_faces(faces, self.protocol)
        told = {
            "files that are copies of another": len(copies) - len(labels),
            "pictures in several copies": len(labels),
            "of these with labels that contradict": int((labels > 1).any(axis=1).sum()),
        }
        return rows, {**told, **notes}

    @property
    def faces(self) -> pd.DataFrame:
        return self._split[0]

    def notes(self) -> Mapping[str, Any]:
        """Counts of malformed names, of copies, and of the splits."""
        return {"files": len(self._listing.faces), **self._listing.problems(), **self._split[1]}


def _well_named(name: str) -> bool:
    try:
        read_name(name)
    except ValueError:
        return False
    return True
