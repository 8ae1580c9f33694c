"""Figure 4 of Wang et al. 2019: dataset leakage as a function of the labels' F1.

Made once for a data set, draw and protocol, it gives the dataset leakage at any model's F1 by
interpolation, with an error bar, where the paper's reader had to look for it by eye.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from biasbench.data import Progress
from biasbench.errors import CellError
from biasbench.measures.aim import Aim, aim_at
from biasbench.measures.checks import about_draws
from biasbench.measures.figure import Figure
from biasbench.measures.named import AnyProtocol
from biasbench.measures.perturb import Kind, kind_for
from biasbench.measures.prepared import prepare
from biasbench.measures.rounds import Attack, Rounds
from biasbench.measures.run import figure_of, run
from biasbench.measures.sample import Samples
from biasbench.metric import Memo

LEVELS = (1.0, 0.975, *(i / 100 for i in range(95, 0, -5)), 0.025)
"""22 macro F1 to measure at, 1 being the clean labels."""


@dataclass(frozen=True)
class Curve:
    """Dataset leakage against F1.

    Attributes:
        kind: How labels were perturbed.
        f1: [L] expected macro F1 in percent, falling.
        figures: L figures.
        aims: L x R calibrations; none for clean labels.
    """

    kind: Kind
    f1: tuple[float, ...]
    figures: tuple[Figure, ...]
    aims: tuple[tuple[Aim, ...], ...]

    def at(self, f1: float) -> Figure:
        """Dataset leakage at a macro F1 in percent, each round interpolated on its own.

        Returns:
            A figure whose `std` is the error bar: the spread of the interpolated rounds. NaN
            outside the curve.

        Example:
            >>> curve = Curve("flips", (100.0, 50.0), (Figure(np.array([70.0])), Figure(np.array([60.0]))), ())
            >>> curve.at(75).mean, curve.at(40).mean
            (65.0, nan)
        """
        x = np.array(self.f1)[::-1]
        y = np.stack([figure.rounds for figure in self.figures])[::-1]  # [L, R]
        return Figure(np.array([np.interp(f1, x, column, np.nan, np.nan) for column in y.T]))

    def to_json(self) -> dict[str, Any]:
        """JSON values: a point a level."""
        return {
            "perturbation": self.kind,
            "points": [{"f1": f1, **figure.to_json()} for f1, figure in zip(self.f1, self.figures, strict=True)],
        }

    def to_frame(self) -> Any:
        """A pandas table: F1, mean and std of dataset leakage."""
        import pandas as pd

        points = zip(self.f1, self.figures, strict=True)
        return pd.DataFrame([{"f1": f1, "mean": g.mean, "std": g.std, "n": g.n} for f1, g in points])


def leakage_curve(
    samples: Samples,
    protocol: str | AnyProtocol = "wang2019",
    *,
    levels: Sequence[float] = LEVELS,
    groups: Sequence[str] = (),
    minimum: int | None = None,
    seed: int = 0,
    perturbation: Kind | None = None,
    memo: Memo | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
    device: str = "cpu",
) -> Curve:
    """Dataset leakage at several macro F1, the same draws and attackers at each.

    Args:
        samples: Train, val and test; scores are not read.
        protocol: As in `leakage`.
        levels: Macro F1 in 0..1; those out of reach of the perturbation are left out.
        groups: As in `leakage`.
        minimum: As in `leakage`: small groups are left out.
        seed: As in `leakage`: the same seed shares its draws and stored attackers.
        perturbation: As in `leakage`.
        memo: As in `leakage`; an interrupted curve goes on where it stopped.
        progress: As in `leakage`.
        threads: As in `leakage`.
        device: As in `leakage`.

    Raises:
        CellError: When a split has no example of a group.

    Example:
        >>> from biasbench import Sample
        >>> group = np.random.default_rng(0).integers(0, 2, 300)
        >>> part = Sample(np.stack([group, 1 - group], 1), group)
        >>> curve = leakage_curve({"train": part, "val": part, "test": part}, "smoke", levels=(1.0, 0.6))
        >>> [round(f1) for f1 in curve.f1]
        [100, 60]
    """
    ready = prepare(samples, protocol, groups, minimum)
    constants, kind = ready.protocol, kind_for(perturbation, samples["train"].single)
    rounds = Rounds(ready.samples, ready.width, len(ready.names), constants, seed, kind)
    if problem := about_draws(rounds, ready.names)["undefined"]:
        raise CellError(f"the curve is {problem}")
    every = range(constants.rounds)
    aims = {level: tuple(aim_at(rounds, r, level) for r in every) for level in levels if level < 1}
    kept = [level for level in levels if level >= 1 or not any(a.out_of_reach for a in aims[level])]
    attacks = {
        level: [Attack(r, perturbed=aims[level][r].rate if level < 1 else None) for r in every] for level in kept
    }
    flat = [attack for some in attacks.values() for attack in some]
    outcomes = dict(zip(flat, run(rounds, flat, memo, progress, threads, device), strict=True))
    return Curve(
        kind,
        tuple(100 * (float(np.mean([a.expected for a in aims[level]])) if level < 1 else 1.0) for level in kept),
        tuple(figure_of([outcomes[a] for a in attacks[level]], attacks[level], rounds) for level in kept),
        tuple(aims.get(level, ()) for level in kept),
    )
