"""What killed processes leave behind in a store and in the cache, and what nobody needs: never a result.

A runner holds the lock of the results folder (`biasbench.presence`) while it works there, and the
claim of each cell until that is stored. Beside a runner, only what a claim protects goes, under that
claim: results that were never finished, and checkpoints of finished trainings.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import Timeout

from biasbench import io
from biasbench.errors import BiasBenchError
from biasbench.journal import withdraw
from biasbench.memo import read_entry
from biasbench.store import Store

DAY = 24 * 3600.0


@dataclass(frozen=True)
class Leftover:
    """Something that may go.

    Attributes:
        path: File or folder.
        why: What it is.
        claims: Keys of the claims under which it may be deleted; without any, nobody can want it.
        trace: Writes to the journal what goes with it.
    """

    path: Path
    why: str
    claims: tuple[str, ...] = ()
    trace: Callable[[], None] | None = None

    @property
    def bytes(self) -> int:
        """What deleting it frees."""
        total = 0
        files = (Path(folder, name) for folder, _, names in os.walk(self.path) for name in names)
        for file in files if self.path.is_dir() else (self.path,):
            with suppress(FileNotFoundError):
                total += file.lstat().st_size
        return total

    def delete(self) -> bool:
        """Delete it; whether it is gone."""
        path = self.path
        if self.trace is not None:
            self.trace()
        with suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                if not path.name.startswith(io.ASIDE):  # killed half way, it must not be a training without weights
                    path = path.rename(path.with_name(f"{io.ASIDE}{path.name}-{uuid.uuid4().hex[:8]}"))
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        return not path.exists()


@contextmanager
def claimed(store: Store, keys: Iterable[str]) -> Iterator[bool]:
    """Whether all of some keys could be claimed at once; they are ours until the block ends."""
    with ExitStack() as held:
        for key in keys:
            if store.work("claims", f"{key}.lock").exists():
                try:
                    held.enter_context(store.claim(key).acquire(blocking=False))
                except (Timeout, OSError):
                    yield False
                    return
        yield True


def in_store(store: Store, *, alone: bool, trainings: bool = False) -> Iterator[Leftover]:
    """What may go from a results folder.

    Args:
        store: The store.
        alone: Whether its lock is ours, so that no runner is at work.
        trainings: Also trainings that no stored run came from, if no planned cell is left to run.

    Example:
        >>> import tempfile
        >>> store = Store(Path(tempfile.mkdtemp()), create=True)
        >>> _ = store.aside("run", "k1")
        >>> [left.why for left in in_store(store, alone=False)], store.claim("run-k1").is_locked
        (['a result that was never finished'], False)
    """
    going: set[Path] = set()
    for leftover in _in_store(store, alone=alone, trainings=trainings):
        if going.isdisjoint(leftover.path.parents):  # else its folder goes
            going.add(leftover.path)
            yield leftover


def _in_store(store: Store, *, alone: bool, trainings: bool) -> Iterator[Leftover]:
    for folder in _below(store.work("checkpoints")):
        if store.has_training(folder.name):
            yield Leftover(folder, "checkpoints of a finished training", (folder.name,))
    for folder in _below(store.work("aside")):
        key = folder.name.partition("-")[2].rpartition("-")[0]  # of a run, or of a training
        yield Leftover(folder, "a result that was never finished", (f"run-{key}", key))
    if not alone:
        return
    yield from _asides(store)
    yield from (Leftover(path, "data handed to a cell") for path in _below(store.work("inputs")))
    yield from _jobs(store)
    for path in _below(store.root / "unscored"):
        if store.has_run(path.stem):
            why = "the failure of a cell that has finished since"
            yield Leftover(path, why, trace=partial(store.forget_failure, path.stem))
    if trainings:
        yield from _trainings(store)
    yield from (Leftover(path, "a claim", (path.stem,)) for path in _below(store.work("claims")))


def _below(folder: Path) -> list[Path]:
    """What lies in a folder, without what is being written there."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if not path.name.startswith(io.ASIDE))


def _half_written(folder: Path) -> list[Path]:
    """Files and folders below one that were never renamed to what they were to be."""
    return sorted(path for path in io.below(folder) if path.name.startswith(io.ASIDE))


def _asides(store: Store) -> Iterator[Leftover]:
    checkpoints = store.work("checkpoints")
    for path in _half_written(store.root):
        inside = path.is_relative_to(checkpoints) and path.parent != checkpoints
        yield Leftover(path, "a file half written", path.relative_to(checkpoints).parts[:1] if inside else ())


def _jobs(store: Store) -> Iterator[Leftover]:
    """Descriptions of jobs, and logs of what has ended well."""
    for path in _below(store.work("jobs")):
        if path.suffix != ".log":
            yield Leftover(path, "the description of a job")
        elif not path.stat().st_size or not _tells(store, path.stem):
            yield Leftover(path, "the log of something finished")


def _tells(store: Store, name: str) -> bool:
    """Whether a job's log is about a cell that has no score."""
    kind, _, rest = name.partition("-")
    key = rest.partition("-")[0]
    if kind == "train":
        return not store.has_training(key)
    if kind not in ("cell", "measure", "remeasure"):
        return False
    if kind == "cell" or not store.has_run(key):
        return not store.has_run(key)
    try:
        return any(record["error"] for record in store.metrics(key))
    except BiasBenchError:
        return True


def _trainings(store: Store) -> Iterator[Leftover]:
    finished = set(store.runs())
    if any(cell["key"] not in finished and cell["status"] != "n/a" for cell in store.plan()):
        return  # a cell that is still to run may start from any of them
    needed = {store.manifest(store.run(key))["spec"].get("training_key") for key in finished}
    for key in store.trainings():
        if key not in needed:
            trace = partial(withdraw, store.root, "cleared", [{"key": key}])
            yield Leftover(store.training(key), "a training that no result came from", (key,), trace)


# ------------------------------------------------------------------ the cache
def in_cache(cache: Path, now: float, days: float) -> Iterator[Leftover]:
    """What may go from the user's cache of activations, images and memoised values, if nobody works with it.

    Args:
        cache: The cache folder, whose lock is ours.
        now: Seconds since the epoch.
        days: What was used since is kept, if it is whole.
    """
    for kind, marker in (("features", "meta.json"), ("images", "store.json"), ("memo", None)):
        for path in _half_written(cache / kind):
            yield Leftover(path, "a file half written")
        for path in _below(cache / kind):
            used = path if marker is None else path / marker
            if path.suffix == ".lock":
                yield Leftover(path, "a lock")
            elif not _whole(kind, path):
                yield Leftover(path, f"{kind}, damaged")
            elif now - used.stat().st_mtime > days * DAY:
                yield Leftover(path, f"{kind}, not used for {days:g} days")


def _whole(kind: str, path: Path) -> bool:
    try:
        if kind == "images":
            from biasbench.images import ImageStore

            ImageStore.open(path).verify()
        elif kind == "memo":
            return read_entry(path) is not None
        else:
            io.check_file(path / "data.npy", io.read_json(path / "meta.json")["sha256"])
    except (BiasBenchError, KeyError, TypeError, ValueError):
        return False
    return True
