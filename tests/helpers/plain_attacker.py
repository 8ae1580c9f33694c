"""The attacker of Wang et al. 2019 the plain way: one network, autograd, one optimiser, one loop.

The stacked attackers are compared with it. It draws its initial weights and batch orders from the
same named streams, and makes its numbers in torch's default dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from biasbench import generator, torch_generator
from biasbench.measures.attackers import Job, Outcome
from biasbench.measures.protocol import Protocol
from biasbench.measures.reader import Draw
from biasbench.measures.stacked import Shape


def network(shape: Shape, rng: torch.Generator) -> nn.Sequential:
    """BatchNorm on the input, then linear layers with BatchNorm and LeakyReLU between."""
    modules: list[nn.Module] = [nn.BatchNorm1d(shape.inputs)]
    for i, (fan_in, fan_out) in enumerate(pairwise(shape.sizes)):
        if i:
            modules += [nn.BatchNorm1d(fan_in), nn.LeakyReLU(shape.slope)]
        linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out)
        bound = fan_in**-0.5
        nn.init.uniform_(linear.weight, -bound, bound, generator=rng)
        nn.init.uniform_(linear.bias, -bound, bound, generator=rng)
        modules.append(linear)
    return nn.Sequential(*modules)


def dense(features: NDArray[Any], width: int) -> Tensor:
    """[n, K] what the network reads: the features, or one-hot vectors for classes."""
    wide = np.eye(width)[features] if features.ndim == 1 else features
    return torch.from_numpy(np.asarray(wide, np.float64)).to(torch.get_default_dtype())


def examples(draw: Draw, width: int) -> tuple[Tensor, Tensor]:
    """[n, K] features and [n] codes of a draw."""
    return dense(draw.table()[draw.rows], width), torch.from_numpy(draw.codes)


def batches(order: NDArray[np.int64], size: int) -> Sequence[NDArray[np.int64]]:
    """Consecutive pieces; there is no cut before the last row alone."""
    return np.split(order, range(size, len(order) - 1, size))


def right(net: nn.Sequential, features: Tensor, codes: Tensor) -> NDArray[np.bool_]:
    """[n] which rows the network gets right, all read in one batch."""
    net.eval()
    with torch.no_grad():
        return (net(features).argmax(1) == codes).numpy()


def attack(job: Job, protocol: Protocol) -> Outcome:
    """Train one attacker; read the test draw at the epoch with the best validation accuracy."""
    train, val, test = (examples(job.draws[split], job.width) for split in ("train", "val", "test"))
    shape = Shape(job.width, job.groups, protocol.layers, protocol.width, protocol.slope)
    net = network(shape, torch_generator(*job.stream, "init"))
    adam = torch.optim.Adam(
        net.parameters(), lr=protocol.lr, weight_decay=protocol.weight_decay, foreach=False, fused=False
    )
    orders = generator(*job.stream, "order")
    hits: list[float] = []
    tests: list[NDArray[np.bool_]] = []
    losses: list[float] = []
    for _ in range(protocol.epochs):
        net.train()
        total = 0.0
        for rows in batches(orders.permutation(len(train[1])), protocol.batch_size):
            adam.zero_grad()
            loss = cross_entropy(net(train[0][rows]), train[1][rows])
            loss.backward()
            adam.step()
            total += loss.item() * len(rows)
        losses.append(total / len(train[1]))
        hits.append(float(right(net, *val).mean()))
        tests.append(right(net, *test))
    best = int(np.argmax(hits))  # the first of equals
    return Outcome(
        best + 1,
        float(tests[best].mean()),
        float(tests[-1].mean()),
        tests[best],
        np.array(hits),
        np.array(losses),
    )
