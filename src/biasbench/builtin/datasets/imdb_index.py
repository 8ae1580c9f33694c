"""The metadata of IMDB-WIKI: read once from the Matlab file, kept as Parquet under a key of its content.

The Matlab file is read in a process of its own, with limits: scipy's reader dies of some damaged files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasbench import DataError, Progress, StoreError, io, printable, sandbox
from biasbench.builtin.datasets.coco_check import refuse
from biasbench.builtin.datasets.coco_files import content_hashes
from biasbench.builtin.datasets.coco_index import read_parquet, write_parquet
from biasbench.builtin.datasets.face_ages import ages
from biasbench.builtin.datasets.face_balance import MAN, WOMAN
from biasbench.builtin.datasets.face_mat import Struct, numbers, read_struct, texts
from biasbench.builtin.datasets.face_set import plain_path

FORMAT = 1  # raise it when an index written before must not be read any more
_MADE = "metadata.parquet"
_NUMBERS = ("dob", "photo_taken", "gender", "face_score", "second_face_score")
COLUMNS = ("path", "identity", "years", "gender", "score", "second")


def open_metadata(mat: Path, variable: str, cache: Path, progress: Progress | None = None) -> pd.DataFrame:
    """One row for each entry of the struct, in its order.

    Args:
        mat: `imdb.mat` or `wiki.mat`.
        variable: Name of the struct.
        cache: Folder for indexes.
        progress: Called with (steps done, steps).

    Returns:
        Columns `path` (as `full_path`), `identity` (text, see `_identities`), `years` (float64 age, also
        impossible ones, NaN without a date), `gender` (int64: 0 man, 1 woman, -1 unknown), `score` (float64,
        -inf where the detector found no face) and `second` (float64, NaN where it found one face).

    Raises:
        DataError: When the file is missing, damaged, or not what it claims to be: names field and entry.
        StoreError: When the cache cannot be written.
    """
    hashes = content_hashes([mat], cache / "hashes.json")
    key = io.hash_json({"format": FORMAT, "variable": variable, "files": hashes})
    index = cache / f"{key[:32]}.parquet"
    try:
        frame = read_parquet(index)
        if tuple(frame) == COLUMNS:
            return frame
    except StoreError:
        pass  # not indexed yet, or damaged
    if progress is not None:
        progress(0, 1)
    with sandbox.read_apart(f"{__name__}:write_metadata", mat, {"variable": variable}) as folder:
        frame = read_parquet(folder / _MADE)
    write_parquet(frame, index)
    if progress is not None:
        progress(1, 1)
    return frame


def write_metadata(mat: Path, folder: Path, variable: str) -> None:
    """Write what `read_metadata` finds into a folder: called in a process of its own."""
    write_parquet(read_metadata(mat, variable), folder / _MADE)


def read_metadata(mat: Path, variable: str) -> pd.DataFrame:
    """As `open_metadata`, from the file itself."""
    fields = read_struct(mat, variable)
    paths = texts(fields, "full_path", mat)
    if not paths:
        raise DataError("the struct has no entry", where=printable(mat), fix="Use the file as it was released")
    odd = [(i, p) for i, p in enumerate(paths, 1) if not plain_path(p)]
    fix = "A path is relative and stays in its folder"
    refuse([f"entry {i}: full_path {printable(p)!r} is no plain path" for i, p in odd], mat, fix)
    dob, photo, gender, score, second = (numbers(fields, name, mat, len(paths)) for name in _NUMBERS)
    return pd.DataFrame(
        {
            "path": paths,
            "identity": _identities(fields, paths, mat),
            "years": ages(dob, photo),
            "gender": _genders(gender, paths, mat),
            "score": score,
            "second": second,
        }
    )


def _genders(told: NDArray[np.float64], paths: list[str], mat: Path) -> NDArray[np.int64]:
    """The release has 1 for men, 0 for women and NaN for unknown."""
    strange = np.flatnonzero(~np.isnan(told) & (told != 0) & (told != 1))
    fix = "The release has 1 (man), 0 (woman) and NaN"
    refuse([f"{printable(paths[i])!r} has gender {told[i]:g}" for i in strange], mat, fix)
    return np.select([told == 1, told == 0], [MAN, WOMAN], -1).astype(np.int64)


def _identities(fields: Struct, paths: list[str], mat: Path) -> list[str]:
    """Who is shown: the number of the celebrity (imdb), else a hash of the name (wiki), else the file's own.

    Two people of one name count as one: they then share a split, which costs nothing. Names are not kept.
    """
    if "celeb_id" in fields:
        told = numbers(fields, "celeb_id", mat, len(paths))
        odd = np.flatnonzero(~np.isfinite(told) | (told != np.floor(told)))
        refuse([f"entry {i + 1}: celeb_id is {told[i]:g}" for i in odd], mat)
        if "celeb_names" in fields:
            known = len(texts(fields, "celeb_names", mat))
            odd = np.flatnonzero((told < 1) | (told > known))
            refuse([f"entry {i + 1}: celeb_id is {told[i]:g}, of {known} celebrities" for i in odd], mat)
        return [str(int(number)) for number in told]
    names = texts(fields, "name", mat, len(paths))
    keys = [name.strip() or path for name, path in zip(names, paths, strict=True)]
    return [io.hash_bytes(key.encode(errors="surrogatepass"))[:16] for key in keys]
