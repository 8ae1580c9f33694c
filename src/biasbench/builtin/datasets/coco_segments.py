"""Segments of COCO annotations: polygons and run lengths, checked before any C code sees them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from pycocotools import mask as coco_mask

MAX_NUMBERS = 200_000  # of one polygon: far above any real outline


class RunLengths(msgspec.Struct, gc=False):
    """COCO's run lengths over columns, starting with background."""

    size: tuple[int, int]
    counts: list[int] | str


_POLYGONS = msgspec.json.Decoder(list[list[float]])
_RUNS = msgspec.json.Decoder(RunLengths)


def problem(segment: bytes, height: int, width: int) -> str | None:
    """What is wrong with a segment of an image of this size, or None.

    pycocotools trusts the sizes and counts that it is given, and a hostile `size` ends the process.

    Args:
        segment: JSON text: a list of polygons `[[x, y, x, y, ...], ...]` or an object with
            `size` [height, width] and `counts` (a list, or COCO's compressed text).
        height: Of the image, pixels.
        width: Of the image, pixels.

    Example:
        >>> problem(b'{"size": [2, 2], "counts": [1, 2]}', 2, 2)
        'run lengths add up to 3 pixels, the image has 4'
    """
    try:
        if segment[:1] == b"[":
            return _polygon_problem(_POLYGONS.decode(segment), height, width)
        runs = _RUNS.decode(segment)
    except (msgspec.DecodeError, RecursionError) as error:
        return f"segmentation is neither polygons nor run lengths: {error}"
    if runs.size != (height, width):
        return f"run lengths of size {list(runs.size)}, the image is {[height, width]}"
    try:
        counts = runs.counts if isinstance(runs.counts, list) else expand(runs.counts)
    except ValueError as error:
        return str(error)
    if min(counts, default=0) < 0:
        return "a negative run length"
    if sum(counts) != height * width:
        return f"run lengths add up to {sum(counts)} pixels, the image has {height * width}"
    return None


def _polygon_problem(polygons: list[list[float]], height: int, width: int) -> str | None:
    low, high = -max(height, width), 2 * max(height, width)
    for polygon in polygons:
        if len(polygon) % 2:
            return f"a polygon of {len(polygon)} numbers: x and y must come in pairs"
        if len(polygon) > MAX_NUMBERS:
            return f"a polygon of {len(polygon)} numbers (at most {MAX_NUMBERS})"
        if polygon and not low <= min(polygon) <= max(polygon) <= high:
            return f"a polygon far outside its image of {width} by {height} pixels"
    return None


def degenerate(segment: bytes) -> bool:
    """Whether a (valid) segment has a polygon of fewer than three points, which has no area."""
    return segment[:1] == b"[" and any(len(p) < 6 for p in _POLYGONS.decode(segment))


def expand(counts: str) -> list[int]:
    """The run lengths behind COCO's compressed text.

    Five bits a character from 48 on, the sixth bit says that more follow, the sign is the last
    fifth bit; from the fourth run on, the difference to the run two before is stored.

    Raises:
        ValueError: When the text is cut or has other characters.

    Example:
        >>> expand("132")
        [1, 3, 2]
    """
    runs: list[int] = []
    value = shift = 0
    for c in counts:
        bits = ord(c) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("run lengths that are not COCO's compressed text")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("compressed run lengths that are cut off")
    return runs


def union(segments: Sequence[bytes], height: int, width: int) -> bytes:
    """The union of (valid) segments as COCO's compressed run lengths.

    Example:
        >>> expand(union([b'{"size": [2, 2], "counts": [0, 1, 3]}', b'[[1, 0, 2, 0, 2, 1, 1, 1]]'], 2, 2).decode())
        [0, 1, 1, 1, 1]
    """
    parts: list[dict[str, object]] = []
    for segment in segments:
        if segment[:1] == b"[":
            # pycocotools takes a first polygon of four numbers for a box
            outlines = [p for p in _POLYGONS.decode(segment) if len(p) >= 6]
            parts += coco_mask.frPyObjects(outlines, height, width) if outlines else []
            continue
        runs = _RUNS.decode(segment)
        if isinstance(runs.counts, str):
            parts.append({"size": [height, width], "counts": runs.counts.encode("ascii")})
        else:
            parts.append(coco_mask.frPyObjects({"size": [height, width], "counts": runs.counts}, height, width))
    if not parts:
        parts = [coco_mask.encode(np.zeros((height, width), np.uint8, order="F"))]
    counts: bytes = coco_mask.merge(parts)["counts"]
    return counts


def bounds(counts: bytes, height: int, width: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom (both exclusive) of the pixels of a mask; all 0 for an empty one."""
    x, y, w, h = coco_mask.toBbox({"size": [height, width], "counts": counts})
    return float(x), float(y), float(x + w), float(y + h)
