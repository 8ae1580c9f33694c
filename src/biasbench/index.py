"""A SQLite copy of what a store's files say: refreshed where a time stamp differs, made again where it is damaged."""

from __future__ import annotations

import contextlib
import gc
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock, Timeout

from biasbench import io
from biasbench.errors import BiasBenchError, StoreError, printable
from biasbench.journal import cell_of, withdraw
from biasbench.seal import LOG
from biasbench.tables import Tables

if TYPE_CHECKING:
    from biasbench.store import Store

Records = list[dict[str, Any]]
T = TypeVar("T")
YOUNG = 2 * 10**9
"""Nanoseconds in which a file may change again and keep its time stamp: some file systems count in seconds."""


class Index:
    """What every cell says, read fast.

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
        found = self.use(lambda tables: dict(tables.cells()))
        for name in sorted(self._state() if found is None else found):
            yield self.read(name) if found is None else found[name]

    def use(self, what: Callable[[Tables], T]) -> T | None:
        """What a function makes of the refreshed tables; None where there can be none.

        It is called again if the tables turn out to be damaged, with new ones.

        Raises:
            IntegrityError: When a result is damaged that the index does not hold.
        """
        for _ in range(2):
            try:
                with FileLock(self.store.root / "index.lock", timeout=30), no_collection(), self._open() as database:
                    database.execute("PRAGMA journal_mode=DELETE")
                    tables = Tables(database)
                    self._refresh(tables)
                    found = what(tables)
                    tables.save()
                    return found
            except sqlite3.Error as error:
                LOG.warning("%s: %s; it is made again from the results", printable(self.path), error)
                with contextlib.suppress(OSError):
                    self._delete()
            except (OSError, Timeout):
                break
        return None

    def wrong(self) -> list[str]:
        """Cells of which the index says other than their undamaged files, or what it is damaged by.

        It is then deleted.
        """
        if not self.path.exists():
            return []
        state = self._state()
        try:
            with FileLock(self.store.root / "index.lock", timeout=30):
                try:
                    with self._open() as database:
                        tables = Tables(database)
                        cells = tables.contents.cells
                        rows = {name: rows for name, rows in tables.cells() if state.get(name) == cells[name].stamp}
                except sqlite3.Error as error:
                    found = [str(error)]
                else:
                    found = [name for name, records in rows.items() if self._denied(name, records)]
                if found:
                    self._delete()
                return found
        except (OSError, Timeout):
            return []  # where it cannot be locked, nobody reads it

    def _open(self) -> contextlib.closing[sqlite3.Connection]:
        return contextlib.closing(sqlite3.connect(self.path, isolation_level=None))

    def _denied(self, name: str, records: Records) -> bool:
        try:
            return bool(records != self.read(name))
        except BiasBenchError:  # the damaged one is the file
            return False

    def read(self, name: str) -> Records:
        """What the files of `runs/<key>` or `unscored/<key>.json` say."""
        kind, _, entry = name.partition("/")
        if kind == "runs":
            return self.store.run_records(entry)
        return [self.store.unscored(entry.removesuffix(".json"))]

    def _state(self) -> dict[str, int]:
        """Every cell's file or folder with its modification time."""
        found: dict[str, int] = {}
        for kind, suffix in (("runs", ""), ("unscored", ".json")):
            folder = self.store.root / kind
            if not folder.is_dir():
                continue
            descriptor = os.open(folder, os.O_RDONLY)  # names are looked up in it: a third of the time for 100,000
            try:
                with os.scandir(descriptor) as entries:
                    for entry in entries:
                        name = entry.name
                        finished = suffix and f"runs/{name.removesuffix(suffix)}" in found
                        if name[0] != "." and not finished:  # finished after it had failed; its runner died just then
                            found[f"{kind}/{name}"] = entry.stat().st_mtime_ns
            finally:
                os.close(descriptor)
        return found

    def _delete(self) -> None:
        for file in (self.path.with_name(f"{self.path.name}-journal"), self.path):
            file.unlink(missing_ok=True)

    def _refresh(self, tables: Tables) -> None:
        old = time.time_ns() - YOUNG
        state, plan = self._state(), self.store.root / "plan.json"
        sha256 = io.hash_file(plan) if plan.exists() else ""
        whole = io.hash_bytes(f"{sha256} {state!r}".encode()) if max(state.values(), default=0) < old else ""
        if whole and whole == tables.state:
            return
        known = tables.contents.cells
        gone = [name for name in known if name not in state]
        self._note(tables, gone)
        for name in gone:
            tables.drop(name)
        for name, stamp in state.items():
            if name not in known or known[name].stamp != stamp:
                tables.put(name, stamp if stamp < old else -1, self.read(name))
        if sha256 != tables.contents.plan:
            cells = self.store.plan()
            if sha256 and io.hash_file(plan) != sha256:  # somebody replaced it between the two
                sha256, whole = "?", ""
            tables.put_plan(sha256, cells)
        tables.state = whole

    def _note(self, tables: Tables, gone: list[str]) -> None:
        """Write down results that somebody has deleted: no command of ours does."""
        deleted = [name for name in gone if not self._there(name) and not self._there(f"runs/{_key(name)}")]
        entries = [
            {**cell_of(record), "status": record["status"], "was": record["values"], "reason": record["reason"]}
            for name in deleted
            for record in tables.cell(name)
        ]
        try:
            withdraw(self.store.root, "deleted", entries)
        except StoreError as error:
            LOG.warning("%s", error)

    def _there(self, name: str) -> bool:
        """Whether it is there now: a cell that finishes while folders are listed may be in none of the lists."""
        return (self.store.root / name).exists()


def _key(name: str) -> str:
    return name.partition("/")[2].removesuffix(".json")


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
