"""What a runner needs of the place where jobs run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, Self

from biasbench.job import Job

ENDS = ("done", "error", "stopped", "died")
"""The events that are a job's last."""


class Executor(Protocol):
    """Runs jobs in processes of their own, wherever those are."""

    def submit(self, name: str, job: Job) -> None:
        """Start a job.

        Raises:
            StoreError: When it cannot be started.
        """

    def events(self, timeout: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """What the jobs have said, until the timeout; the last of each job is one of `ENDS`."""

    def acknowledge(self, name: str) -> None:
        """Tell a job that the folder it spoke of was committed."""

    def ask(self) -> None:
        """Ask every job to end: a training after its next step, with a checkpoint; any other at once."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None:
        """End every job at once."""
