"""Recolouring a drawing: every pixel mixes two of its flat colours, and stays that mixture of the new ones."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from biasbench.builtin.datasets.face.cast import SKIN, Drawing
from biasbench.builtin.datasets.scene import sprites

Point = tuple[float, float]
Array = NDArray[np.float64]
EYE = (102, 33, 19)
MOUTH = (193, 105, 79)  # a man's, and every nose
_ALIKE = 12  # per channel: rounding differs from drawing to drawing
_FEWEST = 4  # squares of 2 x 2 pixels of one colour that make it a flat colour; those of edges form none
_REACH = 2  # pixels: how far from a flat colour its mixtures lie


def recoloured(drawing: Drawing, skin: Array, hair: Array, mouth: Array | None = None) -> NDArray[np.uint8]:
    """[H, W, 4] the drawing with another colour of skin, hair and, if given, of nose and a man's mouth.

    Example:
        >>> from biasbench.builtin.datasets.face.cast import FAMILIES
        >>> man = FAMILIES[0].drawing("man", "adult")
        >>> recoloured(man, np.array([9.0, 9, 9]), np.array([200.0, 0, 0]))[40, 30].tolist()
        [9, 9, 9, 255]
    """
    pixels = np.asarray(sprites.sprite(drawing.stem)).copy()
    colours, weights = mixtures(drawing.stem)
    moved = np.zeros((*pixels.shape[:2], 3))
    for colour, weight in zip(colours, weights, strict=True):
        if _alike(colour, drawing.hair):
            new = hair
        elif _alike(colour, SKIN):
            new = skin
        elif mouth is not None and _alike(colour, MOUTH):
            weight, new = weight * _below_the_eyes(drawing.stem), mouth
        else:
            continue
        moved += weight[..., None] * (new - colour)
    pixels[..., :3] = (pixels[..., :3] + moved).clip(0, 255).round()
    return pixels


@lru_cache
def mixtures(stem: str) -> tuple[Array, Array]:
    """Flat colours of a drawing, [K, 3], and [K, H, W] how much of each is in every pixel.

    A pixel mixes the one or two colours within two pixels of it that come closest to it on a straight
    line; where none is near it is taken as it is, and the weights are 0.
    """
    pixels = np.asarray(sprites.sprite(stem)).astype(np.float64)
    rgb, seen = pixels[..., :3], pixels[..., 3] > 0
    colours = _flat_colours(pixels)
    far = np.abs(rgb - colours[:, None, None]).max(axis=-1)  # [K, H, W]
    nearest = far.argmin(axis=0)
    pure = [seen & (far[k] <= _ALIKE) & (nearest == k) for k in range(len(colours))]
    near = [ndimage.binary_dilation(p, np.ones((2 * _REACH + 1,) * 2, bool)) for p in pure]
    weights, least = np.zeros((len(colours), *seen.shape)), np.full(seen.shape, np.inf)
    for k, p in enumerate(pure):
        weights[k][p], least[p] = 1, 0
    for i, j in combinations(range(len(colours)), 2):
        line = colours[j] - colours[i]
        place = ((rgb - colours[i]) @ line / (line @ line)).clip(0, 1)
        error = np.abs(rgb - colours[i] - place[..., None] * line).max(axis=-1)
        better = near[i] & near[j] & seen & (error < least)
        least[better] = error[better]
        weights[:, better] = 0
        weights[i][better], weights[j][better] = 1 - place[better], place[better]
    return colours, weights


def _flat_colours(pixels: Array) -> Array:
    """[K, 3] the colours of many squares, the most frequent first, those alike taken together."""
    first = pixels[:-1, :-1]
    others = pixels[1:, :-1], pixels[:-1, 1:], pixels[1:, 1:]
    square = (first[..., 3] == 255) & np.all([np.abs(o - first).max(axis=-1) <= 2 for o in others], axis=0)
    values, counts = np.unique(first[square][:, :3], axis=0, return_counts=True)
    out: list[Array] = []
    for k in np.argsort(-counts, kind="stable"):
        if counts[k] >= _FEWEST and not any(_alike(values[k], c) for c in out):
            out.append(values[k])
    return np.array(out)


def _alike(one: Array, other: Array | tuple[int, int, int]) -> bool:
    return bool(np.abs(one - other).max() <= _ALIKE)


@lru_cache
def eyes(stem: str) -> tuple[Point, Point]:
    """Centres (x, y) of the left and the right eye of a drawing in the medium tone, in its pixels.

    Example:
        >>> eyes("1f468-1f3fd")
        ((20.0, 36.0), (40.0, 36.0))
    """
    pixels = np.asarray(sprites.sprite(stem)).astype(np.int64)
    dark = (np.abs(pixels[..., :3] - np.array(EYE)).max(axis=-1) < 25) & (pixels[..., 3] > 200)
    parts, count = ndimage.label(dark)
    two = 1 + np.argsort(ndimage.sum_labels(dark, parts, range(1, count + 1)))[-2:]
    centres = np.array(ndimage.center_of_mass(dark, parts, two), np.float64) + 0.5  # [2, (y, x)]
    left, right = centres[np.argsort(centres[:, 1])]
    return (float(left[1]), float(left[0])), (float(right[1]), float(right[0]))


def _below_the_eyes(stem: str) -> NDArray[np.bool_]:
    """[H, W] the part of a drawing in which nose and mouth lie; hats may have the same colour."""
    width, height = sprites.sprite(stem).size
    (x0, level), (x1, _) = eyes(stem)
    y, x = np.mgrid[0:height, 0:width] + 0.5
    unit, middle = x1 - x0, (x0 + x1) / 2
    inside: NDArray[np.bool_] = (y > level) & (y < level + 1.4 * unit) & (np.abs(x - middle) < unit)
    return inside
