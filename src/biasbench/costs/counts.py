"""What the jobs of a run do, in counts: images, passes through a network, attackers, bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Passes:
    """Images through some segments of a network.

    Attributes:
        backbone: Canonical text.
        crop: Side of the input, pixels.
        segments: Taps at the ends of the segments passed, in order.
        trained: How many of them, at the end, are passed backwards too.
        images: Images.
    """

    backbone: str
    crop: int
    segments: tuple[str, ...]
    trained: int
    images: int


@dataclass(frozen=True)
class Attacks:
    """Attackers of one size.

    Attributes:
        protocol: As the user writes it.
        single: Whether an example has exactly one label.
        width: Numbers that an attacker reads of an example.
        groups: Groups of the attribute.
        rows: Of the draws from train, val and test.
        count: Attackers.
        certified: Of these, the ones whose strength is checked; only `certified` does.
    """

    protocol: str
    single: bool
    width: int
    groups: int
    rows: tuple[int, int, int]
    count: int
    certified: int = 0


@dataclass(frozen=True)
class Part:
    """One stretch of a job, repeated alike.

    Attributes:
        name: `images`, `features`, `stage 0`, …, `predict` or `measure`.
        times: How often, such as epochs; all that follows is for one time.
        rows: Examples that it is about.
        decoded: Files decoded and resized.
        cropped: Images cut out of stored pixels.
        passes: Through the network.
        attacks: Attackers trained.
        hashed: Bytes read whose hash is checked.
        written: Bytes written.
    """

    name: str
    times: int = 1
    rows: int = 0
    decoded: int = 0
    cropped: int = 0
    passes: tuple[Passes, ...] = ()
    attacks: tuple[Attacks, ...] = ()
    hashed: int = 0
    written: int = 0


@dataclass(frozen=True)
class Room:
    """What a cell's process has to hold beside the bare network.

    Attributes:
        backbone: Canonical text of its backbone.
        crop: Side of the input, pixels.
        batch: Most images in a training step.
        arrays: Bytes of activations that are collected before they are written.
        scratch: Bytes of checkpoints on disk while it trains.
    """

    backbone: str
    crop: int
    batch: int
    arrays: int
    scratch: int


@dataclass(frozen=True)
class Job:
    """One process of a run.

    Attributes:
        name: As the runner calls it.
        key: Of the cell that it serves; None where it serves several.
        needs: Jobs that must be done before.
        threads: CPU threads; 0 for all there are.
        parts: In order.
        kept: Bytes that it leaves on disk, by what they are.
        room: Memory and scratch space; None where they are small.
        training: Whether something is trained.
    """

    name: str
    key: str | None
    needs: frozenset[str]
    threads: int
    parts: tuple[Part, ...]
    kept: Mapping[str, int] = field(default_factory=dict)
    room: Room | None = None
    training: bool = False


@dataclass(frozen=True)
class Work:
    """All that a plan still has to do.

    Attributes:
        states: Of each cell by key: `n/a`, `finished`, `to measure` or `to run`.
        jobs: One for each process.
        uncounted: What takes time too and is in no count.
        cached: What is there already and would otherwise be computed, by what it is: sets of decoded images,
            files of activations, trainings.
    """

    states: Mapping[str, str]
    jobs: Sequence[Job]
    uncounted: Sequence[str] = ()
    cached: Mapping[str, int] = field(default_factory=dict)

    def parts(self, name: str) -> Iterator[Part]:
        """Every part whose name begins so."""
        return (part for job in self.jobs for part in job.parts if part.name.startswith(name))

    def totals(self) -> dict[str, int]:
        """Cells by state, and sums over all jobs."""
        count = list(self.states.values()).count
        attacks = [a for part in self.parts("measure") for a in part.attacks]
        return {
            "finished": count("finished"),
            "to_run": count("to run"),
            "to_measure": count("to measure"),
            "not_applicable": count("n/a"),
            "trainings": sum(job.training for job in self.jobs),
            "epochs": sum(p.times for p in self.parts("stage")),
            "training_rows": sum(p.times * p.rows for p in self.parts("stage")),
            "decoded_images": sum(p.times * p.decoded for job in self.jobs for p in job.parts),
            "feature_rows": sum(p.rows for p in self.parts("features")),
            "predicted_rows": sum(p.rows for p in self.parts("predict")),
            "attackers": sum(a.count for a in attacks),
            "passed_images": sum(x.images * p.times for job in self.jobs for p in job.parts for x in p.passes),
        }
