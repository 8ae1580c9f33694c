"""The content of a data set's image files, so that a run's key knows of every byte.

Reading all files takes as long as the disk needs, once: a file whose size, times and number are the same as when it was
read is not read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from biasbench import io
from biasbench.data import Progress
from biasbench.errors import StoreError
from biasbench.images.decode import MAX_BYTES

_EVERY = 512


def content(root: Path, names: Iterable[str], memory: Path, progress: Progress | None = None) -> str:
    """SHA-256 over the content of files, in order.

    A missing file, and one that is no picture by its size or kind, counts as such: what reads it tells.

    Args:
        root: Folder that the names are relative to.
        names: Paths of the files.
        memory: JSON file that remembers what was read.
        progress: Called with files done and files in all, as long as files are read.

    Raises:
        DataError: When a name leaves the folder.
        StoreError: When the memory cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.png").write_bytes(b"one")
        >>> before = content(folder, ["a.png"], folder / "memory.json")
        >>> _ = (folder / "a.png").write_bytes(b"two")
        >>> content(folder, ["a.png"], folder / "memory.json") == before
        False
    """
    known = _remembered(memory)
    states = {name: _state(Path(root) / name) for name in names}
    stale = {n: io.safe_join(Path(root), n) for n, state in states.items() if state and _last(known, n) != state}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for done, (name, digest) in enumerate(zip(stale, pool.map(io.hash_file, stale.values()), strict=True), 1):
            known[name] = {"state": states[name], "sha256": digest}
            if progress is not None and (done % _EVERY == 0 or done == len(stale)):
                progress(done, len(stale))
    if stale:
        io.write_text(memory, json.dumps(known))  # names need not be UTF-8
    whole = hashlib.sha256()
    for name, state in states.items():
        whole.update(f"{len(name)}:{name}:{known[name]['sha256'] if state else '-'}\n".encode(errors="surrogatepass"))
    return whole.hexdigest()


def _remembered(memory: Path) -> dict[str, Any]:
    try:
        found = io.read_json(memory)
    except StoreError:
        return {}
    good = isinstance(found, Mapping) and all(isinstance(v, Mapping) and {"state", "sha256"} <= set(v)
                                              for v in found.values())  # fmt: skip
    return dict(found) if good else {}


def _last(known: Mapping[str, Any], name: str) -> Any:
    return known.get(name, {}).get("state")


def _state(path: Path) -> list[int] | None:
    """Size, times and number of a file that can be a picture."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES or not os.access(path, os.R_OK):
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
