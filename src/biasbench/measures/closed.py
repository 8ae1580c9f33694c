"""Dataset leakage in closed form, where an example has one label: what a perfectly trained attacker would score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench.errors import DataError, UsageError
from biasbench.measures.draws import IntArray
from biasbench.measures.figures import FloatArray


@dataclass(frozen=True)
class MajorityLeakage:
    """Expected accuracy of the majority rule on a group-balanced test draw.

    Attributes:
        value: Percent, unfolded; NaN where `reason` says why.
        labels: Labels that occur in the test split.
        unseen: Those of them that training lacks, where the rule guesses.
        tied: Those of them that occur in training, equally often in their most frequent groups.
        unknown: Rows left out because their attribute is unknown: of training, then of test.
        reason: Why `value` is NaN; else empty.
    """

    value: float
    labels: int
    unseen: int
    tied: int
    unknown: tuple[int, int]
    reason: str


def majority_leakage(
    train_classes: NDArray[Any],
    train_codes: IntArray,
    test_classes: NDArray[Any],
    test_codes: IntArray,
    groups: int,
) -> MajorityLeakage:
    """Leakage of single-label data under the best rule that training teaches: per label, its most frequent group.

    Attackers train and are tested on draws with equally many rows of every group. Averaged over all such draws, a row
    weighs one over the size of its group; so weighted, every group sums to the same, and both the rule and its accuracy
    are exact expectations that depend on no draw. An attacker trained on one draw follows that draw's majorities
    instead, and one that selects an epoch on validation data may exceed the rule by chance.

    Where groups tie, the rule guesses among them: each of T tied groups is right with its 1/T share. A label that
    training lacks is a tie of all groups.

    Args:
        train_classes: [N] classes 0..K-1.
        train_codes: [N] codes 0..G-1; -1 = unknown, left out.
        test_classes: [M] classes.
        test_codes: [M] codes.
        groups: G.

    Returns:
        A percentage; NaN when a group has no row in training or test.

    Raises:
        UsageError: For multi-label targets: most label vectors occur once, and the most frequent group of each would
            repeat the training data.
        DataError: When lengths disagree or a code is out of range.

    Example:
        >>> train, test = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
        >>> majority_leakage(train, np.array([0, 0, 1, 1]), test, np.array([0, 1, 1, 1]), 2).value  # tie, then group 1
        83.33333333333333
    """
    if train_classes.ndim != 1 or test_classes.ndim != 1:
        raise UsageError("dataset leakage has a closed form where an example has one label, these data are multi-label")
    width = 1 + max(int(train_classes.max(initial=-1)), int(test_classes.max(initial=-1)))
    train, lost = _shares(train_classes, train_codes, groups, width, "train")
    test, missed = _shares(test_classes, test_codes, groups, width, "test")
    reason = _why_undefined({"train": train, "test": test}, groups)
    # Shares are quotients of whole numbers: rounded correctly, equal ones are equal floats and others keep their order.
    best = train == train.max(0, initial=0)  # [G, K] the groups that the rule guesses among
    occurs = (test > 0).any(0)  # [K]
    unseen = ~(train > 0).any(0)
    right = np.divide(best, best.sum(0), out=np.zeros(best.shape), where=best.any(0))
    value = float("nan") if reason else 100 * float((test * right).sum()) / groups
    return MajorityLeakage(
        value,
        int(occurs.sum()),
        int((occurs & unseen).sum()),
        int((occurs & ~unseen & (best.sum(0) > 1)).sum()),
        (lost, missed),
        reason,
    )


def _why_undefined(shares: Mapping[str, FloatArray], groups: int) -> str:
    if groups < 2:
        return f"{groups} group{'' if groups == 1 else 's'}, two are needed"
    empty = {split: np.flatnonzero(np.isnan(s).all(1)) for split, s in shares.items()}
    return "; ".join(f"no example of group {g} in {split}" for split, found in empty.items() for g in found)


def _shares(classes: NDArray[Any], codes: IntArray, groups: int, width: int, split: str) -> tuple[FloatArray, int]:
    """[G, K] share of each label among a group's rows, NaN for an empty group; and the rows of unknown group."""
    if len(classes) != len(codes):
        raise DataError(f"{len(codes)} codes for {len(classes)} labels", where=split)
    if codes.size and not -1 <= codes.min() <= codes.max() < groups:
        raise DataError(f"a code is outside -1..{groups - 1}", where=split)
    if classes.size and classes.min() < 0:
        raise DataError("a class is negative", where=split)
    known = codes >= 0
    cells = np.bincount(codes[known].astype(np.int64) * width + classes[known], minlength=groups * width).reshape(
        groups, width
    )
    sizes = cells.sum(1, keepdims=True)
    return np.divide(cells, sizes, out=np.full(cells.shape, np.nan), where=sizes > 0), int((~known).sum())
