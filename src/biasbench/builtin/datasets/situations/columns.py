"""The three columns of a prepared list, from npz, Parquet or CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from biasbench import DataError, printable
from biasbench.builtin.datasets.coco_check import refuse
from biasbench.builtin.datasets.coco_json import read_file

COLUMNS = {"image": ("image", "image_name"), "verb": ("verb",), "gender": ("gender",)}


@dataclass(frozen=True)
class Listed:
    """The columns of one list as they are in the file, [N] each, text or integers."""

    path: Path
    columns: Mapping[str, NDArray[Any]]

    def place(self, row: int) -> str:
        """How a message names a row."""
        return f"line {row + 2}" if self.path.suffix == ".csv" else f"row {row}"


def read_list(path: Path) -> Listed:
    """The three columns of a list, text or integers.

    Raises:
        DataError: When the file is damaged, lacks a column, or has one of another length or type.
    """
    content = read_file(path)
    reader = {".npz": _read_npz, ".parquet": _read_parquet, ".csv": _read_csv}[path.suffix]
    arrays = reader(content, path)
    columns = {}
    for column, names in COLUMNS.items():
        found = [name for name in names if name in arrays]
        if len(found) != 1:
            what = f"both {' and '.join(found)}" if found else f"no column {' or '.join(names)}"
            raise DataError(f"there is {what}", where=printable(path), fix="Give image, verb and gender once each")
        columns[column] = _plain(arrays[found[0]], found[0], path)
    lengths = {name: len(array) for name, array in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise DataError(f"columns of different lengths: {told}", where=printable(path), fix="Give a value for each row")
    return Listed(path, columns)


def _read_npz(content: bytes, path: Path) -> dict[str, NDArray[Any]]:
    wanted = {name for names in COLUMNS.values() for name in names}
    try:
        with np.load(BytesIO(content), allow_pickle=False) as archive:
            names = [name for name in archive.files if name in wanted]
            return {name: archive[name] for name in names}
    except Exception as error:  # numpy's reader lets many kinds through
        objects = "Object arrays" in str(error)
        raise DataError(
            "an array holds Python objects, which are never read" if objects else "cannot be read as an npz file",
            where=printable(path),
            fix="Save text and integers" if objects else "Save it with numpy.savez",
        ) from error


def _read_parquet(content: bytes, path: Path) -> dict[str, NDArray[Any]]:
    try:
        table = pq.read_table(BytesIO(content), page_checksum_verification=True, partitioning=None)
        names = table.column_names
        wanted = [name for name in names if any(name in group for group in COLUMNS.values()) and names.count(name) == 1]
        return {name: np.array(table.column(name).to_pylist()) for name in wanted}
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError("cannot be read as Parquet", where=printable(path), fix="Write it again") from error


def _read_csv(content: bytes, path: Path) -> dict[str, NDArray[Any]]:
    try:
        rows = list(csv.reader(StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    except UnicodeDecodeError as error:
        raise DataError("not a UTF-8 file", where=printable(path), fix="Save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"not a CSV file: {printable(error)}", where=printable(path), fix="Repair the line") from error
    header = rows[0] if rows else []
    if len(set(header)) < len(header):
        raise DataError("a column stands twice", where=printable(path), fix="Give each column once")
    odd = [n for n, row in enumerate(rows[1:], 2) if len(row) != len(header)]
    refuse([f"line {n}: expected {len(header)} cells, found {len(rows[n - 1])}" for n in odd], path, "Repair the line")
    cells = list(zip(*rows[1:], strict=True)) if len(rows) > 1 else [() for _ in header]
    return {name: np.array(values, object) for name, values in zip(header, cells, strict=True)}


def _plain(array: NDArray[Any], name: str, path: Path) -> NDArray[Any]:
    """Text as [N] objects, integers as [N] int64."""
    if array.ndim != 1:
        raise DataError(
            f"{name!r} has {array.ndim} dimensions, not one", where=printable(path), fix="Give one value a row"
        )
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    if array.dtype.kind in "UO":
        values = array.astype(object)
        missing = [i for i, value in enumerate(values) if value is None]
        refuse([f"row {i}: {name} is missing" for i in missing], path, "Fill in the value, or leave out the row")
        odd = [i for i, value in enumerate(values) if not isinstance(value, str)]
        refuse([f"row {i}: {name} is {printable(values[i])}, not text" for i in odd], path, "Use one type")
        return values
    raise DataError(
        f"{name!r} holds {array.dtype}, not integers or text",
        where=printable(path),
        fix="Save names as text and codes as integers",
    )
