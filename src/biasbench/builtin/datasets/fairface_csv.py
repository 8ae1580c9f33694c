"""FairFace's label files, and the ages that a spreadsheet has turned into dates."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from biasbench.builtin.datasets.face_csv import Columns, read_csv
from biasbench.builtin.datasets.face_set import plain_path

AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
ANCESTRIES = ("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern")
GENDERS = {"Male": 0, "Female": 1}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DATE = re.compile(r"(?:([0-9]{1,2})-([a-z]{3})|([a-z]{3})-([0-9]{1,2}))", re.IGNORECASE)
_AS_RELEASED = "Use the file of the release"


def undated(text: str) -> str | None:
    """The age group that a spreadsheet has turned into this date, or None.

    `3-9` becomes 3 September or 9 March, by the country, and `10-19` October 2019. No two groups can become
    one date, so that the way back is unique.

    Example:
        >>> undated("03-Sep"), undated("9-Mar"), undated("Oct-19"), undated("04-Sep"), undated("20-29")
        ('3-9', '3-9', '10-19', None, None)
    """
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    number, month = int(found[1] or found[4]), (found[2] or found[3]).lower()
    if month not in _MONTHS:
        return None
    low, high = sorted((number, _MONTHS.index(month) + 1))
    group = f"{low}-{high}"
    return group if group in AGES else None


def read_labels(path: Path) -> tuple[pd.DataFrame, Counter[str]]:
    """The rows of one label file, in its order.

    Args:
        path: CSV with the columns `file`, `age`, `gender`, `race`; others are passed over.

    Returns:
        Columns `file` (text), `attribute/age`, `attribute/gender`, `attribute/ancestry` (int64); and how many
        ages of each text were dates in place of age groups.

    Raises:
        DataError: Naming line and value of what is not as released.
    """
    columns = read_csv(path, ("file", "age", "gender", "race"))
    files, ages = columns.values["file"], columns.values["age"]
    columns.refuse([i for i, f in enumerate(files) if not plain_path(f)], ", no plain path", "file", _AS_RELEASED)
    seen: dict[str, int] = {}
    twice = [i for i, file in enumerate(files) if seen.setdefault(file, i) != i]
    columns.refuse(twice, ", which stands twice", "file", "Give each image once")
    repaired = [undated(age) for age in ages]
    dates = Counter(age for age, group in zip(ages, repaired, strict=True) if group)
    groups = [group or age for age, group in zip(ages, repaired, strict=True)]
    dated = [i for i, g in enumerate(groups) if g not in AGES and (_DATE.fullmatch(g) or "/" in g)]
    columns.refuse(dated, ", a date that a spreadsheet has made of an age group", "age", _AS_RELEASED)
    codes = {
        "attribute/age": _codes(columns, "age", groups, {name: k for k, name in enumerate(AGES)}),
        "attribute/gender": _codes(columns, "gender", columns.values["gender"], GENDERS),
        "attribute/ancestry": _codes(columns, "race", columns.values["race"], {n: k for k, n in enumerate(ANCESTRIES)}),
    }
    return pd.DataFrame({"file": list(files), **codes}), dates


def _codes(
    columns: Columns, name: str, values: object, known: dict[str, int]
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    texts = list(values)  # type: ignore[call-overload]
    columns.refuse([i for i, v in enumerate(texts) if v not in known], "", name, f"Known: {', '.join(known)}")
    return np.array([known[text] for text in texts], np.int64)
