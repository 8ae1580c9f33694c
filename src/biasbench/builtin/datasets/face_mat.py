"""Reading a struct from a Matlab file that may be anything. Nothing in it is executed or unpickled.

The outer elements are walked first, so that a cut or foreign file is told as such and a small file cannot
unfold into more memory than it may; scipy reads what is left.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench import DataError, did_you_mean, printable
from biasbench.builtin.datasets.coco_check import refuse
from biasbench.builtin.datasets.coco_json import read_file

MAX_BYTES = 2 << 30  # of a file's content, unpacked; that of imdb.mat is a tenth of it
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_HDF5 = b"\x89HDF\r\n\x1a\n"
_AGAIN = "Download it again"
Struct = Mapping[str, NDArray[Any]]


def read_struct(path: Path, name: str) -> Struct:
    """The fields of the 1 x 1 struct `name` in a Matlab 5 file (`save -v6` or `-v7`).

    Args:
        path: The file.
        name: The variable.

    Returns:
        By field, what scipy makes of it: numbers, or [.., ..] objects for a cell array.

    Raises:
        DataError: When the file is missing, cut, damaged, of another format, or has no such struct.
    """
    content = read_file(path)
    check_whole(content, path)
    from scipy.io import loadmat, whosmat  # slow to import, and only needed when an index is built

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about variables that stand twice: the last one counts, as in Matlab
            source: Any = BytesIO(content)  # scipy reads files too, and its stubs do not say so
            found = loadmat(source, variable_names=[name])
            names = [] if name in found else [str(v[0]) for v in whosmat(BytesIO(content))]  # type: ignore[arg-type]
    except Exception as error:  # the reader lets many kinds through
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise _unreadable(path, f"damaged ({printable(reason, 120)})") from error
    if name not in found:
        hint = did_you_mean(name, names) or f"It has {', '.join(map(printable, names[:10])) or 'none'}"
        raise DataError(f"there is no variable {name!r}", where=printable(path), fix=hint)
    value = found[name]
    if value.dtype.names is None or value.size != 1:
        raise DataError(f"{name!r} is no struct", where=printable(path), fix="Use the file as it was released")
    return {field: value[field].flat[0] for field in value.dtype.names}


def _unreadable(path: Path, why: str, fix: str = _AGAIN) -> DataError:
    return DataError(f"cannot be read as a Matlab file: {why}", where=printable(path), fix=fix)


def check_whole(content: bytes, path: Path) -> None:
    """Refuse what is no whole Matlab 5 file, or unfolds into more than `MAX_BYTES`."""
    if _HDF5 in (content[:8], content[512:520]):
        raise _unreadable(path, "it is of version 7.3 (HDF5)", "Save it with -v7, or use the file of the release")
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER])
    if order is None or not content.startswith(b"MATLAB 5.0"):
        raise _unreadable(path, "it does not start as one")
    at, total = _HEADER, 0
    while at < len(content):
        if at + 8 > len(content):
            raise _unreadable(path, "it ends too early")
        kind, size = struct.unpack(f"{order}II", content[at : at + 8])
        if kind not in (_MATRIX, _COMPRESSED):
            raise _unreadable(path, f"damaged (an element of kind {kind} at byte {at})")
        if at + 8 + size > len(content):
            raise _unreadable(path, "it ends too early")
        total += _unpacked(content[at + 8 : at + 8 + size], path) if kind == _COMPRESSED else size
        if total > MAX_BYTES:
            raise _unreadable(path, f"it unfolds into more than {MAX_BYTES >> 20} MB", "Use the file of the release")
        at += 8 + size


def _unpacked(data: bytes, path: Path) -> int:
    """Bytes that a compressed element unfolds into, counted without keeping them."""
    unpacker, total, tail = zlib.decompressobj(), 0, data
    try:
        while not unpacker.eof and total <= MAX_BYTES:
            piece = unpacker.decompress(tail, 1 << 20)
            tail = unpacker.unconsumed_tail
            total += len(piece)
            if not piece and not tail:
                break
    except zlib.error as error:
        raise _unreadable(path, f"damaged ({printable(error)})") from error
    if total <= MAX_BYTES and not unpacker.eof:
        raise _unreadable(path, "damaged (an element ends too early)")
    return total


def numbers(fields: Struct, name: str, path: Path, entries: int) -> NDArray[np.float64]:
    """[N] float64 of a numeric row or column.

    Args:
        fields: Of the struct.
        name: Of the field.
        path: Of the file, for errors.
        entries: N.

    Raises:
        DataError: When the field is missing, holds something else, or has another number of entries.
    """
    array = _field(fields, name, path)
    if array.dtype.kind not in "iufb":
        raise _wrong(name, "does not hold real numbers", path)
    return np.asarray(_row(array, name, path, entries), np.float64)


def texts(fields: Struct, name: str, path: Path, entries: int | None = None) -> list[str]:
    """N texts of a cell array; an empty cell is the empty text.

    Args:
        fields: Of the struct.
        name: Of the field.
        path: Of the file, for errors.
        entries: N; None takes as many as there are.

    Raises:
        DataError: When the field is missing, no cell array, has a cell that is no text, or another number of them.
    """
    array = _field(fields, name, path)
    if array.dtype != object:
        raise _wrong(name, "is no cell array of texts", path)
    cells = list(_row(array, name, path, entries))
    odd = [i for i, cell in enumerate(cells, 1) if not (isinstance(cell, np.ndarray) and _is_text(cell))]
    refuse([f"entry {i}: {name!r} is no text" for i in odd], path)
    return [str(cell.flat[0]) if cell.size else "" for cell in cells]


def _is_text(cell: NDArray[Any]) -> bool:
    return cell.size == 0 or (cell.dtype.kind == "U" and cell.size == 1)


def _field(fields: Struct, name: str, path: Path) -> NDArray[Any]:
    if name not in fields:
        hint = did_you_mean(name, fields) or f"Its fields are {', '.join(map(printable, list(fields)[:12]))}"
        raise DataError(f"the struct has no field {name!r}", where=printable(path), fix=hint)
    array = fields[name]
    if not isinstance(array, np.ndarray):  # a sparse matrix is none
        raise _wrong(name, "is no plain array", path)
    return array


def _row(array: NDArray[Any], name: str, path: Path, entries: int | None) -> NDArray[Any]:
    if array.ndim != 2 or (array.size and 1 not in array.shape):
        raise _wrong(name, f"is {' x '.join(map(str, array.shape))}, not a row", path)
    if entries is not None and array.size != entries:
        raise _wrong(name, f"has {array.size} entries, others have {entries}", path)
    return array.ravel()


def _wrong(name: str, why: str, path: Path) -> DataError:
    return DataError(f"the field {name!r} {why}", where=printable(path), fix="Use the file as it was released")
