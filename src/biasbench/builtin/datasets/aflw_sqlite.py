"""Reading `aflw.sqlite`, which may be anything: as it lies, read-only, nothing but plain columns.

The file is opened as immutable, so that no journal beside it is played back and nothing is written. An
authoriser lets the columns below be read and denies all else, functions included. Views in place of tables are
refused; triggers never fire, since nothing is written. Values are bounded in size and rows in number.
"""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd

from biasbench import DataError, did_you_mean, printable
from biasbench.builtin.datasets.coco_check import refuse

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "Faces": ("face_id", "file_id"),
    "FaceImages": ("file_id", "filepath"),
    "FacePose": ("face_id", "yaw"),
    "FaceRect": ("face_id", "x", "y", "w", "h"),
    "FaceMetaData": ("face_id", "sex"),
}
_WHOLE, _TEXT, _NUMBER = "a whole number", "text", "a number"
_TYPES: Mapping[str, str] = {"face_id": _WHOLE, "file_id": _TEXT, "filepath": _TEXT, "sex": _TEXT}  # others: numbers
_MAGIC = b"SQLite format 3\0"
_MAX_BYTES = 4 << 30
_MAX_ROWS = 5_000_000
_MAX_VALUE = 100_000  # bytes of one value or one statement
_MAX_STEPS = 20_000  # callbacks of 100,000 instructions each
_AS_RELEASED = "Use the file as it was released"
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ}


@dataclass(frozen=True)
class Faces:
    """The faces of the database that have a pose, a rectangle and a photo.

    Attributes:
        rows: By face: `face` (int64), `photo` (text, POSIX path below the folder of the photos), `yaw` (float64
            radians), `x, y, w, h` (float64 pixels), `sex` (text: `m`, `f`, or empty).
        dropped: Counts of faces that lack something, by what they lack.
    """

    rows: pd.DataFrame
    dropped: Mapping[str, int]


def read_faces(path: Path) -> Faces:
    """The annotated faces of `aflw.sqlite`.

    Where a face has several annotations of a kind, the first one counts.

    Raises:
        DataError: When the file is missing, no SQLite database or damaged, lacks a table or a column, holds a value
            of another kind, has a face twice, or contradicts itself.
    """
    tables = _read(path)
    faces = tables["Faces"].dropna(subset=["face_id"])
    for table, key in (("Faces", "face_id"), ("FaceImages", "file_id")):
        keys = tables[table][key].dropna()
        refuse([f"{table}: {key} {printable(k)!r} stands twice" for k in keys[keys.duplicated()].unique()], path)
    images = tables["FaceImages"].set_index("file_id")["filepath"]
    lost = sorted(set(faces["file_id"].dropna()) - set(images.index))
    refuse([f"Faces: file_id {printable(name)!r} is not in FaceImages" for name in lost], path)
    rows = pd.DataFrame({"face": faces["face_id"].astype(np.int64), "photo": faces["file_id"].map(images)})
    dropped: dict[str, int] = {"faces": len(rows)}
    for table in ("FacePose", "FaceRect", "FaceMetaData"):
        found = tables[table].dropna(subset=["face_id"]).drop_duplicates("face_id")
        dropped[f"further rows in {table}"] = len(tables[table]) - len(found)
        rows = rows.merge(found.rename(columns={"face_id": "face"}), on="face", how="left")
    for what, bad in (
        ("without a photo", rows["photo"].isna()),
        ("without a pose", rows["yaw"].isna()),
        ("without a rectangle", rows[["x", "y", "w", "h"]].isna().any(axis=1)),
    ):
        bad = bad[rows.index]
        dropped[what] = int(bad.sum())
        rows = rows[~bad]
    numbers = {name: rows[name].astype(np.float64) for name in ("yaw", "x", "y", "w", "h")}
    rows = rows.assign(**numbers, sex=rows["sex"].fillna(""))
    _check(rows, path)
    empty = (rows["w"] <= 0) | (rows["h"] <= 0)
    dropped["with a rectangle without area"] = int(empty.sum())
    rows = rows[~empty].sort_values("face").reset_index(drop=True)
    return Faces(rows[["face", "photo", "yaw", "x", "y", "w", "h", "sex"]], dropped)


def _check(rows: pd.DataFrame, path: Path) -> None:
    """Refuse values that cannot be meant."""
    for name in ("yaw", "x", "y", "w", "h"):
        table = "FacePose" if name == "yaw" else "FaceRect"
        odd = rows[~np.isfinite(rows[name]) | (rows[name].abs() > (np.pi if name == "yaw" else 1e6))]
        limit = " radians, beyond half a turn" if name == "yaw" else ""
        told = [f"{table}: {name} of face {f} is {v:g}{limit}" for f, v in zip(odd["face"], odd[name], strict=True)]
        refuse(told, path)
    odd = rows[~rows["sex"].isin(("m", "f", ""))]
    told = [f"FaceMetaData: sex of face {f} is {printable(v)!r}" for f, v in zip(odd["face"], odd["sex"], strict=True)]
    refuse(told, path, "It is 'm', 'f' or empty")


def _read(path: Path) -> dict[str, pd.DataFrame]:
    """The columns of `COLUMNS`, by table, in the order of their rows."""
    _check_file(path)
    try:
        with _opened(path) as database:
            steps = iter(range(_MAX_STEPS))
            database.set_progress_handler(lambda: next(steps, -1) < 0, 100_000)
            for table, columns in COLUMNS.items():
                _check_table(database, table, columns, path)
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(str(found))
            database.set_authorizer(_authorise)
            return {table: _frame(database, table, columns, path) for table, columns in COLUMNS.items()}
    except sqlite3.Error as error:
        reason = "it takes too long" if "interrupt" in str(error) else printable(error, 120)
        raise DataError(f"cannot be read as the database: {reason}", where=printable(path), fix=_AS_RELEASED) from error


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError("not a regular file", where=printable(path), fix=_AS_RELEASED)
        with open(path, "rb") as file:
            start = file.read(len(_MAGIC))
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror}", where=printable(path), fix="Check that you may read the file"
        ) from error
    if start != _MAGIC:
        raise DataError("not an SQLite database", where=printable(path), fix=_AS_RELEASED)
    for kind in ("wal", "journal"):
        beside = path.with_name(f"{path.name}-{kind}")
        if beside.exists() and beside.stat().st_size:
            what = f"not whole: a part of it lies in {printable(beside.name)}"
            raise DataError(what, where=printable(path), fix="Open and close a copy of both with sqlite3, and use that")
    if status.st_size > _MAX_BYTES:
        raise DataError(f"{status.st_size >> 20} MB, at most {_MAX_BYTES >> 20} are read", where=printable(path))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    uri = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
    database = sqlite3.connect(uri, uri=True)
    try:
        database.text_factory = lambda content: content.decode("utf-8", "strict")
        for name in ("trusted_schema = 0", "cell_size_check = 1", "query_only = 1", "mmap_size = 0"):
            database.execute(f"PRAGMA {name}")
        for kind in (sqlite3.SQLITE_LIMIT_LENGTH, sqlite3.SQLITE_LIMIT_SQL_LENGTH):
            database.setlimit(kind, _MAX_VALUE)
        database.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        yield database
    except UnicodeDecodeError as error:
        raise DataError("a text in it is not UTF-8", where=printable(path), fix=_AS_RELEASED) from error
    finally:
        database.close()


def _check_table(database: sqlite3.Connection, table: str, columns: tuple[str, ...], path: Path) -> None:
    """Refuse a database in which a table is missing, virtual, or lacks a column."""
    known = database.execute("SELECT name, sql, type FROM sqlite_master WHERE type IN ('table', 'view') LIMIT 1000")
    found = {str(name): (str(sql), str(kind)) for name, sql, kind in known}
    if table not in found:
        hint = did_you_mean(table, found) or f"It has {', '.join(map(printable, sorted(found)[:10])) or 'none'}"
        raise DataError(f"there is no table {table}", where=printable(path), fix=hint)
    sql, kind = found[table]
    if kind == "view" or "VIRTUAL" in sql.upper().split("(")[0].split():
        what = "view" if kind == "view" else "virtual table"
        raise DataError(f"{table} is a {what}, not a table", where=printable(path), fix=_AS_RELEASED)
    has = [str(row[1]) for row in database.execute(f"PRAGMA table_info({table})")]
    for name in columns:
        if name not in has:
            hint = did_you_mean(name, has) or f"Its columns are {', '.join(map(printable, has[:10]))}"
            raise DataError(f"{table} has no column {name!r}", where=printable(path), fix=hint)


def _authorise(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _frame(database: sqlite3.Connection, table: str, columns: tuple[str, ...], path: Path) -> pd.DataFrame:
    """Columns of a table as objects, NULL as None; every value of the kind its column has."""
    chosen = ", ".join(f'"{name}"' for name in columns)
    rows = database.execute(f'SELECT {chosen} FROM "{table}" LIMIT {_MAX_ROWS + 1}').fetchall()  # noqa: S608
    if len(rows) > _MAX_ROWS:
        raise DataError(f"{table} has more than {_MAX_ROWS} rows", where=printable(path), fix=_AS_RELEASED)
    for k, name in enumerate(columns):
        kind = _TYPES.get(name, _NUMBER)
        types = {_WHOLE: (int,), _TEXT: (str,), _NUMBER: (int, float)}[kind]
        odd = [(n, row[k]) for n, row in enumerate(rows, 1) if row[k] is not None and not isinstance(row[k], types)]
        refuse([f"{table}: row {n}: {name} is {printable(v, 60)!r}, not {kind}" for n, v in odd[:1000]], path)
    return pd.DataFrame(rows, columns=list(columns), dtype=object)
