"""The results folder: a directory per training and per run, whole or absent.

    results/
      store.json                     schema version
      trainings/<key>/               manifest.json  weights.safetensors  log.jsonl
      runs/<key>/                    manifest.json  truth/  predictions/<split>/  metrics.json
      unscored/<key>.json            cells that failed or cannot run, with the reason
      plan.json                      cells of the latest plan, in order
      journal.jsonl                  what was withdrawn, a line each
      work/                          claims, checkpoints, inputs; nothing here is a result
      index.sqlite                   rebuilt from the files above whenever they differ

The files are the truth; the index only makes reading many of them fast. Every document carries its own hash, and a
manifest those of the files beside it: nothing is used that is not what was written.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from filelock import FileLock

from biasbench import __version__, io
from biasbench.errors import IntegrityError, StoreError, printable
from biasbench.faults import point
from biasbench.index import Index, no_collection
from biasbench.journal import cell_of, withdraw
from biasbench.leaderboard import MISSING
from biasbench.seal import read_sealed, write_sealed

SCHEMA = 2
AGAIN = "Delete the folder it lies in and run again"
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
            write_sealed(marker, {"schema": SCHEMA, "created_by": f"biasbench {__version__}"})
        found = io.read_json(marker)
        version = found.get("schema") if isinstance(found, dict) else None
        if version != SCHEMA:
            raise StoreError(
                f"was written with schema {printable(version)}, this version reads {SCHEMA}",
                where=where,
                fix="Use the version of biasbench that wrote it, or another folder",
            )
        read_sealed(marker, fix="Restore it from a copy")

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
        """The lock that says who works on a key; the kernel frees it when its holder dies.

        Where a file system has no such locks, taking it fails: a marker file would outlive a killed runner.
        """
        self.work("claims").mkdir(parents=True, exist_ok=True)
        return FileLock(self.work("claims", f"{key}.lock"), fallback_to_soft=False)

    # ------------------------------------------------------------------ writing
    def commit_run(self, aside: Path, key: str, manifest: Mapping[str, Any]) -> None:
        """Turn a finished folder into run `key`; an existing run is kept."""
        self._commit(aside, self.run(key), manifest)
        self.forget_failure(key)

    def forget_failure(self, key: str) -> None:
        """Delete the note why a cell had no score; the journal keeps it."""
        path = self.root / "unscored" / f"{key}.json"
        if path.exists():
            withdraw(self.root, "retried", [self._failure(key)])
            path.unlink(missing_ok=True)

    def _failure(self, key: str) -> dict[str, Any]:
        """What the journal says of a cell without a score."""
        try:
            found = self.unscored(key)
        except (StoreError, IntegrityError) as error:
            return {"key": key, "reason": str(error)}
        return {**cell_of(found), "key": key, "status": found.get("status"), "reason": found.get("reason")}

    def commit_training(self, aside: Path, key: str, manifest: Mapping[str, Any]) -> None:
        """Turn a finished folder into training `key`; an existing one is kept."""
        self._commit(aside, self.training(key), manifest)

    def _commit(self, aside: Path, path: Path, manifest: Mapping[str, Any]) -> None:
        try:
            write_sealed(aside / "manifest.json", {**manifest, "schema": SCHEMA, "files": io.checksums(aside)})
            path.parent.mkdir(parents=True, exist_ok=True)
            point("commit.manifest")
            io.commit_folder(aside, path)
            point("commit.renamed")
        except OSError as error:
            raise io.unwritable(path, error) from error
        shutil.rmtree(aside, ignore_errors=True)  # still there when another runner was faster

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
        if (self.run(key) / "manifest.json").exists():
            return
        path = self.root / "unscored" / f"{key}.json"
        if path.exists() and ((old := self._failure(key)).get("status") != "n/a" or record.get("status") != "n/a"):
            withdraw(self.root, "retried", [old])
        write_sealed(path, {**record, "schema": SCHEMA})

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
        self._withdraw_figures(key, [r for r in old if r not in merged], merged)
        digest = io.hash_json(merged)
        point("metrics.read")
        io.write_json(path, {"schema": SCHEMA, "records": merged, "sha256": digest})

    def _withdraw_figures(self, key: str, gone: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> None:
        """Write down measurements that are replaced by others: not those that are replaced by the same figures."""
        same = {_measured(r): (r["values"], r["error"]) for r in now}
        withdraw(
            self.root, "remeasured",
            [{"key": key, **{name: r[name] for name in ("metric", "attribute", "protocol")},
              "was": r["values"], "reason": r["error"]}
             for r in gone if same.get(_measured(r)) != (r["values"], r["error"])],
        )  # fmt: skip

    def discard_metrics(self, key: str) -> None:
        """Delete damaged measurements, which are about to be made again."""
        withdraw(self.root, "unreadable", [{"key": key, "reason": "its measurements were damaged"}])
        (self.run(key) / "metrics.json").unlink(missing_ok=True)

    def write_plan(self, cells: Sequence[Mapping[str, Any]]) -> None:
        """Remember the latest plan's cells, in order.

        Of an earlier plan's cells those without a result that are no longer planned go to the journal.
        """
        kept = {cell["key"] for cell in cells}
        try:
            before = [cell for cell in self.plan() if cell["key"] not in kept]
        except (StoreError, IntegrityError) as error:
            withdraw(self.root, "unreadable", [{"key": "plan.json", "reason": str(error)}])
            before = []
        known = {*self.runs(), *(p.stem for p in (self.root / "unscored").glob("[!.]*.json"))} if before else set()
        withdraw(self.root, "unplanned", [cell_of(cell) for cell in before if cell["key"] not in known])
        write_sealed(self.root / "plan.json", {"schema": SCHEMA, "cells": list(cells)})

    # ------------------------------------------------------------------ reading
    def manifest(self, folder: Path) -> dict[str, Any]:
        """A manifest.

        Raises:
            StoreError: When it is missing or no JSON.
            IntegrityError: When its content is not what was written.
        """
        return read_sealed(folder / "manifest.json", fix=AGAIN)

    def plan(self) -> list[dict[str, Any]]:
        """Cells of the latest plan, in order; none before the first.

        Raises:
            IntegrityError: When its content is not what was written.
        """
        path = self.root / "plan.json"
        if not path.exists():
            return []
        cells: list[dict[str, Any]] = read_sealed(path, fix="Delete it and run again")["cells"]
        return cells

    def unscored(self, key: str) -> dict[str, Any]:
        """Why a cell has no score.

        Raises:
            IntegrityError: When its content is not what was written.
        """
        path = self.root / "unscored" / f"{key}.json"
        found = read_sealed(path, fix="Delete it and run again")
        return {name: value for name, value in found.items() if name != "schema"}

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
        for name in manifest["files"]:
            self.checked(folder, name, manifest)
        return manifest

    def checked(self, folder: Path, name: str, manifest: Mapping[str, Any] | None = None) -> Path:
        """A file of a finished training or run, after its hash was checked.

        Args:
            folder: Of the training or run.
            name: As the manifest lists it.
            manifest: The folder's, if it is at hand.

        Raises:
            IntegrityError: When it is damaged, missing or not listed.
        """
        path, digests = folder / name, (manifest or self.manifest(folder))["files"]
        if name not in digests:
            raise IntegrityError("the file is none of the folder's own", where=printable(path), fix=AGAIN)
        if not path.is_file():
            raise IntegrityError("a file is missing", where=printable(path), fix="Restore it or delete its folder")
        io.check_file(path, digests[name])
        return path

    def metrics(self, key: str) -> list[dict[str, Any]]:
        """A run's measurements.

        Raises:
            IntegrityError: When they were changed.
        """
        path = self.run(key) / "metrics.json"
        found = io.read_json(path)
        try:
            records: list[dict[str, Any]] = found["records"]
            good = found["schema"] == SCHEMA and found["sha256"] == io.hash_json(records)
        except (KeyError, TypeError, ValueError):
            good = False
        if not good:
            fix = "Run 'biasbench measure' to compute them again from the stored predictions"
            raise IntegrityError("the measurements are damaged", where=printable(path), fix=fix)
        return records

    def notes(self, key: str, manifest: Mapping[str, Any] | None = None) -> dict[str, dict[str, float | None]]:
        """What the method reported of each split of a finished run, by split and name; empty where it said nothing.

        Splits are `train`, `val`, `test` and the training split's views (`train@0`, ...); names are those of
        `Method.report` after the method's place and name: `"1.rba/violated_after"`. None is undefined.

        Args:
            key: The run's.
            manifest: The run's, if it is at hand.

        Raises:
            IntegrityError: When they are not what was written.
        """
        folder = self.run(key)
        manifest = manifest or self.manifest(folder)
        names = [name for name in sorted(manifest["files"]) if fnmatch(name, f"predictions/*/{NOTES}")]
        return {name.split("/")[1]: io.read_json(self.checked(folder, name, manifest)) for name in names}

    def runs(self) -> list[str]:
        """Keys of all finished runs."""
        return _folders(self.root / "runs")

    def trainings(self) -> list[str]:
        """Keys of all finished trainings."""
        return _folders(self.root / "trainings")

    def records(self) -> list[dict[str, Any]]:
        """One record per cell, attribute and protocol: what the leaderboard reads.

        Every cell that was planned is there: scored, failed, n/a, or missing because the
        run ended before it.
        """
        plan = self.plan()
        order = {cell["key"]: i for i, cell in enumerate(plan)}
        with no_collection():
            found = [record for records in Index(self).records() for record in records]
            seen = {r["key"] for r in found}
            found.extend({**cell, **MISSING} for cell in plan if cell["key"] not in seen)
            for record in found:
                record["order"] = order.get(record["key"], len(order))
            return sorted(found, key=lambda r: (r["order"], r["key"], r["attribute"], r["protocol"]))

    def run_records(self, key: str) -> list[dict[str, Any]]:
        """A finished run's leaderboard records, one per attribute and protocol."""
        manifest = self.manifest(self.run(key))
        spec = manifest["spec"]
        base = {
            "key": key,
            **{k: spec[k] for k in ("method", "dataset", "backbone", "profile", "seed", "weights")},
            "environment": manifest.get("environment", {}).get("hash", ""),
            "notes": self.notes(key, manifest),
        }
        path = self.run(key) / "metrics.json"
        if not path.exists():
            attribute, protocol = manifest["attribute"], spec["recipe"]["protocol"]
            unmeasured = {"status": "missing", "reason": "not measured yet", "values": {}, "flags": manifest["flags"]}
            return [{**base, **unmeasured, "attribute": attribute, "protocol": protocol}]
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for m in self.metrics(key):
            row = rows.setdefault(
                (m["attribute"], m["protocol"]),
                {**base, "status": "ok", "reason": None, "attribute": m["attribute"], "protocol": m["protocol"],
                 "values": {}, "flags": list(manifest["flags"]), "codes": {}},
            )  # fmt: skip
            row["values"].update(m["values"])
            row["codes"][m["metric"]] = made_by(m)
            row["flags"] += [f for f in m["flags"] if f not in row["flags"]]
            if m.get("error"):
                row["status"], row["reason"] = "failed", m["error"]
        return list(rows.values())


def _folders(parent: Path) -> list[str]:
    found = os.scandir(parent) if parent.is_dir() else ()
    return sorted(e.name for e in found if e.is_dir() and not e.name.startswith(io.ASIDE))


def made_by(measurement: Mapping[str, Any]) -> str:
    """Identity of the code that made a measurement; where it names none, the first version of one of our metrics."""
    return str(measurement.get("code", "1"))


def _measured(record: Mapping[str, Any]) -> tuple[str, str, str]:
    return record["metric"], record["attribute"], record["protocol"]
