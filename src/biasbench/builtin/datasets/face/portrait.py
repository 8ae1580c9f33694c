"""A portrait from a drawing: recoloured, framed by its eyes, aged.

What the artwork has no drawing for is derived from the adult's: a child has a round head, a high forehead, larger
eyes and red cheeks; a middle-aged person hair that turns grey, and lines under the eyes and from nose to mouth; an
older one white hair, and lines on the forehead too. The artwork's own portraits of children and of older people
get the same eyes, cheeks, hair and lines, but keep the shape of their heads.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from biasbench.builtin.datasets.face.cast import HAIR, TONES, Drawing
from biasbench.builtin.datasets.face.recolour import eyes, recoloured

Pixels = NDArray[np.float32]
SIDE = 128  # of a portrait, pixels
_UNIT = SIDE / 4.1  # distance between the eyes in a portrait, pixels
_LEVEL = 0.54 * SIDE  # of the eyes
_MOUTHS = {"medium-dark": (145, 90, 52), "dark": (61, 46, 36)}  # as the artwork draws these tones
_GREY, _WHITE = np.array([150, 150, 153]), np.array([224, 226, 229])
_CHEEK = (226, 92, 84, 150)
_FINE = 3  # lines are drawn at this many times the size
_DROP = 0.22  # of a child's eyes, in distances between the eyes


@lru_cache(maxsize=512)
def portrait(drawing: Drawing, age: str, tone: str, hair: str) -> Pixels:
    """[SIDE, SIDE, 4] float32 RGBA in [0, 255], colour multiplied by opacity.

    Args:
        drawing: What it is made from.
        age: Of `law.GROUPS`.
        tone: Of the skin.
        hair: Name of its natural colour.

    Example:
        >>> from biasbench.builtin.datasets.face.cast import FAMILIES
        >>> portrait(FAMILIES[0].drawing("woman", "older"), "older", "dark", "black").shape
        (128, 128, 4)
    """
    grown = np.array(HAIR[hair], np.float64)
    greyed = {"middle-aged": 0.4 * grown + 0.6 * _GREY, "older": 0.08 * grown + 0.92 * _WHITE}
    mouth = np.array(_MOUTHS[tone], np.float64) if tone in _MOUTHS else None
    skin = np.array(TONES[tone], np.float64)
    image = _framed(recoloured(drawing, skin, greyed.get(age, grown), mouth), drawing.stem)
    if age != "adult":
        image = _marked(image, age, skin)
    flat = np.asarray(image, np.float32).copy()
    flat[..., :3] *= flat[..., 3:] / 255
    return _child(flat, round_head=drawing.age == "adult") if age == "child" else flat


def _framed(pixels: NDArray[np.uint8], stem: str) -> Image.Image:
    """The drawing at the size and place at which its eyes lie as in every portrait."""
    (x0, y0), (x1, y1) = eyes(stem)
    scale = (x1 - x0) / _UNIT
    matrix = (scale, 0, (x0 + x1) / 2 - scale * SIDE / 2, 0, scale, (y0 + y1) / 2 - scale * _LEVEL)
    whole = Image.fromarray(pixels).convert("RGBa")
    return whole.transform((SIDE, SIDE), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC).convert("RGBA")


def _marked(image: Image.Image, age: str, skin: NDArray[np.float64]) -> Image.Image:
    """Cheeks of a child, lines of an older face, where the portrait is opaque."""
    over = Image.new("RGBA", (SIDE * _FINE, SIDE * _FINE))
    pen = ImageDraw.Draw(over)
    colour = (*(int(v) for v in (skin * 0.55).round()), 255)
    unit, middle, level = _UNIT * _FINE, SIDE * _FINE / 2, _LEVEL * _FINE

    def line(*points: tuple[float, float]) -> None:
        """One on each side; x from the middle and y from the eyes, in distances between the eyes."""
        for side in (-1, 1):
            path = [(middle + side * x * unit, level + y * unit) for x, y in points]
            pen.line(path, fill=colour, width=round(0.07 * unit), joint="curve")

    if age == "child":
        for side in (-1, 1):
            x, y, r = middle + side * 0.68 * unit, level + 0.5 * unit, 0.24 * unit
            pen.ellipse((x - r, y - 0.8 * r, x + r, y + 0.8 * r), fill=_CHEEK)
    else:
        line((0.30, 0.30), (0.50, 0.38), (0.70, 0.30))
        line((0.28, 0.45), (0.46, 0.66), (0.50, 0.86))
    if age == "older":
        line((0.0, -0.42), (0.25, -0.45), (0.48, -0.40))
        line((0.0, -0.58), (0.20, -0.61), (0.38, -0.57))
        line((0.80, -0.02), (1.0, -0.10))
        line((0.80, 0.10), (1.0, 0.14))
    over = over.resize((SIDE, SIDE), Image.Resampling.BOX)
    shown = np.asarray(over.getchannel("A")) * (np.asarray(image.getchannel("A")) > 200)
    over.putalpha(Image.fromarray(shown.astype(np.uint8)))
    return Image.alpha_composite(image, over)


def _child(flat: Pixels, round_head: bool) -> Pixels:
    """Larger eyes; with `round_head`, a wider and shorter head, most of it above the eyes."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    y, x = (y - _LEVEL) / _UNIT, (x - SIDE / 2) / _UNIT
    if round_head:
        above = y < _DROP
        x = x * np.where(above, 0.90, 0.90 + 0.1 * y.clip(0, 1) ** 2)
        y = (y - _DROP) * np.where(above, 0.92, 1.45)
    for side in (-0.5, 0.5):
        far = np.hypot((x - side) / 0.36, y / 0.42)
        pull = np.where(far < 1, 0.58 + 0.42 * far, 1.0)
        x, y = side + (x - side) * pull, y * pull
    at = [y * _UNIT + _LEVEL - 0.5, x * _UNIT + SIDE / 2 - 0.5]
    layers = [ndimage.map_coordinates(flat[..., k], at, order=1, cval=0.0) for k in range(4)]
    out: Pixels = np.stack(layers, axis=-1)
    return out
