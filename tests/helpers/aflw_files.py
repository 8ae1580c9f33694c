"""Small AFLW releases in the true on-disk formats, for tests to read and to break."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

SCHEMA = {
    "Faces": "face_id INTEGER PRIMARY KEY, file_id TEXT, db_id TEXT",
    "FaceImages": "image_id INTEGER PRIMARY KEY, db_id TEXT, file_id TEXT, filepath TEXT, bw INTEGER, width INTEGER, "
    "height INTEGER",
    "FacePose": "face_id INTEGER, roll REAL, pitch REAL, yaw REAL, annot_type_id INTEGER",
    "FaceRect": "face_id INTEGER, x INTEGER, y INTEGER, w INTEGER, h INTEGER, annot_type_id INTEGER",
    "FaceMetaData": "face_id INTEGER, sex TEXT, occluded INTEGER, glasses INTEGER, bw INTEGER, annot_type_id INTEGER",
    "FeatureCoords": "face_id INTEGER, feature_id INTEGER, x REAL, y REAL, annot_type_id INTEGER",
    "FeatureCoordTypes": "feature_id INTEGER PRIMARY KEY, descr TEXT, code TEXT",
}
SIDE = 60


@dataclass
class AflwFiles:
    """A database: add faces, change `rows` or `schema` as you like, then `write`."""

    rows: dict[str, list[tuple[Any, ...]]] = field(default_factory=lambda: {name: [] for name in SCHEMA})
    schema: dict[str, str] = field(default_factory=lambda: dict(SCHEMA))
    photos: dict[str, str] = field(default_factory=dict)

    def add(self, degrees: float | None, sex: str = "m", photo: str = "", rect: Any = (20, 20, 20, 20)) -> int:
        """One face with a yaw, in a photo of its own unless one is named; returns its id."""
        face = 39_341 + len(self.rows["Faces"])
        photo = photo or f"image{face:05}.jpg"
        if photo not in self.photos:
            number = len(self.photos)
            self.photos[photo] = f"{(0, 2, 3)[number % 3]}/{photo}"
            self.rows["FaceImages"].append((number, "aflw", photo, self.photos[photo], 0, SIDE, SIDE))
        self.rows["Faces"].append((face, photo, "aflw"))
        yaw = None if degrees is None else float(np.radians(degrees))
        self.rows["FacePose"].append((face, 0.0, 0.1, yaw, 1))
        if rect is not None:
            self.rows["FaceRect"].append((face, *rect, 1))
        self.rows["FaceMetaData"].append((face, sex, 0, 0, 0, 1))
        return face

    def write(self, root: Path, images: bool = True) -> Path:
        """Write `aflw.sqlite`, and a photo for each entry: dark on its left, bright on its right half."""
        root.mkdir(parents=True, exist_ok=True)
        path = root / "aflw.sqlite"
        path.unlink(missing_ok=True)
        database = sqlite3.connect(path)
        for name, columns in self.schema.items():
            database.execute(f"CREATE TABLE {name} ({columns})")
            for row in self.rows[name]:
                database.execute(f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", row)
        database.commit()
        database.close()
        for name in self.photos.values() if images else ():
            file = root / "flickr" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            shown = np.full((SIDE, SIDE, 3), 40, np.uint8)
            shown[:, SIDE // 2 :] = 220
            Image.fromarray(shown).save(file)
        return path


def small_aflw(each: int = 30) -> AflwFiles:
    """As many faces of each of -70, -30, 0, 30, 70 degrees, each in a photo of its own; every third is of a woman."""
    files = AflwFiles()
    for k in range(5 * each):
        files.add((-70, -30, 0, 30, 70)[k % 5], "fmm"[k % 3])
    return files


def write_mats(root: Path, degrees: list[float], **changed: Any) -> Path:
    """AFLW2000-3D with one face for each yaw; `changed` replaces variables of the first file, None takes one out."""
    folder = root / "AFLW2000"
    folder.mkdir(parents=True, exist_ok=True)
    for k, yaw in enumerate(degrees):
        points = np.zeros((3, 68))
        points[0], points[1] = np.linspace(150, 300, 68), np.linspace(160, 280, 68)
        content: dict[str, Any] = {"Pose_Para": np.array([[0.1, np.radians(yaw), 0.0, 1.0, 1.0, 1.0, 1e-3]])}
        content |= {"pt3d_68": points, "roi": np.array([[1, 1, 450, 450]])}
        if k == 0:
            content = {name: v for name, v in (content | changed).items() if v is not None}
        savemat(folder / f"image{k + 1:05}.mat", content, do_compression=bool(k % 2))
        Image.new("RGB", (450, 450), (k % 200, 90, 90)).save(folder / f"image{k + 1:05}.jpg")
    return root
