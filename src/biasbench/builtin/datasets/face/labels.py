"""Attributes of any number of faces, drawn from the law; nothing is painted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from biasbench import Split, generator
from biasbench.builtin.datasets.face.law import GROUPS, NAMES, Codes, Law

_FIRST = len(GROUPS["age"]) * len(GROUPS["gender"])
_SECOND = len(GROUPS["skin"]) * len(GROUPS["pose"])
CELLS = _FIRST * _SECOND


def label_tables(law: Law, sizes: Mapping[Split, int], seed: int = 0) -> dict[Split, dict[str, Codes]]:
    """Attributes of each split: train and val follow the law, test is balanced.

    Row i of a split depends on the law, the seed, the split and i alone: a smaller table is the beginning
    of a larger one, and with other dials the same numbers are read differently. They are the rows that the
    generated data set of this seed has.

    Args:
        law: Of train and val.
        sizes: N by split.
        seed: Names the random streams, together with the split.

    Returns:
        By split and attribute, [N] int64 codes as in `GROUPS`.

    Example:
        >>> found = label_tables(Law({("age", "gender"): 1.0}), {"train": 500})["train"]
        >>> bool(((found["age"] < 2) == (found["gender"] == 1)).all())
        True
    """
    return {split: _rows(law, split, n, seed) for split, n in sizes.items()}


def _rows(law: Law, split: Split, n: int, seed: int) -> dict[str, Codes]:
    if split == "test":
        return balanced(n, seed)
    return law.draw(generator("faces labels", seed, split).random((n, len(NAMES))))


def balanced(n: int, seed: int) -> dict[str, Codes]:
    """Attributes of N faces, every combination equally frequent as soon as N allows it.

    Each age has as many women as men when N is a multiple of 8; all 200 combinations are equally
    frequent when N is a multiple of 200.

    Example:
        >>> found = balanced(200, 0)
        >>> np.unique(np.stack(list(found.values())), axis=1).shape
        (4, 200)
    """
    rows = np.arange(n)
    first, turn = rows % _FIRST, rows // _FIRST
    second = np.empty(n, np.int64)
    for cell in range(_FIRST):
        mine = turn[first == cell]
        rounds = range(-(-len(mine) // _SECOND))
        orders = [generator("faces balanced", seed, cell, k).permutation(_SECOND) for k in rounds]
        second[first == cell] = np.concatenate([np.zeros(0, np.int64), *orders])[: len(mine)]
    genders, poses = len(GROUPS["gender"]), len(GROUPS["pose"])
    out = {"gender": first % genders, "age": first // genders, "skin": second // poses, "pose": second % poses}
    return {name: out[name].astype(np.int64) for name in NAMES}
