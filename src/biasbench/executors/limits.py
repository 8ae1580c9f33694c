"""How long a job may take, how long it may say nothing, how much memory it may hold."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

STALL = 6 * 3600.0


@dataclass(frozen=True)
class Limits:
    """What ends a job.

    Attributes:
        seconds: It may take at most so long; None for any time.
        stall: It may go without a sign of progress (a batch, a file, an epoch) for at most so long; None for ever.
        gigabytes: Memory of its own (2**30 bytes each) that its processes may hold together, as far as the system
            tells: on Linux. None for any amount.
    """

    seconds: float | None = None
    stall: float | None = STALL
    gigabytes: float | None = None

    def broken(self, age: float, silence: float, group: int) -> str | None:
        """Why a job has to end, or None.

        Args:
            age: Seconds since it started.
            silence: Seconds since it last said something.
            group: Its process group.

        Example:
            >>> Limits(seconds=60).broken(61.0, 2.0, 0)
            'it took longer than its limit of 60 s'
        """
        if self.seconds is not None and age > self.seconds:
            return f"it took longer than its limit of {self.seconds:g} s"
        if self.stall is not None and silence > self.stall:
            return f"it made no progress for {self.stall:g} s"
        if self.gigabytes is not None and sum(own_memory(group)) > self.gigabytes * 2**30:
            return f"it held more than its limit of {self.gigabytes:g} GB of memory"
        return None


class Clock:
    """Seconds in which this process ran: time in which it, or the machine, was stopped counts for nobody.

    Args:
        most: What one turn counts at most, seconds.
    """

    def __init__(self, most: float = 5.0) -> None:
        self.now, self.most, self._last = 0.0, most, time.monotonic()

    def turn(self) -> float:
        """Called now and then, more often than every `most` seconds; the time."""
        now = time.monotonic()
        self.now += min(now - self._last, self.most)
        self._last = now
        return self.now


def own_memory(group: int) -> Iterator[int]:
    """Bytes that each process of a group holds and shares with no file; nothing where /proc does not tell."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                status = (folder / "status").read_text()
                found = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
                yield 1024 * int(found["RssAnon"].split()[0])
        except (OSError, ValueError, KeyError, IndexError):  # it ended meanwhile
            continue
