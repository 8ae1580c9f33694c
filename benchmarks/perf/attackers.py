"""Seconds per attacker and epoch: the released way, a plain loop in memory, and stacked attackers.

The same attackers (initial weights, batch orders, data of imSitu's size) are trained in three ways, by turns:

* released: the loop of Wang et al.'s code. A Dataset makes a tensor of floats and one of the gender's one-hot vector
  for every example, and where the data are labels two more that hold a one (in place of the image and its number); a
  DataLoader with batch size 128, 6 workers for training and 4 for validation (6 where the data are logits), and pinned
  memory where there is an accelerator; every batch's decisions go into a list; the best epoch is saved in a file.
* in memory: DataLoader over a TensorDataset, no workers, batch size 128.
* stacked: biasbench.

Each way runs once on few rows before it is timed: what its first use imports is no part of it. Each epoch has its
validation pass. All three have to reach the same losses. Memory is that of a process that trains
110 attackers for an epoch. Timings mean something on an idle machine alone; --rows 600 --attackers 2 is a quick look.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from runpy import run_path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softmax
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset

from biasbench import generator, torch_generator
from biasbench.measures.attackers import Job, train_attackers
from biasbench.measures.protocol import PROTOCOLS, Protocol
from biasbench.measures.reader import Draw
from biasbench.measures.stacked import Shape

PLAIN = SimpleNamespace(**run_path(str(Path(__file__).parents[2] / "tests" / "helpers" / "plain_attacker.py")))
VERBS, TRAIN, VAL = 211, 14_600, 6_000
MANY, LIMIT = 110, 1.5  # attackers of the memory figure, and what they may take, GB
FLIPPED = 0.013  # about 40 % macro F1 on imSitu


# -- data ----------------------------------------------------------------------------------
@cache
def codes(split: str, rows: int) -> NDArray[np.int64]:
    return generator("perf", split, "codes").permutation(np.arange(rows) % 2)


def table(kind: str, split: str, rows: int, number: int) -> NDArray[Any]:
    """Verbs that lean to a gender, some frequent and some rare: classes, flipped labels or logits."""
    skew = generator("perf", "verbs")
    frequency, lean = skew.lognormal(0, 0.5, VERBS), skew.normal(0, 1.2, VERBS)
    rng = generator("perf", kind, split, number)
    verbs = np.empty(rows, np.int64)
    for g, sign in enumerate((1, -1)):
        mine = codes(split, rows) == g
        p = frequency / (1 + np.exp(sign * lean))
        verbs[mine] = rng.choice(VERBS, mine.sum(), p=p / p.sum())
    if kind == "onehot":
        return verbs
    vectors = np.eye(VERBS, dtype=np.uint8)[verbs]
    if kind == "flips":
        return vectors ^ (rng.random(vectors.shape) < FLIPPED).astype(np.uint8)
    return (6.0 * vectors + rng.normal(0, 2, vectors.shape) - 4).astype(np.float32)


@cache
def maker(kind: str, split: str, rows: int, number: int, keep: bool) -> Callable[[], NDArray[Any]]:
    """One function for one table, so that attackers share it; `keep` makes it once, else at every need."""
    make = partial(table, kind, split, rows, number)
    return cache(make) if keep else make


def job(kind: str, rows: tuple[int, int], number: int, keep: bool) -> Job:
    """An attacker's data; its test draw is 128 rows of val, as the other ways have none."""
    own = number if kind == "flips" else 0
    train, val = (
        Draw(maker(kind, split, n, own, keep), np.arange(n), codes(split, n))
        for split, n in zip(("train", "val"), rows, strict=True)
    )
    test = Draw(val.table, val.rows[:128], val.codes[:128])
    return Job(("perf", number), {"train": train, "val": val, "test": test}, VERBS)


# -- one model at a time -------------------------------------------------------------------
class Examples(Dataset[tuple[Tensor, ...]]):
    """As released: fresh tensors for every example, four of them where the data are labels."""

    def __init__(self, vectors: NDArray[Any], groups: NDArray[np.int64], ones: bool) -> None:
        self.vectors, self.groups, self.ones = vectors.astype(np.float64), np.eye(2, dtype=int)[groups], ones

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        features, group = torch.Tensor(self.vectors[index]), torch.LongTensor(self.groups[index])
        return (torch.Tensor([1]), features, group, torch.Tensor([1])) if self.ones else (features, group)

    def __len__(self) -> int:
        return len(self.vectors)


class Order(Sampler[int]):
    """What shuffle=True does, in the order that the stacked attacker has."""

    def __init__(self, job: Job, rows: int) -> None:
        self.rng, self.rows = generator(*job.stream, "order"), rows

    def __iter__(self) -> Iterator[int]:
        yield from self.rng.permutation(self.rows).tolist()

    def __len__(self) -> int:
        return self.rows


Loaders = tuple[DataLoader[Any], DataLoader[Any]]


def released(job: Job, protocol: Protocol, kind: str) -> Loaders:
    """Loaders with the released code's settings."""
    data = [Examples(*_dense(job.draws[split]), ones=kind != "logits") for split in ("train", "val")]
    size, pinned = protocol.batch_size, torch.cuda.is_available()
    order, readers = Order(job, len(data[0])), 6 if kind == "logits" else 4
    return (
        DataLoader(data[0], batch_size=size, sampler=order, num_workers=6, pin_memory=pinned),
        DataLoader(data[1], batch_size=size, num_workers=readers, pin_memory=pinned),
    )


def in_memory(job: Job, protocol: Protocol, _kind: str) -> Loaders:
    """Loaders over tensors, in this process."""
    train, val = (
        TensorDataset(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y))
        for x, y in (_dense(job.draws[split]) for split in ("train", "val"))
    )
    return (
        DataLoader(train, batch_size=protocol.batch_size, sampler=Order(job, len(train))),
        DataLoader(val, batch_size=protocol.batch_size),
    )


def _dense(draw: Draw) -> tuple[NDArray[Any], NDArray[np.int64]]:
    made = draw.table()
    return np.eye(VERBS, dtype=np.uint8)[made] if made.ndim == 1 else made, draw.codes


def train_one(job: Job, protocol: Protocol, loaders: Loaders, file: Path | None) -> list[float]:
    """Mean training loss by epoch; with a file for the best epoch, all that the released code does."""
    shape = Shape(job.width, job.groups, protocol.layers, protocol.width, protocol.slope)
    net = PLAIN.network(shape, torch_generator(*job.stream, "init"))
    adam = torch.optim.Adam(net.parameters(), lr=protocol.lr, weight_decay=protocol.weight_decay)
    best, losses, lists = -1.0, [], file is not None
    for _ in range(protocol.epochs):
        losses.append(_pass(net, loaders[0], adam, lists)[0])
        with torch.set_grad_enabled(lists):  # released: gradients are tracked in validation too
            accuracy = _pass(net, loaders[1], None, lists)[1]
        if accuracy > best:
            best = accuracy
            if file is None:
                _kept = {k: v.clone() for k, v in net.state_dict().items()}
            else:
                torch.save({"state_dict": net.state_dict()}, file)
    return losses


def _pass(net: nn.Module, loader: DataLoader[Any], adam: torch.optim.Adam | None, lists: bool) -> tuple[float, float]:
    """Mean loss and accuracy."""
    net.train(adam is not None)
    total, right, n = 0.0, 0, 0
    said: list[int] = []
    truth: list[int] = []
    for batch in loader:
        features, groups = batch[1:3] if len(batch) == 4 else batch
        group = groups[:, 1] if lists else groups
        logits = net(features)
        loss = cross_entropy(logits, group)
        if lists:
            said += np.argmax(softmax(logits, dim=1).detach().numpy(), axis=1).tolist()
            truth += groups.max(1)[1].tolist()
        elif adam is None:
            right += int((logits.argmax(1) == group).sum())
        if adam is not None:
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
        total, n = total + loss.item() * len(group), n + len(group)
    return total / n, accuracy_score(truth, said) if lists else right / n


# -- figures -------------------------------------------------------------------------------
def timed(what: Callable[[], list[Any]]) -> tuple[float, NDArray[np.float64]]:
    """Seconds, and losses [attackers, epochs]."""
    start = time.perf_counter()
    losses = what()
    return time.perf_counter() - start, np.array(losses)


def peak() -> float:
    """float32 operations a second of products of 1024 x 1024, with all threads: the best of many."""
    x = torch.randn(1024, 1024, generator=torch_generator("perf"))
    best = min(timed(lambda: [torch.mm(x, x)[0, 0].item()])[0] for _ in range(30))
    return 2 * 1024**3 / best


def work(one: Job, protocol: Protocol) -> float:
    """Operations in products of one stacked attacker and epoch: of classes, distinct rows behind the first layer."""
    sizes = [a * b for a, b in pairwise(Shape(VERBS, 2, protocol.layers, protocol.width).sizes)]
    train, val = one.draws["train"].table(), one.draws["val"].table()
    first = 0 if train.ndim == 1 else sizes[0]
    rows = len(train)
    if train.ndim == 1:
        order = generator(*one.stream, "order").permutation(train)
        rows = sum(len(np.unique(order[i : i + protocol.batch_size])) for i in range(0, rows, protocol.batch_size))
    read = len(val) if val.dtype.kind == "f" else len(np.unique(val, axis=0))
    return 2.0 * (rows * (2 * first + 3 * sum(sizes[1:])) + read * (first + sum(sizes[1:])))


def memory(given: argparse.Namespace) -> float:
    """GB at most in a fresh process."""
    command = [sys.executable, __file__, "--memory", "--kind", given.kind, "--rows", str(given.rows)]
    command += ["--threads", str(given.threads)]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def rows_of(given: argparse.Namespace) -> tuple[int, int]:
    return given.rows, max(2, given.rows * VAL // TRAIN)


def measure_memory(given: argparse.Namespace) -> None:
    jobs = [job(given.kind, rows_of(given), i, keep=False) for i in range(MANY)]
    train_attackers(jobs, Protocol("perf", epochs=1, layers=5), threads=given.threads)
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attackers", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="times that the three ways take turns")
    parser.add_argument("--kind", choices=["onehot", "flips", "logits"], default="onehot")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rows", type=int, default=TRAIN, help="of train; val has 6,000 of 14,600 as many")
    parser.add_argument("--memory", action="store_true", help="print the memory of this process, in GB")
    given = parser.parse_args()
    if given.rows % 128 == 1:
        parser.error("a last batch of one row, which the plain ways' BatchNorm cannot take")
    torch.set_num_threads(given.threads)
    if given.memory:
        return measure_memory(given)
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # more workers than cores, as released
    published = PROTOCOLS["wang2019-imsitu"]
    protocol = Protocol("perf", epochs=given.epochs, layers=published.layers)
    jobs = [job(given.kind, rows_of(given), i, keep=True) for i in range(given.attackers)]

    def one_by_one(
        loaders: Callable[[Job, Protocol, str], Loaders], file: Path | None, jobs: list[Job]
    ) -> tuple[float, NDArray[np.float64]]:
        took = 0.0
        losses: list[NDArray[np.float64]] = []
        for one in jobs:
            mine = loaders(one, protocol, given.kind)  # untimed, as making the tables is
            more, found = timed(partial(train_one, one, protocol, mine, file))
            took, losses = took + more, [*losses, found]
        return took, np.array(losses)

    def stacked(jobs: list[Job]) -> tuple[float, NDArray[np.float64]]:
        return timed(lambda: [o.losses for o in train_attackers(jobs, protocol, threads=given.threads)])

    folder = tempfile.TemporaryDirectory(prefix="biasbench-perf-")
    ways: dict[str, Callable[[list[Job]], tuple[float, NDArray[np.float64]]]] = {
        "released": partial(one_by_one, released, Path(folder.name) / "best.pth"),
        "in memory": partial(one_by_one, in_memory, None),
        "stacked": stacked,
    }
    sizes = f"{given.attackers} attackers, {given.epochs} epochs of {rows_of(given)} rows"
    print(f"{given.kind}: {sizes}, {given.threads} threads")
    gb = memory(given)  # first, as a child's figure begins with what its parent held
    print(f"memory: {gb:.2f} GB for {MANY} attackers, {'under' if gb < LIMIT else 'NOT under'} {LIMIT} GB", flush=True)
    for one in jobs:
        for draw in one.draws.values():
            draw.table()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way([job(given.kind, (256, 128), 0, keep=True)])
    for round_ in range(given.rounds):
        reached = {}
        for name, way in ways.items():
            took, reached[name] = way(jobs)
            seconds[name].append(took / (given.attackers * given.epochs))
        apart = max(float(np.abs(reached["stacked"] - reached[name]).max()) for name in ways)
        turn = ", ".join(f"{name} {s[-1]:.4f} s" for name, s in seconds.items())
        print(f"round {round_ + 1}: {turn}; losses at most {apart:.1e} apart", flush=True)
        if not apart < 1e-4:
            sys.exit("the ways do not train the same attackers")
    folder.cleanup()
    for name, taken in seconds.items():
        print(f"{name}: {median(taken):.4f} s per attacker and epoch")
    for line, name in (("ratio", "released"), ("ratio in memory", "in memory")):
        print(f"{line}: {median(a / c for a, c in zip(seconds[name], seconds['stacked'], strict=True)):.1f}")
    best = peak()
    share = work(jobs[0], protocol) / median(seconds["stacked"]) / best
    print(f"matrix products: {share:.0%} of the measured peak of {best / 1e9:.0f} GFLOP/s")
    return None


if __name__ == "__main__":
    main()
