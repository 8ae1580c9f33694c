"""Columns of `.csv` and `.parquet` files, through Apache Arrow."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from biasbench.audit import source
from biasbench.audit.source import Source, too_large
from biasbench.errors import DataError, printable

BLOCK = 64 * 2**20  # bytes; a line of a CSV may not be longer


class Table(Source):
    """A table of Arrow columns."""

    def __init__(self, path: Path, table: pa.Table) -> None:
        super().__init__(path, list(table.column_names))
        self.table = table

    def read(self, name: str) -> NDArray[Any]:
        column = self.table.column(name)
        try:
            return _array(column)
        except (pa.ArrowException, TypeError) as error:
            fix = "Use one column of booleans, numbers or text for each"
            raise DataError(f"column {printable(name)!r} holds {column.type}", where=self.where, fix=fix) from error


class CSV(Table):
    """Text, each cell as it is written."""

    format: ClassVar[str] = "csv"


class Parquet(Table):
    """Typed columns."""

    format: ClassVar[str] = "parquet"


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    """[N] booleans, numbers (NaN where there is none) or text (empty where there is none).

    Raises:
        TypeError: For a type that is none of these.
    """
    kinds = pa.types
    if kinds.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    of = column.type
    if kinds.is_null(of):
        return np.full(len(column), "", object)
    if kinds.is_string(of) or kinds.is_large_string(of):
        values: NDArray[Any] = column.to_numpy()
        return np.where(column.is_null().to_numpy(), "", values)
    if kinds.is_boolean(of):
        bools: NDArray[Any] = column.to_numpy() if not column.null_count else _words(column)
        return bools
    if kinds.is_decimal(of) or (kinds.is_integer(of) and column.null_count):
        column, of = column.cast(pa.float64(), safe=False), pa.float64()
    if not kinds.is_integer(of) and not kinds.is_floating(of):
        raise TypeError(of)
    numbers: NDArray[Any] = column.to_numpy()
    return numbers


def _words(column: pa.ChunkedArray) -> NDArray[Any]:
    """[N] "True", "False" or "" of booleans that are not all given."""
    return np.array(["" if value is None else str(value) for value in column.to_pylist()], object)


def open_csv(path: Path) -> Table:
    """A CSV file: commas, UTF-8 with or without a byte order mark, any line end; gzip is unpacked.

    Raises:
        DataError: When it is not that, has rows of unequal length, or is too large.
    """
    from pyarrow import csv as arrow

    where = printable(path)
    content = _content(path)
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError("is not UTF-8 text", where=f"{where}, line {line}", fix="Save it as UTF-8") from error
    try:
        with io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="") as text:
            header = next((cells for cells in csv.reader(text) if cells), [])
        if len(header) == 1 and any(sign in header[0] for sign in ";\t|"):
            raise DataError("the columns are not separated by commas", where=where, fix="Save it with commas")
        table = arrow.read_csv(
            pa.BufferReader(content),
            read_options=arrow.ReadOptions(use_threads=False, block_size=BLOCK),
            parse_options=arrow.ParseOptions(newlines_in_values=True),
            convert_options=arrow.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False
            ),
        )
    except (pa.ArrowException, csv.Error) as error:
        said = str(error).removeprefix("CSV parse error: ").replace("Row #", "line ")
        fix = "Every line needs as many cells as the header; cells with a comma or a line end need quotes"
        raise DataError(f"cannot be read as CSV: {printable(said, 160)}", where=where, fix=fix) from error
    return CSV(path, table)


def _content(path: Path) -> bytes:
    """The unpacked bytes of a file, `MAX_BYTES` at most."""
    packed = path.name.lower().endswith(".gz")
    try:
        with gzip.open(path) if packed else open(path, "rb") as file:
            content = file.read(source.MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        fix = "It may be cut off: pack it again" if packed else "Check the file and its permissions"
        raise DataError(f"cannot be read: {printable(reason)}", where=printable(path), fix=fix) from error
    if len(content) > source.MAX_BYTES:
        raise too_large(printable(path))
    return content


def open_parquet(path: Path) -> Table:
    """A Parquet file.

    Raises:
        DataError: When it is not one, is damaged or too large.
    """
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            about = file.metadata
            if 8 * about.num_rows * about.num_columns > source.MAX_BYTES:
                raise too_large(printable(path))
            table = file.read(use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = printable(str(error).partition("\n")[0], 160).rstrip(".")
        fix = "It may be cut off: write it again, for instance with pandas' to_parquet"
        raise DataError(f"cannot be read as Parquet: {reason}", where=printable(path), fix=fix) from error
    return Parquet(path, table)
