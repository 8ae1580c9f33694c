"""Several processes that compute one cell: what they share out, and how they come to the same numbers as one.

Each process runs the backbone on its share of every batch. What comes out is gathered, and from there on, head,
method, losses and all, every process computes the same thing: on the whole batch. A loss that weighs its batch, a
batch norm or a running figure in a method therefore means what it means in one process, whatever the method. On the
way back each process follows its own rows, and gradients are averaged.

The gathering multiplies gradients by the number of processes and the averaging divides by it: a parameter then gets
the gradient of the whole batch's loss wherever it is used, before the gathering, after it, or both. Inside the shares
`biasbench.shares` lets batch norm and dropout see the whole batch.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from biasbench.data import IntArray
from biasbench.errors import CellError
from biasbench.job import Member

_NEVER = datetime.timedelta(days=30)  # a process that died is seen at once, one that hangs is the stall limit's


class Group:
    """The processes of one cell, or this one alone: every call then gives back what it got.

    Args:
        member: Which of them this is; None when it is alone.
        device: `"cpu"` or `"cuda"`: what tensors are gathered on.

    Attributes:
        rank: Number of this process, from 0.
        size: How many there are.

    Example:
        >>> alone = Group()
        >>> alone.first, alone.counts(5), alone.told(True)
        (True, [5], True)
    """

    def __init__(self, member: Member | None = None, device: str = "cpu") -> None:
        self.rank, self.size = (member.rank, member.size) if member else (0, 1)
        if member is None:
            return
        if sys.platform == "linux":
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one machine: nothing listens to a network
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
            store=dist.FileStore(str(member.file), member.size),  # type: ignore[attr-defined]
            rank=member.rank, world_size=member.size, timeout=_NEVER,
        )  # fmt: skip

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and tells."""
        return self.rank == 0

    # ------------------------------------------------------------------ shares of a batch
    def counts(self, rows: int) -> list[int]:
        """How many of a batch's rows each process takes: near-equal, in order, none twice, none left.

        Example:
            >>> three = Group()
            >>> three.size = 3
            >>> three.counts(8)
            [3, 3, 2]
        """
        return [rows // self.size + (rank < rows % self.size) for rank in range(self.size)]

    def span(self, rows: int) -> slice:
        """Where this process's rows of a batch lie.

        Raises:
            CellError: When there are fewer rows than processes.
        """
        if rows < self.size:
            raise CellError(f"a batch of {rows} cannot be shared by {self.size} processes", fix="Use fewer --processes")
        counts = self.counts(rows)
        return slice(sum(counts[: self.rank]), sum(counts[: self.rank + 1]))

    def whole(self, x: Tensor, rows: int) -> Tensor:
        """The whole batch's rows in order, given this process's; gradients flow back to where they belong.

        Args:
            x: [share, ...] of this process.
            rows: Of the whole batch.
        """
        if self.size == 1:
            return x
        gathered: Tensor = _Whole.apply(x, self, self.counts(rows))
        return gathered

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """The mean of every gradient over the processes, in place of each one's own."""
        if self.size == 1:
            return
        kinds: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
        for parameter in parameters:
            kinds.setdefault((parameter.dtype, parameter.device), []).append(parameter)
        for (dtype, device), mine in kinds.items():
            there = torch.tensor([p.grad is not None for p in mine], dtype=dtype, device=device)
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in mine]
            flat = torch.cat([g.reshape(-1) for g in grads] + [there])
            dist.all_reduce(flat)
            *means, there = torch.split(flat / self.size, [*(p.numel() for p in mine), len(mine)])
            for p, mean, any_ in zip(mine, means, there.tolist(), strict=True):
                if any_:
                    p.grad = torch.empty_like(p).copy_(mean.view(p.shape))

    # ------------------------------------------------------------------ shares of a split
    def rounds(self, parts: Sequence[IntArray]) -> Iterator[tuple[IntArray, list[int]]]:
        """This process's parts of a split, and the rows of every process's part in the same round.

        The parts stay as one process would cut them, so that the same is computed of them. Who has none in the last
        round repeats its first one, of which no row is taken.

        Example:
            >>> import numpy as np
            >>> [(part.tolist(), counts) for part, counts in Group().rounds([np.array([4, 5]), np.array([6])])]
            [([4, 5], [2]), ([6], [1])]
        """
        for first in range(0, len(parts), self.size):
            now = parts[first : first + self.size]
            counts = [len(part) for part in now] + [0] * (self.size - len(now))
            yield now[self.rank] if self.rank < len(now) else now[0], counts

    def gather(self, x: Tensor, counts: Sequence[int]) -> Tensor:
        """[sum of counts, ...]: the first `counts[r]` rows of each process r, in order; without gradients."""
        if self.size == 1:
            return x
        if not x[:1].numel():
            return x.new_zeros((sum(counts), *x.shape[1:]))
        mine = x.detach()[: counts[self.rank]]
        padded = mine.new_zeros((max(counts), *x.shape[1:]))
        padded[: len(mine)] = mine
        found = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(found, padded)
        return torch.cat([rows[:count] for rows, count in zip(found, counts, strict=True)])

    def total(self, x: Tensor) -> Tensor:
        """The sum over the processes; every process's gradient counts."""
        summed: Tensor = _Total.apply(x)
        return summed

    # ------------------------------------------------------------------ agreement
    def told(self, flag: bool) -> bool:
        """What the first process says."""
        if self.size == 1:
            return flag
        said = torch.tensor([flag], dtype=torch.uint8)
        dist.broadcast(said, src=0)
        return bool(said.item())

    def all_of(self, mine: Any) -> list[Any]:
        """What each process has to say, as JSON, by its number. It also waits until all have come here."""
        if self.size == 1:
            return [mine]
        text = torch.frombuffer(bytearray(json.dumps(mine).encode()), dtype=torch.uint8)
        lengths = self.gather(torch.tensor([len(text)]), [1] * self.size).tolist()
        every = self.gather(text, lengths).numpy().tobytes()
        ends = [sum(lengths[: rank + 1]) for rank in range(self.size)]
        return [json.loads(every[end - length : end]) for end, length in zip(ends, lengths, strict=True)]

    def agree(self, state: Callable[[], Iterable[tuple[str, Tensor]]]) -> None:
        """See that all processes hold the same bits.

        Args:
            state: What is compared, by name.

        Raises:
            CellError: When they do not, naming the first that differs.
        """
        if self.size == 1:
            return
        mine = {name: hashlib.sha256(_bytes(x)).hexdigest() for name, x in state()}
        every = self.all_of(mine)
        for name in mine:
            if any(other.get(name) != mine[name] for other in every):
                raise CellError(
                    f"the {self.size} processes of this cell have drifted apart: {name} differs",
                    fix="Something draws random numbers, or looks at the rest of its batch, on its own; "
                    "use --processes 1",
                )


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group, counts: list[int]) -> Tensor:
        ctx.size, ctx.first, ctx.rows = group.size, sum(counts[: group.rank]), len(x)
        return group.gather(x, counts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return ctx.size * grads[0][ctx.first : ctx.first + ctx.rows], None, None


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        summed = x.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # noqa: ARG004
        summed = grads[0].clone()
        dist.all_reduce(summed)
        return summed


def _bytes(x: Tensor) -> bytes:
    return bytes(x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
