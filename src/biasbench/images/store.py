"""The image store: every image of a table decoded and resized once, as raw pixels in one file.

`pixels.bin` holds the images one after the other, [h, w, 3] uint8 each; `index.npy` is
[N, 5] int64 with offset, height, width, native height and native width; `store.json` says
what it is and has the hashes of both. A store is whole or absent, and shared by everyone who wants
the same pixels; one that has changed since it was written is made again by whoever builds it next.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from threading import Lock

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasbench import io
from biasbench.data import Progress, table_digest
from biasbench.errors import DataError, IntegrityError, StoreError, printable
from biasbench.images.decode import Image, read_resized
from biasbench.seal import LOG, read_sealed, write_sealed

_FORMAT = "images/1"
_SHOWN = 5
_AGAIN = "Run the same command again: the images are then decoded again"


def store_key(table: pd.DataFrame, root: Path, short_side: int) -> str:
    """The name of the store of a table's images: paths in order, sizes, times, decoder versions and short side.

    Example:
        >>> len(store_key(pd.DataFrame({"path": ["none.jpg"]}), Path(), 256))
        32
    """
    digest = hashlib.sha256(table_digest(table[["path"]]).encode())
    decoders = [f"{name}={version(name)}" for name in ("torchvision", "pillow")]
    digest.update(io.canonical_json([_FORMAT, short_side, *decoders]).encode())
    for path in table["path"]:
        try:
            status = (root / str(path)).stat()
            digest.update(f"{status.st_size} {status.st_mtime_ns},".encode())
        except (OSError, ValueError):
            digest.update(b"-,")  # a missing image is reported when the store is built
    return digest.hexdigest()[:32]


@dataclass
class ImageStore:
    """The pixels of one table, read through a memory map; checked before the first is used.

    Attributes:
        folder: Where it lies.
        short_side: Short side of every image, pixels.
        content: SHA-256 of all pixels in order.
        index: [N, 5] int64: offset, height, width, native height, native width.
        pixels: All bytes.
    """

    folder: Path
    short_side: int
    content: str
    index: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    _sound: bool = False
    _lock: Lock = field(default_factory=Lock)

    @classmethod
    def build(
        cls,
        folder: Path,
        table: pd.DataFrame,
        root: Path,
        short_side: int,
        progress: Progress | None = None,
        threads: int | None = None,
    ) -> ImageStore:
        """Decode and resize every image of `table`, unless an undamaged store is there already.

        Args:
            folder: Where the store goes; name it by `store_key`.
            table: Its column `path` names the files, row by row.
            root: Folder that the paths are relative to.
            short_side: Short side, pixels.
            progress: Called with (done, total) after every image.
            threads: Decoding threads; None = one per available core. They do not change a bit.

        Raises:
            DataError: When images are missing or cannot be decoded: how many, and the first five. When one
                changed while they were read.
            StoreError: When the disk is full or the folder cannot be written.
        """
        from filelock import FileLock

        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.parent / f"{folder.name}.lock"):  # one builds, the others wait and open
                if folder.exists() and (found := cls._undamaged(folder)) is not None:
                    return found
                if not folder.exists():
                    paths, before = _paths(table, root), store_key(table, root, short_side)
                    with io.writing_folder(folder) as aside:
                        _write(aside, paths, root, short_side, progress, threads or _cores())
                        if store_key(table, root, short_side) != before:
                            fix = "Run the same command again once nothing writes there"
                            raise DataError("images changed while they were read", where=printable(root), fix=fix)
        except OSError as error:
            raise io.unwritable(folder, error) from error
        return cls.open(folder)

    @classmethod
    def _undamaged(cls, folder: Path) -> ImageStore | None:
        """A store whose pixels were checked; a damaged one is deleted."""
        try:
            found = cls.open(folder)
            found.verify()
            with contextlib.suppress(OSError):
                os.utime(folder / "store.json")  # when it was last used: `biasbench gc --cache` asks
        except (IntegrityError, StoreError) as error:
            LOG.warning("%s The images are decoded again", error)
            shutil.rmtree(folder)
            return None
        return found

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether a store was built in `folder` (not whether its bytes are good)."""
        return (folder / "store.json").exists()

    @classmethod
    def open(cls, folder: Path) -> ImageStore:
        """Open a finished store.

        Raises:
            StoreError: When there is none.
            IntegrityError: When a file has been cut or exchanged.
        """
        meta = read_sealed(folder / "store.json", fix=_AGAIN)
        index = np.array(io.read_array(folder / "index.npy", str(meta.get("index"))))
        file = folder / "pixels.bin"
        expected = int((index[:, 1] * index[:, 2]).sum()) * 3
        whole = file.is_file() and file.stat().st_size == max(1, expected) and len(index) == meta.get("count")
        if meta.get("format") != _FORMAT or not {"short_side", "content"} <= set(meta) or not whole:
            raise IntegrityError("the image store is damaged", where=printable(folder), fix=_AGAIN)
        pixels = np.asarray(np.memmap(file, np.uint8, "r"))
        return cls(folder, int(meta["short_side"]), str(meta["content"]), index, pixels)

    def __len__(self) -> int:
        return len(self.index)

    def image(self, row: int) -> Image:
        """[h, w, 3] uint8 pixels of a row, a read-only view.

        Raises:
            IntegrityError: When the pixels are not the ones that were written.
        """
        if not self._sound:
            with self._lock:  # threads of one loader: one checks, the others wait
                if not self._sound:
                    self.verify()
        offset, height, width = self.index[row, :3].tolist()
        return self.pixels[offset : offset + height * width * 3].reshape(height, width, 3)

    def native(self, row: int) -> tuple[int, int]:
        """Height and width of a row's file."""
        height, width = self.index[row, 3:].tolist()
        return height, width

    def scale(self, row: int) -> float:
        """Size of the stored image relative to its file: multiply lengths in pixels by it."""
        return self.short_side / min(self.native(row))

    def verify(self) -> None:
        """Raise an `IntegrityError` unless the pixels are the ones that were written."""
        used = self.pixels[: int((self.index[:, 1] * self.index[:, 2]).sum()) * 3]
        if io.hash_bytes(used.data) != self.content:
            raise IntegrityError("the stored pixels have changed", where=printable(self.folder), fix=_AGAIN)
        self._sound = True


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _paths(table: pd.DataFrame, root: Path) -> list[Path]:
    paths = [io.safe_join(root, str(path)) for path in table["path"]]
    missing = [str(name) for name, path in zip(table["path"], paths, strict=True) if not path.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(paths)} images are missing: {_first(missing)}",
            where=printable(root),
            fix="Complete the data set; nothing is trained on a part of it",
        )
    return paths


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(printable(n, 120) for n in names[:_SHOWN]) + more


def _write(
    aside: Path, paths: Sequence[Path], root: Path, short_side: int, progress: Progress | None, threads: int
) -> None:
    digest, offset, index, bad = hashlib.sha256(), 0, [], []
    with open(aside / "pixels.bin", "xb") as file:
        for done, (path, result) in enumerate(_decoded(paths, short_side, threads), 1):
            if isinstance(result, DataError):
                bad.append(f"{path.relative_to(root)} ({result.what.removeprefix('cannot be used as an image: ')})")
            elif not bad:  # after the first bad one, only the others' names are wanted
                image, native = result
                file.write(image.data)
                digest.update(image.data)
                index.append((offset, *image.shape[:2], *native))
                offset += image.size
            if progress is not None:
                progress(done, len(paths))
        if not offset:
            file.write(b"\0")  # an empty file cannot be mapped
    if bad:
        raise DataError(
            f"{len(bad)} of {len(paths)} images cannot be used: {_first(bad)}",
            where=printable(root),
            fix="Replace them, or remove them from the data set",
        )
    io.write_array(aside / "index.npy", np.array(index, np.int64).reshape(-1, 5))
    meta = {"format": _FORMAT, "count": len(paths), "short_side": short_side, "content": digest.hexdigest()}
    write_sealed(aside / "store.json", {**meta, "index": io.hash_file(aside / "index.npy")})


Decoded = tuple[Image, tuple[int, int]] | DataError


def _decoded(paths: Sequence[Path], short_side: int, threads: int) -> Iterator[tuple[Path, Decoded]]:
    """Each path with its resized image and native size, in order; few are in memory at a time."""
    import torch

    def work(path: Path) -> Decoded:
        try:
            return read_resized(path, short_side)
        except DataError as error:
            return error

    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            waiting: deque[tuple[Path, Future[Decoded]]] = deque()
            for path in paths:
                waiting.append((path, pool.submit(work, path)))
                if len(waiting) >= 4 * threads:
                    first, future = waiting.popleft()
                    yield first, future.result()
            for first, future in waiting:
                yield first, future.result()
    finally:
        torch.set_num_threads(before)
