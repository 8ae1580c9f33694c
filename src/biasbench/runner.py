"""Running a plan: who waits for whom, what is committed, what is told to the user."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from biasbench import io
from biasbench.claims import Claims
from biasbench.commit import commit_run, commit_training
from biasbench.errors import EXIT_CELLS_FAILED, EXIT_OK, EXIT_STORE, BiasBenchError, IntegrityError, StoreError
from biasbench.executors.executor import ENDS, Executor
from biasbench.executors.local import LocalExecutor, describe_death
from biasbench.faces import DetectedFaces
from biasbench.faults import point
from biasbench.job import CellJob, FacesJob, Job
from biasbench.jobs import Jobs, images_job
from biasbench.planned import Cell
from biasbench.presence import working_in
from biasbench.stopping import Asked
from biasbench.store import Store

Report = Callable[[Mapping[str, Any]], None]
GRACE = 25.0
"""Seconds that what runs has to end by itself when the run is asked to; then it is killed."""


@dataclass
class Task:
    """A job in the queue.

    Attributes:
        name: Unique.
        cell: The cell it serves; None for images.
        make: Builds the job when it is about to start.
        claims: Keys that nobody else may work on meanwhile, as long as they are not done.
        done: Whether it needs no more work; another runner may have done it.
        needs: Names of tasks that must be done before.
        pixels: Tasks that share it share cached activations: one at a time until they exist.
    """

    name: str
    cell: Cell | None
    make: Callable[[Cell | None], Job]
    claims: Callable[[], list[str]] = list
    done: Callable[[], bool] | None = None
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
        executor: Runs jobs; made with the folder of their files.
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
        executor: Callable[[Path], Executor] = LocalExecutor,
    ) -> None:
        self.cells, self.store, self.slots, self.report = list(cells), store, jobs, report
        self.make_executor = executor
        self.jobs = Jobs(store, cache, device, tuple(plugin_files), tensorboard=tensorboard)
        self.summary = Summary()
        self.waiting: dict[str, Task] = {}
        self.active: dict[str, Task] = {}
        self.warm: set[str] = set()
        self.claims = Claims(store)
        self.ended: dict[str, str | None] = {}  # task -> None when done, else why it failed

    # ------------------------------------------------------------------ the loop
    def run(self) -> Summary:
        """Run what is not finished; a failed cell never stops the others.

        SIGINT, SIGTERM and SIGUSR1 end it: trainings write a checkpoint after their next step, and what is
        complete is stored. A second signal ends it at once.

        Raises:
            StoreError: When the store cannot be written: nothing finished is lost.
            Requeued: After SIGUSR1; after the others what they raise anyway.
        """
        with working_in(self.store.root), working_in(self.jobs.cache), Asked() as asked:
            try:
                self._run(asked)
            except OSError as error:  # of what is not a result: a folder, a process, a pipe
                raise io.unwritable(Path(error.filename or self.store.root), error) from error
            finally:
                self.claims.release_all()
            asked.obey()
        return self.summary

    def _run(self, asked: Asked) -> None:
        self.store.write_plan([cell.record() for cell in self.cells])
        point("plan.written")
        self.report({"event": "plan", "cells": len(self.cells)})
        self._queue()
        jobs = self.store.work("jobs")
        jobs.mkdir(parents=True, exist_ok=True)
        with self.make_executor(jobs) as executor:
            while (self.waiting or self.active) and not asked:
                self._submit(executor)
                # without an active job, others work on all that is left
                for name, event in executor.events(timeout=1.0 if self.active else 0.2):
                    self._handle(executor, name, event)
            if asked:
                self._wind_up(executor)

    def _wind_up(self, executor: Executor) -> None:
        """Keep what jobs still finish; one that ends without having finished has not failed."""
        executor.ask()
        deadline = time.monotonic() + GRACE
        while self.active and time.monotonic() < deadline:
            for name, event in executor.events(timeout=0.5):
                if event["event"] in ENDS and event["event"] != "done":
                    del self.active[name]
                else:
                    self._handle(executor, name, event)

    def _outlived(self, task: Task, need: str) -> bool:
        """Whether a task has what it needs of a cell that failed: a training outlives a prediction that is void."""
        if task.cell is None or task.name.startswith("measure-") or not need.startswith(("cell-", "train-")):
            return False
        init = task.cell.init_cell()
        keys = (task.cell.training_key, *([init.training_key] if init else []))
        return any(map(self.store.has_training, keys))

    def _submit(self, executor: Executor) -> None:
        for task in list(self.waiting.values()):
            if len(self.active) >= self.slots:
                return
            if task.name not in self.waiting or not task.needs <= self.ended.keys():
                continue
            broken = [n for n in task.needs if self.ended[n] is not None and not self._outlived(task, n)]
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
            if not self.claims.take(task.name, task.claims()):
                continue  # another runner works on it
            del self.waiting[task.name]
            if task.done is not None and task.done():  # by another runner, before we claimed it
                self._finish(task, None)
                continue
            self._start(executor, task)

    def _start(self, executor: Executor, task: Task) -> None:
        task.began = time.time()
        try:
            job = task.make(task.cell)
            executor.submit(task.name, job)
        except BiasBenchError as error:
            self._finish(task, str(error))
            if isinstance(error, StoreError):
                raise
            return
        self.active[task.name] = task
        if task.cell is not None and isinstance(job, CellJob):
            self._cell(task.cell, "start")
        self.report({"event": "job", "name": self._title(task.name), "state": "start"})

    def _handle(self, executor: Executor, name: str, event: dict[str, Any]) -> None:
        task = self.active[name]
        kind = event["event"]
        if kind in ENDS:
            reason, log = None, f" (log: {event['log']})" if "log" in event else ""
            if kind == "error" and event["exit_code"] == EXIT_STORE:
                raise StoreError(event["message"])  # every other cell would meet the same
            if kind == "error":
                reason = event["message"] + (log if event.get("bug") else "")
            elif kind == "died":
                reason = event.get("reason") or describe_death(event["exit"])
                reason += log
            elif task.done is not None and not (name in self.ended or task.done()):
                reason = f"its process ended without a result{log}"
            del self.active[name]
            self.report({"event": "job", "name": self._title(name), "state": "failed" if reason else "done"})
            self._finish(task, reason)
        elif kind in ("trained", "predicted"):
            assert task.cell is not None
            folder = Path(event["folder"])
            try:
                if kind == "trained":
                    commit_training(self.store, task.cell, folder, event["manifest"], event.get("ran"))
                else:
                    commit_run(self.store, task.cell, folder, time.time() - task.began, event.get("ran"))
            except StoreError:
                raise
            except BiasBenchError as error:
                shutil.rmtree(folder, ignore_errors=True)
                self.ended[name] = str(error)
            executor.acknowledge(name)
        elif kind == "measured":
            assert task.cell is not None
            point("measured.before")
            self.store.write_metrics(task.cell.key, event["records"])
            point("measured.stored")
        elif kind == "features":
            self.warm.add(task.pixels or "")
        elif kind == "placed":
            task.began = time.time()  # until now it waited for a machine
        elif kind in ("epoch", "progress", "lost"):
            self.report({**event, "key": task.cell.key if task.cell else name, "label": self._title(name)})

    def _finish(self, task: Task, reason: str | None) -> None:
        reason = self.ended.get(task.name) or reason
        self.ended[task.name] = reason
        self.claims.release(task.name)
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
                point("unscored.noted")
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
                self._add_measuring(cell, set())
        trainers: dict[str, str] = {}  # training key -> the task that computes it
        for cell in todo:
            trainers.setdefault(cell.training_key, f"cell-{cell.key}")
        for cell in todo:
            name = f"cell-{cell.key}"
            self._add_cell(name, cell, trainers, predict=True)
            self._add_measuring(cell, {name})

    def _add_measuring(self, cell: Cell, needs: set[str]) -> None:
        name = f"measure-{cell.key}"
        self._add(Task(name, cell, self.jobs.measuring, lambda: [name], lambda: self._measured(cell), needs))

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
        make = self.jobs.predicting if predict else self.jobs.training

        def done() -> bool:
            return self.store.has_run(cell.key) if predict else self.store.has_training(cell.training_key)

        def claims() -> list[str]:
            trained = self.store.has_training(cell.training_key)
            return [f"run-{cell.key}"] * predict + [cell.training_key] * (not trained)

        self._add(Task(name, cell, make, claims, done, needs, pixels if cell.spec.recipe.cache else None))

    def _add(self, task: Task) -> None:
        self.waiting.setdefault(task.name, task)

    def _measured(self, cell: Cell) -> bool:
        """Whether every metric asked for is there."""
        try:
            return cell.measured_by(self.store.metrics(cell.key))
        except (StoreError, IntegrityError):
            return False

    def _add_images(self, cell: Cell) -> set[str]:
        if cell.spec.recipe.pixels == "native":
            return set()
        needs = set()
        for data in (self.jobs.inputs.of(cell), *self.jobs.inputs.secondary(cell).values()):
            name = f"images-{data.identity[:16]}-{cell.spec.recipe.short_side}"
            self._add(Task(name, None, partial(images_job, data, cell.spec.recipe.short_side)))
            needs.add(name)
        return needs

    def _add_faces(self, cell: Cell, needs: set[str]) -> set[str]:
        """Queue the search for faces, behind the images: that reports files that cannot be read, all at once."""
        faces = cell.data.faces
        if not cell.spec.boxes or not isinstance(faces, DetectedFaces) or faces.found:
            return set()
        data = self.jobs.inputs.of(cell)
        name = f"faces-{data.identity[:16]}"
        self._add(Task(name, None, lambda _: FacesJob(data=data, folders=dict(faces.folders)), needs=needs))
        return {name}
