"""Figures 6 and 7 of Alvi et al. 2018: how what is predicted spreads over classes or groups, against the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biasbench.errors import CellError, printable
from biasbench.measures.unlearning import prediction_divergence
from biasbench.plots.groups import LONGEST, Page, head, lines_of, look, name_classes
from biasbench.plots.histogram import histogram
from biasbench.plots.style import drawing, literal, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
Codes = NDArray[Any]  # [N] whole numbers, -1 = unknown


@dataclass(frozen=True, eq=False)
class Distribution:
    """Where the examples of each group are predicted to be, and where they are.

    Attributes:
        classes: K names.
        groups: G names.
        share: [S, G, K] percent of each group's examples by seed; NaN for a group without any.
        truth: [G, K] percent likewise, of the true classes or groups.
        divergence: [S] mean over ordered pairs of groups of KL, nats; NaN where fewer than two groups have examples.
        truth_divergence: The same of the truth.
        unknown: Examples left out: their group is not known.
    """

    classes: tuple[str, ...]
    groups: tuple[str, ...]
    share: Floats
    truth: Floats
    divergence: Floats
    truth_divergence: float
    unknown: int

    @property
    def mean(self) -> Floats:
        """[G, K] over the seeds in which the group has examples."""
        there = np.isfinite(self.share)
        total, n = np.where(there, self.share, 0).sum(0), there.sum(0)
        found: Floats = np.where(n > 0, total / np.maximum(n, 1), np.nan)
        return found

    @property
    def words(self) -> str:
        """The divergence for people: mean, with the sample standard deviation over seeds."""
        values = self.divergence[np.isfinite(self.divergence)]
        if not len(values):
            return "KL undefined"
        spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
        return f"KL {values.mean():.3f}{spread}"


def distribution(
    predicted: Sequence[tuple[Codes, Codes]], truth: tuple[Codes, Codes], classes: Sequence[str], groups: Sequence[str]
) -> Distribution:
    """Distributions over classes by group, of several seeds and of the truth.

    In Figure 6 an example's class is the predicted one and its group the protected one; in Figure 7 its "class" is
    the age and its "group" the predicted gender. The divergence is that of `biasbench.prediction_divergence`, in both
    directions and over all pairs.

    Args:
        predicted: By seed: [N] classes and [N] groups.
        truth: The same of the truth.
        classes: K names.
        groups: G names.

    Raises:
        CellError: When there is no seed.

    Example:
        >>> group = np.array([0, 0, 1, 1])
        >>> found = distribution([(np.array([0, 0, 0, 1]), group)], (group, group), "ab", ("woman", "man"))
        >>> found.mean.tolist(), found.words
        ([[100.0, 0.0], [50.0, 50.0]], 'KL 0.268')
    """
    if not predicted:
        raise CellError("a distribution needs the predictions of a run")
    counted = [histogram(*pair, classes, groups) for pair in (*predicted, truth)]
    far = [_divergence(*pair, len(classes), len(groups)) for pair in (*predicted, truth)]
    shares = np.array([found.share for found in counted])  # [S + 1, G, K]
    return Distribution(
        tuple(classes), tuple(groups), shares[:-1], shares[-1], np.array(far[:-1]), far[-1], counted[-1].unknown
    )


def _divergence(values: Codes, codes: Codes, classes: int, groups: int) -> float:
    known = (values >= 0) & (codes >= 0)
    pairs = permutations(range(groups), 2)
    found = [prediction_divergence(values[known], codes[known], a, b, num_labels=classes) for a, b in pairs]
    defined = [value for value in found if np.isfinite(value)]
    return float(np.mean(defined)) if defined else float("nan")


def draw_distribution(path: Path, panels: Mapping[str, Distribution], title: str, over: str, share: str) -> None:
    """Draw a panel for each method: a line for each group, and the truth dashed.

    The truth is one black line where it is the same in all groups, else a line in each group's colour. Bars are the
    range over seeds.

    Args:
        path: Where to; the ending tells the format.
        panels: By method, at least one; all of the same classes and groups.
        title: What is shown.
        over: Name of the x axis.
        share: Name of the y axis.
    """
    first = next(iter(panels.values()))
    page = Page.of(len(panels), len(first.classes))
    width, height = page.width * page.columns, 3.4 * page.rows + 0.9
    with drawing(path, width, height) as picture:
        axes = picture.subplots(page.rows, page.columns, squeeze=False, sharey=True).ravel()
        for unused in axes[len(panels) :]:
            unused.set_axis_off()
        for i, (axis, (method, found)) in enumerate(zip(axes, panels.items(), strict=False)):
            _draw_truth(axis, found)
            _draw_groups(axis, found)
            name_classes(axis, found.classes, page.width)
            tidy(axis, "")
            axis.set_title("\n".join((lines_of(method, page.width, 9), _words(found, page.width))), fontsize=9)
            axis.set_xlabel(literal(over), fontsize=9)
            if i % page.columns == 0:
                axis.set_ylabel(literal(share), fontsize=9)
        axes[0].set_ylim(bottom=0)
        longest = max(len(name) for name in first.groups)
        head(picture, title, width, min(longest, LONGEST) + len(", truth"))


def _words(found: Distribution, width: float) -> str:
    missing = [name for name, row in zip(found.groups, found.mean, strict=True) if np.isnan(row).any()]
    return lines_of(found.words + (f"; none: {', '.join(missing)}" if missing else ""), width, 9)


def _draw_truth(axes: Axes, found: Distribution) -> None:
    place = np.arange(len(found.classes))
    there = found.truth[np.isfinite(found.truth).all(1)]
    if len(there) and np.ptp(there, axis=0).max() < 1e-9:
        axes.plot(place, there[0], color="black", linestyle="--", linewidth=1.2, label="truth", zorder=4)
        return
    for g, name in enumerate(found.groups):
        if np.isfinite(found.truth[g]).all():
            axes.plot(
                place, found.truth[g], color=look(g).colour, linestyle="--", linewidth=1.1,
                label=f"{literal(printable(name, LONGEST))}, truth", zorder=2,
            )  # fmt: skip


def _draw_groups(axes: Axes, found: Distribution) -> None:
    place, mean = np.arange(len(found.classes)), found.mean
    apart = min(0.1, 0.6 / len(mean)) if len(found.share) > 1 else 0  # so that no bar over seeds hides another
    for g, name in enumerate(found.groups):
        style: dict[str, Any] = {"color": look(g).colour, "marker": look(g).marker, "zorder": 3}
        label = literal(printable(name, LONGEST))
        if not np.isfinite(mean[g]).all():
            axes.plot([], [], label=label, **style)  # for the legend
            continue
        seeds = found.share[:, g][np.isfinite(found.share[:, g]).all(1)]  # [S, K]
        aside = place + apart * (g - (len(mean) - 1) / 2)
        axes.plot(aside, mean[g], markersize=4, linewidth=1.4, label=label, **style)
        axes.vlines(aside, seeds.min(0), seeds.max(0), color=look(g).colour, linewidth=0.9, zorder=3)
