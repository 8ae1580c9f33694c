"""The attacker of Wang et al. 2019, as released: one network, one plain training loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from biasbench import CellError, generator, torch_generator
from biasbench.measures.protocol import Protocol

CLASSES = 2


@dataclass(frozen=True)
class Examples:
    """What an attacker reads of a draw.

    Attributes:
        features: [n, K] float32.
        codes: [n] int64 in {0, 1}: the protected attribute.
    """

    features: Tensor
    codes: Tensor

    @classmethod
    def of(cls, features: NDArray[Any], codes: NDArray[Any]) -> Examples:
        """From arrays.

        Raises:
            CellError: When a feature is not finite: the attacker would find nothing and
                the model would look perfectly fair.
        """
        if not np.isfinite(features).all():
            raise CellError("a score that the attacker should read is not finite")
        return cls(
            torch.from_numpy(np.ascontiguousarray(features, np.float32)), torch.from_numpy(codes.astype(np.int64))
        )


@dataclass(frozen=True)
class Attack:
    """What one attacker achieved on the test draw.

    Attributes:
        accuracy: At the selected epoch, 0..1, unfolded.
        last: At the last epoch, 0..1, unfolded: what selection on validation adds shows here.
        epoch: The selected epoch, from 1.
    """

    accuracy: float
    last: float
    epoch: int


def attacker(inputs: int, protocol: Protocol, rng: torch.Generator) -> nn.Sequential:
    """BatchNorm on the input, then linear layers with BatchNorm and LeakyReLU between.

    Weights are drawn from `rng` as PyTorch draws them, uniform within 1/sqrt(fan-in); the
    global generator is not touched.

    Args:
        inputs: K, the width of logits or label vectors.
        protocol: Layers, width, slope.
        rng: Stream of the initial weights.

    Example:
        >>> net = attacker(79, Protocol("wang2019"), torch.Generator().manual_seed(0))
        >>> sum(p.numel() for p in net.parameters())
        207160
    """
    sizes = [inputs, *[protocol.width] * (protocol.layers - 1), CLASSES]
    modules: list[nn.Module] = [nn.BatchNorm1d(inputs)]
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        if i:
            modules += [nn.BatchNorm1d(fan_in), nn.LeakyReLU(protocol.slope, inplace=True)]
        linear: nn.Linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out)  # type: ignore[no-untyped-call]
        bound = fan_in**-0.5
        with torch.no_grad():
            linear.weight.uniform_(-bound, bound, generator=rng)
            linear.bias.uniform_(-bound, bound, generator=rng)
        modules.append(linear)
    return nn.Sequential(*modules)


def attack(train: Examples, val: Examples, test: Examples, protocol: Protocol, stream: Sequence[Any]) -> Attack:
    """Train one attacker and read the test draw at the epoch with the best validation accuracy.

    The earliest of equally good epochs counts. Runs on the CPU; the same inputs give the
    same bits for the same number of torch threads, which the caller sets.

    Args:
        train: Draw to train on.
        val: Draw to select the epoch on.
        test: Draw to report.
        protocol: Network and optimiser.
        stream: Name of the random stream of initial weights and batch orders.

    Raises:
        CellError: When the attacker's numbers overflow: what it says is then no leakage.
    """
    net = attacker(train.features.shape[1], protocol, torch_generator(*stream, "init"))
    optimiser = torch.optim.Adam(net.parameters(), lr=protocol.lr, weight_decay=protocol.weight_decay, fused=True)
    order = generator(*stream, "order")
    best, epoch, kept = -1, 0, dict[str, Tensor]()
    for at in range(1, protocol.epochs + 1):
        net.train()
        shuffled = torch.from_numpy(order.permutation(len(train.codes)))
        for rows in batches(shuffled, protocol.batch_size):
            optimiser.zero_grad()
            loss = cross_entropy(net(train.features[rows]), train.codes[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        found = hits(net, val)
        if found > best:
            best, epoch, kept = found, at, {k: v.clone() for k, v in net.state_dict().items()}
    for value in net.state_dict().values():
        check_finite(value)
    last = hits(net, test) / len(test.codes)
    net.load_state_dict(kept)
    return Attack(hits(net, test) / len(test.codes), last, epoch)


def batches(rows: Tensor, size: int) -> Iterator[Tensor]:
    """Consecutive pieces of `rows`; a last piece of one row, which BatchNorm cannot take, joins its neighbour.

    Example:
        >>> [len(b) for b in batches(torch.arange(7), 3)], [len(b) for b in batches(torch.arange(8), 3)]
        ([3, 4], [3, 3, 2])
    """
    pieces = list(torch.split(rows, size))
    if len(pieces) > 1 and len(pieces[-1]) == 1:
        pieces[-2:] = [torch.cat(pieces[-2:])]
    yield from pieces


def hits(net: nn.Sequential, examples: Examples) -> int:
    """How many examples the attacker gets right, all read in one batch."""
    net.eval()
    with torch.inference_mode():
        said = net(examples.features)
        check_finite(said)
        return int((said.argmax(1) == examples.codes).sum())


def check_finite(value: Tensor) -> None:
    """Refuse numbers that overflowed inside the attacker: it would sit at chance and look fair."""
    if not torch.isfinite(value).all():
        raise CellError("the attacker's numbers overflowed", fix="Are the scores of a sane size?")
