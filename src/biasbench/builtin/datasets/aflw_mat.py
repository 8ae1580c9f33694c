"""Reading AFLW2000-3D: a Matlab file with pose and landmarks beside each image.

The Matlab files are read in a process of its own, with limits: scipy's reader dies of some damaged files.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from biasbench import DataError, printable, sandbox
from biasbench.builtin.datasets.aflw_sqlite import Faces
from biasbench.builtin.datasets.coco_index import read_parquet, write_parquet
from biasbench.builtin.datasets.coco_json import read_file
from biasbench.builtin.datasets.face_mat import check_whole
from biasbench.builtin.datasets.face_set import below

FOLDERS = ("AFLW2000", "TestImages/AFLW2000")
_MAX_BYTES = 4_000_000  # of one file; those of the release have 20,000
_AS_RELEASED = "Use the file as it was released"
_MADE = "faces.parquet"
_SECONDS = 300  # for all files: those of the release take 10
_POSE, _LANDMARKS = "Pose_Para", "pt3d_68"
_SHAPES = {_POSE: (1, 7), _LANDMARKS: (3, 68)}


def mat_folder(root: Path) -> str | None:
    """The folder of the Matlab files, relative to `root`; None where there is none."""
    for name in (*FOLDERS, "."):
        if any((root / name).glob("image*.mat")):
            return name
    return None


def read_mats(root: Path, folder: str) -> Faces:
    """The faces of AFLW2000-3D, one a photo, as `aflw_sqlite.read_faces` gives them.

    A face's rectangle is that of its 68 landmarks: `roi` in the files is of another image. Nothing tells the sex.

    Raises:
        DataError: Naming the file that is damaged, has no pose or landmarks, or has others than real numbers in them.
    """
    with sandbox.read_apart(f"{__name__}:write_mats", root, {"name": folder}, seconds=_SECONDS) as made:
        table = read_parquet(made / _MADE)
    twice = table[table["face"].duplicated()]
    if len(twice):
        what = f"two files have the number {twice['face'].iloc[0]}"
        raise DataError(what, where=printable(root / folder), fix="Keep the files of the release")
    return Faces(table, {"faces": len(table)})


def write_mats(root: Path, made: Path, name: str) -> None:
    """Write the faces of a folder's files into another one: called in a process of its own."""
    rows = []
    for path in sorted((root / name).glob("image*.mat")):
        sandbox.at(made, path)
        found = _variables(path)
        x, y = (found[_LANDMARKS][k] for k in (0, 1))
        photo = path.with_suffix(".jpg").name
        number = int("".join(c for c in path.stem if c in "0123456789") or 0)
        yaw = float(found[_POSE][0, 1])
        if abs(yaw) > np.pi:
            raise _wrong(path, f"yaw is {yaw:g} radians, beyond half a turn")
        rows.append((number, below(name, photo), yaw, x.min(), y.min(), np.ptp(x), np.ptp(y), ""))
    table = pd.DataFrame(rows, columns=["face", "photo", "yaw", "x", "y", "w", "h", "sex"])
    write_parquet(table.astype({"face": np.int64}), made / _MADE)


def _variables(path: Path) -> Mapping[str, Any]:
    """The variables of `_SHAPES`, float64 and finite."""
    content = read_file(path)
    if len(content) > _MAX_BYTES:
        raise DataError(f"{len(content) >> 20} MB, at most {_MAX_BYTES >> 20} are read", where=printable(path))
    check_whole(content, path)
    from scipy.io import loadmat  # slow to import, and only needed when crops are made

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source: Any = BytesIO(content)
            found = loadmat(source, variable_names=list(_SHAPES))
    except Exception as error:  # the reader lets many kinds through
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise _wrong(path, f"cannot be read as a Matlab file: damaged ({printable(reason, 120)})") from error
    out = {}
    for name, shape in _SHAPES.items():
        value = found.get(name)
        if value is None:
            raise _wrong(path, f"there is no variable {name!r}")
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf" or value.shape != shape:
            raise _wrong(path, f"{name!r} is not {shape[0]} x {shape[1]} real numbers")
        out[name] = value.astype(np.float64)
        if not np.isfinite(out[name]).all():
            raise _wrong(path, f"{name!r} holds a number that is not finite")
    return out


def _wrong(path: Path, what: str) -> DataError:
    return DataError(what, where=printable(path), fix=_AS_RELEASED)
