"""What is known about the labels because their law is: planted beside realised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench import Split
from biasbench.builtin.datasets.scene.model import CUES, GENDERS, MEN, MOST, Floats, Model

_FLIPS = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.10, 0.12, 0.15, 0.20)
Labelled = Sequence[tuple[int, NDArray[np.bool_]]]  # (0 = man or 1 = woman, [K] annotated)


def truth(
    model: Model, made: Mapping[str, Any], labels: Mapping[Split, Labelled], sources: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that is stored as `truth.json`.

    Args:
        model: The law.
        made: What decides every byte: versions and options.
        labels: Gender and annotations of each generated scene, by split.
        sources: Counts of distinct drawings, passed on.
    """
    frequencies = model.frequencies()
    return {
        "made with": dict(made),
        "model": {
            "bias": model.bias,
            "label_noise": model.label_noise,
            "P(man)": MEN,
            "P(cue | gender)": {g: dict(zip(CUES, map(float, model.cues(g)), strict=True)) for g in GENDERS},
            "P(pictured | gender, cue)": {
                f"{g}, {c}": _by_label(model, model.pictured(g, c)) for g in GENDERS for c in CUES
            },
            "labels per image": [1, MOST],
        },
        "P(label | gender)": {g: _by_label(model, frequencies[i]) for i, g in enumerate(GENDERS)},
        "P(man | label)": {
            "planted": model.man_share(),
            **{split: _realised_shares(model, rows) for split, rows in labels.items()},
        },
        "bayes dataset leakage": model.leakage(),
        "bayes dataset leakage after flips": {f"{p:.2f}": model.leakage(p) for p in _FLIPS},
        "best rule on generated splits": {split: best_rule(model, rows) for split, rows in labels.items()},
        "distinct drawings": sources,
    }


def best_rule(model: Model, rows: Labelled) -> float | None:
    """Balanced accuracy in % of the Bayes rule on some scenes: near the closed form, by the luck of the draw.

    None where a gender is missing. A tie counts half.
    """
    woman = np.array([g for g, _ in rows], bool)
    if woman.all() or not woman.any():
        return None
    odds = model.odds(np.array([y for _, y in rows]))
    right = np.where(np.abs(odds) < 1e-9, 0.5, (odds > 0) != woman)
    return float(50 * (right[woman].mean() + right[~woman].mean()))


def _by_label(model: Model, values: Floats) -> dict[str, float]:
    return {label.name: float(v) for label, v in zip(model.labels, values, strict=True)}


def _realised_shares(model: Model, rows: Labelled) -> dict[str, float | None]:
    """Share of men among the scenes that carry each label; None where no scene does."""
    out: dict[str, float | None] = {}
    for k, label in enumerate(model.labels):
        men = [1 - gender for gender, y in rows if y[k]]
        out[label.name] = sum(men) / len(men) if men else None
    return out
