"""Regions of images, drawn as masks at any size.

One rule for boxes and masks: a pixel belongs to a region if any part of it does, also after
shrinking. Where a picture was resized before it is edited, the resize has mixed a region's
border into its neighbours: `grow` takes those in too, so that an edit leaves no rim.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasbench.errors import DataError, printable

Mask = NDArray[np.bool_]
_EDGE = 1e-6  # a box edge this close to a pixel's border lies on it


class Regions:
    """The geometry of one named region over the images of a split.

    Args:
        frame: Boxes (`id, x0, y0, x1, y1`) or masks (`id, height, width, counts`) at the
            images' native size; see `Dataset.region`.
        name: For messages.

    Raises:
        DataError: When the columns are neither, a coordinate is not finite, or an image
            has two masks.

    Example:
        >>> frame = pd.DataFrame({"id": ["a"], "x0": [0.0], "y0": [0.0], "x1": [2.0], "y1": [2.0]})
        >>> Regions(frame).rasterise("a", 2, 2, native=(4, 4)).astype(int)
        array([[1, 0],
               [0, 0]])
    """

    def __init__(self, frame: pd.DataFrame, name: str = "region") -> None:
        self.name = name
        self._boxes: NDArray[np.float64] | None = None
        self._rle: list[tuple[int, int, Any]] = []
        if {"id", "x0", "y0", "x1", "y1"} <= set(frame):
            self._boxes = frame[["x0", "y0", "x1", "y1"]].to_numpy(np.float64)
            if not np.isfinite(self._boxes).all():
                raise DataError("a box is not finite", where=f"region {name}")
        elif {"id", "height", "width", "counts"} <= set(frame):
            if frame["id"].duplicated().any():
                twice = frame["id"][frame["id"].duplicated()].iloc[0]
                raise DataError(f"image {printable(twice)!r} has two masks", where=f"region {name}")
            columns = (frame[c].to_numpy() for c in ("height", "width", "counts"))
            self._rle = [(int(h), int(w), counts) for h, w, counts in zip(*columns, strict=True)]
        else:
            raise DataError(
                "a region has columns id, x0, y0, x1, y1 or id, height, width, counts", where=f"region {name}"
            )
        self._rows: dict[str, list[int]] = {}
        for row, id_ in enumerate(frame["id"].astype(str)):
            self._rows.setdefault(id_, []).append(row)

    def rasterise(self, id_: str, height: int, width: int, native: tuple[int, int]) -> Mask:
        """The region of one image as [height, width] bool; empty if it has none.

        Args:
            id_: The image's id.
            height: Rows wanted.
            width: Columns wanted.
            native: Height and width of the image that the geometry belongs to.

        Raises:
            DataError: When a mask is of another size than its image, or damaged.
        """
        rows = self._rows.get(id_, [])
        if self._boxes is not None:
            return _draw_boxes(self._boxes[rows], height, width, native)
        if not rows:
            return np.zeros((height, width), np.bool_)
        h, w, counts = self._rle[rows[0]]
        where = f"region {self.name}, image {printable(id_)!r}"
        if (h, w) != native:  # checked before the native decoder sees it: it trusts the size
            raise DataError(f"the mask is {w}x{h}, the image {native[1]}x{native[0]}", where=where)
        return shrink(_decode(h, w, counts, where), height, width)


def _draw_boxes(boxes: NDArray[np.float64], height: int, width: int, native: tuple[int, int]) -> Mask:
    mask = np.zeros((height, width), np.bool_)
    scale = np.array([width / native[1], height / native[0]] * 2)
    for x0, y0, x1, y1 in boxes * scale:
        if x1 > x0 and y1 > y0:
            left, top = (max(0, int(np.floor(v + _EDGE))) for v in (x0, y0))
            right, bottom = (max(0, int(np.ceil(v - _EDGE))) for v in (x1, y1))
            mask[top:bottom, left:right] = True
    return mask


def _decode(height: int, width: int, counts: Any, where: str) -> Mask:
    try:
        runs = expand(counts.encode("ascii") if isinstance(counts, str) else bytes(counts))
    except (ValueError, TypeError) as error:
        raise DataError(f"the mask cannot be decoded: {printable(error)}", where=where) from error
    if (runs < 0).any() or int(runs.sum()) != height * width:
        raise DataError("the mask's run lengths do not add up to the image's pixels", where=where)
    values = np.arange(len(runs)) % 2 == 1  # background first
    return np.repeat(values, runs).reshape(width, height).T  # COCO's runs go down the columns


def expand(counts: bytes) -> NDArray[np.int64]:
    """Run lengths from COCO's compressed text.

    Five bits a character from 48 on, the lowest first; the sixth bit says that more follow,
    the fifth of the last is the sign; from the fourth run on, the text holds the difference
    to the run two before.

    Raises:
        ValueError: When the bytes are no such text.

    Example:
        >>> expand(b"132").tolist()
        [1, 3, 2]
    """
    bits = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if not len(bits):
        return bits
    last = (bits & 32) == 0
    if ((bits < 0) | (bits > 63)).any() or not last[-1]:
        raise ValueError("not COCO's compressed run lengths")
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    place = np.arange(len(bits)) - np.repeat(starts, np.diff(np.append(starts, len(bits))))
    if place.max() > 9:  # more than 50 bits
        raise ValueError("a run length that is no length of a run")
    values = np.add.reduceat((bits & 31) << (5 * place), starts)
    negative = (bits[last] & 16) != 0
    runs: NDArray[np.int64] = values - np.where(negative, np.int64(1) << (5 * (place[last] + 1)), 0)
    # Undo the differences: two interleaved running sums, of which run 0 is no part.
    runs[1::2], runs[2::2] = runs[1::2].cumsum(), runs[2::2].cumsum()
    return runs


def shrink(mask: Mask, height: int, width: int) -> Mask:
    """`mask` at another size: a pixel is set if it overlaps any set pixel.

    Example:
        >>> shrink(np.eye(4, dtype=bool), 2, 2).astype(int)
        array([[1, 0],
               [0, 1]])
    """
    if mask.shape == (height, width):
        return np.ascontiguousarray(mask)
    return _shrink_rows(_shrink_rows(mask.T, width).T, height)


def grow(mask: Mask, pixels: int) -> Mask:
    """`mask` and every pixel within `pixels` rows and columns of it.

    Example:
        >>> grow(np.array([[True, False, False]]), 1).astype(int)
        array([[1, 1, 0]])
    """
    for axis in (0, 1):
        grown = mask.copy()
        for step in range(1, min(pixels, mask.shape[axis] - 1) + 1):
            near = [slice(None)] * 2
            far = [slice(None)] * 2
            near[axis], far[axis] = slice(step, None), slice(None, -step)
            grown[tuple(near)] |= mask[tuple(far)]
            grown[tuple(far)] |= mask[tuple(near)]
        mask = grown
    return mask


def _shrink_rows(mask: Mask, rows: int) -> Mask:
    """[R, C] to [rows, C]: row i is any of the rows that [i, i + 1) · R / rows overlaps."""
    size, i = mask.shape[0], np.arange(rows)
    first = i * size // rows
    last = -(-(i + 1) * size // rows) - 1
    any_: Mask = mask[first]  # a copy
    for step in range(1, int((last - first).max(initial=0)) + 1):
        any_ |= mask[np.minimum(first + step, last)]
    return any_
