"""Leakage by several kinds of attacker; the best by held-out rows counts.

Wang et al. 2019 measure leakage with one network, which may be too weak for what is there to be
found, or unable to read scores of an odd scale: the model then looks fair. Here several kinds
compete on standardised inputs. Each is fitted k times, without one fold of the pool of training
and validation rows, and read on the rows it has not seen. On those of the validation draw the
kind is chosen by accuracy, and how long it is trained by cross-entropy. Held-out training rows say
nothing of that: a model has seen their images, and where it remembers them trees read the attribute
off 85 % of their scores and off 69 % of other images' (planted). The test draw takes no part until then.
It is read by the mean probability of the chosen kind's k models: against one model fitted on the
whole pool, on five planted leaks of known Bayes accuracy and 3,000 rows, that was nearer to Bayes
by 0.1 to 5 points for networks and trees, and equal for the logistic regression.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from biasbench.data import Progress
from biasbench.measures.attackers import Job
from biasbench.measures.certified import Certified
from biasbench.measures.certified_fits import fit_boosting, fit_logistic
from biasbench.measures.certified_kinds import Kind, kind_named, larger, longer
from biasbench.measures.certified_networks import fit_networks, shape_of
from biasbench.measures.certified_plateau import Plateau, balanced_accuracy, slope
from biasbench.measures.certified_pool import Fit, Pool

DOUBLINGS = 3
"""Models that a certificate adds: half the rows, a larger kind, longer training."""
FITS = 8
"""Fits of each kind that a CPU thread is given at once, so that none waits long for the others' last one."""
UNLIKELY = 1e-7
"""The least probability that counts in a cross-entropy: one row that is wrong beyond doubt decides nothing."""


@dataclass(frozen=True)
class CertifiedOutcome:
    """What the chosen attacker achieved; accuracies are 0..1, each group counting the same, and not folded.

    An attacker below chance is at chance but for noise: the figure says so and is not turned round.

    Attributes:
        accuracy: On the test draw.
        right: [n] which rows of the test draw it got right.
        kind: Which attacker was chosen, one of `certified.KINDS`.
        epoch: Epochs, trees or most solver steps after which its models were read, the same for all folds.
        scores: Accuracy on the held-out rows of the validation draw by kind, each at its best stage.
        plateau: Whether the chosen attacker could be stronger; None where that was not asked.
        last: NaN: there is no last epoch to compare with.
    """

    accuracy: float
    right: NDArray[np.bool_]
    kind: str
    epoch: int
    scores: Mapping[str, float]
    plateau: Plateau | None
    last: float = float("nan")

    @property
    def details(self) -> dict[str, Any]:
        """As JSON values."""
        found = {"kind": self.kind, "epoch": self.epoch, "scores": dict(self.scores)}
        return found if self.plateau is None else {**found, **self.plateau.details}


def certified_attack(
    jobs: Sequence[Job],
    protocol: Certified,
    *,
    threads: int | None = None,
    device: str = "cpu",
    certify: Collection[int] | None = None,
    done: Callable[[int, CertifiedOutcome], None] | None = None,
    progress: Progress | None = None,
) -> list[CertifiedOutcome]:
    """Attack each job with every kind and read its test draw with the best.

    Chance is 1/G. The same jobs give the same bits on the CPU, whatever the number of threads.

    Args:
        jobs: Draws with equal numbers of each group; tables are made when a job's turn comes.
        protocol: Kinds, their sizes and the folds.
        threads: Fits side by side on the CPU (default: torch's number of threads).
        device: A torch device for the networks; the other kinds stay on the CPU.
        certify: Numbers of the jobs that get a certificate where the protocol has one (default: all).
        done: Called with a job's number and outcome as soon as it is known.
        progress: Called with models fitted and due.

    Raises:
        CellError: When a score is not finite, a network overflows, or a group has fewer rows in train
            and val together than there are folds, or none in val or test.

    Example:
        >>> from biasbench.measures.reader import Draw
        >>> y = np.tile(np.array([[0, 1], [1, 0]], np.uint8), (50, 1))
        >>> draw = Draw(lambda: y, np.arange(100), y[:, 0].astype(np.int64))
        >>> job = Job(("doc",), {"train": draw, "val": draw, "test": draw}, width=2)
        >>> found = certified_attack([job], Certified("mine", kinds=("logistic", "mlp-1"), epochs=1, plateau=False))
        >>> found[0].accuracy, found[0].kind
        (1.0, 'logistic')
    """
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    workers = threads or torch.get_num_threads()
    certified = set(range(len(jobs)) if certify is None else certify) if protocol.plateau else set()
    tally = _Tally(protocol.folds * (len(jobs) * len(protocol.kinds) + DOUBLINGS * len(certified)), progress)
    outcomes = []
    with (
        threadpool_limits(1),
        _torch_threads(1),
        warnings.catch_warnings(),
        ThreadPoolExecutor(workers, initializer=_one_thread) as pool,
    ):
        warnings.simplefilter("ignore", ConvergenceWarning)  # what more steps would gain is measured
        bench = _Bench(protocol, torch.device(device), pool, tally)
        together = max(1, workers * FITS // protocol.folds) if bench.on_cpu else len(jobs)
        for start in range(0, len(jobs), together):  # not all: their tables lie in memory
            numbers = range(start, min(start + together, len(jobs)))
            got = _attack([Pool(jobs[i], protocol.folds) for i in numbers], [i in certified for i in numbers], bench)
            for i, outcome in zip(numbers, got, strict=True):
                outcomes.append(outcome)
                if done is not None:
                    done(i, outcome)
    return outcomes


class _Task(NamedTuple):
    """A kind to fit on a pool, once a fold."""

    pool: Pool
    kind: Kind
    half: bool = False


class _Read(NamedTuple):
    """A kind at its best stage."""

    score: float
    step: int
    right: NDArray[np.bool_]  # [P + T]


def _attack(pools: Sequence[Pool], certify: Sequence[bool], bench: _Bench) -> list[CertifiedOutcome]:
    protocol = bench.protocol
    kinds = [kind_named(name, protocol) for name in protocol.kinds]
    read = bench.read([_Task(pool, kind) for pool in pools for kind in kinds])
    # max() keeps the first of equals: the simpler kind.
    chosen = [max(kinds, key=lambda kind, pool=pool: read[_Task(pool, kind)].score) for pool in pools]  # type: ignore[misc]
    doublings = [_doublings(p, k, protocol) if c else {} for p, k, c in zip(pools, chosen, certify, strict=True)]
    more = [task for pairs in doublings for pair in pairs.values() for task in pair if task not in read]
    bench.tally.add(protocol.folds * (DOUBLINGS * sum(certify) - len(more)))  # a larger kind may be among those read
    read |= bench.read(more)
    outcomes = []
    for pool, kind, pairs in zip(pools, chosen, doublings, strict=True):
        best, codes = read[_Task(pool, kind)], pool.codes
        slopes = {
            name: slope(read[before].right[pool.judged], read[after].right[pool.judged], codes[pool.judged])
            for name, (before, after) in pairs.items()
        }
        right = best.right[pool.size :]
        scores = {k.name: read[_Task(pool, k)].score for k in kinds}
        outcomes.append(
            CertifiedOutcome(
                balanced_accuracy(right, codes[pool.size :]), right.copy(), kind.name, best.step, scores,
                Plateau(slopes) if pairs else None,
            )
        )  # fmt: skip
    return outcomes


def _doublings(pool: Pool, kind: Kind, protocol: Certified) -> dict[str, tuple[_Task, _Task]]:
    """By what is doubled: the task before and the task after."""
    base = _Task(pool, kind)
    return {
        "data": (_Task(pool, kind, half=True), base),
        "capacity": (base, _Task(pool, larger(kind, protocol))),
        "steps": (base, _Task(pool, longer(kind))),
    }


class _Bench:
    """Fits tasks side by side."""

    def __init__(self, protocol: Certified, device: torch.device, pool: ThreadPoolExecutor, tally: _Tally) -> None:
        self.protocol, self.device, self.pool, self.tally = protocol, device, pool, tally
        self.on_cpu = device.type == "cpu"

    def read(self, tasks: Sequence[_Task]) -> dict[_Task, _Read]:
        """Each task at its best stage."""
        fits = [(task, fit) for task in tasks for fit in task.pool.fits(task.half)]
        alike: dict[tuple[object, ...], list[int]] = {}
        for i, (task, fit) in enumerate(fits):
            alike.setdefault(shape_of(fit, task.kind) if task.kind.family == "network" else (i,), []).append(i)
        told: dict[int, NDArray[np.float32]] = {}

        def work(numbers: Sequence[int]) -> None:
            told.update(zip(numbers, self._fit(fits[numbers[0]][0].kind, [fits[i][1] for i in numbers]), strict=True))
            self.tally.add(len(numbers))

        for future in [self.pool.submit(work, part) for same in alike.values() for part in self._stacks(same)]:
            future.result()
        folds = self.protocol.folds
        return {
            task: _best(task, task.pool.together([told.pop(i) for i in range(n * folds, (n + 1) * folds)]))
            for n, task in enumerate(tasks)
        }

    def _stacks(self, same: list[int]) -> list[list[int]]:
        """Fits of one shape together; on the CPU each by itself."""
        return [[i] for i in same] if self.on_cpu else [same]

    def _fit(self, kind: Kind, fits: Sequence[Fit]) -> list[NDArray[np.float32]]:
        if kind.family == "network":
            return fit_networks(fits, kind, self.protocol, self.device)
        one = fit_logistic if kind.family == "logistic" else fit_boosting
        return [one(fit, kind, self.protocol) for fit in fits]


def _best(task: _Task, told: NDArray[np.float32]) -> _Read:
    """The stage with the lowest cross-entropy on held-out validation rows, the earliest of equals.

    Cross-entropy is less noisy than accuracy: of many stages, the best by accuracy is often best by chance.
    """
    pool = task.pool
    codes = pool.codes[pool.judged]
    truth = np.take_along_axis(told[:, pool.judged], codes[None, :, None], 2)[..., 0]  # [S, n]
    losses = -np.log(np.maximum(truth.astype(np.float64), UNLIKELY)).mean(1)
    best = int(np.argmin(losses))
    right = told[best].argmax(1) == pool.codes
    return _Read(balanced_accuracy(right[pool.judged], codes), task.kind.stages()[best], right)


def _one_thread() -> None:
    """One thread inside each operation of scikit-learn's trees; OpenMP keeps the number by thread."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="openmp")


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Tally:
    """Models fitted, counted across threads."""

    def __init__(self, due: int, progress: Progress | None) -> None:
        self.due, self.progress, self.count, self.lock = due, progress, 0, Lock()

    def add(self, models: int) -> None:
        with self.lock:
            self.count += models
            if self.progress is not None:
                self.progress(self.count, self.due)
