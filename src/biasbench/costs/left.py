"""Time left of a run: what its plan was estimated to take, less what is done, at the pace that was seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from biasbench.costs.counts import Job
    from biasbench.costs.estimate import Estimate

TRUST = 0.05  # share of the plan after which the pace seen counts as much as the estimate


class TimeLeft:
    """Follows a run's events.

    Work that fails is no longer due. A job's seconds are done as its epochs end, and wholly when its cell has ended
    or a job that needed it has begun.

    Args:
        estimate: Of the plan.
        clock: Seconds; for tests.
    """

    def __init__(self, estimate: Estimate, clock: Callable[[], float] = time.monotonic) -> None:
        from biasbench.costs.estimate import part_seconds

        self.clock, self.slots = clock, estimate.jobs
        self.jobs: dict[str, Job] = {job.name: job for job in estimate.work.jobs}
        self.due = dict(estimate.seconds)
        self.done = dict.fromkeys(self.due, 0.0)
        self.part = {
            (job.name, i): part_seconds(part, estimate.rates, job.threads)
            for job in estimate.work.jobs
            for i, part in enumerate(job.parts)
        }
        self.whole = sum(self.due.values())
        self.began = clock()

    def see(self, event: Mapping[str, Any]) -> None:
        """Take one of the runner's events into account."""
        key, state = event.get("key"), event.get("state")
        own = [job for job in self.jobs.values() if job.key is not None and job.key == key]
        if event.get("event") == "epoch":
            for job in own:
                self._epoch(job, int(event["stage"]), int(event["epoch"]))
        if event.get("event") == "cell" and state == "start":
            for name in (name for job in own for name in job.needs if name in self.due):
                if self.jobs[name].key != key:
                    self.done[name] = self.due[name]
        if event.get("event") == "cell" and state in ("done", "cached", "failed", "n/a"):
            for job in own:
                if state != "done":
                    self.due[job.name] = self.done[job.name]
                self.done[job.name] = self.due[job.name]

    def _epoch(self, job: Job, stage: int, epoch: int) -> None:
        total = 0.0
        for i, part in enumerate(job.parts):
            if part.name == f"stage {stage}":
                total += min(epoch, part.times) * self.part[job.name, i]
                self.done[job.name] = max(self.done[job.name], total)
                return
            total += part.times * self.part[job.name, i]

    @property
    def seconds(self) -> float:
        """Seconds left, from now: all that is due shared out over the processes, or the longest job that is due."""
        rest = {name: self.due[name] - self.done[name] for name in self.due}
        done, prior = sum(self.done.values()), TRUST * self.whole
        if not prior:
            return 0.0
        pace = ((self.clock() - self.began) * self.slots + prior) / (done + prior)
        return pace * max(sum(rest.values()) / self.slots, max(rest.values()))
