"""Values of one column or array, checked; a message names the row and its id.

Rows are counted from 0 in every format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench.errors import DataError, printable

IntArray = NDArray[np.int64]
EXACT = 2.0**53  # beyond this, a float64 no longer tells whole numbers apart


@dataclass(frozen=True)
class Cells:
    """A named array of a file.

    Attributes:
        values: [N, ...] as the file has them.
        name: What the file calls them.
        where: The file.
        ids: [N] ids of the rows, to name them by; empty while they are being read.
    """

    values: NDArray[Any]
    name: str
    where: str
    ids: Sequence[str] = ()

    def error(self, row: int | np.integer[Any] | None, what: str, fix: str | None = None) -> DataError:
        """The error for a row; None for all."""
        where = self.where
        if row is not None:
            where += f", row {row}" + (f" (id {printable(self.ids[int(row)], 80)!r})" if len(self.ids) else "")
        return DataError(f"{printable(self.name, 80)!r} {what}", where=where, fix=fix)

    @property
    def is_text(self) -> bool:
        """Whether the cells are text."""
        return self.values.dtype.kind in "OUS"

    def texts(self) -> list[str]:
        """[N] texts; whole numbers are written out.

        Raises:
            DataError: When the cells are neither, or not UTF-8.
        """
        if self.values.ndim != 1 or self.values.dtype.kind not in "OUSiu":
            kind = f"{self.values.dtype} of shape {list(self.values.shape)}"
            raise self.error(None, f"holds {kind}, not one text a row", "Write text or whole numbers")
        if self.values.dtype.kind != "S":
            return [str(value) for value in self.values.tolist()]
        try:
            return [value.decode() for value in self.values.tolist()]
        except UnicodeDecodeError as error:
            raise self.error(None, "is not UTF-8 text", "Save it with dtype=str") from error

    def numbers(self, words: Mapping[str, float] | None = None) -> NDArray[Any]:
        """[N, ...] numbers of the file's own type, float64 where they were written as text.

        Args:
            words: What may stand for a number, in lower case.

        Raises:
            DataError: For text that is no number, naming its row.
        """
        if self.values.dtype.kind in "biuf":
            return self.values
        if self.values.dtype.kind != "O":
            raise self.error(None, f"holds {self.values.dtype}, not numbers", "Save it with a numeric dtype")
        out = np.empty(len(self.values))
        for row, text in enumerate(self.values.tolist()):
            try:
                out[row] = words[low] if words and (low := text.strip().casefold()) in words else float(text)
            except ValueError:
                raise self.error(row, f"holds {said(text)}, not a number", "Write a number") from None
        return out

    def bits(self) -> NDArray[np.uint8]:
        """[N, ...] of 0 and 1.

        Raises:
            DataError: For any other value, naming its row.
        """
        values = self.numbers({"false": 0.0, "true": 1.0})
        if (bad := (values != 0) & (values != 1)).any():
            row, value = first(values, bad)
            raise self.error(row, f"holds {said(value)}, where 0 or 1 is expected", "Write 1 = present, 0 = absent")
        return values.astype(np.uint8)

    def symbols(self) -> tuple[list[int | str | None], IntArray]:
        """Distinct values (whole numbers, names, None where empty), and which of them each row has.

        Raises:
            DataError: When there is not one value a row, or a number is not whole.
        """
        if self.values.ndim != 1:
            raise self.error(None, f"has shape {list(self.values.shape)}, where [N] is expected")
        values = np.array([text.strip() for text in self.texts()], str) if self.is_text else self.numbers()
        unique, inverse = np.unique(values, return_inverse=True)
        meant: list[int | str | None] = []
        for at, value in enumerate(unique.tolist()):
            meaning = _meaning(value)
            if isinstance(meaning, float):
                row = int((inverse == at).argmax())
                raise self.error(row, f"holds {said(value)}, which is not a whole number", "Write a number or a name")
            meant.append(meaning)
        return meant, inverse.astype(np.int64)


def _meaning(value: float | str) -> int | float | str | None:
    """A whole number, a name, None for nothing; a float is none of these.

    Example:
        >>> [_meaning(v) for v in (True, 2.0, "3", "-1.0", " ", "woman", float("nan"), "0.5")]
        [1, 2, 3, -1, None, 'woman', None, 0.5]
    """
    if isinstance(value, str):
        if not (text := value.strip()):
            return None
        if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", text, re.ASCII):
            return text
        value = float(text)
    if isinstance(value, float):
        if np.isnan(value):
            return None
        return int(value) if value.is_integer() and abs(value) < EXACT else value
    return int(value)


def first(values: NDArray[Any], bad: NDArray[np.bool_]) -> tuple[int, Any]:
    """Row and value of the first place where `bad` holds.

    Example:
        >>> first(np.array([[1, 2], [3, 4]]), np.array([[False, False], [False, True]]))
        (1, 4)
    """
    place = np.unravel_index(int(bad.argmax()), bad.shape)
    return int(place[0]), values[place].item()


def said(value: object) -> str:
    """A value as a message shows it.

    Example:
        >>> said(0.3), said(""), said("two"), said(float("nan"))
        ('0.3', 'nothing', "'two'", 'nothing (NaN)')
    """
    if isinstance(value, str):
        return repr(printable(value.strip(), 60)) if value.strip() else "nothing"
    if isinstance(value, float):
        return "nothing (NaN)" if np.isnan(value) else f"{value:.6g}"
    return str(value)
