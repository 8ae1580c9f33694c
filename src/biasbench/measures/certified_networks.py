"""Fitting networks: any number of equal shape together, each as if it were alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from biasbench.measures.adam import Adam
from biasbench.measures.certified import Certified
from biasbench.measures.certified_kinds import Kind
from biasbench.measures.certified_pool import Fit
from biasbench.measures.reader import Draw, Reader
from biasbench.measures.stacked import Shape, Stack
from biasbench.rng import generator, torch_generator

STEPS = 32
"""Steps an epoch at least, in batches of this size at least: few rows need steps, not only passes."""


def shape_of(fit: Fit, kind: Kind) -> tuple[object, ...]:
    """Fits that agree in this can be stacked."""
    table = fit.pool.table
    return (kind, fit.pool.width, fit.pool.groups, len(fit.train), len(fit.read), table.ndim, table.dtype.kind)


@torch.no_grad()
def fit_networks(
    fits: Sequence[Fit], kind: Kind, protocol: Certified, device: torch.device
) -> list[NDArray[np.float32]]:
    """Networks of one shape, with Adam on the cross-entropy.

    Args:
        fits: Alike by `shape_of`.
        kind: The network.
        protocol: The optimiser.
        device: Where they are fitted.

    Returns:
        A fit's [S, m, G] probabilities of the rows it is read on, after each of the kind's stages.

    Raises:
        CellError: When a network's numbers overflow.
    """
    shape = Shape(fits[0].pool.width, fits[0].pool.groups, kind.layers + 1, kind.size, protocol.slope)
    streams = [(*fit.stream, kind.name, kind.size) for fit in fits]
    stack = Stack(shape, [torch_generator(*stream, "init") for stream in streams], device)
    optimiser = Adam(stack.trained, lr=protocol.lr, weight_decay=protocol.weight_decay)
    orders = [generator(*stream, "order") for stream in streams]
    pairs = [_draws(fit) for fit in fits]
    train, read = Reader([learn for learn, _ in pairs], device), Reader([ask for _, ask in pairs], device)
    size = min(protocol.batch_size, max(STEPS, train.size // STEPS))
    stages, told = set(kind.stages()), []
    for epoch in range(1, kind.steps + 1):
        rows = torch.from_numpy(np.stack([o.permutation(train.size) for o in orders], 1)).to(device)  # [n, A]
        for batch in train.batches(rows, size, shape):
            stack.learn(batch)
            optimiser.step()
        if epoch in stages:
            told.append(read.probabilities(stack))
    whole = torch.stack(told).cpu().numpy()  # [S, m, A, G]
    return [np.ascontiguousarray(whole[:, :, a]) for a in range(len(fits))]


def _draws(fit: Fit) -> tuple[Draw, Draw]:
    """Rows to learn from and rows to read; labels and classes stay as they are, for the network's input is normalised.

    All fits of a pool share its table of labels, whereas each has scores of its own, standardised.
    """
    codes, whole = fit.pool.codes, fit.pool.whole
    if fit.pool.table.ndim == 1 or fit.pool.table.dtype.kind in "bu":
        return Draw(whole, fit.train, codes[fit.train]), Draw(whole, fit.read, codes[fit.read])
    train, read = fit.tables()
    return (
        Draw(lambda: train, np.arange(len(train)), codes[fit.train]),
        Draw(lambda: read, np.arange(len(read)), codes[fit.read]),
    )
