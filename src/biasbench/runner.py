"""Running a plan: who waits for whom, what is committed, what is told to the user."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from biasbench.environment import environment
from biasbench.errors import EXIT_CELLS_FAILED, EXIT_OK, EXIT_STORE, BiasBenchError, IntegrityError, StoreError
from biasbench.executors.local import LocalExecutor, StartMethod, describe_death
from biasbench.faces import DetectedFaces
from biasbench.images import ImageStore
from biasbench.inputs import Inputs
from biasbench.job import CellJob, DataInput, FacesJob, ImagesJob, Job, MeasureJob, WeightsInput
from biasbench.planned import Cell
from biasbench.store import Store
from biasbench.truth import beside, write_truth

Report = Callable[[Mapping[str, Any]], None]


@dataclass
class Task:
    """A job in the queue.

    Attributes:
        name: Unique.
        cell: The cell it serves; None for images.
        make: Builds the job when it is about to start.
        needs: Names of tasks that must be done before.
        pixels: Tasks that share it share cached activations: one at a time until they exist.
    """

    name: str
    cell: Cell | None
    make: Callable[[Cell | None], Job]
    needs: set[str] = field(default_factory=set)
    pixels: str | None = None
    began: float = 0.0


@dataclass
class Summary:
    """How a run ended.

    Attributes:
        ok: Cells with a score, those from earlier runs included.
        cached: Of these, finished before.
        failed: Cells that failed.
        na: Cells that cannot run.
        exit_code: 0, or 1 when a cell failed.
    """

    ok: int = 0
    cached: int = 0
    failed: int = 0
    na: int = 0

    @property
    def exit_code(self) -> int:
        """0 when no cell failed."""
        return EXIT_CELLS_FAILED if self.failed else EXIT_OK


class Runner:
    """Runs cells into a store.

    Args:
        cells: The plan.
        store: Where results go.
        cache: Where decoded images and cached activations go.
        device: Torch device of the cells.
        jobs: Cells at a time.
        plugin_files: Files given with `--plugin`.
        tensorboard: Whether cells write event files.
        report: Receives progress events.
        start: How processes start.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        store: Store,
        cache: Path,
        *,
        device: str = "cpu",
        jobs: int = 1,
        plugin_files: Sequence[str] = (),
        tensorboard: bool = False,
        report: Report = lambda _event: None,
        start: StartMethod = "forkserver",
    ) -> None:
        self.cells, self.store, self.cache, self.device, self.slots = list(cells), store, cache, device, jobs
        self.plugin_files, self.tensorboard, self.report = tuple(plugin_files), tensorboard, report
        self.start: StartMethod = start
        self.summary = Summary()
        self.waiting: dict[str, Task] = {}
        self.active: dict[str, Task] = {}
        self.warm: set[str] = set()
        self.inputs = Inputs(store, cache)
        self.ended: dict[str, str | None] = {}  # task -> None when done, else why it failed

    # ------------------------------------------------------------------ the loop
    def run(self) -> Summary:
        """Run what is not finished; a failed cell never stops the others.

        Raises:
            StoreError: When the store cannot be written: nothing finished is lost.
        """
        self.store.write_plan([cell.record() for cell in self.cells])
        self.report({"event": "plan", "cells": len(self.cells)})
        self._queue()
        jobs = self.store.work("jobs")
        jobs.mkdir(parents=True, exist_ok=True)
        with LocalExecutor(jobs, self.start) as executor:
            while self.waiting or self.active:
                self._submit(executor)
                for name, event in executor.events(timeout=1.0):
                    self._handle(executor, name, event)
        return self.summary

    def _submit(self, executor: LocalExecutor) -> None:
        for task in list(self.waiting.values()):
            if len(self.active) >= self.slots:
                return
            if task.name not in self.waiting or not task.needs <= set(self.ended):
                continue
            broken = [n for n in task.needs if self.ended[n] is not None]
            if broken:
                del self.waiting[task.name]
                self._finish(task, f"it needs {self._title(broken[0])}, which failed: {self.ended[broken[0]]}")
                continue
            if (
                task.pixels
                and task.pixels not in self.warm
                and any(t.pixels == task.pixels for t in self.active.values())
            ):
                continue  # another cell is computing the activations that this one would read
            del self.waiting[task.name]
            task.began = time.time()
            try:
                job = task.make(task.cell)
            except BiasBenchError as error:
                self._finish(task, str(error))
                if isinstance(error, StoreError):
                    raise
                continue
            self.active[task.name] = task
            executor.submit(task.name, job)
            if task.cell is not None and isinstance(job, CellJob):
                self._cell(task.cell, "start")
            self.report({"event": "job", "name": self._title(task.name), "state": "start"})

    def _handle(self, executor: LocalExecutor, name: str, event: dict[str, Any]) -> None:
        task = self.active[name]
        kind = event["event"]
        if kind in ("done", "error", "died"):
            del self.active[name]
            reason = None
            if kind == "error" and event["exit_code"] == EXIT_STORE:
                raise StoreError(event["message"])  # every other cell would meet the same
            if kind == "error":
                reason = event["message"] + (f" (log: {event['log']})" if event.get("bug") else "")
            elif kind == "died":
                reason = f"{describe_death(event['exit'])} (log: {event['log']})"
            self.report({"event": "job", "name": self._title(name), "state": "failed" if reason else "done"})
            self._finish(task, reason)
        elif kind in ("trained", "predicted"):
            assert task.cell is not None
            folder = Path(event["folder"])
            try:
                if kind == "trained":
                    self._commit_training(task.cell, folder, event["manifest"])
                else:
                    self._commit_run(task.cell, folder, time.time() - task.began)
            except StoreError:
                raise
            except BiasBenchError as error:
                shutil.rmtree(folder, ignore_errors=True)
                self.ended[name] = str(error)
            executor.running[name].acknowledge()
        elif kind == "measured":
            assert task.cell is not None
            self.store.write_metrics(task.cell.key, event["records"])
        elif kind == "features":
            self.warm.add(task.pixels or "")
        elif kind in ("epoch", "progress"):
            self.report({**event, "key": task.cell.key if task.cell else name, "label": self._title(name)})

    def _finish(self, task: Task, reason: str | None) -> None:
        reason = self.ended.get(task.name) or reason
        self.ended[task.name] = reason
        cell = task.cell
        if cell is None or task.name.startswith("train-"):
            return
        measuring = task.name.startswith("measure-")
        if reason is not None:
            self.summary.failed += 1
            record = cell.record("failed", reason)
            if measuring:
                empty = {"metric": "all", "attribute": cell.attributes[0], "protocol": cell.protocol}
                self.store.write_metrics(
                    cell.key, [{**empty, "values": {}, "rounds": {}, "details": {}, "flags": [], "error": reason}]
                )
            else:
                self.store.note_unscored(record)
                self.waiting.pop(f"measure-{cell.key}", None)
            self._cell(cell, "failed", reason)
        elif measuring:
            self.summary.ok += 1
            self._cell(cell, "done")

    def _cell(self, cell: Cell, state: str, reason: str | None = None) -> None:
        event = {"event": "cell", "key": cell.key, "label": cell.label, "state": state}
        self.report({**event, "reason": reason} if reason else event)

    def _title(self, name: str) -> str:
        task = self.active.get(name) or self.waiting.get(name)
        kind, _, rest = name.partition("-")
        if task is not None and task.cell is not None:
            return f"{kind} {task.cell.label}"
        return f"{kind} {rest}"

    # ------------------------------------------------------------------ the queue
    def _queue(self) -> None:
        """Queue what is not finished: images, cells and the trainings they start from, measurements."""
        todo = []
        for cell in self.cells:
            if cell.reason is not None:
                self.summary.na += 1
                self.store.note_unscored(cell.record("n/a", cell.reason))
                self._cell(cell, "n/a", cell.reason)
            elif not self.store.has_run(cell.key):
                todo.append(cell)
            elif self._measured(cell):
                self.summary.ok += 1
                self.summary.cached += 1
                self._cell(cell, "cached")
            else:
                self._add(Task(f"measure-{cell.key}", cell, self._measure_job))
        trainers: dict[str, str] = {}  # training key -> the task that computes it
        for cell in todo:
            trainers.setdefault(cell.training_key, f"cell-{cell.key}")
        for cell in todo:
            name = f"cell-{cell.key}"
            self._add_cell(name, cell, trainers, predict=True)
            self._add(Task(f"measure-{cell.key}", cell, self._measure_job, {name}))

    def _add_cell(self, name: str, cell: Cell, trainers: dict[str, str], *, predict: bool) -> None:
        """Queue a cell, or only its training, behind what it depends on."""
        needs = self._add_images(cell)
        needs |= self._add_faces(cell, set(needs))
        if not self.store.has_training(cell.training_key):
            if trainers[cell.training_key] != name:
                needs.add(trainers[cell.training_key])
            init = cell.init_cell()
            if init is not None and not self.store.has_training(init.training_key):
                if init.training_key not in trainers:
                    trainers[init.training_key] = f"train-{init.training_key}"
                    self._add_cell(trainers[init.training_key], init, trainers, predict=False)
                needs.add(trainers[init.training_key])
        pixels = f"{cell.data.fingerprint} {cell.spec.backbone} {cell.spec.recipe.crop} {cell.spec.method.pixels}"
        make = self._predicting_job if predict else self._training_job
        self._add(Task(name, cell, make, needs, pixels if cell.spec.recipe.cache else None))

    def _add(self, task: Task) -> None:
        self.waiting.setdefault(task.name, task)

    def _measured(self, cell: Cell) -> bool:
        """Whether every metric asked for is there, without an error."""
        try:
            records = self.store.metrics(cell.key)
        except (StoreError, IntegrityError):
            return False
        done = {(r["metric"], r["attribute"], r["protocol"]) for r in records if not r["error"]}
        return all((m, a, cell.protocol) in done for m in cell.metrics for a in cell.attributes)

    def _add_images(self, cell: Cell) -> set[str]:
        if cell.spec.recipe.pixels == "native":
            return set()
        needs = set()
        for data in (self.inputs.of(cell), *self.inputs.secondary(cell).values()):
            if all(folder is not None and ImageStore.exists(folder) for folder in data.stores.values()):
                continue
            name = f"images-{data.identity[:16]}-{cell.spec.recipe.short_side}"
            self._add(Task(name, None, partial(_images_job, data, cell.spec.recipe.short_side)))
            needs.add(name)
        return needs

    def _add_faces(self, cell: Cell, needs: set[str]) -> set[str]:
        """Queue the search for faces, behind the images: that reports files that cannot be read, all at once."""
        faces = cell.data.faces
        if not cell.spec.boxes or not isinstance(faces, DetectedFaces) or faces.found:
            return set()
        data = self.inputs.of(cell)
        name = f"faces-{data.identity[:16]}"
        self._add(Task(name, None, lambda _: FacesJob(data=data, folders=dict(faces.folders)), needs))
        return {name}

    # ------------------------------------------------------------------ jobs
    def _predicting_job(self, cell: Cell | None) -> CellJob:
        return self._cell_job(cell, predict=True)

    def _training_job(self, cell: Cell | None) -> CellJob:
        return self._cell_job(cell, predict=False)

    def _cell_job(self, cell: Cell | None, *, predict: bool) -> CellJob:
        assert cell is not None
        spec = cell.spec
        init = spec.method.init
        return CellJob(
            key=cell.key if predict else cell.training_key,
            method=spec.method.text if predict else spec.method.training_text,
            training_method=spec.method.training_text,
            training_key=cell.training_key,
            init_key=spec.training_key(init) if init else None,
            primary_attribute=cell.data.dataset.primary_attribute,
            data=self.inputs.of(cell),
            backbone=cell.backbone,
            backbone_options=dict(cell.options),
            weights=WeightsInput(
                kind=cell.weights.kind, label=cell.weights.label, digest=cell.weights.digest, path=cell.weights.path
            ),
            recipe=spec.recipe,
            seed=spec.seed,
            fingerprint=spec.fingerprint,
            device=self.device,
            precision=spec.precision,
            predict=predict,
            secondary=self.inputs.secondary(cell),
            beside=spec.beside if predict else (),
            cache=self.cache.absolute(),
            results=self.store.root.absolute(),
            plugins=self.plugin_files,
            tensorboard=self.tensorboard,
        )

    def _measure_job(self, cell: Cell | None) -> MeasureJob:
        assert cell is not None
        return MeasureJob(
            key=cell.key,
            metrics=cell.metrics,
            attributes=cell.attributes,
            protocol=cell.protocol,
            results=self.store.root.absolute(),
            cache=self.cache.absolute(),
            threads=cell.spec.recipe.threads,
            plugins=self.plugin_files,
        )

    # ------------------------------------------------------------------ committing
    def _commit_training(self, cell: Cell, folder: Path, manifest: Mapping[str, Any]) -> None:
        describe = cell.spec.training_payload()
        self.store.commit_training(
            folder, cell.training_key, {**manifest, "training": describe, "environment": environment()}
        )
        shutil.rmtree(self.store.work("checkpoints", cell.training_key), ignore_errors=True)

    def _commit_run(self, cell: Cell, folder: Path, seconds: float) -> None:
        dataset = cell.data.dataset
        write_truth(folder, cell.data.tables)
        for number, name in enumerate(cell.spec.beside):
            write_truth(beside(folder, number), cell.secondary[name].tables)
        manifest = {
            "key": cell.key,
            "spec": cell.spec.describe() | {"dataset": cell.data.typed, "backbone": cell.typed_backbone},
            "task": dataset.task,
            "label_names": list(dataset.label_names),
            "groups": {n: list(g) for n, g in cell.data.groups.items()},
            "beside": [
                {"dataset": name, "groups": {n: list(g) for n, g in cell.secondary[name].groups.items()}}
                for name in cell.spec.beside
            ],
            "attribute": cell.attributes[0],
            "flags": cell.flags,
            "environment": environment(),
            "seconds": round(seconds, 1),
        }
        self.store.commit_run(folder, cell.key, manifest)


def _images_job(data: DataInput, short_side: int | None, _cell: Cell | None) -> ImagesJob:
    assert short_side is not None
    return ImagesJob(data=data, short_side=short_side)
