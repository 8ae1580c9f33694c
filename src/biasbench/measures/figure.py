"""One leakage figure, by round, and how figures are shown and passed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench.measures.intervals import rounds_interval

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """A leakage, or a difference of two, in percent or points.

    Attributes:
        rounds: [R] by round of draws and attackers; NaN = undefined.
        last: [R] the same at the attackers' last epoch, without selection; None where nothing is selected.
        epochs: Selected epochs by round, from 1; empty where nothing is selected.
        interval: 95 % interval from a bootstrap over test images, within groups; None where it was not made.

    Example:
        >>> figure = Figure(np.array([60.0, 62.0]))
        >>> figure.mean, figure.std, figure.n
        (61.0, 1.0, 2)
    """

    rounds: Floats
    last: Floats | None = None
    epochs: tuple[int, ...] = ()
    interval: tuple[float, float] | None = None

    @property
    def mean(self) -> float:
        """Mean over rounds."""
        return float(self.rounds.mean())

    @property
    def std(self) -> float:
        """Population standard deviation over rounds (ddof 0), as published."""
        return float(self.rounds.std())

    @property
    def n(self) -> int:
        """Number of rounds."""
        return len(self.rounds)

    @property
    def rounds_interval(self) -> tuple[float, float]:
        """95 % interval of the mean over rounds, by Student's t; NaN for one round."""
        found = rounds_interval(self.rounds)
        return found.low, found.high

    def minus(self, other: Figure, interval: tuple[float, float] | None = None) -> Figure:
        """The difference, round by round: rounds share draws, initial weights and batch orders."""
        last = None if self.last is None or other.last is None else self.last - other.last
        return Figure(self.rounds - other.rounds, last, interval=interval)

    def to_json(self) -> dict[str, Any]:
        """Mean, std, n and what else there is, as JSON values; undefined figures are null."""
        found: dict[str, Any] = {**_summary(self.rounds), "rounds": _plain(self.rounds)}
        if self.last is not None:
            found["last_epoch"] = _summary(self.last)
        if self.epochs:
            found["epochs"] = list(self.epochs)
        if self.interval is not None:
            found["interval_95"] = _plain(np.array(self.interval))
        if self.n > 1:
            found["interval_95_rounds"] = _plain(np.array(self.rounds_interval))
        return found

    def __str__(self) -> str:
        if not np.isfinite(self.mean):
            return "undefined"
        spread = f" ± {self.std:.2f}" if self.n > 1 else ""
        return f"{self.mean:.2f}{spread}"


def fold(accuracy: Floats, groups: int = 2) -> Floats:
    """Percent; an attacker below chance counts as far above it: 50 + |accuracy - 50|.

    With more than two groups there is no such mirror, and accuracies stand as they are.

    Example:
        >>> fold(np.array([0.25, 0.5, 1.0])).tolist()
        [75.0, 50.0, 100.0]
    """
    return 100 * (0.5 + np.abs(accuracy - 0.5)) if groups == 2 else 100 * accuracy


def undefined(rounds: int) -> Figure:
    """A figure that has no value."""
    return Figure(np.full(rounds, np.nan))


@dataclass(frozen=True)
class LeakageReport:
    """Everything one measurement of leakage found.

    Attributes:
        protocol: Its name.
        attribute: The protected attribute's name.
        groups: Names of its groups, in the order of their codes.
        figures: By name; see `leakage`.
        details: Draw sizes, calibration, controls and what else a reader may ask; JSON values.
        flags: What a reader must know.
    """

    protocol: str
    attribute: str
    groups: tuple[str, ...]
    figures: Mapping[str, Figure]
    details: Mapping[str, Any]
    flags: Sequence[str] = ()

    @property
    def chance(self) -> float:
        """What guessing scores on a balanced draw, percent."""
        return 100 / max(1, len(self.groups))

    def to_json(self) -> dict[str, Any]:
        """JSON values; the names at the top level are stable.

        `null` is `null_train` of what was attacked first (the model's scores, else the labels), and
        `last_epoch` the unselected figure of the same.
        """
        found: dict[str, Any] = {name: figure.to_json() for name, figure in self.figures.items()}
        first = self.figures["lambda_M" if "lambda_M" in self.figures else "lambda_D"]
        found["null"] = found.get("null_train", _summary(np.full(first.n, np.nan)))
        found["last_epoch"] = _summary(np.full(first.n, np.nan) if first.last is None else first.last)
        return {
            "protocol": self.protocol,
            "attribute": self.attribute,
            "groups": list(self.groups),
            "chance": self.chance,
            **found,
            "details": dict(self.details),
            "flags": list(self.flags),
        }

    def to_frame(self) -> Any:
        """A pandas table with a row a figure: mean, std, n and the last epoch's mean."""
        import pandas as pd

        rows = {
            name: {
                "mean": f.mean, "std": f.std, "n": f.n,
                "last_epoch": np.nan if f.last is None else float(f.last.mean()),
            }
            for name, f in self.figures.items()
        }  # fmt: skip
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("figure")

    def __str__(self) -> str:
        lines = [f"leakage of {self.attribute} ({', '.join(self.groups)}), protocol {self.protocol}, percent"]
        lines += [f"  {name:<22}{figure}" for name, figure in self.figures.items()]
        return "\n".join([*lines, *(f"  ! {flag}" for flag in self.flags)])


def _summary(rounds: Floats) -> dict[str, Any]:
    finite = bool(np.isfinite(rounds).all())
    mean, std = (float(rounds.mean()), float(rounds.std())) if finite else (None, None)
    return {"mean": mean, "std": std, "n": len(rounds)}


def _plain(values: Floats) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]
