"""A file as named arrays, whatever its format; nothing of it is ever run or unpickled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from biasbench.errors import DataError, printable

MAX_BYTES = 4 * 2**30
"""More than this, unpacked, is refused: a small archive may unpack to more than any memory."""
FORMATS = {".npz": "npz", ".parquet": "parquet", ".csv": "csv", ".csv.gz": "csv"}


class Source(ABC):
    """Named arrays of a file, read one at a time.

    Attributes:
        format: `npz`, `parquet` or `csv`.
        where: The file, as messages name it.
        names: What the file holds, in its order.
    """

    format: ClassVar[str]

    def __init__(self, path: Path, names: list[str]) -> None:
        self.where, self.names = printable(path), names
        self._check_names()

    @abstractmethod
    def read(self, name: str) -> NDArray[Any]:
        """One array: booleans, numbers, or text (empty where there is none); of a table, [N]."""

    @property
    def word(self) -> str:
        """What this format calls a named array."""
        return "array" if self.format == "npz" else "column"

    def _check_names(self) -> None:
        if "" in (stripped := [name.strip() for name in self.names]):
            number = 1 + stripped.index("")
            fix = "Name it or drop it; pandas leaves out its row numbers with to_csv(index=False)"
            raise DataError(f"{self.word} {number} has no name", where=self.where, fix=fix)
        if twice := [name for name, count in Counter(stripped).items() if count > 1]:
            raise DataError(f"two {self.word}s are called {printable(twice[0])!r}", where=self.where, fix="Keep one")


def open_source(path: Path) -> Source:
    """Open a file of outputs by the end of its name.

    Raises:
        DataError: When it is no regular file, is empty, has an unknown ending, is too large,
            or cannot be read as what its ending says.
    """
    from biasbench.audit.npz import Archive
    from biasbench.audit.table import open_csv, open_parquet

    where = printable(path)
    try:
        found, regular = path.exists(), path.is_file()
        size = path.stat().st_size if regular else 0
        if regular:
            path.open("rb").close()
    except (OSError, ValueError) as error:
        what = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise DataError(what, where=where, fix="Check the file and its permissions") from error
    if not regular:
        what = "is not a regular file" if found else "there is no such file"
        raise DataError(what, where=where, fix="Name the file of a model's outputs")
    ending = next((end for end in FORMATS if path.name.lower().endswith(end)), None)
    if ending is None:
        fix = f"Write one of {', '.join(FORMATS)}; docs/audit.md has an example"
        raise DataError(f"the ending {printable(path.suffix)!r} is not one that an audit reads", where=where, fix=fix)
    if size == 0:
        raise DataError("the file is empty", where=where, fix="Write it again")
    if size > MAX_BYTES:
        raise too_large(where)
    opener = {"npz": Archive, "parquet": open_parquet, "csv": open_csv}[FORMATS[ending]]
    return opener(path)


def too_large(where: str) -> DataError:
    """The error for a file that unpacks to more than `MAX_BYTES`."""
    fix = "Leave out what is not needed, or audit fewer examples"
    return DataError(f"holds more than {MAX_BYTES / 2**30:g} GiB when unpacked", where=where, fix=fix)
