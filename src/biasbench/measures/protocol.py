"""The constants of a leakage measurement, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from biasbench.data import SPLITS
from biasbench.errors import UsageError, printable


@dataclass(frozen=True)
class Protocol:
    """How leakage is measured; the defaults are the COCO code released with Wang et al. 2019.

    Attributes:
        name: What the row shows.
        rounds: Times that draws and attacker are made anew.
        epochs: Passes over the training draw; the one with the best validation accuracy counts.
        lr: Adam's step size, constant.
        weight_decay: Adam's L2 term.
        batch_size: Rows a step; the last partial batch is kept.
        layers: Linear layers of the attacker: 4 in the paper and for COCO, 5 in the released
            imSitu code.
        width: Units of each hidden layer.
        slope: LeakyReLU's slope below 0.
        caps: Most rows drawn per group from train, val and test.
        share: Share of the training draw that is kept (Table 2 of the paper: 0.25, 0.5, 0.75).
        fold: Whether an attacker below chance counts as far above it, as released; for two
            groups only.

    Raises:
        UsageError: When a number is out of range.

    Example:
        >>> Protocol("mine", rounds=2).caps
        (3000, 1500, 1500)
    """

    name: str
    rounds: int = 5
    epochs: int = 100
    lr: float = 5e-5
    weight_decay: float = 1e-5
    batch_size: int = 128
    layers: int = 4
    width: int = 300
    slope: float = 0.01
    caps: tuple[int, int, int] = (3000, 1500, 1500)
    share: float = 1.0
    fold: bool = True

    def __post_init__(self) -> None:
        least = {"rounds": 1, "epochs": 1, "batch_size": 2, "layers": 1, "width": 1}
        wrong = [f"{key} must be at least {low}" for key, low in least.items() if getattr(self, key) < low]
        if not self.lr > 0 or not self.weight_decay >= 0:
            wrong.append("lr must be above 0 and weight_decay not below")
        if not 0 < self.share <= 1:
            wrong.append("share must be above 0 and at most 1")
        if not self.slope >= 0:
            wrong.append("slope must not be below 0")
        if len(self.caps) != len(SPLITS) or min(self.caps) < 1:
            wrong.append(f"caps needs a positive number for each of {', '.join(SPLITS)}")
        if wrong:
            raise UsageError(f"protocol {printable(self.name)!r}: {'; '.join(wrong)}")


_IMSITU = (7300, 3000, 3000)
_ALL = (
    Protocol("wang2019-coco"),
    Protocol("wang2019-imsitu", layers=5, caps=_IMSITU),
    # Over planted leaks on draws of 400 to 6,000 rows, 25 epochs at 2e-4 came within 1 point of the
    # published 100 at 5e-5. At 5e-5 they fell 13 short where two labels tell only together and rows are few
    # (63 for 77 on 400 rows); at 5e-4 they lost 1 point where the leak is weak.
    Protocol("quick", rounds=3, epochs=25, lr=2e-4),
    Protocol("smoke", rounds=1, epochs=3, lr=1e-3),
)
PROTOCOLS: Mapping[str, Protocol] = {p.name: p for p in _ALL}
"""Protocols with a trained network as the only attacker; `wang2019` is the one that fits the task."""
WANG2019 = "wang2019"


def wang2019(single: bool) -> Protocol:
    """The released constants: those for imSitu where an example has one label, else those for COCO.

    Example:
        >>> wang2019(single=True).layers, wang2019(single=False).layers
        (5, 4)
    """
    chosen = PROTOCOLS["wang2019-imsitu" if single else "wang2019-coco"]
    return Protocol(WANG2019, layers=chosen.layers, caps=chosen.caps)
