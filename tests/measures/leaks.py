"""Samples with planted leaks of an exact size: draws take all rows, and the best attacker's accuracy is a fraction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from biasbench import Sample
from biasbench.measures.protocol import Protocol

TINY = Protocol("tiny", rounds=2, epochs=6, lr=1e-2, width=16, caps=(200, 100, 100), batch_size=32)
ONCE = Protocol("once", rounds=1, epochs=6, lr=1e-2, width=16, caps=(200, 100, 100), batch_size=32)
Cells = Mapping[str, tuple[int, ...]]
Scores = Callable[[np.ndarray, np.ndarray], np.ndarray]


def agree(rate: int, n: int = 100) -> Cells:
    """One bit that agrees with the group in `rate` of n examples of either."""
    return {"0": (rate, n - rate), "1": (n - rate, rate)}


def part(cells: Cells, *, single: bool = False, scores: Scores | None = None, said: Scores | None = None) -> Sample:
    """Examples by label text and, in the order of codes, how many of each group have it.

    A text is one digit a label ("101" has labels 0 and 2) or, with `single`, the class. Scores and decoded labels are
    functions of the true labels, [n, K] also of classes, and of the codes; labels decoded right are the default.
    """
    rows = [(text, code) for text, counts in cells.items() for code, n in enumerate(counts) for _ in range(n)]
    codes = np.array([code for _, code in rows], np.int64)
    classes = np.array([int(text, 36) for text, _ in rows], np.int64)
    bits = np.array([[int(c) for c in text] for text, _ in rows], np.uint8)
    targets = classes if single else bits
    hot = np.eye(1 + classes.max())[classes] if single else bits.astype(float)
    if scores is None:
        return Sample(targets, codes)
    labels = targets if said is None else said(targets, codes)
    return Sample(targets, codes, scores(hot, codes).astype(np.float32), labels)


def everywhere(cells: Cells, **how: Any) -> dict[str, Sample]:
    """The same examples in train, val and test."""
    return splits(cells, cells, cells, **how)


def splits(train: Cells, val: Cells, test: Cells, **how: Any) -> dict[str, Sample]:
    """Train, val and test."""
    return {name: part(cells, **how) for name, cells in (("train", train), ("val", val), ("test", test))}


# -- what a model says ---------------------------------------------------------------------
def truth(hot: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Its logits are the true labels."""
    return hot


def betrays(hot: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Its first logit is the group."""
    return np.column_stack([2.0 * codes - 1, hot[:, 1:]])


def silent(hot: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """All its logits are constant."""
    return np.full(hot.shape, 3.0)


class Kept:
    """A memo in memory that counts what was put in, and stops at the n-th `put`."""

    def __init__(self, stop: int | None = None) -> None:
        self.values: dict[str, Any] = {}
        self.puts, self.stop = 0, stop

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def put(self, key: str, value: Any) -> None:
        if self.puts == self.stop:
            raise KeyboardInterrupt
        self.puts += 1
        self.values[key] = value

    def __call__(self, key: str, compute: Callable[[], Any]) -> Any:
        if self.get(key) is None:
            self.put(key, compute())
        return self.values[key]
