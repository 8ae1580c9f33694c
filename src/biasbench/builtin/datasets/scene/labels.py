"""Tables of genders and annotations of any size, drawn from the law of the labels; nothing is painted.

A closed form is compared with an attacker on many more rows than anyone would render: a million
take a second or two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from biasbench import Split, generator
from biasbench.builtin.datasets.scene.model import MEN, Floats, Model


class Labels(NamedTuple):
    """One split without its pictures.

    Attributes:
        gender: [N] int64, 0 = man and 1 = woman.
        annotated: [N, K] uint8, 1 where the annotations claim the label.
    """

    gender: NDArray[np.int64]
    annotated: NDArray[np.uint8]


def label_tables(model: Model, sizes: Mapping[Split, int], seed: int = 0) -> dict[Split, Labels]:
    """Genders and annotations of each split, equal in law to those of `Model.draw`.

    Genders are as planted: a man with probability `MEN`. Row i of a split depends on the model, the
    seed, the split and i alone: a smaller table is the beginning of a larger one, and with another
    bias the same numbers are read differently. They are not the rows of a generated data set.

    Args:
        model: The law.
        sizes: N by split.
        seed: Names the random streams, together with the split.

    Example:
        >>> found = label_tables(Model(bias=0.7), {"train": 1000})["train"]
        >>> found.annotated.shape, bool(found.annotated.any(1).all()), bool(0.3 < found.gender.mean() < 0.5)
        ((1000, 20), True, True)
    """
    vectors = np.flatnonzero(model.law.any(0))  # that occur at all: bit k is label k
    steps = model.law[:, vectors].cumsum(1)
    steps /= steps[:, -1:]  # ends at 1 exactly, which no random number reaches
    return {split: _draw(n, steps, vectors, len(model.labels), seed, split) for split, n in sizes.items()}


def _draw(n: int, steps: Floats, vectors: NDArray[np.int64], width: int, seed: int, split: Split) -> Labels:
    u = generator("scenes labels", seed, split).random((n, 2))
    gender = (u[:, 0] >= MEN).astype(np.int64)
    drawn = np.empty(n, np.int64)
    for code, row in enumerate(steps):
        mine = gender == code
        drawn[mine] = vectors[np.searchsorted(row, u[mine, 1], side="right")]
    annotated = np.empty((n, width), np.uint8)
    for k in range(width):
        annotated[:, k] = drawn >> k & 1
    return Labels(gender, annotated)
