"""Figures 2 and 4 of Alvi et al. 2018: how the groups of a data set differ in their classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biasbench.errors import DataError, printable
from biasbench.plots.groups import LONGEST, Page, head, look, name_classes
from biasbench.plots.style import INK, drawing, literal, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Histogram:
    """Classes of the examples of each group, in one split.

    Attributes:
        classes: K names.
        groups: G names.
        counts: [G, K] examples; an example may have several labels, or none.
        sizes: [G] examples.
        unknown: Examples whose group or class is unknown; they are left out.
    """

    classes: tuple[str, ...]
    groups: tuple[str, ...]
    counts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    unknown: int

    @property
    def share(self) -> Floats:
        """[G, K] percent of the group's examples; NaN for a group without any."""
        found: Floats = 100 * self.counts / np.where(self.sizes > 0, self.sizes, np.nan)[:, None]
        return found

    @property
    def difference(self) -> Floats:
        """[D, K] points: of two groups, the first's share less the second's (D = 1).

        Of more, each group's less the mean of the groups that have examples (D = G). NaN where there is no
        second group to compare with.
        """
        share, there = self.share, self.sizes > 0
        if len(self.groups) == 2:
            return share[:1] - share[1:]
        if there.sum() < 2:
            return np.full_like(share, np.nan)
        found: Floats = share - share[there].mean(0)
        return found


def histogram(
    values: NDArray[Any], codes: NDArray[np.int64], classes: Sequence[str], groups: Sequence[str]
) -> Histogram:
    """Count classes by group.

    Args:
        values: [N] classes 0..K-1, -1 = unknown; or [N, K] labels in {0, 1}.
        codes: [N] groups 0..G-1, -1 = unknown.
        classes: K names.
        groups: G names.

    Raises:
        DataError: When lengths differ or a code is out of range.

    Example:
        >>> found = histogram(np.array([0, 1, 1, 1]), np.array([0, 0, 1, -1]), ("young", "old"), ("woman", "man"))
        >>> found.counts.tolist(), found.difference.tolist(), found.unknown
        ([[1, 1], [0, 1]], [[50.0, -50.0]], 1)
    """
    k, n_groups = len(classes), len(groups)
    if len(values) != len(codes):
        raise DataError(f"{len(values)} classes and {len(codes)} groups do not fit together")
    if len(codes) and (codes.max() >= n_groups or (values.ndim == 1 and values.max() >= k)):
        raise DataError(f"a code is outside the {n_groups} groups or {k} classes")
    known = codes >= 0
    if values.ndim == 1:
        known &= values >= 0
        rows = np.bincount(codes[known] * k + values[known], minlength=n_groups * k).reshape(n_groups, k)
    else:
        rows = np.array([values[known & (codes == g)].sum(0, dtype=np.int64) for g in range(n_groups)])
    sizes = np.bincount(codes[known], minlength=n_groups)
    return Histogram(tuple(classes), tuple(groups), rows.astype(np.int64), sizes.astype(np.int64), int((~known).sum()))


def draw_histogram(path: Path, splits: Mapping[str, Histogram], title: str, of: str, by: str) -> None:
    """Draw the shares of each split with their difference below.

    Args:
        path: Where to; the ending tells the format.
        splits: At least one, all of the same classes and groups.
        title: What was counted.
        of: Name of what is counted.
        by: Name of the attribute whose groups are compared.
    """
    first = next(iter(splits.values()))
    page = Page.of(len(splits), len(first.classes))
    width, height = page.width * page.columns, 4.6 * page.rows + 0.9
    with drawing(path, width, height) as picture:
        axes = picture.subplots(
            2 * page.rows, page.columns, squeeze=False, sharex="col", sharey="row", height_ratios=[2, 1] * page.rows
        )
        for i, (split, found) in enumerate(splits.items()):
            row, column = divmod(i, page.columns)
            above, below = axes[2 * row, column], axes[2 * row + 1, column]
            _draw_shares(above, found, split)
            _draw_difference(below, found)
            name_classes(below, found.classes, page.width)
            below.tick_params(labelbottom=True)  # also where another split's panel stands below
            below.set_xlabel(literal(of), fontsize=9)
            if column == 0:
                above.set_ylabel(f"% of each {literal(by)}", fontsize=9)
                below.set_ylabel(_compared(first.groups), fontsize=9)
        longest = max(len(name) for name in first.groups)
        head(picture, title, width, min(longest, LONGEST))


def _compared(groups: Sequence[str]) -> str:
    if len(groups) == 2:
        first, second = (literal(printable(name, LONGEST)) for name in groups)
        return f"{first} less {second},\npoints"
    return "less the\ngroups' mean,\npoints"


def _draw_shares(axes: Axes, found: Histogram, split: str) -> None:
    _bars(axes, np.nan_to_num(found.share), [literal(printable(name, LONGEST)) for name in found.groups])
    sizes = " + ".join(f"{n:,}" for n in found.sizes) if len(found.groups) <= 3 else f"{found.sizes.sum():,}"
    tidy(axes, f"{split}, n = {sizes}")


def _draw_difference(axes: Axes, found: Histogram) -> None:
    difference = found.difference
    axes.axhline(0, color=INK, linewidth=0.8)
    if not np.nan_to_num(difference).any():
        words = "no difference" if np.isfinite(difference).any() else "one group only"
        axes.text(0.5, 0.7, words, transform=axes.transAxes, ha="center", fontsize=8)
    elif len(found.groups) == 2:
        more = np.where(difference[0] > 0, 0, 1)  # each bar has the colour of the group that has more
        shown = np.array([np.where(more == g, difference[0], 0) for g in (0, 1)])
        _bars(axes, shown, [None, None], together=True)
    else:
        _bars(axes, np.nan_to_num(difference), [None] * len(difference))
    tidy(axes, "")


def _bars(axes: Axes, heights: Floats, labels: Sequence[str | None], *, together: bool = False) -> None:
    """Bars of [G, K] heights: a group's side by side with the others', or all at one place."""
    groups, k = heights.shape
    wide = 0.84 if together else 0.84 / groups
    for g in range(groups):
        place = np.arange(k) + (0 if together else (g - (groups - 1) / 2) * wide)
        axes.bar(
            place, heights[g], wide, color=look(g).colour, hatch=look(g).hatch, edgecolor="white", linewidth=0.3,
            label=labels[g],
        )  # fmt: skip
