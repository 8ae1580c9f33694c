"""Which images LAOFIW has: folders of the four origins, or a list of files in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from biasbench import DataError, did_you_mean, printable
from biasbench.builtin.datasets.coco_check import refuse
from biasbench.builtin.datasets.face_balance import fixed_numbers
from biasbench.builtin.datasets.face_csv import Columns, read_csv
from biasbench.builtin.datasets.face_set import plain_path

ORIGINS = ("sub-Saharan Africa", "Indian subcontinent", "Europe", "East Asia")
_FOLDERS: Mapping[str, int] = {
    "black": 0, "indian": 1, "white": 2, "chinese": 3,  # of the list that can be obtained
    "sub-saharan-africa": 0, "africa": 0, "indian-subcontinent": 1, "europe": 2, "east-asia": 3,
}  # fmt: skip
LISTS = ("laofiw.csv", "list.csv")
_IMAGES = (".jpg", ".jpeg", ".png")
_SPLITS = ("train", "val", "test")
VAL, TEST = 0.1, 0.2


def origin(folder: str) -> int | None:
    """The code of the origin that a folder is named after, or None.

    Example:
        >>> origin("chinese"), origin("Sub-Saharan Africa"), origin("east_asia"), origin("cats")
        (3, 0, 3, None)
    """
    return _FOLDERS.get(folder.strip().lower().replace(" ", "-").replace("_", "-"))


def find_list(root: Path) -> Path | None:
    """The list file of a folder, if it has one."""
    return next((root / name for name in LISTS if (root / name).is_file()), None)


def class_folders(root: Path) -> dict[str, int]:
    """Folders that are named after an origin, with its code."""
    names = sorted(path.name for path in root.iterdir() if path.is_dir())
    return {name: code for name in names if (code := origin(name)) is not None}


def read_list(path: Path) -> tuple[pd.DataFrame, bool]:
    """Images and origins of a list: the folder of each file is its origin.

    Args:
        path: CSV with a column `file`, and where it has them `class_id` (which may not contradict the folders)
            and `split` (train, val or test).

    Returns:
        Columns `path, split` (text), `attribute/ancestry` (int64), in the order of the list; and whether the
        splits are the list's own.

    Raises:
        DataError: Naming line and value of what is unknown, twice there or contradicts itself.
    """
    columns = read_csv(path, ("file",), ("class_id", "split"))
    files = columns.values["file"]
    columns.refuse([i for i, f in enumerate(files) if not plain_path(f)], ", no plain path", "file", "Use FOLDER/NAME")
    seen: dict[str, int] = {}
    twice = [i for i, file in enumerate(files) if seen.setdefault(file, i) != i]
    columns.refuse(twice, ", which stands twice", "file", "Give each image once")
    codes = [origin(file.rpartition("/")[0].rpartition("/")[2]) for file in files]
    strange = [i for i, code in enumerate(codes) if code is None]
    columns.refuse(strange, ", in no folder of a known origin", "file", _known(files, strange))
    known = np.array([code for code in codes if code is not None], np.int64)
    _check_classes(columns, known)
    rows = pd.DataFrame({"path": list(files), "attribute/ancestry": known})
    if "split" not in columns.values:
        return rows.assign(split=drawn_splits(list(files))), False
    told = columns.values["split"]
    columns.refuse([i for i, s in enumerate(told) if s not in _SPLITS], "", "split", "Use train, val or test")
    return rows.assign(split=list(told)), True


def _known(files: object, strange: list[int]) -> str:
    folder = files[strange[0]].rpartition("/")[0] if strange else ""  # type: ignore[index]
    return did_you_mean(folder, _FOLDERS) or f"Known folders: {', '.join(_FOLDERS)}"


def _check_classes(columns: Columns, codes: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
    """One number for each origin, and one origin for each number."""
    if "class_id" not in columns.values:
        return
    told = columns.values["class_id"]
    number: dict[int, str] = {}
    owner: dict[str, int] = {}
    bad = []
    for row, (text, code) in enumerate(zip(told, codes.tolist(), strict=True)):
        if number.setdefault(code, text) != text or owner.setdefault(text, code) != code:
            bad.append(row)
    columns.refuse(bad, ", which contradicts the folder of the file", "class_id", "Give one number to each folder")


def read_folders(root: Path) -> pd.DataFrame:
    """Images in the folders of the origins, by origin and name, with drawn splits.

    Raises:
        DataError: When an origin has no folder or no image, or a folder cannot be read.
    """
    try:
        found = class_folders(root)
        absent = [name for k, name in enumerate(ORIGINS) if k not in found.values()]
        if absent:
            raise DataError(
                f"there is no list, and no folder of {', '.join(absent)}",
                where=printable(root),
                fix=f"Known folders: {', '.join(_FOLDERS)}",
            )
        paths = {name: _images(root / name) for name in found}
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=printable(root), fix="Make it readable") from error
    refuse([f"the folder {printable(name)!r} has no image" for name, files in paths.items() if not files], root)
    rows = [(f"{name}/{file}", found[name]) for name in found for file in paths[name]]
    frame = pd.DataFrame(rows, columns=["path", "attribute/ancestry"])
    return frame.assign(split=drawn_splits(frame["path"].tolist()))


def _images(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.lower().endswith(_IMAGES))


def drawn_splits(paths: list[str]) -> list[str]:
    """70 % train, 10 % val, 20 % test: each file by its own fixed number, whatever else is there.

    Example:
        >>> drawn_splits(["black/0.jpg", "white/7.jpg"]) == drawn_splits(["white/7.jpg", "black/0.jpg"])[::-1]
        True
    """
    number = fixed_numbers(paths, "laofiw", "split")
    return [str(s) for s in np.select([number < TEST, number < TEST + VAL], ["test", "val"], "train")]
