"""Figure 7 of Wang et al. 2019: F1 of every label before and after, and which labels fall out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench.errors import CellError
from biasbench.plots.style import ACCENT, INK, QUIET, drawing, literal, tidy
from biasbench.rng import generator
from biasbench.scoring import one_hot

Floats = NDArray[np.float64]
DRAWS = 500
LEVEL = 0.05  # that any label falls out by chance, all labels together


@dataclass(frozen=True)
class Changes:
    """F1 by label, percent, means over seeds.

    Attributes:
        names: K names.
        before: [K] NaN where a label has no positive in the test split.
        after: [K] likewise.
        error: [K] standard error of after - before, from a bootstrap over test images.
        positives: [K] test images with the label.
        seeds: Number of pairs of runs.
    """

    names: tuple[str, ...]
    before: Floats
    after: Floats
    error: Floats
    positives: NDArray[np.int64]
    seeds: int

    @property
    def change(self) -> Floats:
        """[K] after - before, points."""
        return self.after - self.before

    @property
    def shift(self) -> float:
        """The median change: what the method costs every label alike."""
        return float(np.nanmedian(self.change))

    @property
    def falls_out(self) -> NDArray[np.bool_]:
        """[K] whether a label's change differs from the median by more than its error explains.

        Two-sided at 5 % for all K labels together (Bonferroni, normal quantile). A label whose error
        is 0, as one that is never predicted, has nothing to be judged by and does not fall out.
        """
        from scipy.stats import norm

        known = np.isfinite(self.change) & (self.error > 0)
        reach = norm.ppf(1 - LEVEL / (2 * max(int(known.sum()), 1)))
        out = np.zeros(len(self.names), np.bool_)
        out[known] = np.abs(self.change - self.shift)[known] > reach * self.error[known]
        return out


def label_changes(
    names: Sequence[str],
    targets: NDArray[Any],
    pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]],
) -> Changes:
    """F1 of every label before and after a method.

    The bootstrap draws test images with replacement, the same for both models and all seeds; it says
    how another test split of that size would differ, not how another training would.

    Args:
        names: K names.
        targets: [N, K] in {0, 1} or [N] classes.
        pairs: By seed: decoded labels before and after, shaped as `targets`.

    Raises:
        CellError: When there is no pair, or shapes disagree.

    Example:
        >>> truth = np.array([[1, 0], [1, 1], [0, 1]])
        >>> found = label_changes(["dog", "cat"], truth, [(truth, 0 * truth)])
        >>> found.before.tolist(), found.after.tolist()
        ([100.0, 100.0], [0.0, 0.0])
    """
    if not pairs or any(labels.shape != targets.shape for pair in pairs for labels in pair):
        raise CellError("labels before and after must be of the same examples")
    k, n = len(names), len(targets)
    true = one_hot(targets, k).astype(np.float64)  # [N, K]
    said = [[one_hot(labels, k).astype(np.float64) for labels in pair] for pair in pairs]
    draws = generator("plot", "labels").multinomial(n, np.full(n, 1 / n), DRAWS).astype(np.float64)  # [D, N]
    whole = np.ones((1, n))
    before, after = (np.mean([_f1(whole, one[i], true)[0] for one in said], 0) for i in (0, 1))
    drawn = np.mean([_f1(draws, one[1], true) - _f1(draws, one[0], true) for one in said], 0)  # [D, K]
    positives = true.sum(0).astype(np.int64)
    before, after = (np.where(positives > 0, f1, np.nan) for f1 in (before, after))
    return Changes(tuple(names), before, after, drawn.std(0, ddof=1), positives, len(pairs))


def _f1(weights: Floats, said: Floats, true: Floats) -> Floats:
    """[D, K] F1 in percent of weighted examples; 0 where a label is neither present nor predicted."""
    total = weights @ (said + true)
    found: Floats = 200 * (weights @ (said * true)) / np.maximum(total, 1)
    return found


def draw_labels(path: Path, changes: Changes, title: str, before: str, after: str) -> None:
    """Draw F1 after against F1 before, with y = x; labels that fall out have a colour and their name.

    Args:
        path: Where to; the ending tells the format.
        changes: What to draw.
        title: What was measured.
        before: Name of the method on the x axis.
        after: Name of the method on the y axis.
    """
    known, out = np.isfinite(changes.change), changes.falls_out
    with drawing(path, 5.6, 5.6) as picture:
        axes = picture.subplots()
        axes.plot([0, 100], [0, 100], color=INK, linewidth=1)
        axes.plot([0, 100], [changes.shift, 100 + changes.shift], color=QUIET, linewidth=0.9, linestyle=":",
                  label=f"median change {changes.shift:+.2f}")  # fmt: skip
        for chosen, colour, words in ((known & ~out, INK, "labels"), (known & out, ACCENT, "labels that fall out")):
            axes.plot(changes.before[chosen], changes.after[chosen], "o", color=colour, markersize=4, alpha=0.75,
                      markeredgewidth=0, label=f"{int(chosen.sum())} {words}")  # fmt: skip
        for i in np.flatnonzero(known & out):
            above = changes.change[i] > changes.shift
            axes.annotate(
                literal(changes.names[i]), (changes.before[i], changes.after[i]), fontsize=8, color=ACCENT,
                xytext=(-5, 3) if above else (5, -3), textcoords="offset points",
                ha="right" if above else "left", va="bottom" if above else "top",
            )  # fmt: skip
        axes.set(xlabel=f"F1 of each label with {literal(before)}, %", ylabel=f"F1 with {literal(after)}, %")
        axes.set(xlim=(-2, 102), ylim=(-2, 102), aspect="equal")
        tidy(axes, title)
        axes.legend(loc="upper left", frameon=False, fontsize=8)
