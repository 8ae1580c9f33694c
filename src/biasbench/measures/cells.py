"""Groups that are too small to measure, and intersections of two attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from biasbench.data import Split
from biasbench.errors import CellError, DataError, printable
from biasbench.measures.draws import IntArray


class Kept(NamedTuple):
    """Codes over the groups that are large enough.

    Attributes:
        codes: By split, [N] codes 0..G'-1 in the former order; -1 where unknown or dropped.
        groups: Names of the G' groups kept.
        dropped: How many rows each dropped group had, by name and split.
    """

    codes: dict[Split, IntArray]
    groups: tuple[str, ...]
    dropped: dict[str, dict[Split, int]]


def drop_small(codes: Mapping[Split, IntArray], groups: Sequence[str], minimum: int) -> Kept:
    """Leave out the groups that have fewer than `minimum` rows in any split.

    A balanced draw takes as many rows of every group as the scarcest one has: a group of three would leave three of
    each. Rows of a group left out count as unknown in all splits.

    Args:
        codes: By split, [N] codes in 0..G-1, -1 unknown.
        groups: G names.
        minimum: Fewest rows.

    Raises:
        CellError: When fewer than two groups are left: what is measured is then undefined, and the message says why.
        DataError: When a code has no name.

    Example:
        >>> kept = drop_small({"train": np.array([0, 0, 1, 2, 2]), "test": np.array([0, 1, 2])}, ("a", "b", "c"), 1)
        >>> kept.groups, kept.dropped
        (('a', 'b', 'c'), {})
        >>> kept = drop_small({"train": np.array([0, 0, 1, 2, 2, -1])}, ("a", "b", "c"), 2)
        >>> kept.codes["train"].tolist(), kept.groups, kept.dropped
        ([0, 0, -1, 1, 1, -1], ('a', 'c'), {'b': {'train': 1}})
    """
    sizes = {split: _sizes(array, len(groups), split) for split, array in codes.items()}
    fewest = np.min(list(sizes.values()), axis=0)  # [G]
    large = fewest >= minimum
    if large.sum() < 2:
        found = ", ".join(f"{printable(name)} {n}" for name, n in zip(groups, fewest, strict=True))
        raise CellError(
            f"fewer than two groups have {minimum} rows in every split",
            fix=f"The least any split has: {found or 'no group'}",
        )
    recoded = np.append(np.where(large, np.cumsum(large) - 1, -1), -1)  # the last entry is what -1 picks
    return Kept(
        {split: recoded[array] for split, array in codes.items()},
        tuple(name for name, yes in zip(groups, large, strict=True) if yes),
        {
            name: {split: int(n[g]) for split, n in sizes.items()}
            for g, name in enumerate(groups) if not large[g]
        },
    )  # fmt: skip


def intersect(
    codes_a: IntArray, codes_b: IntArray, groups_a: Sequence[str], groups_b: Sequence[str]
) -> tuple[IntArray, tuple[str, ...]]:
    """The attribute `a*b`: one group for every pair of groups, as plans derive it.

    Args:
        codes_a: [N] codes, -1 unknown.
        codes_b: [N] codes, -1 unknown.
        groups_a: Names of the first attribute's groups.
        groups_b: Names of the second one's.

    Returns:
        [N] codes, -1 where either is unknown, and the pairs' names, such as "woman*old". Of three attributes: intersect
        the intersection of two with the third.

    Raises:
        DataError: When lengths differ or a code has no name.

    Example:
        >>> intersect(np.array([0, 1, -1]), np.array([1, 0, 0]), ("man", "woman"), ("young", "old"))
        (array([ 1,  2, -1]), ('man*young', 'man*old', 'woman*young', 'woman*old'))
    """
    if len(codes_a) != len(codes_b):
        raise DataError(f"attributes of {len(codes_a)} and {len(codes_b)} rows cannot be intersected")
    _sizes(codes_a, len(groups_a), "first attribute")
    _sizes(codes_b, len(groups_b), "second attribute")
    codes = np.where((codes_a >= 0) & (codes_b >= 0), codes_a.astype(np.int64) * len(groups_b) + codes_b, -1)
    return codes, tuple("*".join(pair) for pair in product(groups_a, groups_b))


def _sizes(codes: IntArray, groups: int, where: str) -> IntArray:
    """[G] rows of each group."""
    if codes.size and not -1 <= codes.min() <= codes.max() < groups:
        raise DataError(f"a code is outside -1..{groups - 1}", where=where)
    return np.bincount(codes[codes >= 0], minlength=groups).astype(np.int64)
