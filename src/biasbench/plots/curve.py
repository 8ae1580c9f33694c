"""Figure 4 of Wang et al. 2019: dataset leakage against the labels' F1."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from biasbench.measures.curve import Curve
from biasbench.measures.figure import LeakageReport
from biasbench.plots.style import BAND, INK, QUIET, drawing, literal, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_curve(path: Path, curve: Curve, report: LeakageReport, title: str) -> None:
    """Draw the curve with its spread, and the nulls of the clean labels; written whole or not at all.

    Args:
        path: Where to; the ending tells the format.
        curve: What to draw.
        report: Of the clean labels: its nulls are drawn as levels.
        title: What was measured.
    """
    with drawing(path, height=4.4) as picture:
        _draw(picture.subplots(), curve, report, title)


def _draw(axes: Axes, curve: Curve, report: LeakageReport, title: str) -> None:
    f1 = np.array(curve.f1)
    mean, std = (np.array([getattr(figure, name) for figure in curve.figures]) for name in ("mean", "std"))
    axes.fill_between(f1, mean - std, mean + std, color=BAND, alpha=0.6, linewidth=0, label="± 1 sd over rounds")
    axes.plot(f1, mean, marker="o", markersize=3.5, color=INK, linewidth=1.4, label=f"λ_D(F1), {curve.kind}")
    for name, style, words in (("null_train", "--", "shuffled in training"), ("null_all", ":", "shuffled everywhere")):
        if name not in report.figures:
            continue
        null = report.figures[name].mean
        axes.axhline(null, color=QUIET, linestyle=style, linewidth=1, label=f"null, {words}: {null:.1f}")
    axes.set(xlabel="macro F1 of the labels, %", ylabel=f"leakage of {literal(report.attribute)}, %", xlim=(0, 101))
    tidy(axes, title)
    axes.legend(frameon=False, fontsize=8)
