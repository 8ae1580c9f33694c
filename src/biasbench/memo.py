"""Values that were expensive to compute, kept by the text of all their inputs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from biasbench import io
from biasbench.errors import BiasBenchError, printable
from biasbench.seal import LOG


class Memo:
    """JSON values by the hash of a text that names every input; damaged ones are computed again.

    Args:
        folder: Where they lie.
        of: Identity of a third party's code, whose texts do not name it: its values are kept apart.
    """

    def __init__(self, folder: Path, of: str = "") -> None:
        self.folder, self.of = folder, f"{of}: " if of else ""

    def get(self, key: str) -> Any:
        """The stored value, or None if there is none or it is damaged: a memo is no result."""
        path = self._path(key)
        if not path.exists():
            return None
        stored = read_entry(path)
        if stored is None or stored["key"] != self.of + key:
            LOG.warning("%s: the file is damaged. Its value is computed again", printable(path))
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # when it was last used: `biasbench gc --cache` asks
        return stored["value"]

    def put(self, key: str, value: Any) -> None:
        """Store a value, whole or not at all."""
        checked = io.hash_json(value)
        io.write_json(self._path(key), {"key": self.of + key, "value": value, "sha256": checked})

    def __call__(self, key: str, compute: Callable[[], Any]) -> Any:
        """The stored value, or what `compute` returns, stored."""
        value = self.get(key)
        if value is None:
            value = compute()
            self.put(key, value)
        return value

    def _path(self, key: str) -> Path:
        return self.folder / entry_name(self.of + key)


def entry_name(key: str) -> str:
    """The file of a key."""
    return f"{io.hash_bytes(key.encode())[:32]}.json"


def read_entry(path: Path) -> dict[str, Any] | None:
    """An entry with `key` and `value`; None where it is damaged."""
    try:
        stored: dict[str, Any] = io.read_json(path)
        good = stored["sha256"] == io.hash_json(stored["value"])
        return stored if good and path.name == entry_name(stored["key"]) else None
    except (BiasBenchError, KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return None  # ValueError: a number that became infinite
