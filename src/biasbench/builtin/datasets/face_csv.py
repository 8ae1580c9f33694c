"""Reading a CSV file strictly: every line whole, every column once."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from biasbench import DataError, did_you_mean, printable
from biasbench.builtin.datasets.coco_check import refuse
from biasbench.builtin.datasets.coco_json import read_file


@dataclass(frozen=True)
class Columns:
    """The columns of a CSV file that were asked for.

    Attributes:
        path: The file.
        values: Text by column, one a row.
        lines: Line in the file on which each row ends, from 1.
    """

    path: Path
    values: Mapping[str, Sequence[str]]
    lines: Sequence[int]

    def refuse(self, bad: Collection[int], what: str, column: str, fix: str) -> None:
        """Raise when any of the rows `bad` offends: the first is named with its line and value.

        Raises:
            DataError: In one line; how many more there are is said.
        """
        told = [f"line {self.lines[r]}: {column} is {printable(self.values[column][r])!r}{what}" for r in bad]
        refuse(told, self.path, fix)


def read_csv(path: Path, wanted: Collection[str], maybe: Collection[str] = ()) -> Columns:
    r"""Some columns of a CSV file in UTF-8, with or without a byte-order mark; the others are passed over.

    Args:
        path: The file; its first line names the columns.
        wanted: Columns that must be there.
        maybe: Columns that are taken where they are.

    Raises:
        DataError: When the file cannot be read, is no CSV, has no row, lacks a column or has it twice, or
            has a line with another number of cells.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = file.write_text("file,age\n1.jpg,30\n")
        >>> read_csv(file, ["age"]).values
        {'age': ['30']}
    """
    try:
        reader = csv.reader(StringIO(read_file(path).decode("utf-8-sig"), newline=""), strict=True)
        rows = [(reader.line_num, row) for row in reader if row]
    except UnicodeDecodeError as error:
        raise DataError("not a UTF-8 file", where=printable(path), fix="Save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise DataError(f"not a CSV file: {printable(error)}", where=printable(path), fix="Repair the line") from error
    header = rows[0][1] if rows else []
    twice = sorted({name for name in header if header.count(name) > 1} & {*wanted, *maybe})
    refuse([f"the column {name!r} stands twice" for name in twice], path, "Give each column once")
    for name in wanted:
        if name not in header:
            hint = did_you_mean(name, header).replace("Did you mean", "Is it") if header else ""
            told = f"Its columns are {', '.join(map(printable, header[:10]))}"
            raise DataError(f"there is no column {name!r}", where=printable(path), fix=hint or told)
    odd = [(n, len(row)) for n, row in rows[1:] if len(row) != len(header)]
    refuse([f"line {n}: expected {len(header)} cells, found {k}" for n, k in odd], path, "Repair the line")
    if len(rows) < 2:
        raise DataError("it has no row", where=printable(path), fix="Use the file of the release")
    taken = [name for name in (*wanted, *maybe) if name in header]
    values = {name: [row[header.index(name)] for _, row in rows[1:]] for name in taken}
    return Columns(path, values, [n for n, _ in rows[1:]])
