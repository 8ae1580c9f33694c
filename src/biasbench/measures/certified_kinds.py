"""Kinds of attacker: what they are, how they grow, and at which stages of training they are read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from biasbench.measures.certified import Certified

NEWTON = 1000
"""Most steps of the logistic regression; it ends by itself well before."""


@dataclass(frozen=True)
class Kind:
    """An attacker to fit.

    Attributes:
        name: One of `certified.KINDS`.
        family: How it is fitted.
        size: Units of a hidden layer, or leaves of a tree; 0 for the logistic regression.
        steps: Most epochs, trees per group or solver steps.
        layers: Hidden layers.
    """

    name: str
    family: Literal["logistic", "network", "boosting"]
    size: int
    steps: int
    layers: int = 0

    def stages(self) -> list[int]:
        """Steps after which it is read, each about 1.4 times the one before; of few looks the best flatters little.

        Example:
            >>> Kind("mlp-1", "network", 8, 20).stages()
            [1, 2, 3, 4, 6, 8, 11, 16, 20]
        """
        if self.family == "logistic":
            return [self.steps]
        marks = {round(2 ** (i / 2)) for i in range(2 * self.steps.bit_length() + 1)}
        return sorted({m for m in marks if m < self.steps} | {self.steps})


def kind_named(name: str, protocol: Certified) -> Kind:
    """The kind of that name, of a protocol's size.

    Example:
        >>> kind_named("mlp-2", Certified("mine", width=8)).layers
        2
    """
    if name == "logistic":
        return Kind(name, "logistic", 0, NEWTON)
    if name == "boosting":
        return Kind(name, "boosting", protocol.leaves, protocol.iterations)
    return Kind(name, "network", protocol.width, protocol.epochs, int(name.removeprefix("mlp-")))


def larger(kind: Kind, protocol: Certified) -> Kind:
    """Twice the units or leaves; after the logistic regression comes the network of one hidden layer.

    Example:
        >>> larger(kind_named("logistic", Certified("mine")), Certified("mine")).name
        'mlp-1'
    """
    return kind_named("mlp-1", protocol) if kind.family == "logistic" else replace(kind, size=2 * kind.size)


def longer(kind: Kind) -> Kind:
    """Twice the steps.

    Example:
        >>> longer(Kind("boosting", "boosting", 31, 64)).steps
        128
    """
    return replace(kind, steps=2 * kind.steps)
