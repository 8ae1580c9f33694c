"""Time, memory and disk of a plan: its counts times what this machine takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from biasbench.costs.attackers import models, size
from biasbench.costs.counts import Attacks, Job, Part, Passes, Work
from biasbench.costs.rates import Network, Rates


@dataclass(frozen=True)
class Estimate:
    """What a plan will take.

    Attributes:
        work: Its counts.
        rates: What the machine takes.
        jobs: Processes at a time.
    """

    work: Work
    rates: Rates
    jobs: int

    @cached_property
    def unmeasured(self) -> list[str]:
        """Backbones and protocols whose costs are not known; what they take is left out of every figure."""
        parts = [part for job in self.work.jobs for part in job.parts]
        networks = [p.backbone for part in parts for p in part.passes]
        protocols = [a.protocol for part in parts for a in part.attacks]
        found = [f"--backbone '{n}'" for n in networks if n not in self.rates.networks]
        found += [f"--protocol '{n}'" for n in protocols if n not in self.rates.attackers]
        return list(dict.fromkeys(found))

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Of each job, by its name."""
        return {job.name: sum(part_seconds(part, self.rates, job.threads) * part.times for part in job.parts)
                for job in self.work.jobs}  # fmt: skip

    @property
    def total(self) -> float:
        """Seconds of all jobs, one after the other."""
        return sum(self.seconds.values())

    @property
    def wall(self) -> tuple[float, float]:
        """Seconds at least and at most, with `jobs` processes that do not slow each other down.

        No order is faster than all work shared out evenly, or than the longest chain of jobs that wait for each other;
        and an order that leaves no process idle while a job could run is not slower than both together (Graham 1966).
        """
        chain, share = self._chain(), self.total / self.jobs
        return max(chain, share), share + chain * (1 - 1 / self.jobs)

    def _chain(self) -> float:
        ends: dict[str, float] = {}
        known = {job.name: job for job in self.work.jobs}
        for name in known:
            stack = [name]
            while stack:
                job = known[stack[-1]]
                waiting = [n for n in job.needs if n not in ends and n in known]
                if waiting:
                    stack += waiting
                    continue
                begin = max((ends[n] for n in job.needs if n in ends), default=0.0)
                ends[stack.pop()] = begin + self.seconds[job.name]
        return max(ends.values(), default=0.0)

    @property
    def memory(self) -> int:
        """Bytes of the largest jobs that may run at once."""
        sizes = sorted((memory(job, self.rates) for job in self.work.jobs), reverse=True)
        return sum(sizes[: self.jobs])

    @property
    def disk(self) -> dict[str, int]:
        """Bytes left in the cache and in the results, and of checkpoints at most while it runs."""
        kept = {"images": 0, "features": 0, "trainings": 0, "runs": 0}
        for job in self.work.jobs:
            for name, count in job.kept.items():
                kept[name] += count
        scratch = sorted((job.room.scratch for job in self.work.jobs if job.room), reverse=True)
        return {
            "cache": kept["images"] + kept["features"],
            "results": kept["trainings"] + kept["runs"],
            "scratch": 2 * sum(scratch[: self.jobs]),  # a new checkpoint is whole before the old one goes
        }

    def by_part(self) -> dict[str, float]:
        """Seconds of all jobs by what they are spent on."""
        found: dict[str, float] = {}
        for job in self.work.jobs:
            for part in job.parts:
                name = "epochs" if part.name.startswith("stage") else part.name
                spent = part_seconds(part, self.rates, job.threads) * part.times
                found[name] = found.get(name, 0.0) + spent
        return found


def part_seconds(part: Part, rates: Rates, threads: int) -> float:
    """Seconds of a part, once; what was not measured counts as nothing."""
    total = rates.start.value if part.name == "start" else 0.0
    total += part.decoded * rates.decode.value / (threads or rates.cores)
    crop = part.passes[0].crop if part.passes else rates.crop_side
    total += part.cropped * rates.crop.value * (crop / rates.crop_side) ** 2
    total += part.hashed * rates.hash.value + part.written * rates.write.value
    total += sum(_passes(p, rates.networks) for p in part.passes)
    return total + sum(_attacks(a, rates) for a in part.attacks)


def _passes(passes: Passes, networks: Mapping[str, Network]) -> float:
    network = networks.get(passes.backbone)
    if network is None:
        return 0.0
    first = len(passes.segments) - passes.trained
    each = [
        (network.forward if i < first else network.both)[segment].value for i, segment in enumerate(passes.segments)
    ]
    return passes.images * sum(each) * (passes.crop / network.crop) ** 2


def _attacks(attacks: Attacks, rates: Rates) -> float:
    known = rates.attackers.get(attacks.protocol)
    return models(attacks) * known.seconds.value * size(attacks) / known.size if known else 0.0


def memory(job: Job, rates: Rates) -> int:
    """Bytes that a job's process takes at most: what a training pass took, for its batch and crop, and its arrays."""
    known = [*rates.networks.values()]
    if job.room is None:
        return min((network.base for network in known), default=0)
    network = rates.networks.get(job.room.backbone)
    if network is None:
        return job.room.arrays
    images = job.room.batch * (job.room.crop / network.crop) ** 2 / network.batch
    return int(network.base + (network.peak - network.base) * images + job.room.arrays)
