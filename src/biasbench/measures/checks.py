"""What a leakage figure is worth: draw sizes, scales, controls and nulls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from biasbench.data import SPLITS
from biasbench.errors import CellError
from biasbench.measures.cells import drop_small
from biasbench.measures.closed import majority_leakage
from biasbench.measures.control import expected, found
from biasbench.measures.figure import Figure
from biasbench.measures.rounds import Attack, Rounds
from biasbench.measures.run import Known
from biasbench.measures.sample import Samples

FEW = 100
"""Fewer rows per group than this make a figure `underpowered`."""
ENOUGH = 99
"""Null draws that a p-value needs."""
BATCH_NORM_EPS = 1e-5


def large_groups(
    samples: Samples, names: Sequence[str], minimum: int | None
) -> tuple[Samples, tuple[str, ...], dict[str, Any]]:
    """Samples without the groups that are too small to measure.

    Args:
        samples: Train, val and test.
        names: Of the groups.
        minimum: Fewest rows of a group in any split; None for 100 where there are more than two groups, else none.

    Returns:
        Samples, names of the groups that are left, and what was left out. Where fewer than two groups would be left,
        all codes are unknown, and what was left out says why.
    """
    least = (FEW if len(names) > 2 else 0) if minimum is None else minimum
    if not least:
        return samples, tuple(names), {}
    try:
        kept = drop_small({split: samples[split].attribute for split in SPLITS}, names, least)
    except CellError as error:
        none = {split: replace(samples[split], attribute=np.full(len(samples[split]), -1)) for split in SPLITS}
        return none, tuple(names), {"reason": str(error)}
    large = {split: replace(samples[split], attribute=kept.codes[split]) for split in SPLITS}
    return large, kept.groups, kept.dropped


def about_draws(rounds: Rounds, groups: Sequence[str]) -> dict[str, Any]:
    """Rows drawn, and whether every split has every group."""
    n = rounds.per_group()
    absent = [
        f"{name} ({split})"
        for split in SPLITS
        for code, name in enumerate(groups)
        if not (rounds.samples[split].attribute == code).any()
    ]
    return {
        "per_group": n,
        "underpowered": min(n.values()) < FEW,
        "undefined": f"undefined: no example of {', '.join(absent)}" if absent else None,
    }


def about_scores(samples: Samples) -> dict[str, Any]:
    """How many views the attacker trains on, and how many logits its input BatchNorm shrinks towards 0.

    Scores scaled down far enough hide from the published attacker without being any fairer.
    """
    train = samples["train"]
    if train.scores is None:
        return {"training_views": 0, "shrunk_scores": 0}
    variance = train.training_scores(0).astype(np.float64).var(0) if len(train) else np.zeros(0)
    shrunk = (variance > 0) & (variance < BATCH_NORM_EPS)
    return {"training_views": len(train.views), "shrunk_scores": int(shrunk.sum())}


def control(attacks: Mapping[str, Sequence[Attack]], outcomes: Mapping[Attack, Known], groups: int) -> dict[str, Any]:
    """Whether an attacker of this protocol finds a leak that was planted beside what it reads, by what it reads."""
    controls: dict[str, Any] = {}
    for name in ("control", "control_D"):
        for attack in attacks.get(name, ()):
            assert attack.planted is not None
            known = outcomes[attack]
            controls[attack.reads] = {
                "reads": attack.reads,
                "planted": 100 * expected(attack.planted, groups),
                "measured": 100 * known.accuracy,
                "found": found(known.accuracy, len(known.right), attack.planted, groups),
            }
    return {"control": controls}


def closed_form(samples: Samples, groups: int) -> dict[str, Any]:
    """For single-label data: what the majority rule of the balanced training draw scores on val and test, percent."""
    if not samples["train"].single:
        return {}
    train = samples["train"]
    found = {
        split: majority_leakage(train.targets, train.attribute, s.targets, s.attribute, groups).value
        for split, s in samples.items()
        if split != "train"
    }
    return {"majority_rule": {split: value if np.isfinite(value) else None for split, value in found.items()}}


def p_value(figures: Mapping[str, Figure], first: str) -> dict[str, Any]:
    """Share of null figures as high as the mean of the measured rounds; None below 99 null draws.

    Each null is one round, the measured figure the mean of several: the share errs to the high side.
    """
    shares = {}
    for name in ("null_all", "null_train"):
        if name not in figures:
            continue
        null = figures[name].rounds
        higher = int((null >= figures[first].mean).sum())
        shares[name] = (1 + higher) / (1 + len(null)) if len(null) >= ENOUGH else None
    return {"p_value": shares}
