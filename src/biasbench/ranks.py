"""The further processes of a cell: forked from its first one before that computes anything, and ended with it.

The first process is the one that the runner knows. It waits for the others' word beside its work: when one of them
fails, or ends without having finished, the runner is told so at once, and the cell ends, whatever the first process is
doing. The others end as soon as the first is gone. All are in one process group, which the runner ends as a whole.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

from biasbench.errors import EXIT_CELLS_FAILED
from biasbench.job import Member

Follow = Callable[[Member], Mapping[str, Any] | None]
_PATIENCE = 20.0
"""Seconds for the word of a process that failed to arrive, when the first one notices."""


class Ranks:
    """Starts the further processes of a cell, watches them, and ends them.

    Args:
        size: Processes of the cell, this one included.
        folder: Where they find each other; it goes at the end.
        follow: What a further process does; returns its error, or None when it has finished.
        fail: Tells the runner of an error, from another thread.
        close: What a further process must not hold open.
    """

    def __init__(
        self,
        size: int,
        folder: Path,
        follow: Follow,
        fail: Callable[[Mapping[str, Any]], None],
        close: Connection,
    ) -> None:
        self.size, self.fail, self.over = size, fail, False
        self.folder = folder
        self.member = Member(0, size, self.folder / "group")
        self.processes: list[BaseProcess] = []
        self.pipes: list[Connection] = []
        context = multiprocessing.get_context("fork")  # of a process as clean as the runner's server made it
        for rank in range(1, size):
            here, there = context.Pipe()
            closing = [close, here, *self.pipes]
            member = Member(rank, size, self.member.file)
            process = context.Process(target=_main, args=(member, there, closing, follow))
            process.start()
            there.close()
            self.processes.append(process)
            self.pipes.append(here)
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None and isinstance(error, Exception) and _of_the_group(error):
            time.sleep(_PATIENCE)  # another process failed, and what we see is that it is gone: it is told of instead
        self.over = True
        for process, pipe in zip(self.processes, self.pipes, strict=True):
            process.kill()
            process.join()
            pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _watch(self) -> None:
        """Until all have finished; the word of one that has not ends this process."""
        left = dict(zip(self.pipes, range(1, self.size), strict=True))
        while left and not self.over:
            words = [(left.pop(pipe), _word(pipe)) for pipe in _ready(left, 1.0)]
            if any(word != {} for _, word in words):
                words += [(left.pop(pipe), _word(pipe)) for pipe in _ready(left, 0.5)]  # of whom it has struck too
                self._fail(words)

    def _fail(self, words: list[tuple[int, dict[str, Any] | None]]) -> None:
        """Tell why the cell ends, and end it: one that died comes first, errors that were foreseen before others."""
        if self.over:
            return
        told = [self._death(rank) if word is None else word for rank, word in words if word != {}]
        dead = [word is None for _, word in words if word != {}]
        first = min(range(len(told)), key=lambda i: (not dead[i], told[i].get("bug", True)))
        self.fail(told[first])
        shutil.rmtree(self.folder, ignore_errors=True)
        os._exit(1)

    def _death(self, rank: int) -> dict[str, Any]:
        process = self.processes[rank - 1]
        process.join(5)
        code = process.exitcode
        how = "ended without a result"
        if code is not None and code < 0:
            how = f"was killed ({signal.Signals(-code).name})"
        what = f"process {rank + 1} of the cell's {self.size} {how}"
        return {"event": "error", "message": what, "exit_code": EXIT_CELLS_FAILED, "bug": True}


def _of_the_group(error: Exception) -> bool:
    """Whether an error may be what is seen of another process's end: torch raises no class of its own for it."""
    return isinstance(error, RuntimeError)


def _ready(pipes: Iterable[Connection], seconds: float) -> list[Connection]:
    """Pipes with a word, or that were closed, within some time."""
    found = wait(list(pipes), timeout=seconds)
    return [pipe for pipe in found if isinstance(pipe, Connection)]


def _word(pipe: Connection) -> dict[str, Any] | None:
    """A process's last word: its error, nothing if it has finished; None if it ended without one."""
    try:
        said = json.loads(pipe.recv_bytes(2**20))
    except (EOFError, OSError, ValueError):
        return None
    return said if isinstance(said, dict) else None


def _main(member: Member, pipe: Connection, close: list[Connection], follow: Follow) -> None:
    """A further process, from beginning to end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # the first process is asked to end, and tells the others
    for connection in close:
        connection.close()
    _end_with_first(pipe)
    said = follow(member)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
        pipe.send_bytes(json.dumps(said or {}).encode())
    threading.Event().wait()  # the first process ends us: what we hold of the group must outlive its last word


def _end_with_first(pipe: Connection) -> None:
    """End as soon as the first process is gone, whatever a plugin is doing."""

    def watch() -> None:
        poll = select.poll()
        poll.register(pipe.fileno(), 0)  # a hang-up alone is reported
        poll.poll()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
