"""Figure 5 of Alvi et al. 2018: test embeddings in the plane, coloured by group, before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biasbench.errors import CellError, DataError, UsageError, printable
from biasbench.plots.groups import LONGEST, Page, head, lines_of, look
from biasbench.plots.style import RULE, drawing, literal
from biasbench.rng import generator, seed_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
LAYERS = 8  # parts of each group that are drawn in turns, so that no group covers the others


def project(embedding: NDArray[Any], perplexity: float, where: str = "") -> Floats:
    """Points of the plane by t-SNE (van der Maaten and Hinton 2008), on one thread: the same input, the same bits.

    Started from the first two principal components; the distances are Euclidean, of the embedding as it is.

    Args:
        embedding: [N, D], finite.
        perplexity: Of t-SNE: about how many neighbours each point is drawn to.
        where: What messages name.

    Returns:
        [N, 2]; the axes and distances between clusters have no unit.

    Raises:
        UsageError: When the perplexity is not below N.
        DataError: When the embedding is not finite.
        CellError: When the embedding does not vary, or has a single number.

    Example:
        >>> x = np.repeat(np.eye(2), 20, 0) * 50 + np.arange(40)[:, None] % 7
        >>> found = project(x, 5.0)
        >>> found.shape, bool(np.abs(found[:20].mean(0) - found[20:].mean(0)).max() > found[:20].std())
        ((40, 2), True)
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    n = len(embedding)
    if n <= perplexity:
        raise UsageError(
            f"a perplexity of {perplexity:g} needs more points than that; there are {n}", where=where or None,
            fix="Lower --perplexity" if n > 2 else "Run on a larger test split",
        )  # fmt: skip
    x = np.asarray(embedding, np.float64)
    if not np.isfinite(x).all():
        raise DataError("the embedding is not finite", where=where or None, fix="Run the cell again")
    if x.shape[1] < 2 or not np.ptp(x, axis=0).any():
        raise CellError("the embedding does not vary, or is a single number: there is nothing to draw", where=where)
    seed = seed_for("plot", "embedding") % 2**32
    with threadpool_limits(1):  # sums over threads have no fixed order
        found: Floats = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(x).astype(np.float64)
    return found


def draw_embedding(
    path: Path, panels: Mapping[str, Floats], codes: NDArray[np.int64], groups: Sequence[str], title: str
) -> None:
    """Draw the points of each method side by side.

    Args:
        path: Where to; the ending tells the format.
        panels: By method: [N, 2] points of the same examples.
        codes: [N] groups 0..G-1.
        groups: G names.
        title: What is shown.
    """
    page = Page.of(len(panels), 0)
    width, height = page.width * page.columns, (page.width + 0.3) * page.rows + 0.9
    turns = np.zeros(len(codes), np.int64)  # in which layer each point is drawn
    order = generator("plot", "embedding", "layers").permutation(len(codes))
    turns[order] = np.arange(len(codes)) % LAYERS
    sizes = np.bincount(codes, minlength=len(groups))
    names = [f"{literal(printable(name, LONGEST))} ({n:,})" for name, n in zip(groups, sizes, strict=True)]
    with drawing(path, width, height) as picture:
        axes = np.atleast_1d(picture.subplots(page.rows, page.columns)).ravel()
        for unused in axes[len(panels) :]:
            unused.set_axis_off()
        for axis, (method, points) in zip(axes, panels.items(), strict=False):
            _scatter(axis, points, codes, turns, names)
            axis.set_title(lines_of(method, page.width), fontsize=9)
        head(picture, title, width, max(map(len, names)))


def _scatter(axes: Axes, points: Floats, codes: NDArray[np.int64], turns: NDArray[np.int64], names: list[str]) -> None:
    size = float(np.clip(6000 / len(points), 4, 36))
    for g, name in enumerate(names):
        if (codes == g).any():  # what the legend shows, large enough to be seen
            axes.scatter([], [], s=30, color=look(g).colour, marker=look(g).marker, linewidths=0, label=name)
    for turn in range(LAYERS):
        for g in range(len(names)):
            shown = points[(codes == g) & (turns == turn)]
            axes.scatter(
                shown[:, 0], shown[:, 1], s=size, color=look(g).colour, marker=look(g).marker, alpha=0.75, linewidths=0
            )  # fmt: skip
    axes.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
    for spine in axes.spines.values():
        spine.set_color(RULE)
