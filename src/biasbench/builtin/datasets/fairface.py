"""FairFace: faces with age group, gender and race, near balanced over race (Kärkkäinen and Joo, WACV 2021).

The folder, as released:

    ROOT/
      fairface_label_train.csv  fairface_label_val.csv
      fairface-img-margin025-trainval/train/1.jpg ...     or margin125; or train/ and val/ in ROOT

The release has no test split: its val is the test split here, and val is a fixed tenth of its train.
docs/data-cards.md tells what its labels are and are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from biasbench import SPLITS, DataError, Progress, UsageError, printable
from biasbench.builtin.datasets.coco_check import refuse
from biasbench.builtin.datasets.face_balance import GENDERS, fixed_numbers
from biasbench.builtin.datasets.face_set import FaceSet, below, folder_option
from biasbench.builtin.datasets.fairface_csv import AGES, ANCESTRIES, read_labels

FILES = ("fairface_label_train.csv", "fairface_label_val.csv")
FOLDERS = ("fairface-img-margin025-trainval", "fairface-img-margin125-trainval")


class Fairface(FaceSet):
    """Faces with age (9 groups as released), gender and race (7 groups, as `ancestry`), as three annotators saw them.

    Args:
        root: The folder of the release.
        cache: Folder for what is remembered.
        task: What is predicted, `"age"`, `"gender"` or `"ancestry"`; the others are protected.
        val: Share of the released training images that is val.
        images: Folder of the images below `root`; empty: the first that is there of
            `fairface-img-margin025-trainval`, `fairface-img-margin125-trainval` and `root` itself.

    Raises:
        UsageError: For an option that cannot be meant.
        DataError: On first use, when a label file is missing, damaged or contradicts itself.
    """

    name: ClassVar[str] = "fairface"
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"gender": GENDERS, "age": AGES, "ancestry": ANCESTRIES}
    obtain: ClassVar[tuple[str, ...]] = (
        "get both label files and fairface-img-margin025-trainval.zip from https://github.com/joojs/fairface",
        "unpack the images beside the label files",
        "and name the folder with --data-root",
    )

    def __init__(self, root: Path, cache: Path, *, task: str = "age", val: float = 0.1, images: str = "") -> None:
        super().__init__(root, cache, task)
        if not 0 < val < 1:
            raise UsageError(f"{self.name}: val must be above 0 and below 1, not {val}")
        self.val, self.images = val, images
        folder_option(self.name, self.root, images, FOLDERS)

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return any((folder / name).exists() for name in FILES)

    def prepare(self, progress: Progress | None = None) -> None:
        _ = self._read

    @cached_property
    def _read(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        missing = [name for name in FILES if not (self.root / name).exists()]
        if missing:
            how = "; ".join(self.obtain)
            raise DataError(f"missing: {', '.join(missing)}", where=printable(self.root), fix=how)
        (train, dated), (test, more) = (read_labels(self.root / name) for name in FILES)
        both = sorted(set(train["file"]) & set(test["file"]))
        told = [f"{printable(file)!r} is in {' and in '.join(FILES)}" for file in both]
        refuse(told, self.root, "An image belongs to one file")
        number = fixed_numbers(train["file"].tolist(), self.name, "split")
        train["split"], test["split"] = np.where(number < self.val, "val", "train"), "test"
        rows = pd.concat([train, test], ignore_index=True)
        folder = folder_option(self.name, self.root, self.images, FOLDERS)
        rows = rows.assign(id=rows["file"], path=[below(folder, file) for file in rows["file"]])
        dates: Counter[str] = dated + more
        notes: dict[str, Any] = {
            "ages that a spreadsheet has turned into dates, and that were read back": sum(dates.values()),
            "dates": dict(sorted(dates.items())),
            "test": "the released val",
            "val": f"{self.val:g} of the released train",
        }
        return rows, {**notes, "rows": {split: int((rows["split"] == split).sum()) for split in SPLITS}}

    @property
    def faces(self) -> pd.DataFrame:
        return self._read[0]

    def notes(self) -> Mapping[str, Any]:
        """What was repaired in the label files, and the sizes of the splits."""
        return self._read[1]
