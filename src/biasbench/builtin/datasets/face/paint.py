"""A picture from a portrait: turned to a pose, placed, put on a background, with noise.

Everything but the portrait and the turn is drawn alike whatever the attributes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from biasbench import Split
from biasbench.builtin.datasets.face import cast
from biasbench.builtin.datasets.face.law import POSES
from biasbench.builtin.datasets.face.portrait import SIDE, portrait
from biasbench.builtin.datasets.scene.backdrop import backdrop

YAWS: Mapping[str, float] = dict(zip(POSES, (-56.0, -28.0, 0.0, 28.0, 56.0), strict=True))  # degrees
_SPREAD = 8.0  # degrees on either side of a pose's own
_DEPTH = 0.45  # of the perspective: how much larger the nearer half is
_BULGE = 0.40  # how far nose and eyes move across the head as it turns
_T = TypeVar("_T")


@dataclass(frozen=True)
class Person:
    """Who is shown.

    Attributes:
        family: The family's name.
        gender: Of `law.GROUPS`.
        tone: Of the skin.
        hair: The natural colour of the hair.
    """

    family: str
    gender: str
    tone: str
    hair: str

    @property
    def name(self) -> str:
        """All of it as one text."""
        return f"{self.family}/{self.gender}/{self.tone}/{self.hair}"


@dataclass(frozen=True)
class Face:
    """A painted face.

    Attributes:
        image: RGB.
        person: Who is shown.
        yaw: Degrees that the head is turned; positive: the nose points to the right of the picture.
        stem: File stem of the drawing.
    """

    image: Image.Image
    person: Person
    yaw: float
    stem: str


def paint(attributes: Mapping[str, str], split: Split, size: int, rng: np.random.Generator) -> Face:
    """Paint one face of `size` pixels square.

    Args:
        attributes: The group of each attribute of `law.GROUPS`.
        split: Whose people may be shown.
        size: Side of the picture, pixels.
        rng: Chooses all else; other attributes change nothing that it chooses.
    """
    family, hair = _pick(cast.families(split), rng), _pick(tuple(cast.HAIR), rng)
    person = Person(family.name, attributes["gender"], attributes["skin"], hair)
    drawing = family.drawing(attributes["gender"], attributes["age"])
    flat = portrait(drawing, attributes["age"], person.tone, hair)
    yaw = YAWS[attributes["pose"]] + float(rng.uniform(-_SPREAD, _SPREAD))
    head = turned(flat[:, ::-1] if rng.random() < 0.5 else flat, yaw, _placed(size, rng))
    head[..., :3] *= rng.uniform(0.85, 1.1)
    scene = np.asarray(backdrop(rng, size), np.float32)
    pixels = head[..., :3] + scene * (1 - head[..., 3:] / 255)
    pixels *= rng.uniform(0.85, 1.12)
    pixels += rng.uniform(2, 9) * rng.standard_normal(pixels.shape, np.float32)
    image = Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))
    return Face(image, person, round(yaw, 2), drawing.stem)


def _placed(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """[2, F, F] where each sample of the picture lies on the plane of the head, in half frames from its centre."""
    turn, scale = math.radians(rng.uniform(-12, 12)), rng.uniform(0.88, 1.12)
    down, across = rng.uniform(-0.10, 0.10, 2)
    n = 2 * size  # two by two samples a pixel
    y, x = (np.mgrid[0:n, 0:n] + 0.5) * 2 / n - 1
    x, y = (x - across) / scale, (y - down) / scale
    cos, sin = math.cos(turn), math.sin(turn)
    return np.stack([cos * x + sin * y, cos * y - sin * x])


def turned(flat: NDArray[np.float32], yaw: float, plane: NDArray[np.float64]) -> NDArray[np.float32]:
    """A head turned about its vertical axis: narrower, its nearer half larger, its features moved the way it turns.

    Args:
        flat: [S, S, 4] portrait, colour multiplied by opacity.
        yaw: Degrees, positive to the right.
        plane: [2, F, F] x and y of each sample, in half frames from the centre; F is even.

    Returns:
        [F / 2, F / 2, 4], two by two samples averaged.

    Example:
        >>> from biasbench.builtin.datasets.face.cast import FAMILIES
        >>> flat = portrait(FAMILIES[0].drawing("man", "adult"), "adult", "light", "black")
        >>> y, x = (np.mgrid[0:64, 0:64] + 0.5) / 32 - 1
        >>> front, side = (turned(flat, v, np.stack([x, y]))[..., 3].sum() for v in (0, 56))
        >>> bool(side < 0.8 * front)
        True
    """
    cos, sin = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
    x, y = plane
    along = x / (cos - _DEPTH * x * sin)  # the inverse of x' = x cos / (1 + depth x sin)
    y = y * (1 + _DEPTH * along * sin)
    along = along - _BULGE * sin * (1 - along.clip(-1, 1) ** 2)
    at = [(y + 1) * SIDE / 2 - 0.5, (along + 1) * SIDE / 2 - 0.5]
    layers = [ndimage.map_coordinates(flat[..., k], at, order=1, cval=0.0) for k in range(flat.shape[-1])]
    fine = np.stack(layers, axis=-1)
    pixels = (fine[::2, ::2] + fine[1::2, ::2] + fine[::2, 1::2] + fine[1::2, 1::2]) / 4
    return np.asarray(pixels, np.float32)


def _pick(items: Sequence[_T], rng: np.random.Generator) -> _T:
    return items[int(rng.integers(len(items)))]
