"""A SQLite copy of a store's records, refreshed where a time stamp differs, checked row by row."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from filelock import FileLock, Timeout

from biasbench.errors import BiasBenchError, printable
from biasbench.seal import LOG

if TYPE_CHECKING:
    from biasbench.store import Store

Records = list[dict[str, Any]]


class Index:
    """The records of every cell, read fast.

    It may be deleted at any time, and is when it is damaged. Where it cannot be written (a
    read-only store), the records are read from the files alone.
    """

    def __init__(self, store: Store) -> None:
        self.store, self.path = store, store.root / "index.sqlite"

    def records(self) -> Iterator[Records]:
        """The records of one cell after the other.

        Raises:
            IntegrityError: When a result is damaged that the index does not hold.
        """
        state = dict(self._state())
        for _ in range(2):
            try:
                with FileLock(self.store.root / "index.lock", timeout=30):
                    found = self._refreshed(state)
            except sqlite3.Error as error:
                LOG.warning("%s: %s; it is made again from the results", printable(self.path), error)
                with contextlib.suppress(OSError):
                    self._delete()
            except (OSError, Timeout):
                break
            else:
                yield from found
                return
        for name in sorted(state):
            yield self.read(name)

    def wrong(self) -> list[str]:
        """Cells of which the index says other than their undamaged files, or what it is damaged by.

        It is then deleted.
        """
        if not self.path.exists():
            return []
        state = dict(self._state())
        try:
            with FileLock(self.store.root / "index.lock", timeout=30):
                try:
                    with contextlib.closing(sqlite3.connect(self.path)) as database:
                        rows = {name: text for name, mtime, text, _ in _rows(database) if state.get(name) == mtime}
                except sqlite3.Error as error:
                    found = [str(error)]
                else:
                    found = [name for name, text in rows.items() if self._denied(name, text)]
                if found:
                    self._delete()
                return found
        except (OSError, Timeout):
            return []  # where it cannot be locked, nobody reads it

    def _denied(self, name: str, text: str) -> bool:
        try:
            return bool(json.loads(text) != self.read(name))
        except BiasBenchError:  # the damaged one is the file
            return False

    def read(self, name: str) -> Records:
        """What the files of `runs/<key>` or `unscored/<key>.json` say."""
        kind, _, entry = name.partition("/")
        if kind == "runs":
            return self.store.run_records(entry)
        return [self.store.unscored(entry.removesuffix(".json"))]

    def _state(self) -> Iterator[tuple[str, int]]:
        """Every cell's file or folder with its modification time."""
        finished = set()
        for kind in ("runs", "unscored"):
            folder = self.store.root / kind
            for entry in os.scandir(folder) if folder.is_dir() else ():
                key = entry.name.removesuffix(".json")
                if entry.name.startswith(".") or key in finished:
                    continue  # a cell that finished after it had failed, and whose runner died just then
                if kind == "runs":
                    finished.add(key)
                yield f"{kind}/{entry.name}", entry.stat().st_mtime_ns

    def _delete(self) -> None:
        for file in (self.path.with_name(f"{self.path.name}-journal"), self.path):
            file.unlink(missing_ok=True)

    def _refreshed(self, state: Mapping[str, int]) -> list[Records]:
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode=DELETE")
            database.execute(
                "CREATE TABLE IF NOT EXISTS cell (name TEXT PRIMARY KEY, mtime INTEGER, records TEXT, crc INTEGER)"
            )
            found: dict[str, Records] = {}
            gone, decode, same = [], msgspec.json.Decoder(Records).decode, _Shared()
            for name, mtime, text, _ in _rows(database):
                if state.get(name) == mtime:
                    found[name] = [same(record) for record in decode(text)]
                elif name not in state:
                    gone.append((name,))
            fresh = {name: self.read(name) for name in state if name not in found}
            if fresh or gone:
                database.execute("BEGIN IMMEDIATE")
                database.executemany("DELETE FROM cell WHERE name = ?", gone)
                texts = ((name, state[name], json.dumps(records)) for name, records in fresh.items())
                rows = ((*row, _crc(*row)) for row in texts)
                database.executemany("INSERT OR REPLACE INTO cell VALUES (?, ?, ?, ?)", rows)
                database.execute("COMMIT")
            found |= fresh
        return [found[name] for name in sorted(found)]


class _Shared:
    """Keeps one copy of the texts that many records have in common."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        for name, value in record.items():
            if type(value) is str and name != "key":
                record[name] = self._texts.setdefault(value, value)
        return record


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Without looking for cycles, of which JSON has none: among a million new objects that takes most of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _rows(database: sqlite3.Connection) -> Iterator[tuple[str, int, str, int]]:
    for row in database.execute("SELECT name, mtime, records, crc FROM cell"):
        if _crc(*row[:3]) != row[3]:
            raise sqlite3.DatabaseError("a row is damaged")
        yield row


def _crc(name: str, mtime: int, records: str) -> int:
    """Finds every change of one bit, and costs little beside reading the row."""
    return zlib.crc32(f"{name}\0{mtime}\0{records}".encode())
