"""AFLW: faces with head pose (Köstinger et al., ICCV workshops 2011), as Alvi et al. 2018, section 3.3, use it.

The folder, as released:

    ROOT/
      aflw.sqlite                     or data/aflw.sqlite
      flickr/0/image00002.jpg ...     or data/flickr/; below it 0/, 2/ and 3/

Or AFLW2000-3D (Zhu et al., CVPR 2016), which is read where there is no database:

    ROOT/
      AFLW2000/image00002.jpg  AFLW2000/image00002.mat ...     or TestImages/AFLW2000/, or ROOT itself

Faces are cut out of their photos, and mirrored, once: the crops lie in the cache, and `root` names that folder as
soon as the data set is prepared. docs/faces-drawn.md has its data card.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from biasbench import DataError, Progress, Split, UsageError, io, printable
from biasbench.builtin.datasets.aflw_crops import SIDE, refuse_missing, write_crops
from biasbench.builtin.datasets.aflw_draw import SEXES, draw, with_mirrored, yaw_bins
from biasbench.builtin.datasets.aflw_mat import mat_folder, read_mats
from biasbench.builtin.datasets.aflw_sqlite import Faces, read_faces
from biasbench.builtin.datasets.face.law import POSES
from biasbench.builtin.datasets.face_balance import GENDERS
from biasbench.builtin.datasets.face_files import stamps
from biasbench.builtin.datasets.face_set import FaceSet, below, folder_option, plain_path

FORMAT = 1  # raise it when crops written before must not be read any more
DATABASES = ("aflw.sqlite", "data/aflw.sqlite")
PHOTOS = ("flickr", "data/flickr")


class Aflw(FaceSet):
    """Faces with pose, yaw in five bins that are equally frequent, and gender where it is known.

    Faces that are not frontal are there twice, as they are and mirrored; a photo is in one split only.

    Args:
        root: The folder of the release.
        cache: Folder for the crops.
        task: What is predicted, `"pose"` or `"gender"`; for gender, faces of unknown gender are left out.
        near: Degrees of yaw below which a face is frontal (the edges are ours).
        profile: Degrees of yaw from which it is a profile.
        train: Rows for training, as published; those of val are among them.
        val: Rows for validation.
        test: Rows of the test split, as published.
        margin: What is added to a face's square on every side, as a share of its side.
        images: Folder of the photos below `root`; empty: the first that is there of `flickr`, `data/flickr`
            and `root` itself. Not for AFLW2000-3D, whose photos lie beside their annotations.

    Raises:
        UsageError: For an option that cannot be meant.
        DataError: On first use, when files are missing, damaged or contradict themselves.
    """

    name: ClassVar[str] = "aflw"
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"gender": GENDERS, "pose": POSES}
    obtain: ClassVar[tuple[str, ...]] = (
        "ask for AFLW at https://www.tugraz.at/institute/icg/research/team-bischof/lrs/downloads/aflw",
        "or get AFLW2000-3D from http://www.cbsr.ia.ac.cn/users/xiangyuzhu/projects/3DDFA/main.htm",
        "and name the folder with --data-root",
    )

    def __init__(
        self,
        root: Path,
        cache: Path,
        *,
        task: str = "pose",
        near: float = 15.0,
        profile: float = 45.0,
        train: int = 24_000,
        val: int = 2_400,
        test: int = 6_000,
        margin: float = 0.25,
        images: str = "",
    ) -> None:
        super().__init__(root, cache, task)
        yaw_bins(np.zeros(0), near, profile)
        least = len(POSES)
        if not (val >= least and test >= least and train - val >= least):
            raise UsageError(
                f"aflw: train - val, val and test must be at least {least}, not {train - val}, {val}, {test}"
            )
        if not 0 <= margin <= 2:
            raise UsageError(f"aflw: margin must be from 0 to 2, not {margin!r}")
        folder_option(self.name, self.root, images, PHOTOS)
        self.source, self.images = self.root, images
        self.near, self.profile, self.margin = float(near), float(profile), float(margin)
        self.sizes: dict[Split, int] = {"train": train - val, "val": val, "test": test}

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return any((folder / name).exists() for name in DATABASES) or mat_folder(folder) is not None

    def prepare(self, progress: Progress | None = None) -> None:
        """Cut the faces out unless that was done, and let `root` name the folder of the crops.

        Raises:
            DataError: When annotations or photos are missing or damaged.
            StoreError: When the cache cannot be written.
        """
        if self.root == self.source:
            folder = self._crops
            if not folder.is_dir():
                with io.writing_folder(folder) as aside:
                    write_crops(aside, self.source, self._drawn[0], self.margin, progress)
            self.root = folder

    @cached_property
    def _read(self) -> tuple[Faces, str]:
        """The annotated faces, their photos' paths from `source`; and which release they are from."""
        path = next((self.source / name for name in DATABASES if (self.source / name).exists()), None)
        if path is not None:
            found = read_faces(path)
            folder = folder_option(self.name, self.source, self.images, PHOTOS)
            odd = next((p for p in found.rows["photo"] if not plain_path(p)), None)
            if odd is not None:
                what = f"FaceImages: filepath {printable(odd)!r} is no path below the folder of the photos"
                raise DataError(what, where=printable(path), fix="Use the file as it was released")
            photos = [below(folder, p) for p in found.rows["photo"]]
            return Faces(found.rows.assign(photo=photos), found.dropped), "AFLW"
        beside = mat_folder(self.source)
        if beside is None:
            how = "; ".join(self.obtain)
            raise DataError(f"missing: {DATABASES[0]}, or image*.mat", where=printable(self.source), fix=how)
        return read_mats(self.source, beside), "AFLW2000-3D"

    @cached_property
    def _drawn(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        found, release = self._read
        rows = found.rows
        gender = rows["sex"].map({sex: k for k, sex in enumerate(SEXES)}).fillna(-1).astype(np.int64)
        pose = yaw_bins(rows["yaw"].to_numpy(np.float64), self.near, self.profile)
        rows = rows.assign(pose=pose)
        rows["attribute/gender"] = gender
        notes: dict[str, Any] = {"release": release, **found.dropped}
        if self.target == "gender":
            notes["of unknown gender"] = int((gender < 0).sum())
            rows = rows[gender >= 0]
        chosen, counts = draw(with_mirrored(rows), self.sizes)
        chosen["attribute/pose"] = chosen["pose"].astype(np.int64)
        refuse_missing(self.source, chosen["photo"].tolist(), "Name their folder with images=FOLDER, or get them")
        return chosen, {**notes, "used": _shown(chosen), **counts}

    @property
    def _crops(self) -> Path:
        """Named after everything that the crops depend on."""
        rows = self._drawn[0]
        photos = sorted(set(rows["photo"]))
        columns = ["id", "photo", "x", "y", "w", "h", "mirrored"]
        made = [FORMAT, SIDE, self.margin, str(self.source.resolve()), stamps(self.source, photos)]
        told = io.canonical_json([*made, rows[columns].to_numpy().tolist()])
        return self.cache / "aflw" / io.hash_bytes(told.encode())[:32]

    @cached_property
    def faces(self) -> pd.DataFrame:
        rows = self._drawn[0]
        return rows.assign(path=rows["id"] + ".jpg")

    def table(self, split: Split) -> pd.DataFrame:
        self.prepare()
        return super().table(split)

    def notes(self) -> Mapping[str, Any]:
        """Counts of faces that lack something, of mirrored ones, and of the bins."""
        return {"edges in degrees": [self.near, self.profile], **self._drawn[1]}


def _shown(rows: pd.DataFrame) -> dict[str, int]:
    return {
        "faces": int(rows["face"].nunique()),
        "photos": int(rows["photo"].nunique()),
        "mirrored rows": int(rows["mirrored"].sum()),
    }
