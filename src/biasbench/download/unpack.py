"""Unpacking an archive from the network: nothing leaves its folder, nothing explodes."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from biasbench import io
from biasbench.errors import DataError, StoreError, printable

MAX_RATIO = 100  # of a member's size to its packed size; COCO's JSON is at about 5, deflate's limit at 1032
_SMALL = 1 << 20  # bytes: a member below cannot hurt, whatever its ratio


def unzip(archive: Path, folder: Path, inside: str, progress: Callable[[int, int], None] | None = None) -> int:
    """Unpack a zip file whose members all lie in one folder.

    Members that are there already with the right size are kept, so that an interrupted run goes on.

    Args:
        archive: The zip file.
        folder: Where `inside` is made.
        inside: The one top folder that members may lie in.
        progress: Called with (bytes unpacked, bytes in all).

    Returns:
        How many files the archive has.

    Raises:
        DataError: For a file that is no zip or is damaged; for a member outside `inside`, a link, one
            that is encrypted, stands twice, or grows more than a hundredfold.
        StoreError: When the disk is full or the folder cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as source:
            members = _checked(source, archive, folder, inside)
            total, done = sum(m.file_size for m in members), 0
            require_room(folder, total - sum(_there(folder / m.filename, m) * m.file_size for m in members))
            for member in members:
                path = folder / member.filename
                if not _there(path, member):
                    _extract(source, member, path)
                done += member.file_size
                if progress is not None:
                    progress(done, total)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataError(
            f"the archive is damaged: {printable(error)}", where=printable(archive), fix="Delete it and download again"
        ) from error
    os.sync()
    return len(members)


def _checked(source: zipfile.ZipFile, archive: Path, folder: Path, inside: str) -> list[zipfile.ZipInfo]:
    members = [m for m in source.infolist() if not m.is_dir()]
    names = [m.filename for m in members]
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise _refused(archive, twice, "stands twice")
    for m in members:
        if not m.filename.startswith(f"{inside}/"):
            raise _refused(archive, m.filename, f"lies outside {inside}/")
        io.safe_join(folder, m.filename)
        if stat.S_IFMT(m.external_attr >> 16) not in (0, stat.S_IFREG):
            raise _refused(archive, m.filename, "is no regular file")
        if m.flag_bits & 1:
            raise _refused(archive, m.filename, "is encrypted")
        if m.file_size > _SMALL and m.file_size > MAX_RATIO * m.compress_size:
            raise _refused(archive, m.filename, f"unpacks to {m.file_size} bytes from {m.compress_size}")
    if sum(m.compress_size for m in members) > archive.stat().st_size:
        raise _refused(archive, names[0], "shares its bytes with others")
    return members


def _refused(archive: Path, name: str, why: str) -> DataError:
    return DataError(
        f"refused: member {printable(name)!r} {why}",
        where=printable(archive),
        fix="Get the archive from its official address",
    )


def _there(path: Path, member: zipfile.ZipInfo) -> bool:
    return path.is_file() and path.stat().st_size == member.file_size


def require_room(folder: Path, needed: int) -> None:
    """Fail before the first byte, not after the last that fits.

    Raises:
        StoreError: When the disk of `folder` has fewer than `needed` bytes free.
    """
    place = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise StoreError(
            f"{needed / 2**30:.1f} GiB are needed and {free / 2**30:.1f} GiB are free",
            where=printable(folder),
            fix="Make room and run the same command again",
        )


def _extract(source: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    """Unpack a member, whole or not at all; synced once at the end, for there are a hundred thousand."""
    aside = path.with_name(f"{io.ASIDE}{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with source.open(member) as packed, open(aside, "wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)  # reads at most file_size bytes and checks the CRC
        os.replace(aside, path)
    except OSError as error:
        raise io.unwritable(path, error) from error
    finally:
        aside.unlink(missing_ok=True)
