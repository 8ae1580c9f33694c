"""Arrays of a `.npz` file, sizes checked before memory is taken."""

from __future__ import annotations

import lzma
import math
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from biasbench.audit import source
from biasbench.audit.source import Source, too_large
from biasbench.errors import DataError, printable

# What zipfile and numpy's header parser raise on damaged, encrypted or exotic archives.
DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, TypeError, RuntimeError,
    NotImplementedError, SyntaxError, OverflowError, RecursionError, KeyError,
)  # fmt: skip
SAVE_AS_TEXT = "Save text as np.array(values, dtype=str) and numbers as a numeric dtype; objects are never unpickled"


class Archive(Source):
    """A `.npz` file.

    Raises:
        DataError: When it is no archive of arrays, or would unpack to too much.
    """

    format = "npz"

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except DAMAGE as error:
            raise self._damaged(error) from error
        self.members = {member.filename.removesuffix(".npy"): member for member in members}
        if foreign := [member.filename for member in members if not member.filename.endswith(".npy")]:
            what = f"holds {printable(foreign[0])!r}, which is no array"
            raise DataError(what, where=printable(path), fix="Write it with numpy.savez")
        if sum(member.file_size for member in members) > source.MAX_BYTES:
            raise too_large(printable(path))
        super().__init__(path, [member.filename.removesuffix(".npy") for member in members])

    def read(self, name: str) -> NDArray[Any]:
        member = self.members[name]
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(member) as file:
                shape, fortran, dtype = _header(file)
                if dtype.hasobject or dtype.kind == "V":
                    kind = "objects" if dtype.hasobject else "records"
                    raise DataError(f"array {printable(name)!r} holds {kind}", where=self.where, fix=SAVE_AS_TEXT)
                expected = math.prod(shape) * dtype.itemsize
                if min(shape, default=0) < 0 or expected != member.file_size - file.tell():
                    raise ValueError(f"the header of {name!r} does not fit its size")
                array = np.frombuffer(file.read(), dtype).reshape(shape, order="F" if fortran else "C")
        except DAMAGE as error:
            raise self._damaged(error) from error
        return array.astype(dtype.newbyteorder("="), copy=False)

    def _damaged(self, error: Exception) -> DataError:
        reason = printable(str(error).partition("\n")[0] or type(error).__name__, 160).rstrip(".")
        fix = "It may be cut off: write it again with numpy.savez or numpy.savez_compressed"
        return DataError(f"cannot be read as .npz: {reason}", where=printable(self.path), fix=fix)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, column-major or not, and type of a `.npy` stream, which is left at its first value."""
    version = npy.read_magic(file)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version} of .npy")
    with warnings.catch_warnings():  # numpy warns of headers that Python 2 wrote; they are fine
        warnings.simplefilter("ignore")
        shape, fortran, dtype = readers[version](file)
    return shape, fortran, dtype
