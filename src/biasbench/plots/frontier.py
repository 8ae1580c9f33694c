"""Figure 5 of Wang et al. 2019: F1 against bias amplification, with the randomisation curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from biasbench.plots.margin import Margin
from biasbench.plots.style import COLOURS, INK, MARKERS, QUIET, drawing, literal, tidy

WIDE = 40  # characters of a name that leave no room for a second column


@dataclass(frozen=True)
class Point:
    """One row of the leaderboard in the picture.

    Attributes:
        name: Method string.
        f1: Macro F1, percent.
        delta: Bias amplification, points.
        f1_std: Spread of F1, or None.
        delta_std: Spread of Δ, or None.
        noise: Whether it is a level of noise on the randomisation curve.
        margin: Its Δ against that curve at equal F1; None for the curve's own points.
        gain: Its F1 against that curve at equal Δ; None for the curve's own points.
        family: What it is a level of; empty = itself.
        level: What tells it from the others of its family.
    """

    name: str
    f1: float
    delta: float
    f1_std: float | None = None
    delta_std: float | None = None
    noise: bool = False
    margin: Margin | None = None
    gain: Margin | None = None
    family: str = ""
    level: str = ""

    @property
    def better(self) -> bool:
        """Whether it beats randomisation: by its Δ, or by its F1 where no noise has an F1 like it."""
        found = self.gain if self.margin is None or self.margin.over is None else self.margin
        return found is not None and found.verdict == "better"


def pareto(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both figures: at least as accurate, amplifying at most as much, and not equal.

    Ordered by Δ. Spreads play no part: a front of measured figures is itself uncertain.

    Example:
        >>> [p.name for p in pareto([Point("a", 50, 9), Point("b", 40, 9), Point("c", 45, 4)])]
        ['c', 'a']
    """
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.delta, -p.f1)):
        if not kept or point.f1 > kept[-1].f1 or (point.f1, point.delta) == (kept[-1].f1, kept[-1].delta):
            kept.append(point)
    return kept


def draw_frontier(path: Path, points: Sequence[Point], title: str, plain: str = "original") -> None:
    """Draw the points; the levels of a method are joined, and what beats noise is circled.

    Args:
        path: Where to; the ending tells the format.
        points: In the order of the legend; the levels of a method in the order in which they are joined.
        title: What was measured.
        plain: Name of the point without noise at which the randomisation curve ends.
    """
    lines: dict[str, list[Point]] = {}
    for point in points:
        if not point.noise:
            lines.setdefault(point.family or point.name, []).append(point)
    columns = 1 if any(len(name) > WIDE for name in lines) else 2
    with drawing(path, 6.8, 4.4 + 0.2 * -(-(len(lines) + 3) // columns)) as picture:
        axes = picture.subplots()
        curve = sorted((p for p in points if p.noise or p.name == plain), key=lambda p: p.f1)
        if len(curve) > 1:
            axes.plot(
                [p.delta for p in curve], [p.f1 for p in curve], color=INK, linestyle="--", linewidth=1.4, marker=".",
                label="randomisation", zorder=2,
            )  # fmt: skip
        front = pareto(points)
        if len(front) > 1:
            axes.step(
                [p.delta for p in front], [p.f1 for p in front], where="post", color=QUIET, linewidth=0.9,
                linestyle=":", label="Pareto front", zorder=1,
            )  # fmt: skip
        for point in curve:
            if point.noise:
                axes.errorbar(
                    [point.delta], [point.f1], xerr=_bar(point.delta_std), yerr=_bar(point.f1_std), color=INK,
                    linestyle="none", elinewidth=0.7, capsize=1.5, zorder=2,
                )  # fmt: skip
        for i, (name, line) in enumerate(lines.items()):
            colour = INK if name == plain else COLOURS[i % len(COLOURS)]
            marker = "o" if name == plain else MARKERS[i % len(MARKERS)]
            axes.plot(
                [p.delta for p in line], [p.f1 for p in line], color=colour, marker=marker, markersize=6.5,
                linewidth=1.1, label=literal(name), zorder=3,
            )  # fmt: skip
            for p in line:
                axes.errorbar(
                    [p.delta], [p.f1], xerr=_bar(p.delta_std), yerr=_bar(p.f1_std), color=colour, linestyle="none",
                    elinewidth=0.9, capsize=2, zorder=3,
                )  # fmt: skip
                if p.level:
                    axes.annotate(
                        literal(p.level), (p.delta, p.f1), (4, 4), textcoords="offset points", fontsize=7,
                        color=colour, zorder=5,
                    )  # fmt: skip
        circled = [p for p in points if p.better]
        if circled:
            axes.plot(
                [p.delta for p in circled], [p.f1 for p in circled], linestyle="none", marker="o", markersize=15,
                markerfacecolor="none", markeredgecolor=QUIET, label="beats randomisation (95 %)", zorder=4,
            )  # fmt: skip
        axes.set(xlabel="bias amplification Δ, points", ylabel="macro F1, %")
        tidy(axes, title)
        picture.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


def _bar(std: float | None) -> list[float] | None:
    return None if std is None else [std]
