"""The child's side: one process, one job, events to the parent, results in files.

A child is handed no label of the test split. It writes into folders that the parent gave
it and tells the parent when a folder is complete; the parent checks and commits. It holds
no claim: its parent does, and it ends when its parent is gone.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter

from biasbench.errors import EXIT_BUG, BiasBenchError, CellError
from biasbench.family import adopt
from biasbench.faults import point
from biasbench.job import CellJob, FacesJob, ImagesJob, Job, MeasureJob, Member
from biasbench.plugins import describe_exception
from biasbench.ranks import Ranks
from biasbench.stopping import Asked, Stopped
from biasbench.store import Store

Send = Callable[[Mapping[str, Any]], None]


class Channel:
    """JSON messages to and from the parent, length-checked by the pipe, never pickled."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.lock = connection, threading.Lock()

    def send(self, event: Mapping[str, Any]) -> None:
        """Tell the parent; if it is gone, there is nobody to work for."""
        try:
            with self.lock:
                self.connection.send_bytes(json.dumps(event, allow_nan=False).encode())
        except (BrokenPipeError, ConnectionError):
            os._exit(1)

    def wait(self) -> None:
        """Until the parent has committed what it was told of."""
        try:
            self.connection.recv_bytes(1024)
        except (EOFError, ConnectionError):
            os._exit(1)


class CellWork(Protocol):
    """What computes a cell."""

    @property
    def manifest(self) -> dict[str, Any]:
        """What is told of its training."""

    def load(self, folder: Path) -> None:
        """Take a finished training."""

    def train(self, store: Store, stop: Callable[[], bool]) -> Path:
        """Train to the end, or on from a checkpoint; the folder to commit.

        Raises:
            Stopped: When `stop()` became true: a checkpoint was written.
        """

    def predict(self, store: Store) -> Path:
        """Write predictions; the folder to commit."""

    def follow(self, store: Store, *, trained: bool) -> None:
        """As one of several processes, but not the first: all but what is written and told."""


class Computing:
    """What a child computes; torch is imported when it is needed."""

    def images(self, job: ImagesJob, send: Send) -> None:
        """Decode a data set's images."""
        from biasbench.cell import prepare_images

        prepare_images(job, send)

    def faces(self, job: FacesJob, send: Send) -> None:
        """Look for faces."""
        from biasbench.faces.search import search

        search(job.folders, job.data.tables, job.data.root, send)

    def cell(self, job: CellJob, send: Send, member: Member | None = None) -> CellWork:
        """What trains and predicts a cell, as one of several processes or alone."""
        from biasbench.guarded import GuardedCell

        return GuardedCell(job, send, member)

    def measure(self, job: MeasureJob) -> list[dict[str, Any]]:
        """The measurements of a run."""
        from biasbench.measure import measure_run

        return measure_run(job)


def main(path: str, connection: Connection, output: Connection, computing: Computing | None = None) -> None:
    """Run the job described in a file.

    Args:
        path: JSON of a `Job`.
        connection: To the parent.
        output: Takes everything printed.
        computing: What computes it.
    """
    os.setpgid(0, 0)  # the parent ends the whole group, what plugins started included
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    output.close()
    faulthandler.enable(file=2)
    _first_to_go()
    adopt()
    _end_with_parent(connection)
    channel = Channel(connection)
    try:
        job: Job = TypeAdapter(Job).validate_json(Path(path).read_bytes())
        point("child.started")
        _run(job, channel, computing or Computing())
        channel.send({"event": "done"})
        point("child.answered")
    except Stopped:
        channel.send({"event": "stopped"})
    except BaseException as error:  # a plugin may raise anything; the cell has failed, not the sweep
        channel.send(failure(error))
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()


def _first_to_go() -> None:
    """When memory runs out, the kernel ends the process that wanted it, not the runner."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("500")


def _end_with_parent(connection: Connection) -> None:
    """End the whole group as soon as the parent's end of the pipe is closed, whatever a plugin is doing."""

    def watch() -> None:
        poll = select.poll()
        poll.register(connection.fileno(), 0)  # a hang-up alone is reported
        poll.poll()
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _run(job: Job, channel: Channel, computing: Computing) -> None:
    if isinstance(job, ImagesJob):
        computing.images(job, channel.send)
    elif isinstance(job, FacesJob):
        computing.faces(job, channel.send)
    elif isinstance(job, CellJob) and job.recipe.processes > 1:
        _run_together(job, channel, computing)
    elif isinstance(job, CellJob):
        _run_cell(job, channel, computing.cell(job, channel.send))
    else:
        channel.send({"event": "measured", "records": computing.measure(job)})


def _run_together(job: CellJob, channel: Channel, computing: Computing) -> None:
    """The same by several processes, of which this is the first."""
    store = Store(job.results)
    trained = store.has_training(job.training_key)

    def follow(member: Member) -> Mapping[str, Any] | None:
        try:
            computing.cell(job, lambda _event: None, member).follow(store, trained=trained)
        except Stopped:
            return None
        except BaseException as error:
            return failure(error)
        return None

    meeting = store.aside("group", job.key)
    with Ranks(job.recipe.processes, meeting, follow, channel.send, channel.connection) as ranks:
        _run_cell(job, channel, computing.cell(job, channel.send, ranks.member))


def _run_cell(job: CellJob, channel: Channel, cell: CellWork) -> None:
    """Train and predict one cell; the parent commits each folder it is told of."""
    store = Store(job.results)
    if store.has_training(job.training_key):
        cell.load(store.training(job.training_key))
    else:
        with Asked() as asked:
            folder = cell.train(store, lambda: bool(asked))
        channel.send({"event": "trained", "folder": str(folder), "manifest": cell.manifest})
        channel.wait()
    if job.predict:
        folder = cell.predict(store)
        channel.send({"event": "predicted", "folder": str(folder)})
        channel.wait()


def failure(error: BaseException) -> dict[str, Any]:
    """What the parent is told of an error; one that nobody foresaw is printed in full."""
    if isinstance(error, BiasBenchError):
        return {"event": "error", "message": str(error), "exit_code": error.exit_code, "bug": False}
    traceback.print_exception(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported
        short = CellError(
            f"out of memory: {explain(error)}",
            fix="Nothing was made smaller, since figures would change. See recipe.micro_batch, or take fewer --jobs",
        )
        return {"event": "error", "message": str(short), "exit_code": short.exit_code, "bug": False}
    return {"event": "error", "message": explain(error), "exit_code": EXIT_BUG, "bug": True}


def explain(error: BaseException) -> str:
    """Class, first line and innermost place of an unexpected exception."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return describe_exception(error) + place
