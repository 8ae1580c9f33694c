"""A cell whose process is watched: files it may not know stay closed, and what it was handed stays as it was."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from biasbench import io
from biasbench.cell import Cell
from biasbench.errors import PluginError
from biasbench.guard import kernel
from biasbench.guard.again import degenerate
from biasbench.guard.code import Code
from biasbench.guard.files import Files, hubs, refusal
from biasbench.guard.flags import FLAGS, flags_of
from biasbench.guard.state import State, settings
from biasbench.images import ImageStore
from biasbench.job import CellJob, DataInput, Member
from biasbench.plugins import Plugins
from biasbench.predict import read_outputs
from biasbench.randomness import seed_globals
from biasbench.rng import seed_for
from biasbench.spec import resolve_method, source_of
from biasbench.store import Store

WEAK = "isolation=weak"
_PICTURES = (".jpg", ".jpeg", ".png")


class GuardedCell:
    """Computes a cell in a process of its own, and for good takes from that process what the cell may not know.

    Args:
        job: What to do.
        send: Tells the parent.
        member: Of this process among several.

    Attributes:
        manifest: Of the training.
    """

    def __init__(self, job: CellJob, send: Callable[[Mapping[str, Any]], None], member: Member | None = None) -> None:
        self.job, self.code = job, Code()
        data = [job.data, *job.secondary.values()]
        self.scratch = _scratch(job)
        secret = [*(d.root for d in data), job.results, job.cache]
        readable, writable = _readable(job, data), _writable(job, self.scratch)
        self.files = Files(secret, readable, writable, [Path(p) for p in job.plugins])
        _make_hubs(secret)
        self.sealed = kernel.close(secret, [*readable, *writable, job.results / "work" / "aside"])
        self.files.watch()
        before = settings()
        seed_globals(seed_for("globals", job.streams))
        self.cell = Cell(job, send, member)
        check_sources(job, self.cell.plugins)
        self.state = State(self.cell, [file for d in data for file in _input_files(d)], before)
        self.told: dict[str, None] = {}

    @property
    def manifest(self) -> dict[str, Any]:
        """Of the training."""
        return self.cell.manifest

    def load(self, folder: Path) -> None:
        """Take a finished training."""
        self._inherit(folder)
        self.cell.load(folder)

    def train(self, store: Store, stop: Callable[[], bool]) -> Path:
        """Train, then see that everything is as it was.

        Raises:
            IntegrityError: When it is not.
            Stopped: When it was told to stop.
        """
        if self.job.init_key is not None:
            self._inherit(store.training(self.job.init_key))
        folder = self.cell.train(store, stop)
        self._flag(folder)
        if not self.job.predict:
            shutil.rmtree(self.scratch, ignore_errors=True)
        return folder

    def predict(self, store: Store) -> Path:
        """Predict, then see that everything is as it was.

        Raises:
            IntegrityError: When it is not, or when predictions do not repeat.
        """
        seed_globals(seed_for("globals", self.job.run_streams))
        folder = self.cell.predict(store)
        if degenerate(read_outputs(folder / "predictions" / "test")):
            self.told["degenerate: the same is said of every test picture"] = None
        self._flag(folder)
        shutil.rmtree(self.scratch, ignore_errors=True)
        return folder

    def follow(self, store: Store, *, trained: bool) -> None:
        """What a further process of the cell does: its shares, and the same checks.

        Args:
            store: Where finished trainings are.
            trained: Whether this one is finished.

        Raises:
            IntegrityError: When something is not as it was.
            Stopped: When the first process was told to stop.
        """
        if trained:
            self.cell.load(store.training(self.job.training_key))
        else:
            self.cell.fit(store)
            self._tell()
        if self.job.predict:
            seed_globals(seed_for("globals", self.job.run_streams))
            self.cell.help_predict()
            self._tell()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _inherit(self, folder: Path) -> None:
        """What was said of the training that this one goes on from."""
        self.told |= dict.fromkeys(flags_of(folder))

    def _flag(self, folder: Path) -> None:
        """Write down what the row has to say."""
        io.write_json(folder / FLAGS, self._tell())

    def _tell(self) -> list[str]:
        """See that everything is as it was, in every process of the cell; what they have to say of it."""
        self._check()
        said = self.cell.device.group.all_of(list(self.told))
        return list(dict.fromkeys(flag for flags in said for flag in flags))

    def _check(self) -> None:
        if self.files.broken:
            raise refusal(self.files.broken)
        self.state.check()
        self.code.check(self.cell.plugins)
        if not self.sealed:
            self.told[WEAK] = None
        self.told |= dict.fromkeys(f"reads {path}: not in the key" for path in self._strange())

    def _strange(self) -> list[str]:
        """Files that were read and belong to no plugin's package."""
        homes = []
        for origin in self.cell.plugins.origins:
            module = sys.modules.get(origin.module)
            homes += [os.path.realpath(p) + os.sep for p in getattr(module, "__path__", ())]
        return [path for path in self.files.strange if not path.startswith(tuple(homes))]


def check_sources(job: CellJob, plugins: Plugins) -> None:
    """See that plugins hold the code that the cell's keys were made of.

    Raises:
        PluginError: When one was edited since.
    """
    method, backbone = resolve_method(job.method, plugins.methods, ""), plugins.backbones.find(job.backbone)
    found = {*method.sources, source_of(backbone.load(), backbone)} - {"", *job.sources}
    if found:
        raise PluginError(
            f"its code has changed since the run was planned (now {', '.join(sorted(found))})",
            where=f"plugin {min(found).partition(' ')[0]}",
            fix="Start the same command again: finished cells are kept under the key of the code that made them",
        )


# ------------------------------------------------------------------ what a job may open
def _readable(job: CellJob, data: Iterable[DataInput]) -> list[Path]:
    store, found = Store(job.results), [job.results / "store.json", *(Path(p) for p in job.plugins)]
    found += [store.training(key) for key in (job.training_key, job.init_key) if key is not None]
    if job.weights.path is not None:
        found.append(job.weights.path)
    for d in data:
        found += [*d.tables.values(), *(path for files in d.regions.values() for path in files.values())]
        found += [folder for folder in d.stores.values() if folder is not None]
        if any(folder is None for folder in d.stores.values()):
            found += _pictures(d)
    return found


def _pictures(data: DataInput) -> list[Path]:
    """The cell's pictures: whole folders of nothing else, else one by one."""
    import pandas as pd

    names = {name for table in data.tables.values() for name in pd.read_parquet(table, columns=["path"])["path"]}
    paths = [data.root / name for name in sorted(names)]
    folders = {path.parent for path in paths}
    whole = {f for f in folders if f.is_dir() and all(e.name.lower().endswith(_PICTURES) for e in os.scandir(f))}
    return [*sorted(whole), *(path for path in paths if path.parent not in whole)]


def _writable(job: CellJob, scratch: Path) -> list[Path]:
    work = job.results / "work"
    folders = [job.cache / "features", scratch]
    if not Store(job.results).has_training(job.training_key):
        folders.append(work / "checkpoints" / job.training_key)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)  # the kernel opens what is there
    asides = [f"group-{job.key}-", f"training-{job.training_key}-", *([f"run-{job.key}-"] if job.predict else [])]
    return [*folders, *(work / "aside" / name for name in asides)]


def _scratch(job: CellJob) -> Path:
    """A folder for temporary files, since the usual one may lie beside the data."""
    folder = job.results / "work" / "aside" / f"tmp-{job.key}-{uuid.uuid4().hex[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    return folder


def _make_hubs(secret: Iterable[Path]) -> None:
    """Hubs' caches must be there before the folders above the closed ones are gone through."""
    above = kernel.above(os.path.realpath(p) for p in secret)
    for hub in hubs(Path.home()):
        if str(hub.parent) in above and not hub.exists():
            hub.mkdir(parents=True, exist_ok=True)


def _input_files(data: DataInput) -> list[Path]:
    found = [*data.tables.values(), *(path for files in data.regions.values() for path in files.values())]
    for folder in data.stores.values():
        if folder is not None and ImageStore.exists(folder):
            found += [folder / "pixels.bin", folder / "index.npy"]
    return found
