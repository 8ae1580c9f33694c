"""What the file names of UTKFace say: `[age]_[gender]_[race]_[date].jpg`, with `.chip.jpg` behind it if aligned."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from biasbench import DataError, printable
from biasbench.builtin.datasets.face_ages import age_classes

OLDEST = 116  # in the release
ANCESTRIES = ("White", "Black", "Asian", "Indian", "Others")
_NAME = re.compile(r"([0-9]+)_([0-9]+)_([0-9]+)_([0-9]+)\.jpg(?:\.chip\.jpg)?")
_DATE = re.compile(r"[0-9]{17}")  # yyyymmddHHMMSSFFF
_FIRST = 10


@dataclass(frozen=True)
class Listing:
    """The images of a folder.

    Attributes:
        faces: Columns `name` (text), `years` (float64), `attribute/age`, `attribute/gender`, `attribute/ancestry`
            (int64), by name.
        malformed: Each name that does not tell its labels, with why.
        odd_dates: Names whose date has another length; their labels are read.
        others: Files that are no images by their name.
    """

    faces: pd.DataFrame
    malformed: list[tuple[str, str]]
    odd_dates: int
    others: int

    def problems(self) -> dict[str, object]:
        """Counts by kind, and the first malformed names."""
        kinds = Counter(why for _, why in self.malformed)
        return {
            "malformed names": len(self.malformed),
            **{f"malformed: {why}": n for why, n in sorted(kinds.items())},
            "first malformed": [printable(name) for name, _ in self.malformed[:_FIRST]],
            "dates of another length": self.odd_dates,
            "other files": self.others,
        }


def read_name(name: str) -> tuple[int, int, int, str]:
    """Age, gender (0 man, 1 woman), race code and date.

    Raises:
        ValueError: Saying what the name lacks.

    Example:
        >>> read_name("26_1_2_20170116184024662.jpg.chip.jpg")
        (26, 1, 2, '20170116184024662')
        >>> read_name("61_1_20170109142408075.jpg.chip.jpg")
        Traceback (most recent call last):
        ValueError: not four parts
    """
    found = _NAME.fullmatch(name)
    if found is None:
        parts = name.partition(".")[0].split("_")
        if len(parts) != 4:
            raise ValueError("not four parts")
        if not all(part.isascii() and part.isdigit() for part in parts[:3]):
            raise ValueError("age, gender or race is no number")
        raise ValueError("the date is no number")
    age, gender, race = (int(part[:9]) for part in found.groups()[:3])
    if age > OLDEST:
        raise ValueError(f"age above {OLDEST}")
    if gender > 1:
        raise ValueError("gender is not 0 or 1")
    if race >= len(ANCESTRIES):
        raise ValueError(f"race is not 0 to {len(ANCESTRIES) - 1}")
    return age, gender, race, found[4]


def list_faces(folder: Path) -> Listing:
    """The images of a folder and what their names say.

    Raises:
        DataError: When the folder cannot be read, or no name says anything.
    """
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        fix = "Check that it is there and that you may read it"
        raise DataError(f"cannot be read: {error.strerror}", where=printable(folder), fix=fix) from error
    listing = listed(names)
    if not len(listing.faces):
        example = f", such as {printable(listing.malformed[0][0])!r}" if listing.malformed else ""
        raise DataError(
            f"no file is named [age]_[gender]_[race]_[date].jpg{example}",
            where=printable(folder),
            fix="Name the folder of the images with images=FOLDER",
        )
    return listing


def listed(names: Iterable[str]) -> Listing:
    """What some file names say.

    Example:
        >>> said = listed(["26_1_2_20170116184024662.jpg", "39_1_20170116174525125.jpg", "notes.txt"])
        >>> len(said.faces), said.malformed, said.others
        (1, [('39_1_20170116174525125.jpg', 'not four parts')], 1)
    """
    rows, malformed, odd, others = [], [], 0, 0
    for name in names:
        if not name.lower().endswith((".jpg", ".jpeg", ".png")):
            others += 1
            continue
        try:
            age, gender, race, date = read_name(name)
        except ValueError as error:
            malformed.append((name, str(error)))
            continue
        odd += _DATE.fullmatch(date) is None
        rows.append((name, float(age), gender, race))
    faces = pd.DataFrame(rows, columns=["name", "years", "attribute/gender", "attribute/ancestry"])
    faces["attribute/age"] = age_classes(faces["years"].to_numpy(np.float64))
    return Listing(faces, malformed, odd, others)
