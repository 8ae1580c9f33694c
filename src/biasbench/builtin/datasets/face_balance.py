"""Choosing faces: by identity, in equal numbers of women and men, or with an extreme bias.

Nothing here is drawn from a generator's state: every identity and every image has its own fixed number, so
that adding or dropping others changes nobody's split.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench import UsageError, seed_for
from biasbench.builtin.datasets.face_ages import sides

GENDERS = ("man", "woman")
MAN, WOMAN = range(len(GENDERS))
BIASES = ("none", "eb1", "eb2")


def fixed_numbers(names: Sequence[str], *stream: str) -> NDArray[np.float64]:
    """[N] numbers in [0, 1), each a function of its name and the stream's alone.

    Example:
        >>> a, b = fixed_numbers(["x", "y"], "doc"), fixed_numbers(["y"], "doc")
        >>> bool(a[1] == b[0]), bool(a[0] == a[1])
        (True, False)
    """
    known = {name: seed_for(*stream, name) / 2**63 for name in dict.fromkeys(names)}
    return np.array([known[name] for name in names], np.float64)


def split_by_identity(identity: Sequence[str], val: float, test: float, stream: str) -> NDArray[Any]:
    """[N] `"train"`, `"val"` or `"test"`: all images of an identity go together.

    Args:
        identity: [N] who is shown.
        val: Share of the identities for validation.
        test: Share of the identities for the test.
        stream: Name of the draw.

    Raises:
        UsageError: When a share is not in (0, 1), or nothing is left for training.

    Example:
        >>> said = split_by_identity(["a", "b", "a", "c"], 0.3, 0.3, "doc")
        >>> bool(said[0] == said[2])
        True
    """
    if not (0 < val < 1 and 0 < test < 1 and val + test < 1):
        raise UsageError(f"shares of val and test must be above 0 and leave something to train on, not {val}, {test}")
    number = fixed_numbers(identity, stream, "split")
    return np.select([number < test, number < test + val], ["test", "val"], "train")


def identity_balanced(identity: Sequence[str], ids: Sequence[str], images: int, stream: str) -> NDArray[np.bool_]:
    """A subset of a size, with as equal a number of images of every identity as they have.

    Every identity gives all it has up to a common number; where the size asks for part of one more from
    each, the identities that give it are chosen by their fixed numbers.

    Args:
        identity: [N] who is shown.
        ids: [N] ids of the images.
        images: Size of the subset; at least N takes all.
        stream: Name of the draw.

    Returns:
        [N] whether an image is in it.

    Source: Alvi et al. 2018, section 3.2, which says no more than "identity-balanced".

    Example:
        >>> identity_balanced(["a", "a", "a", "b", "c"], ["1", "2", "3", "4", "5"], 4, "doc").sum()
        np.int64(4)
    """
    who = np.unique(np.asarray(identity, object).astype(str), return_inverse=True)[1]
    order = np.lexsort((fixed_numbers(ids, stream, "subset"), who))
    starts = np.searchsorted(who[order], who[order])
    turn = np.empty(len(who), np.int64)
    turn[order] = np.arange(len(who)) - starts  # 0 for the first image an identity gives, 1 for the second, ...
    first = np.lexsort((fixed_numbers(identity, stream, "turn"), turn))[: max(images, 0)]
    chosen = np.zeros(len(who), bool)
    chosen[first] = True
    return chosen


def equal_genders(
    age: NDArray[np.int64], gender: NDArray[np.int64], ids: Sequence[str], stream: str
) -> NDArray[np.bool_]:
    """A subset with as many women as men in each age class: of the more numerous gender, a fixed draw.

    Args:
        age: [N] age classes.
        gender: [N] codes of `GENDERS`; -1 is left out.
        ids: [N] ids of the images.
        stream: Name of the draw.

    Returns:
        [N] whether an image is in it. A class without both genders has none.

    Source: Alvi et al. 2018, section 3.2, the unbiased test set.

    Example:
        >>> equal_genders(np.array([0, 0, 0, 1]), np.array([0, 1, 1, 1]), ["a", "b", "c", "d"], "doc").sum()
        np.int64(2)
    """
    number = fixed_numbers(ids, stream, "balance")
    chosen = np.zeros(len(age), bool)
    for k in np.unique(age):
        cells = [np.flatnonzero((age == k) & (gender == g)) for g in (MAN, WOMAN)]
        size = min(map(len, cells))
        for cell in cells:
            chosen[cell[np.argsort(number[cell], kind="stable")[:size]]] = True
    return chosen


def extreme_bias(
    years: NDArray[Any], gender: NDArray[np.int64], kind: str, thresholds: str = "30/40"
) -> NDArray[np.bool_]:
    """Who stays under an extreme bias: young women and old men (`"eb1"`), or old women and young men (`"eb2"`).

    Args:
        years: [N] ages.
        gender: [N] codes of `GENDERS`.
        kind: `"none"` keeps all.
        thresholds: `"30/40"` or `"35/45"`.

    Raises:
        UsageError: For another bias or other thresholds.

    Source: Alvi et al. 2018, section 5.2.

    Example:
        >>> extreme_bias(np.array([20, 20, 50, 50, 35]), np.array([0, 1, 0, 1, 1]), "eb1").tolist()
        [False, True, True, False, False]
    """
    if kind not in BIASES:
        raise UsageError(f"unknown bias {kind!r}", fix=f"Known: {', '.join(BIASES)}")
    young, old = sides(years, thresholds)
    if kind == "none":
        return np.ones(len(gender), bool)
    women, men = (young, old) if kind == "eb1" else (old, young)
    return np.where(gender == WOMAN, women, (gender == MAN) & men)
