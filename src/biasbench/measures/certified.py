"""The constants of `certified`: leakage by the best of several attackers, with a check of its strength."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from biasbench.data import SPLITS
from biasbench.errors import UsageError, printable

KINDS = ("logistic", "mlp-1", "mlp-2", "mlp-4", "boosting")
"""Kinds of attacker, the simplest first: the earlier of two equals is taken."""


@dataclass(frozen=True)
class Certified:
    """How leakage is measured by an ensemble of attackers.

    Attributes:
        name: What the row shows.
        rounds: Times that draws and attackers are made anew.
        folds: Parts of the pool of training and validation rows; each kind is fitted once without each.
        caps: Most rows drawn per group from train, val and test; None for as many as balance allows.
        kinds: Attackers that compete, some of `KINDS` in that order.
        epochs: Most passes of a network over its rows; the best of several counts.
        lr: Adam's step size of the networks, constant.
        weight_decay: Adam's L2 term.
        batch_size: Rows a step at most; few rows are cut into 32 steps an epoch.
        width: Units of each hidden layer.
        slope: LeakyReLU's slope below 0.
        iterations: Most trees per group of boosting; the best of several counts.
        leaves: Most leaves of a tree.
        shrinkage: Boosting's step size.
        penalty: Weight of the logistic regression's L2 penalty against the sum of losses (1 / C).
        plateau: Whether to check that more rows, a larger model and longer training gain nothing.

    Raises:
        UsageError: When a number is out of range or a kind unknown.

    Example:
        >>> Certified("mine", folds=3).kinds[0]
        'logistic'
    """

    name: str
    rounds: int = 3
    folds: int = 5
    caps: tuple[int, int, int] | None = None
    kinds: tuple[str, ...] = KINDS
    epochs: int = 32
    lr: float = 1e-3
    weight_decay: float = 1e-4
    batch_size: int = 256
    width: int = 128
    slope: float = 0.01
    iterations: int = 256
    leaves: int = 31
    shrinkage: float = 0.1
    penalty: float = 1.0
    plateau: bool = True

    def __post_init__(self) -> None:
        least = {"rounds": 1, "folds": 2, "epochs": 1, "batch_size": 2, "width": 1, "iterations": 1, "leaves": 2}
        wrong = [f"{key} must be at least {low}" for key, low in least.items() if getattr(self, key) < low]
        wrong += [f"{key} must be above 0" for key in ("lr", "shrinkage", "penalty") if not getattr(self, key) > 0]
        if not self.weight_decay >= 0:
            wrong.append("weight_decay must not be below 0")
        if self.caps is not None and (len(self.caps) != len(SPLITS) or min(self.caps) < 1):
            wrong.append(f"caps needs a positive number for each of {', '.join(SPLITS)}")
        if not self.kinds or self.kinds != tuple(kind for kind in KINDS if kind in self.kinds):
            wrong.append(f"kinds must be some of {', '.join(KINDS)}, in that order")
        if wrong:
            raise UsageError(f"protocol {printable(self.name)!r}: {'; '.join(wrong)}")


_ALL = (
    Certified("certified"),
    Certified("certified-quick", rounds=2, folds=3, epochs=16, width=64, iterations=64),
)
CERTIFIED: Mapping[str, Certified] = {p.name: p for p in _ALL}
