"""Training attackers: any number together, each as if it were alone.

On the CPU one thread works on each attacker, whose numbers stay in the cache. On an accelerator
all attackers of equal shape form one stack (`stacked.py`). Data stay in memory as they are (labels as bytes, classes
as numbers) and are gathered by row; rows that are equal are read once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray

from biasbench.data import SPLITS, Progress, Split
from biasbench.measures.adam import Adam
from biasbench.measures.protocol import Protocol
from biasbench.measures.reader import Draw, Reader, check_finite
from biasbench.measures.stacked import Shape, Stack
from biasbench.rng import Part, generator, torch_generator


@dataclass(frozen=True)
class Job:
    """One attacker to train.

    Attributes:
        stream: Names its initial weights and batch orders.
        draws: Of train, val and test.
        width: K, the labels or logits.
        groups: G.
    """

    stream: tuple[Part, ...]
    draws: Mapping[Split, Draw]
    width: int
    groups: int = 2


@dataclass(frozen=True)
class Outcome:
    """What one attacker achieved; accuracies are 0..1, unfolded.

    Attributes:
        epoch: The epoch with the best validation accuracy, the earliest of equals, from 1.
        accuracy: On the test draw at that epoch.
        last: On the test draw at the last epoch: what selection adds shows in the difference.
        right: [n] which rows of the test draw it got right at that epoch.
        val: [E] validation accuracy by epoch.
        losses: [E] mean training loss by epoch.
    """

    epoch: int
    accuracy: float
    last: float
    right: NDArray[np.bool_]
    val: NDArray[np.float64]
    losses: NDArray[np.float64]


def train_attackers(
    jobs: Sequence[Job],
    protocol: Protocol,
    *,
    threads: int | None = None,
    device: str = "cpu",
    done: Callable[[int, Outcome], None] | None = None,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Train one attacker a job and read its test draw at its best epoch on validation.

    The same jobs give the same bits on the CPU, whatever the number of threads and whoever an
    attacker's neighbours are.

    Args:
        jobs: In any order; those of equal width, groups and numbers of rows are stacked.
        protocol: Network and optimiser.
        threads: Attackers trained side by side on the CPU (default: torch's number of threads).
        device: A torch device; on any but the CPU all attackers of a shape form one stack.
        done: Called with a job's number and outcome as soon as it is known, from a thread of its stack.
        progress: Called with attacker-epochs done and due.

    Raises:
        CellError: When a feature is not finite or an attacker overflows: what it says is then no
            leakage, and the model must not look fair.

    Example:
        >>> y = np.tile(np.array([[0, 1], [1, 0]], np.uint8), (50, 1))
        >>> draw = Draw(lambda: y, np.arange(100), y[:, 0].astype(np.int64))
        >>> job = Job(("doc",), {"train": draw, "val": draw, "test": draw}, width=2)
        >>> train_attackers([job], Protocol("mine", epochs=5, lr=1e-2, width=8, batch_size=10))[0].accuracy
        1.0
    """
    on_cpu = torch.device(device).type == "cpu"
    workers = (threads or torch.get_num_threads()) if on_cpu else 1
    stacks = [[i] for i in range(len(jobs))] if on_cpu else _stacks(jobs)
    outcomes: dict[int, Outcome] = {}
    tally = _Tally(len(jobs) * protocol.epochs, progress)

    def work(numbers: Sequence[int]) -> None:
        got = train_stack([jobs[i] for i in numbers], protocol, torch.device(device), tally.add)
        for i, outcome in zip(numbers, got, strict=True):
            outcomes[i] = outcome
            if done is not None:
                done(i, outcome)

    with _threads(1 if on_cpu else torch.get_num_threads()), ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work, numbers) for numbers in stacks]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            tally.stop()
            raise
    return [outcomes[i] for i in range(len(jobs))]


def _stacks(jobs: Sequence[Job]) -> list[list[int]]:
    """Numbers of jobs that are alike in shape."""
    alike: dict[tuple[object, ...], list[int]] = {}
    for i, job in enumerate(jobs):
        draws = [job.draws[split] for split in SPLITS]
        shape = (job.width, job.groups, *(len(draw.rows) for draw in draws), *(draw.kind for draw in draws))
        alike.setdefault(shape, []).append(i)
    return [*alike.values()]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """With so many torch threads inside each operation."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Stopped(Exception):  # noqa: N818
    """Another stack failed, or the user has had enough."""


class _Tally:
    """Attacker-epochs done, counted across threads; the place where running stacks learn that they may stop."""

    def __init__(self, due: int, progress: Progress | None) -> None:
        self.due, self.progress, self.count, self.lock, self.stopped = due, progress, 0, Lock(), False

    def stop(self) -> None:
        """Let running stacks end after their epoch."""
        self.stopped = True

    def add(self, attackers: int) -> None:
        if self.stopped:
            raise _Stopped
        with self.lock:
            self.count += attackers
            if self.progress is not None:
                self.progress(self.count, self.due)


@torch.no_grad()
def train_stack(
    jobs: Sequence[Job], protocol: Protocol, device: torch.device, told: Callable[[int], None]
) -> list[Outcome]:
    """Train attackers of one shape together.

    Args:
        jobs: Alike in width, groups, numbers of rows and kinds of table.
        protocol: Network and optimiser.
        device: Where they are trained.
        told: Called after each epoch with the number of attackers.

    Raises:
        CellError: As `train_attackers`.
    """
    shape = Shape(jobs[0].width, jobs[0].groups, protocol.layers, protocol.width, protocol.slope)
    stack = Stack(shape, [torch_generator(*job.stream, "init") for job in jobs], device)
    optimiser = Adam(stack.trained, lr=protocol.lr, weight_decay=protocol.weight_decay)
    orders = [generator(*job.stream, "order") for job in jobs]
    train, val, test = (Reader([job.draws[split] for job in jobs], device) for split in SPLITS)
    best = [-1] * len(jobs)
    epoch, kept = [0] * len(jobs), [t.clone() for t in stack.state]
    curve: list[list[int]] = []
    losses: list[list[float]] = []
    for at in range(1, protocol.epochs + 1):
        rows = torch.from_numpy(np.stack([o.permutation(train.size) for o in orders], 1)).to(device)  # [n, A]
        total = torch.zeros(len(jobs), device=device)
        for batch in train.batches(rows, protocol.batch_size, shape):
            total += stack.learn(batch) * batch.size
            optimiser.step()
        losses.append((total / train.size).tolist())
        curve.append(val.right(stack).sum(0).tolist())
        for a, hits in enumerate(curve[-1]):
            if hits > best[a]:
                best[a], epoch[a] = hits, at
                for now, then in zip(stack.state, kept, strict=True):
                    then[a].copy_(now[a])
        told(len(jobs))
    for state in (*stack.state, *kept):
        check_finite(state)
    last = test.right(stack).sum(0).tolist()
    for now, then in zip(stack.state, kept, strict=True):
        now.copy_(then)
    right = test.right(stack).cpu().numpy()  # [n, A]
    return [
        Outcome(
            epoch[a], float(right[:, a].mean()), last[a] / test.size, right[:, a].copy(),
            np.array(curve)[:, a] / val.size, np.array(losses)[:, a],
        )
        for a in range(len(jobs))
    ]  # fmt: skip
