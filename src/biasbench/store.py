"""The results folder: a directory per training and per run, whole or absent.

    results/
      store.json                     schema version
      trainings/<key>/               manifest.json  weights.safetensors  log.jsonl
      runs/<key>/                    manifest.json  truth/  predictions/<split>/  metrics.json
      unscored/<key>.json            cells that failed or cannot run, with the reason
      plan.json                      cells of the latest plan, in order
      work/                          claims, checkpoints, inputs; nothing here is a result
      index.sqlite                   rebuilt from the files above whenever they differ

The files are the truth; the index only makes reading many of them fast.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from biasbench import __version__, io
from biasbench.errors import IntegrityError, StoreError, printable

SCHEMA = 1
NOTES = "notes.json"  # beside a split's predictions


class Store:
    """A results folder.

    Args:
        root: The folder.
        create: Whether to create it when it is not there.

    Raises:
        StoreError: When it is not there, is not a store, or was written by a newer version.
    """

    def __init__(self, root: Path, *, create: bool = False) -> None:
        self.root = Path(root)
        self._check(create)

    def _check(self, create: bool) -> None:
        where = printable(self.root)
        marker = self.root / "store.json"
        if self.root.exists() and not self.root.is_dir():
            raise StoreError("is not a folder", where=where, fix="Name another folder with --results")
        if not marker.exists():
            if not create:
                raise StoreError("holds no results", where=where, fix="Run something first, or name it with --results")
            found = [p for p in self.root.iterdir() if not p.name.startswith(io.ASIDE)] if self.root.is_dir() else []
            if found and not marker.exists():  # unless another runner has just made it a store
                raise StoreError(
                    "is neither empty nor a results folder", where=where, fix="Name another folder with --results"
                )
            io.write_json(marker, {"schema": SCHEMA, "created_by": f"biasbench {__version__}"})
        found = io.read_json(marker)
        version = found.get("schema") if isinstance(found, dict) else None
        if version != SCHEMA:
            raise StoreError(
                f"was written with schema {printable(version)}, this version reads {SCHEMA}",
                where=where,
                fix="Use the version of biasbench that wrote it, or another folder",
            )

    # ------------------------------------------------------------------ places
    def training(self, key: str) -> Path:
        """Folder of a finished training."""
        return self.root / "trainings" / key

    def run(self, key: str) -> Path:
        """Folder of a finished run."""
        return self.root / "runs" / key

    def work(self, *parts: str) -> Path:
        """Scratch space; survives a kill so that a training can go on."""
        return self.root.joinpath("work", *parts)

    def claim(self, key: str) -> FileLock:
        """The lock that says who works on a key; the kernel frees it when its holder dies."""
        self.work("claims").mkdir(parents=True, exist_ok=True)
        return FileLock(self.work("claims", f"{key}.lock"))

    # ------------------------------------------------------------------ writing
    def commit_run(self, aside: Path, key: str, manifest: Mapping[str, Any]) -> None:
        """Turn a finished folder into run `key`; an existing run is kept."""
        self._commit(aside, self.run(key), manifest)
        (self.root / "unscored" / f"{key}.json").unlink(missing_ok=True)

    def commit_training(self, aside: Path, key: str, manifest: Mapping[str, Any]) -> None:
        """Turn a finished folder into training `key`; an existing one is kept."""
        self._commit(aside, self.training(key), manifest)

    def _commit(self, aside: Path, path: Path, manifest: Mapping[str, Any]) -> None:
        try:
            io.write_json(aside / "manifest.json", {**manifest, "schema": SCHEMA, "files": io.checksums(aside)})
            path.parent.mkdir(parents=True, exist_ok=True)
            io.commit_folder(aside, path)
        except OSError as error:
            raise io.unwritable(path, error) from error

    def aside(self, kind: str, key: str) -> Path:
        """A fresh folder to fill for a later commit, on the same file system."""
        path = self.work("aside", f"{kind}-{key}-{uuid.uuid4().hex[:8]}")
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise io.unwritable(path, error) from error
        return path

    def note_unscored(self, record: Mapping[str, Any]) -> None:
        """Remember why a cell has no score; a finished run is never overwritten by it."""
        key = str(record["key"])
        if not (self.run(key) / "manifest.json").exists():
            io.write_json(self.root / "unscored" / f"{key}.json", record)

    def write_metrics(self, key: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Store a run's measurements; earlier ones of another protocol or attribute are kept."""
        path = self.run(key) / "metrics.json"
        old = self.metrics(key) if path.exists() else []
        taken = {_measured(r) for r in records}
        again = {(r["attribute"], r["protocol"]) for r in records}
        kept = [
            r
            for r in old
            if _measured(r) not in taken and not (r["error"] and (r["attribute"], r["protocol"]) in again)
        ]
        merged = [*kept, *records]
        digest = io.hash_bytes(io.canonical_json(merged).encode())
        io.write_json(path, {"schema": SCHEMA, "records": merged, "sha256": digest})

    def write_plan(self, cells: Sequence[Mapping[str, Any]]) -> None:
        """Remember the latest plan's cells, in order."""
        io.write_json(self.root / "plan.json", {"schema": SCHEMA, "cells": list(cells)})

    # ------------------------------------------------------------------ reading
    def manifest(self, folder: Path) -> dict[str, Any]:
        """A manifest.

        Raises:
            StoreError: When it is missing or damaged.
        """
        found = io.read_json(folder / "manifest.json")
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            raise StoreError("the manifest is damaged", where=printable(folder))
        return found

    def has_run(self, key: str) -> bool:
        """Whether a run is finished."""
        return (self.run(key) / "manifest.json").exists()

    def has_training(self, key: str) -> bool:
        """Whether a training is finished."""
        return (self.training(key) / "manifest.json").exists()

    def verify(self, folder: Path) -> dict[str, Any]:
        """A manifest whose files were all checked against their hashes.

        Raises:
            IntegrityError: Naming the first file that is damaged or missing.
        """
        manifest = self.manifest(folder)
        for name, digest in manifest["files"].items():
            path = folder / name
            if not path.is_file():
                raise IntegrityError("a file is missing", where=printable(path), fix="Restore it or delete its folder")
            io.check_file(path, digest)
        return manifest

    def metrics(self, key: str) -> list[dict[str, Any]]:
        """A run's measurements.

        Raises:
            IntegrityError: When they were changed.
        """
        path = self.run(key) / "metrics.json"
        found = io.read_json(path)
        try:
            records: list[dict[str, Any]] = found["records"]
            good = found["sha256"] == io.hash_bytes(io.canonical_json(records).encode())
        except (KeyError, TypeError, ValueError):
            good = False
        if not good:
            fix = "Run 'biasbench measure' to compute them again from the stored predictions"
            raise IntegrityError("the measurements are damaged", where=printable(path), fix=fix)
        return records

    def notes(self, key: str) -> dict[str, dict[str, float | None]]:
        """What the method reported of each split of a finished run, by split and name; empty where it said nothing.

        Splits are `train`, `val`, `test` and the training split's views (`train@0`, ...); names are those of
        `Method.report` after the method's place and name: `"1.rba/violated_after"`. None is undefined.
        """
        files = sorted((self.run(key) / "predictions").glob(f"*/{NOTES}"))
        return {file.parent.name: io.read_json(file) for file in files}

    def runs(self) -> list[str]:
        """Keys of all finished runs."""
        folder = self.root / "runs"
        return sorted(e.name for e in os.scandir(folder) if e.is_dir()) if folder.is_dir() else []

    def records(self) -> list[dict[str, Any]]:
        """One record per cell, attribute and protocol: what the leaderboard reads.

        Every cell that was planned is there: scored, failed, n/a, or missing because the
        run ended before it.
        """
        plan = io.read_json(self.root / "plan.json")["cells"] if (self.root / "plan.json").exists() else []
        order = {cell["key"]: i for i, cell in enumerate(plan)}
        found = [r for text in Index(self).texts() for r in json.loads(text)]
        seen = {r["key"] for r in found}
        missing = {"status": "missing", "reason": "not run yet", "values": {}}
        found.extend({**cell, **missing} for cell in plan if cell["key"] not in seen)
        for record in found:
            record["order"] = order.get(record["key"], len(order))
        return sorted(found, key=lambda r: (r["order"], r["key"], r["attribute"], r["protocol"]))

    def clean(self) -> None:
        """Delete what killed processes left aside."""
        shutil.rmtree(self.work("aside"), ignore_errors=True)
        for folder in (self.root, self.root / "runs", self.root / "trainings", self.root / "unscored"):
            io.sweep(folder)


def _measured(record: Mapping[str, Any]) -> tuple[str, str, str]:
    return record["metric"], record["attribute"], record["protocol"]


def run_records(store: Store, key: str) -> list[dict[str, Any]]:
    """A finished run's leaderboard records, one per attribute and protocol."""
    manifest = store.manifest(store.run(key))
    spec = manifest["spec"]
    base = {
        "key": key,
        **{k: spec[k] for k in ("method", "dataset", "backbone", "profile", "seed", "weights")},
        "environment": manifest.get("environment", {}).get("hash", ""),
        "notes": store.notes(key),
    }
    path = store.run(key) / "metrics.json"
    if not path.exists():
        attribute, protocol = manifest["attribute"], spec["recipe"]["protocol"]
        unmeasured = {"status": "missing", "reason": "not measured yet", "values": {}, "flags": manifest["flags"]}
        return [{**base, **unmeasured, "attribute": attribute, "protocol": protocol}]
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for m in store.metrics(key):
        row = rows.setdefault(
            (m["attribute"], m["protocol"]),
            {**base, "status": "ok", "reason": None, "attribute": m["attribute"], "protocol": m["protocol"],
             "values": {}, "flags": list(manifest["flags"])},
        )  # fmt: skip
        row["values"].update(m["values"])
        row["flags"] += [f for f in m["flags"] if f not in row["flags"]]
        if m.get("error"):
            row["status"], row["reason"] = "failed", m["error"]
    return list(rows.values())


class Index:
    """A SQLite copy of the records, refreshed where a folder's time stamp differs.

    It may be deleted at any time. Where it cannot be written (a read-only store), the
    records are read from the files alone.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def texts(self) -> Iterator[str]:
        """JSON lists of records, one text per cell."""
        state = dict(self._state())
        try:
            with FileLock(self.store.root / "index.lock", timeout=30):
                yield from self._refreshed(state)
        except (sqlite3.Error, OSError, Timeout):
            (self.store.root / "index.sqlite").unlink(missing_ok=True) if os.access(self.store.root, os.W_OK) else None
            for name in state:
                yield json.dumps(self._read(name))

    def _state(self) -> Iterator[tuple[str, int]]:
        """Every cell's file or folder with its modification time."""
        for kind in ("runs", "unscored"):
            folder = self.store.root / kind
            for entry in os.scandir(folder) if folder.is_dir() else ():
                if not entry.name.startswith("."):
                    yield f"{kind}/{entry.name}", entry.stat().st_mtime_ns

    def _read(self, name: str) -> list[dict[str, Any]]:
        kind, _, entry = name.partition("/")
        if kind == "runs":
            return run_records(self.store, entry)
        return [io.read_json(self.store.root / name)]

    def _refreshed(self, state: Mapping[str, int]) -> list[str]:
        database = sqlite3.connect(self.store.root / "index.sqlite", isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode=DELETE")
            database.execute("CREATE TABLE IF NOT EXISTS cell (name TEXT PRIMARY KEY, mtime INTEGER, records TEXT)")
            known = dict(database.execute("SELECT name, mtime FROM cell"))
            changed = [n for n, mtime in state.items() if known.get(n) != mtime]
            gone = [n for n in known if n not in state]
            if changed or gone:
                fresh = [(n, state[n], json.dumps(self._read(n))) for n in changed]
                database.execute("BEGIN IMMEDIATE")
                database.executemany("DELETE FROM cell WHERE name = ?", [(n,) for n in gone])
                database.executemany("INSERT OR REPLACE INTO cell VALUES (?, ?, ?)", fresh)
                database.execute("COMMIT")
            return [text for (text,) in database.execute("SELECT records FROM cell ORDER BY name")]
        finally:
            database.close()
