"""All processes that a job has started, also those that left its process group (Linux; elsewhere the group alone)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterable
from pathlib import Path

SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def adopt() -> None:
    """What this process starts stays its descendant, whatever becomes of the processes between."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """Processes below one, as far as /proc tells."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it may end while it is looked at
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError, ValueError):
                for child in map(int, (task / "children").read_text().split()):
                    found += [child, *descendants(child)]
    return found


def end(pid: int, others: Iterable[int]) -> None:
    """Kill a process group, and processes beside it."""
    for kill, number in ((os.killpg, pid), *((os.kill, other) for other in others)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(number, signal.SIGKILL)
