"""Which files make up a COCO folder, and a key of their content that is quick to get again."""

from __future__ import annotations

import contextlib
import json
import re
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biasbench import DataError, StoreError, io, printable

YEARS = ("2014", "2017")
PARTS = ("train", "val")
_REGION = re.compile(r"region_([a-z][a-z0-9-]*)_train(\d{4})\.json")
_SETTLED = 2.0  # seconds: a younger file may change again within one tick of its time stamp
_REMEMBERED = 500  # files


@dataclass(frozen=True)
class Sources:
    """The annotation files of one year.

    Attributes:
        year: "2014" or "2017".
        folder: Where they lie.
        instances: By part.
        captions: By part.
        attributes: By part; empty when there is no such side table.
        groups: `attribute_groups.json`, if there.
        regions: Further regions by name, each by part.
    """

    year: str
    folder: Path
    instances: dict[str, Path]
    captions: dict[str, Path]
    attributes: dict[str, Path] = field(default_factory=dict)
    groups: Path | None = None
    regions: dict[str, dict[str, Path]] = field(default_factory=dict)

    def files(self) -> list[Path]:
        """Every file, in a fixed order."""
        tables = [self.instances, self.captions, self.attributes, *(self.regions[n] for n in sorted(self.regions))]
        return [t[part] for t in tables for part in PARTS if part in t] + ([self.groups] if self.groups else [])


def years_in(folder: Path) -> list[str]:
    """Years of which `folder/annotations` has at least one instances file."""
    return [y for y in YEARS if any((folder / "annotations" / f"instances_{p}{y}.json").exists() for p in PARTS)]


def find_sources(root: Path, year: str, obtain: Sequence[str] = ()) -> Sources:
    """The files of a year; `auto` takes 2014, which the paper used, where both are there.

    Raises:
        DataError: Naming what is missing.
    """
    folder = root / "annotations"
    how = "; ".join(obtain) or "Use the folder of the release"
    try:
        if year == "auto":
            found = years_in(root)
            if not found:
                wanted = " nor ".join(f"instances_train{y}.json" for y in YEARS)
                raise DataError(f"no COCO annotations: neither {wanted}", where=printable(folder), fix=how)
            year = found[0]
        sources = Sources(year, folder, _pair(folder, "instances", year), _pair(folder, "captions", year))
        missing = [p.name for p in sources.files() if not p.exists()]
        if missing:
            raise DataError(f"missing: {', '.join(missing)}", where=printable(folder), fix=how)
        return Sources(
            year,
            folder,
            sources.instances,
            sources.captions,
            _side(folder, "attributes", year, ".csv"),
            folder / "attribute_groups.json" if (folder / "attribute_groups.json").exists() else None,
            _regions(folder, year),
        )
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror}", where=printable(folder), fix="Check that you may read the folder"
        ) from error


def _pair(folder: Path, stem: str, year: str, suffix: str = ".json") -> dict[str, Path]:
    return {part: folder / f"{stem}_{part}{year}{suffix}" for part in PARTS}


def _side(folder: Path, stem: str, year: str, suffix: str) -> dict[str, Path]:
    """Both parts of an optional table, or none; one alone is a mistake."""
    pair = _pair(folder, stem, year, suffix)
    there = [path.name for path in pair.values() if path.exists()]
    if len(there) == 1:
        missing = next(path.name for path in pair.values() if not path.exists())
        raise DataError(f"{there[0]} is there, {missing} is not", where=printable(folder), fix="Give both or none")
    return pair if there else {}


def _regions(folder: Path, year: str) -> dict[str, dict[str, Path]]:
    found = sorted(p.name for p in folder.iterdir())
    names = [m[1] for name in found if (m := _REGION.fullmatch(name)) and m[2] == year]
    for name in names:
        if name.startswith("person"):
            raise DataError(
                f"region_{name}_train{year}.json: names that start with 'person' are taken", where=printable(folder)
            )
    return {name: _side(folder, f"region_{name}", year, ".json") for name in names}


def content_hashes(files: Sequence[Path], memory: Path) -> dict[str, str]:
    """SHA-256 of each file by name; a file with remembered size, times and inode is not read again.

    Args:
        files: Of different names.
        memory: JSON file that remembers; damaged or read-only, it is done without.

    Raises:
        DataError: When a file cannot be read.
    """
    known = _recall(memory)
    hashes: dict[str, str] = {}
    fresh: dict[str, Any] = {}
    for path in files:
        try:
            status = path.stat()
            stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]
            name = str(path.resolve())
            entry = known.get(name)
            if isinstance(entry, list) and entry[:-1] == stamp and isinstance(entry[-1], str):
                hashes[path.name] = entry[-1]
                continue
            if not stat.S_ISREG(status.st_mode):
                raise DataError("not a regular file", where=printable(path), fix="Put the file of the release there")
            hashes[path.name] = io.hash_file(path)
        except (OSError, StoreError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise DataError(f"cannot be read: {printable(reason)}", where=printable(path)) from error
        if max(status.st_mtime, status.st_ctime) < time.time() - _SETTLED:
            fresh[name] = [*stamp, hashes[path.name]]
    if fresh:
        kept: dict[str, Any] = {**fresh, **{k: v for k, v in known.items() if k not in fresh}}
        with contextlib.suppress(StoreError):
            io.write_text(memory, json.dumps(dict(list(kept.items())[:_REMEMBERED])))
    return hashes


def _recall(memory: Path) -> dict[str, Any]:
    try:
        known = io.read_json(memory)
    except StoreError:
        return {}
    return known if isinstance(known, dict) else {}
