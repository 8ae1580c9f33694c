"""Group-balanced draws: the same number of rows of each group, without replacement."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


def per_group(codes: NDArray[Any], groups: int, cap: int | None) -> int:
    """Rows a balanced draw takes of each group: `min(cap, scarcest group)`; -1 is no group.

    The released code takes `cap` of each and is silently unbalanced where a group has fewer.

    Example:
        >>> per_group(np.array([0, 0, 0, 1, 1, -1]), 2, cap=100)
        2
    """
    scarcest = int(np.bincount(codes[codes >= 0], minlength=groups)[:groups].min())
    return scarcest if cap is None else min(cap, scarcest)


def balanced_rows(codes: NDArray[Any], groups: int, cap: int | None, rng: np.random.Generator) -> IntArray:
    """[groups * n] rows, n of each group, in random order within a group and by group.

    Example:
        >>> rows = balanced_rows(np.array([0, 1, 0, -1, 1, 0]), 2, 100, np.random.default_rng(0))
        >>> sorted(rows[:2].tolist()) <= [5], sorted(rows[2:].tolist())
        (True, [1, 4])
    """
    n = per_group(codes, groups, cap)
    return np.concatenate([rng.permutation(np.flatnonzero(codes == g))[:n] for g in range(groups)])
