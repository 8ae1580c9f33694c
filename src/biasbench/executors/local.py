"""Jobs as processes on this machine, forked from a clean server that has torch loaded.

A fork server starts a job in a fraction of a second where a fresh interpreter needs
several to import torch. The server runs no kernels and starts no threads or CUDA context,
so that its children compute the same bits as fresh processes.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, Self

from biasbench import io
from biasbench.child import main
from biasbench.errors import StoreError
from biasbench.executors.executor import ENDS
from biasbench.executors.limits import Clock, Limits
from biasbench.executors.output import Output
from biasbench.family import descendants, end
from biasbench.faults import point
from biasbench.job import Job

PRELOAD = ["torch", "torchvision", "timm", "pandas", "pydantic", "biasbench.cell", "biasbench.measure"]
StartMethod = Literal["forkserver", "spawn", "fork"]


@dataclass
class Running:
    """A job in its process; `began` and `heard` are times of the executor's clock."""

    name: str
    process: BaseProcess
    connection: Connection
    described: Path
    output: Output
    began: float
    heard: float


class LocalExecutor:
    """Runs jobs in processes of their own.

    Args:
        folder: Where job files and logs go.
        start: `"forkserver"`, `"spawn"` for fresh interpreters (the control), or `"fork"`.
        limits: What ends a job.
        target: What a process runs: called with the job's file, a pipe to talk through and one to print into.
    """

    def __init__(
        self,
        folder: Path,
        start: StartMethod = "forkserver",
        *,
        limits: Limits | None = None,
        target: Callable[[str, Connection, Connection], None] = main,
    ) -> None:
        self.folder, self.limits, self.target = folder, limits or Limits(), target
        self.context: Any = multiprocessing.get_context(start)
        if start == "forkserver":
            self.context.set_forkserver_preload(PRELOAD)
        self.running: dict[str, Running] = {}
        self.clock = Clock()
        self.mark = uuid.uuid4().hex[:8]  # another runner may do a job of the same name: images that both need

    def submit(self, name: str, job: Job) -> None:
        """Start a job.

        Raises:
            StoreError: When its description cannot be written, or the system starts no further process.
        """
        path = self.folder / f"{name}-{self.mark}.json"
        io.write_text(path, job.model_dump_json(indent=1))
        point("job.written")
        log = self.folder / f"{name}.log"
        try:
            here, there = self.context.Pipe(duplex=True)
            reading, writing = self.context.Pipe(duplex=False)
            process = self.context.Process(target=self.target, args=(str(path), there, writing), name=name)
            process.start()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise StoreError(f"the system starts no further process: {reason}", fix="Run fewer --jobs") from error
        there.close()
        writing.close()
        now = self.clock.turn()
        self.running[name] = Running(name, process, here, path, Output(reading, log), now, now)
        point("job.started")

    def events(self, timeout: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """What the jobs have said, until the timeout; a job that died, or had to end, without a word says so here."""
        ready = self._wait(timeout)
        now = self.clock.turn()
        for job in list(self.running.values()):
            if job.connection in ready:
                job.heard = now
            if reason := self._broken(job, now):
                kill(job.process)
                event: dict[str, Any] = {"event": "died", "reason": reason}
            elif job.connection in ready:
                event = _received(job.connection)
            else:
                continue
            if event["event"] in ENDS:
                self._end(job, event)
            yield job.name, event

    def _wait(self, timeout: float) -> set[Any]:
        """Take what is printed until a job says something, or the time is up; the pipes with a message."""
        deadline = time.monotonic() + timeout
        talking = {r.connection for r in self.running.values()}
        printing: dict[Any, Output] = {r.output.pipe: r.output for r in self.running.values()}
        while True:
            ready = set(wait([*talking, *printing], max(0.0, deadline - time.monotonic())))
            for pipe in ready - talking:
                if not printing[pipe].take():
                    del printing[pipe]  # nobody can print any more
            if ready & talking or time.monotonic() >= deadline:
                return ready & talking

    def _broken(self, job: Running, now: float) -> str | None:
        assert job.process.pid is not None
        return self.limits.broken(now - job.began, now - job.heard, job.process.pid)

    def _end(self, job: Running, event: dict[str, Any]) -> None:
        started = descendants(job.process.pid) if job.process.pid is not None else []
        if not event.get("reason"):
            ended(job.process, 10)
        kill(job.process, started)
        event["exit"] = job.process.exitcode
        job.output.close()
        if job.output.kept:
            event["log"] = str(job.output.path)
        else:
            job.described.unlink(missing_ok=True)
        job.connection.close()
        del self.running[job.name]

    def acknowledge(self, name: str) -> None:
        """Tell a job that the folder it spoke of was committed."""
        with contextlib.suppress(BrokenPipeError, ConnectionError):
            self.running[name].connection.send_bytes(b"ok")

    def ask(self) -> None:
        """Ask every job to end: a training after its next step, with a checkpoint; any other at once."""
        for job in self.running.values():
            if job.process.pid is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(job.process.pid, signal.SIGTERM)

    def stop(self) -> None:
        """End every job at once."""
        jobs, self.running = list(self.running.values()), {}
        for job in jobs:
            kill(job.process)
            job.output.close()
            job.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def _received(connection: Connection) -> dict[str, Any]:
    """A job's next message; that it died where there is none, or none that can be read."""
    try:
        event = json.loads(connection.recv_bytes(2**26))
    except (EOFError, OSError, ValueError, RecursionError):
        event = None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else {"event": "died"}


def kill(process: BaseProcess, started: Sequence[int] = ()) -> None:
    """End a process and everything it started, also what outlived it."""
    if process.pid is None:
        return
    running = process.exitcode is None
    others = [*started, process.pid, *descendants(process.pid)] if running else started
    end(process.pid, others)
    if running:
        ended(process, 5)


def ended(process: BaseProcess, seconds: float) -> bool:
    """Whether a process ends within some time.

    `join` would wait for ever for one that closed its end of the pipe by which it is watched.
    """
    deadline = time.monotonic() + seconds
    wait([process.sentinel], seconds)
    while process.exitcode is None and time.monotonic() < deadline:
        time.sleep(0.005)
    return process.exitcode is not None


def describe_death(exitcode: int | None) -> str:
    """How a process that said nothing ended.

    Example:
        >>> describe_death(-9)
        'its process was killed (SIGKILL): out of memory, or ended from outside'
    """
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        more = ": out of memory, or ended from outside" if name == "SIGKILL" else ""
        return f"its process was killed ({name}){more}"
    return f"its process ended without a result (exit code {exitcode})"
