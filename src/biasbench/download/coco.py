"""COCO from its official address."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biasbench import io
from biasbench.data import Progress
from biasbench.download.transfer import fetch
from biasbench.download.unpack import unzip
from biasbench.errors import StoreError, UsageError, did_you_mean, printable

FileProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Archive:
    """A file of a release.

    Attributes:
        path: Below the base address.
        folder: The one folder that it unpacks to.
        sha256: Where one is officially published, else None.
    """

    path: str
    folder: str
    sha256: str | None = None


COCO_URL = "http://images.cocodataset.org"
# The addresses of https://cocodataset.org/#download. We know of no checksums from the authors; those that circulate are
# third parties', so none is set: the archives' own CRCs are checked member by member.
COCO_FILES: Mapping[str, Mapping[str, Archive]] = {
    year: {
        "annotations": Archive(f"annotations/annotations_trainval{year}.zip", "annotations"),
        "val": Archive(f"zips/val{year}.zip", f"val{year}"),
        "train": Archive(f"zips/train{year}.zip", f"train{year}"),
    }
    for year in ("2014", "2017")
}


def download_coco(
    root: Path,
    year: str = "2014",
    parts: Sequence[str] = (),
    *,
    base_url: str = COCO_URL,
    progress: FileProgress | None = None,
) -> list[Path]:
    """Fetch and unpack COCO into a folder as the reader expects it. What is there already is kept.

    Args:
        root: The folder that gets `annotations/`, `train{year}/` and `val{year}/`.
        year: `"2014"` (about 20 GB packed) or `"2017"` (about 20 GB).
        parts: Any of `annotations`, `train` and `val`; empty means all.
        base_url: A mirror of the official address, with the same paths.
        progress: Called with (what is done, bytes done, bytes in all or 0 if unknown).

    Returns:
        The folders of the parts.

    Raises:
        UsageError: For an unknown year or part.
        DataError: When a file cannot be had or is not what it should be.
        StoreError: When the disk is full or cannot be written.
    """
    if year not in COCO_FILES:
        raise UsageError(f"unknown year {printable(year)!r}", fix=f"Known: {', '.join(COCO_FILES)}")
    files = COCO_FILES[year]
    for part in parts:
        if part not in files:
            hint = did_you_mean(part, files) or f"Known: {', '.join(files)}"
            raise UsageError(f"unknown part {printable(part)!r} of COCO", fix=hint)
    chosen = [files[part] for part in files if not parts or part in parts]
    for archive in chosen:
        _download(archive, f"{base_url.rstrip('/')}/{archive.path}", root, progress)
    return [root / archive.folder for archive in chosen]


def _download(archive: Archive, url: str, root: Path, progress: FileProgress | None) -> None:
    memory = root / ".biasbench-downloads.json"
    done: dict[str, Any] = {}
    with suppress(StoreError):
        done = io.read_json(memory)
    name = Path(archive.path).name
    if name in done and (root / archive.folder).is_dir():
        return
    packed = fetch(url, root / name, sha256=archive.sha256, progress=_named(f"download {name}", progress))
    count = unzip(packed, root, archive.folder, _named(f"unpack {name}", progress))
    io.write_json(memory, {**done, name: {"url": url, "bytes": packed.stat().st_size, "files": count}})
    packed.unlink()


def _named(what: str, progress: FileProgress | None) -> Progress | None:
    return None if progress is None else lambda done, total: progress(what, done, total)
