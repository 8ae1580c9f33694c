"""The rounds of a measurement: balanced draws, and one attacker a round on what it may read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench import SPLITS, generator, io
from biasbench.builtin.metrics.draws import IntArray, balanced_rows, per_group
from biasbench.builtin.metrics.protocol import Protocol
from biasbench.builtin.metrics.truth import GROUPS, Truth

Memo = Callable[[str, Callable[[], Any]], Any]
Features = Callable[[int, str, IntArray], NDArray[Any]]
"""`features(round, split, rows)` is [len(rows), K]: what the attacker reads of these rows."""


@dataclass(frozen=True)
class Figure:
    """One leakage, by round.

    Attributes:
        percent: [R] folded accuracy on the balanced test draw at the selected epoch.
        last: [R] the same at the last epoch.
        epochs: R selected epochs, from 1.
    """

    percent: NDArray[np.float64]
    last: NDArray[np.float64]
    epochs: tuple[int, ...]


@dataclass(frozen=True)
class Rounds:
    """Everything that the attackers of one measurement have in common.

    Draws, initial weights and batch orders of a round are the same whatever is attacked,
    and depend on no model: dataset leakage is one figure for all models, and differences
    between figures are paired.

    Attributes:
        truth: Labels and codes by split.
        protocol: Constants.
        seed: Base of all streams.
    """

    truth: Mapping[str, Truth]
    protocol: Protocol
    seed: int

    def per_group(self) -> dict[str, int]:
        """Rows drawn per group, by split."""
        caps = zip(SPLITS, self.protocol.caps, strict=True)
        return {split: per_group(self.truth[split].codes, GROUPS, cap) for split, cap in caps}

    def stream(self, round_: int, *purpose: str) -> tuple[str | int, ...]:
        """Name of a random stream of a round."""
        return (self.seed, "leakage", round_, *purpose)

    def rows(self, round_: int, split: str) -> IntArray:
        """The round's draw from a split."""
        cap = self.protocol.caps[SPLITS.index(split)]
        return balanced_rows(self.truth[split].codes, GROUPS, cap, generator(*self.stream(round_, "draw", split)))

    def attack(self, features: Features) -> Figure:
        """Train and test one attacker a round on `features`."""
        return _figure(self._attack(features))

    def remembered(self, memo: Memo, what: Mapping[str, Any], features: Features) -> Figure:
        """`attack`, or the figure stored for the same truth, protocol, seed and `what`."""
        constants = {k: v for k, v in asdict(self.protocol).items() if k != "name"}
        key = {
            "measure": "leakage/1",
            **what,
            "truth": {split: truth.digest() for split, truth in self.truth.items()},
            "protocol": constants,
            "seed": self.seed,
            "torch": version("torch"),
        }
        return _figure(memo(io.canonical_json(key), lambda: self._attack(features)))

    def _attack(self, features: Features) -> list[list[float]]:
        from biasbench.builtin.metrics.attacker import Examples, attack

        attacks = []
        for r in range(self.protocol.rounds):
            drawn = {split: self.rows(r, split) for split in SPLITS}
            train, val, test = (
                Examples.of(features(r, split, rows), self.truth[split].codes[rows]) for split, rows in drawn.items()
            )
            got = attack(train, val, test, self.protocol, self.stream(r))
            attacks.append([got.accuracy, got.last, float(got.epoch)])
        return attacks


def _figure(attacks: list[list[float]]) -> Figure:
    accuracy, last, epochs = np.asarray(attacks, np.float64).T
    return Figure(fold(accuracy), fold(last), tuple(int(e) for e in epochs))


def fold(accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Percent; an attacker below chance counts as far above it: 50 + |accuracy - 50|.

    Example:
        >>> fold(np.array([0.25, 0.5, 1.0])).tolist()
        [75.0, 50.0, 100.0]
    """
    return 100 * (0.5 + np.abs(accuracy - 0.5))
