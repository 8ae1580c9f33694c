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
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, Self

from biasbench import io
from biasbench.child import main
from biasbench.job import Job

PRELOAD = ["torch", "torchvision", "timm", "pandas", "pydantic", "biasbench.cell", "biasbench.measure"]
StartMethod = Literal["forkserver", "spawn"]


@dataclass
class Running:
    """A job in its process."""

    name: str
    process: BaseProcess
    connection: Connection
    log: Path

    def acknowledge(self) -> None:
        """Tell the child that its folder was committed."""
        with contextlib.suppress(BrokenPipeError, ConnectionError):
            self.connection.send_bytes(b"ok")


class LocalExecutor:
    """Runs jobs in processes of their own.

    Args:
        folder: Where job files and logs go.
        start: `"forkserver"`, or `"spawn"` for fresh interpreters (the control).
    """

    def __init__(self, folder: Path, start: StartMethod = "forkserver") -> None:
        self.folder = folder
        self.context: Any = multiprocessing.get_context(start)
        if start == "forkserver":
            self.context.set_forkserver_preload(PRELOAD)
        self.running: dict[str, Running] = {}

    def submit(self, name: str, job: Job) -> None:
        """Start a job."""
        path, log = self.folder / f"{name}.json", self.folder / f"{name}.log"
        io.write_text(path, job.model_dump_json(indent=1))
        log.unlink(missing_ok=True)
        here, there = self.context.Pipe(duplex=True)
        process = self.context.Process(target=main, args=(str(path), there, str(log)), name=name)
        process.start()
        there.close()
        self.running[name] = Running(name, process, here, log)

    def events(self, timeout: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """What the jobs have said, until the timeout; a job that died without a word says so here."""
        ready = wait([r.connection for r in self.running.values()], timeout)
        for job in list(self.running.values()):
            if job.connection not in ready:
                continue
            try:
                event = json.loads(job.connection.recv_bytes(2**26))
            except (EOFError, OSError, ValueError):
                event = {"event": "died"}
            if event["event"] in ("done", "error", "died"):
                self._end(job, event)
            yield job.name, event

    def _end(self, job: Running, event: dict[str, Any]) -> None:
        job.process.join(30)
        if job.process.exitcode is None:
            kill(job.process)
        event["exit"] = job.process.exitcode
        event["log"] = str(job.log)
        job.connection.close()
        del self.running[job.name]

    def stop(self, grace: float = 5.0) -> None:
        """End every job: politely, then at once."""
        jobs, self.running = list(self.running.values()), {}
        for job in jobs:
            _signal(job.process, signal.SIGTERM)
        deadline = time.monotonic() + grace
        for job in jobs:
            job.process.join(max(0.0, deadline - time.monotonic()))
            if job.process.exitcode is None:
                kill(job.process)
            job.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def kill(process: BaseProcess) -> None:
    """End a process and everything it started."""
    _signal(process, signal.SIGKILL)
    process.join(5)


def _signal(process: BaseProcess, number: int) -> None:
    if process.pid is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process.pid, number)


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
