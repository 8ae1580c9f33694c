"""Small face data sets in the true on-disk formats, for tests to read and to break."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

MALE, FEMALE, UNKNOWN = 1.0, 0.0, float("nan")  # as the release has them
NO_FACE, NO_SECOND = float("-inf"), float("nan")


def datenum(day: date) -> int:
    """Matlab's serial number of a day."""
    return day.toordinal() + 366


def cells(values: Iterable[Any]) -> Any:
    """A 1 x N cell array."""
    items = list(values)
    array = np.empty((1, len(items)), object)
    for i, item in enumerate(items):
        array[0, i] = item
    return array


@dataclass
class ImdbFiles:
    """Entries of `imdb.mat` or `wiki.mat`: add some, change `fields` as you like, then `write`."""

    name: str = "imdb"
    entries: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        person: str,
        age: int,
        gender: float = MALE,
        *,
        path: str = "",
        year: int = 2000,
        score: float = 3.0,
        second: float = NO_SECOND,
    ) -> str:
        """One photo; returns its `full_path`."""
        number = len(self.entries)
        path = path or f"{number % 100:02}/nm{number:07}_{year - age}-6-15_{year}.jpg"
        born = datenum(date(year - age, 6, 15))
        self.entries.append(
            {"dob": born, "photo_taken": year, "full_path": path, "gender": gender, "name": person,
             "face_location": np.array([[1.0, 1.0, 9.0, 9.0]]), "face_score": score, "second_face_score": second}
        )  # fmt: skip
        return path

    def fields(self) -> dict[str, Any]:
        """The struct's fields, as the release has them."""
        names = list(dict.fromkeys(e["name"] for e in self.entries))
        column = {key: [e[key] for e in self.entries] for key in self.entries[0]}
        found: dict[str, Any] = {
            "dob": np.array([column["dob"]], np.int32),
            "photo_taken": np.array([column["photo_taken"]], np.uint16),
            "full_path": cells(column["full_path"]),
            "gender": np.array([column["gender"]], float),
            "name": cells(column["name"]),
            "face_location": cells(column["face_location"]),
            "face_score": np.array([column["face_score"]], float),
            "second_face_score": np.array([column["second_face_score"]], float),
        }
        if self.name == "imdb":
            found["celeb_names"] = cells(names)
            found["celeb_id"] = np.array([[names.index(n) + 1 for n in column["name"]]], float)
        return found

    def write(self, root: Path, fields: Mapping[str, Any] | None = None, images: bool = False) -> Path:
        """Write `ROOT/NAME_crop/NAME.mat`, compressed as Matlab does; returns the file."""
        folder = root / f"{self.name}_crop"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.mat"
        savemat(path, {self.name: dict(fields or self.fields())}, do_compression=True, long_field_names=True)
        if images:
            draw(folder, [e["full_path"] for e in self.entries])
        return path


def small_imdb(name: str = "imdb", people: int = 120) -> ImdbFiles:
    """Two photos of every person, all ages, more young women and more old men; and every known defect."""
    files = ImdbFiles(name)
    rng = np.random.default_rng(0)
    for k in range(people):
        gender = FEMALE if k % 2 else MALE
        age = int(rng.integers(16, 60)) if gender == FEMALE else int(rng.integers(20, 75))
        for later in (0, 3):
            files.add(f"Person {k}", age + later, gender, year=2000 + later)
    files.add("Unborn", -4)
    files.add("Newborn", 0)
    files.add("Ancient", 101)
    files.add("Nobody", 40, UNKNOWN)
    files.add("Faceless", 40, score=NO_FACE)
    files.add("Blurred", 40, score=0.8)
    files.add("Two", 40, second=1.5)
    return files


def draw(root: Path, names: Sequence[str], size: tuple[int, int] = (24, 24)) -> None:
    """Random pictures of a size (width, height)."""
    rng = np.random.default_rng(1)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name, format="PNG" if name.endswith("png") else "JPEG")


def write_utkface(root: Path, count: int = 80, folder: str = "UTKFace") -> list[str]:
    """Well-named aligned faces; returns the names."""
    rng = np.random.default_rng(2)
    names = [
        f"{rng.integers(1, 100)}_{k % 2}_{k % 5}_20170116{k:09}.jpg.chip.jpg"  # yyyymmddHHMMSSFFF
        for k in range(count)
    ]
    draw(root / folder, names)
    return names


FAIRFACE = "file,age,gender,race,service_test\n"


def write_fairface(root: Path, train: int = 60, val: int = 20, images: bool = False) -> None:
    """Both label files."""
    ages = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
    races = ("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern")
    root.mkdir(parents=True, exist_ok=True)
    for split, rows in (("train", train), ("val", val)):
        lines = [
            f"{split}/{k + 1}.jpg,{ages[k % 9]},{('Male', 'Female')[k % 2]},{races[k % 7]},{bool(k % 3)}\n"
            for k in range(rows)
        ]
        (root / f"fairface_label_{split}.csv").write_text(FAIRFACE + "".join(lines))
        if images:
            draw(root, [line.partition(",")[0] for line in lines])


LAOFIW = {"black": 1, "chinese": 2, "indian": 3, "white": 0}


def write_laofiw(root: Path, each: int = 10, *, listed: bool = True, images: bool = True) -> list[str]:
    """A folder for each origin, with the list that can be obtained beside them; returns the paths."""
    paths = [f"{folder}/{k}.jpg" for folder in LAOFIW for k in range(each)]
    root.mkdir(parents=True, exist_ok=True)
    if images:
        draw(root, paths)
    if listed:
        split = ("train", "train", "train", "val", "test")
        lines = [f"{p},{LAOFIW[p.partition('/')[0]]},{split[i % 5]}\n" for i, p in enumerate(paths)]
        (root / "list.csv").write_text("file,class_id,split\n" + "".join(lines))
    return paths
