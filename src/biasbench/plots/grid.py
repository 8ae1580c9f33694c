"""Figure 6 of Wang et al. 2019: images as a method leaves them, beside the originals."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench.errors import CellError
from biasbench.plots.style import drawing, literal
from biasbench.rng import generator

Pixels = NDArray[np.uint8]  # [N, H, W, 3]


def draw_grid(
    path: Path, before: Pixels, after: Sequence[Pixels], captions: Sequence[str], title: str, columns: int = 4
) -> None:
    """Draw images on one page, each with what methods make of it on its right.

    Args:
        path: Where to; the ending tells the format.
        before: [N, H, W, 3] uint8 originals.
        after: Of the same shape, one for each method, in the order to show.
        captions: N texts, such as the groups.
        title: What is shown; as many lines as it needs.
        columns: Originals in a row.

    Raises:
        CellError: When there is no image, or shapes disagree.
    """
    if not len(before) or not after or len(captions) != len(before) or any(a.shape != before.shape for a in after):
        raise CellError("a grid needs images, each before and after, with a caption")
    rows, width = -(-len(before) // columns), 1.45 * (1 + len(after)) * columns
    gap = np.full((before.shape[1], max(1, before.shape[2] // 40), 3), 255, np.uint8)
    lines = textwrap.wrap(literal(title), max(20, int(12 * width)), break_on_hyphens=False)
    with drawing(path, width, 1.65 * rows + 0.2 + 0.2 * len(lines)) as picture:
        axes = np.atleast_1d(picture.subplots(rows, columns)).reshape(-1)
        for axis in axes:
            axis.set_axis_off()
        for axis, caption, *images in zip(axes, captions, before, *after, strict=False):
            strip = [part for image in images for part in (image, gap)][:-1]
            axis.imshow(np.concatenate(strip, 1), interpolation="nearest")
            axis.set_title(literal(caption), fontsize=7, pad=2)
        picture.suptitle("\n".join(lines), fontsize=10)


def choose_rows(codes: NDArray[Any], eligible: NDArray[np.bool_], count: int, seed: int) -> NDArray[np.int64]:
    """Rows to show: as many of each group as can be, at random, in the order of the table.

    Args:
        codes: [N] groups; -1 = unknown, never chosen.
        eligible: [N] rows that the method changes.
        count: How many.
        seed: Of the choice.

    Example:
        >>> rows = choose_rows(np.array([0, 0, 1, 1, -1]), np.ones(5, bool), 2, 0)
        >>> sorted(np.array([0, 0, 1, 1, -1])[rows].tolist())
        [0, 1]
    """
    order = generator("plot", "grid", seed).permutation(len(codes))
    order = order[eligible[order] & (codes[order] >= 0)]
    turn = np.zeros(len(order), np.int64)  # how many of its group stand before each row
    for group in np.unique(codes[order]):
        of_group = codes[order] == group
        turn[of_group] = np.arange(of_group.sum())
    return np.sort(order[np.argsort(turn, kind="stable")][:count])
