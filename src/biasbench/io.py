"""The one place that writes files, reads them by hash and joins paths from data.

Everything is written aside in the same folder, synced and renamed into place: a file is
whole or absent, also when the process is killed or the disk fills up.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from biasbench.errors import DataError, IntegrityError, StoreError, printable
from biasbench.faults import point

ASIDE = ".aside-"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that is renamed into place if the block succeeds.

    Raises:
        StoreError: When the disk is full or the folder cannot be written; the old file is kept.
    """
    path = Path(path)
    aside = path.parent / f"{ASIDE}{path.name}-{uuid.uuid4().hex[:8]}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        point("file.opened")
        yield aside
        point("file.written")
        _sync(aside)
        point("file.synced")
        os.replace(aside, path)
        point("file.renamed")
        _sync(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)


@contextlib.contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """Like `writing`, for a folder: its files are synced, then it is renamed into place.

    If `path` exists by then, another process was faster: its folder is kept.
    """
    path = Path(path)
    aside = path.parent / f"{ASIDE}{path.name}-{uuid.uuid4().hex[:8]}"
    try:
        aside.mkdir(parents=True)
        point("folder.opened")
        yield aside
        commit_folder(aside, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def commit_folder(aside: Path, path: Path) -> None:
    """Sync every file below `aside` and rename it to `path`; an existing `path` is kept."""
    point("folder.filled")
    for file in sorted(aside.rglob("*")):
        _sync(file)
    _sync(aside)
    point("folder.synced")
    try:
        aside.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    point("folder.renamed")
    _sync(path.parent)


def unwritable(path: Path, error: OSError) -> StoreError:
    """The error for a path that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = _free(path.parent)
        return StoreError(
            f"the disk is full ({free} free)", where=printable(path), fix="Make room and run the same command again"
        )
    reason = error.strerror or type(error).__name__
    return StoreError(f"cannot be written: {reason}", where=printable(path), fix="Choose a folder you may write")


def _free(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free / 2**20:.0f} MB"
    except OSError:
        return "an unknown amount"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    with writing(path) as aside, open(aside, "xb") as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """Write a UTF-8 file, whole or not at all."""
    write_bytes(path, content.encode())


def append_text(path: Path, lines: str) -> None:
    r"""Append whole lines to a UTF-8 file; several processes may. What a killed one left of a line is taken away.

    Raises:
        StoreError: When the disk is full or the file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "log"
        >>> append_text(path, "one\n")
        >>> _ = path.write_text("one\ntw")
        >>> append_text(path, "two\n")
        >>> path.read_text()
        'one\ntwo\n'
    """
    try:
        new = not path.exists()
        with open(path, "a+b") as file:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            end = file.seek(0, os.SEEK_END)
            if end != (whole := _whole_lines(file, end)):
                file.truncate(whole)
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())
        if new:
            _sync(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error


def _whole_lines(file: IO[bytes], end: int) -> int:
    """Where the last whole line ends."""
    while end > 0:
        start = max(0, end - 65536)
        file.seek(start)
        if (found := file.read(end - start).rfind(b"\n")) >= 0:
            return start + found + 1
        end = start
    return 0


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and no NaN: equal values give equal text.

    Example:
        >>> canonical_json({"b": 1, "a": [0.5]})
        '{"a":[0.5],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all. NaN is refused: say None."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of our own.

    Raises:
        StoreError: When it is missing or damaged.
    """
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "it is damaged"
        raise StoreError(f"cannot be read: {reason}", where=printable(path)) from error


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write a `.npy` file, whole or not at all."""
    with writing(path) as aside, open(aside, "xb") as file:
        np.save(_Plain(file), np.ascontiguousarray(array), allow_pickle=False)


class _Plain:
    """Only `write`: numpy then writes through it, and a full disk keeps its error number."""

    def __init__(self, file: IO[bytes]) -> None:
        self.write = file.write


def read_array(path: Path, sha256: str | None = None) -> NDArray[Any]:
    """A read-only memory map of a `.npy` file.

    Raises:
        IntegrityError: When the file's hash differs from `sha256`.
        StoreError: When it is missing or not an array.
    """
    if sha256 is not None:
        check_file(path, sha256)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("an archive of arrays")
    except Exception as error:  # numpy's reader lets many kinds through, EOFError and SyntaxError among them
        raise StoreError("cannot be read as an array", where=printable(path)) from error
    return array


def hash_bytes(content: bytes | memoryview) -> str:
    """SHA-256 of some bytes, in hex."""
    return hashlib.sha256(content).hexdigest()


def hash_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, in hex.

    Example:
        >>> hash_json({"a": 1, "b": 2}) == hash_json({"b": 2, "a": 1})
        True
    """
    return hash_bytes(canonical_json(value).encode())


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hex.

    Raises:
        StoreError: When it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"cannot be read: {error.strerror}", where=printable(path)) from error


def check_file(path: Path, sha256: str) -> None:
    """Raise an `IntegrityError` unless the file has this SHA-256."""
    found = hash_file(path)
    if found != sha256:
        raise IntegrityError(
            f"the file is damaged: SHA-256 {found[:12]}…, expected {sha256[:12]}…",
            where=printable(path),
            fix="Delete the folder it lies in and run again",
        )


def below(folder: Path) -> Iterator[Path]:
    """Every file and folder below one; what goes away meanwhile, as beside other runners, may be left out."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in (*folders, *files))


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by relative POSIX path."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hash_file(p) for p in files}


def safe_join(root: Path, name: str) -> Path:
    """`root/name` for a name that comes from data.

    Raises:
        DataError: When the name is absolute, leaves `root`, or is not the name of a regular
            file where something exists. Links may not leave it either, except that `root`
            and the folders directly in it may be links themselves: large image folders
            often lie on another disk.

    Example:
        >>> safe_join(Path("/data"), "train/1.jpg").as_posix()
        '/data/train/1.jpg'
    """
    pure = PurePosixPath(name)
    windows = PureWindowsPath(name)
    bad = (
        not name
        or "\0" in name
        or pure.is_absolute()
        or ".." in pure.parts
        or windows.drive
        or windows.root
        or ".." in windows.parts
        or "://" in name
    )
    if bad:
        raise _outside(root, name)
    path = root / pure
    try:
        resolved = path.resolve()
        first = (root / pure.parts[0]).resolve() if len(pure.parts) > 1 else root.resolve()
        if not resolved.is_relative_to(root.resolve()) and not resolved.is_relative_to(first):
            raise _outside(root, name)
        if path.exists() and not path.is_file():
            raise DataError(f"{printable(name)!r} is not a regular file", where=printable(root))
    except (OSError, RuntimeError, ValueError) as error:  # too long, a loop of links, not encodable
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise DataError(f"unusable file name {printable(name)!r}: {reason}", where=printable(root)) from error
    return path


def _outside(root: Path, name: str) -> DataError:
    return DataError(
        f"refused the file name {printable(name)!r}: it is empty or leaves its folder",
        where=printable(root),
        fix="File names must be relative and inside the data set's folder",
    )


def sweep(folder: Path) -> int:
    """Delete what killed processes left aside in a folder; returns how many."""
    left = list(folder.glob(f"{ASIDE}*")) if folder.is_dir() else []
    for path in left:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return len(left)
