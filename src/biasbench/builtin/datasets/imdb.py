"""IMDB: faces of actors with age and gender (Rothe et al. 2015; Alvi et al. 2018, section 3.2).

The folder, as released:

    ROOT/
      imdb_crop/imdb.mat              Matlab struct: dob, photo_taken, full_path, gender, face_score, ...
      imdb_crop/00/ ... imdb_crop/99/ images, by `full_path`

`imdb.mat` may also lie in ROOT or ROOT/imdb; images are needed only where pixels are read.
docs/data-cards.md tells what its labels are and are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from biasbench import DataError, Progress, UsageError, printable
from biasbench.builtin.datasets.face_ages import AGE_CLASSES
from biasbench.builtin.datasets.face_balance import GENDERS
from biasbench.builtin.datasets.face_set import FaceSet, below, choose, folder_option, own_file
from biasbench.builtin.datasets.face_splits import Protocol, split_faces
from biasbench.builtin.datasets.imdb_clean import RULES, defects, find_mat, select
from biasbench.builtin.datasets.imdb_index import open_metadata

PAGE = "https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/"


class Imdb(FaceSet):
    """Faces of actors with age (12 classes) and gender, both from their profiles.

    Age is the year of the photo minus the year of birth. Splits are by identity and fixed; nothing is drawn anew.

    Args:
        root: The folder of the release.
        cache: Folder for indexes.
        task: What is predicted, `"age"` or `"gender"`; the other one is protected.
        clean: `"score"`: a face with a score of at least `min_score` and no second face. `"predictions"`: the
            paper's rule, gender as another model predicts it and an age at most 10 years away. `"none"`.
        min_score: Of `clean="score"`.
        predictions: Of `clean="predictions"`: a CSV file below `root` with the columns file, gender, age.
        subset: Size of an identity-balanced subset that is drawn before cleaning, 150000 in the paper; 0 takes all.
        bias: `"eb1"` trains on young women and old men, `"eb2"` on old women and young men; `"none"`.
        thresholds: Of the bias: `"30/40"` or `"35/45"`; young is below the first, old from the second on.
        balanced: Whether the test split has equally many women and men in each age class, as the paper's
            unbiased test set, or all that is withheld.
        val: Share of the identities in val.
        test: Share of the identities withheld for the test.
        images: Folder of the images below `root`; empty: the release's own.

    Raises:
        UsageError: For an option that cannot be meant.
        DataError: On first use, when a file is missing, damaged or contradicts itself.
    """

    name: ClassVar[str] = "imdb"
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"gender": GENDERS, "age": AGE_CLASSES}
    obtain: ClassVar[tuple[str, ...]] = (
        f"unpack {PAGE}static/imdb_crop.tar",
        "and name the folder that then holds imdb_crop with --data-root",
    )

    def __init__(
        self,
        root: Path,
        cache: Path,
        *,
        task: str = "age",
        clean: str = "score",
        min_score: float = 1.0,
        predictions: str = "",
        subset: int = 0,
        bias: str = "none",
        thresholds: str = "30/40",
        balanced: bool = True,
        val: float = 0.1,
        test: float = 0.2,
        images: str = "",
    ) -> None:
        super().__init__(root, cache, task)
        choose(self.name, "clean", clean, RULES)
        if (clean == "predictions") != bool(predictions):
            raise UsageError(
                f"{self.name}: clean={printable(clean)!r} with predictions={printable(predictions)!r}",
                fix="clean='predictions' needs a file, and no other rule uses one",
            )
        if subset < 0:
            raise UsageError(f"{self.name}: subset must be at least 0, not {subset}")
        self.clean, self.min_score, self.predictions, self.subset = clean, min_score, predictions, subset
        self.protocol = Protocol(self.name, bias, thresholds, balanced, val, test)
        self.images = images
        folder_option(self.name, self.root, images, ())

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        try:
            find_mat(folder, cls.name)
        except DataError:
            return False
        return True

    def prepare(self, progress: Progress | None = None) -> None:
        if "_metadata" not in self.__dict__:
            self.__dict__["_metadata"] = self._open(progress)
        _ = self._split

    def _open(self, progress: Progress | None = None) -> pd.DataFrame:
        return open_metadata(find_mat(self.root, self.name), self.name, self.cache / self.name, progress)

    @cached_property
    def _metadata(self) -> pd.DataFrame:
        return self._open()

    @cached_property
    def _split(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        fix = "Name a CSV file with the columns file, gender, age"
        file = own_file(self.root, self.predictions, fix) if self.predictions else None
        faces, dropped = select(self._metadata, self.clean, self.min_score, self.subset, file, self.name)
        rows, notes = split_faces(faces, self.protocol)
        return rows, {"entries dropped, in this order": dropped, **notes}

    @cached_property
    def faces(self) -> pd.DataFrame:
        mat = find_mat(self.root, self.name)
        beside = "." if mat.parent == self.root else mat.parent.name
        usual = (f"{self.name}_crop", beside)
        folder = folder_option(self.name, self.root, self.images, usual)
        rows = self._split[0]
        return rows.assign(path=[below(folder, name) for name in rows["path"]])

    def notes(self) -> Mapping[str, Any]:
        """Counts of the known defects, of what was dropped and why, and of the splits."""
        return {
            "age": "year of the photo minus year of birth; possible from 1 to 100",
            "clean": RULES[self.clean],
            "entries with a defect": defects(self._metadata),
            **self._split[1],
        }
