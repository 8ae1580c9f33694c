"""Backgrounds: gradients, skies, stripes, checks, blobs, dots and plaster, whatever the gender."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.float32]
_GRAIN = 4.0  # standard deviation of the noise over every background, of 255


def backdrop(rng: np.random.Generator, size: int) -> Image.Image:
    """A square RGB background.

    Example:
        >>> backdrop(np.random.default_rng(0), 32).size
        (32, 32)
    """
    kind = _KINDS[int(rng.integers(len(_KINDS)))]
    low, high = _colours(rng)
    mix = kind(rng, size)[..., None]  # [S, S, 1] in 0..1
    pixels = low + (high - low) * mix
    pixels += _GRAIN * rng.random() * rng.standard_normal((size, size, 1), np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _colours(rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Two related colours: one anywhere, the other a step away from it."""
    first = rng.uniform(50, 225, 3)
    first = 0.55 * first + 0.45 * first.mean()  # muted: the drawings are what is bright
    second = np.clip(first + rng.uniform(-30, 30, 3) + rng.uniform(-40, 40), 20, 250)
    return first.astype(np.float32), second.astype(np.float32)


def _ramp(rng: np.random.Generator, size: int) -> Pixels:
    """Distance along a random direction, [S, S], about -0.7..0.7."""
    angle = rng.uniform(0, 2 * np.pi)
    axis = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    out: Pixels = np.float32(np.cos(angle)) * axis[None, :] + np.float32(np.sin(angle)) * axis[:, None]
    return out


def _gradient(rng: np.random.Generator, size: int) -> Pixels:
    out: Pixels = np.clip(_ramp(rng, size) / 1.4 + 0.5, 0, 1)
    return out


def _waves(ramp: Pixels, rng: np.random.Generator) -> Pixels:
    """Hard or soft stripes along a ramp."""
    wave = np.sin(ramp * np.float32(2 * np.pi * rng.uniform(3, 12)))
    sharp = np.float32(rng.uniform(1, 12))
    out: Pixels = np.clip(wave * sharp, -1, 1) / 2 + np.float32(0.5)
    return out


def _stripes(rng: np.random.Generator, size: int) -> Pixels:
    return _waves(_ramp(rng, size), rng)


def _checks(rng: np.random.Generator, size: int) -> Pixels:
    one = _ramp(rng, size)
    other = np.rot90(one)
    times = np.float32(2 * np.pi * rng.uniform(2, 7))
    out: Pixels = (np.sin(one * times) * np.sin(other * times) > 0).astype(np.float32)
    return out


def _dots(rng: np.random.Generator, size: int) -> Pixels:
    one = _ramp(rng, size)
    times = np.float32(2 * np.pi * rng.uniform(3, 9))
    level = np.float32(rng.uniform(0.2, 1.2))
    out: Pixels = np.clip((np.cos(one * times) + np.cos(np.rot90(one) * times) - level) * 3, 0, 1)
    return out


def _blobs(rng: np.random.Generator, size: int) -> Pixels:
    """Smooth noise at a random scale; half of the time cut to islands."""
    coarse = rng.random((int(rng.integers(3, 12)),) * 2, np.float32)
    image = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
    smooth = np.asarray(image)
    out: Pixels = np.clip((smooth - 0.5) * 14 + 0.5, 0, 1) if rng.random() < 0.5 else np.clip(smooth, 0, 1)
    return out


def _horizon(rng: np.random.Generator, size: int) -> Pixels:
    """Sky and ground, each with a slope of its own."""
    y = np.linspace(0, 1, size, dtype=np.float32)[:, None]
    line = np.float32(rng.uniform(0.35, 0.75))
    hills = np.float32(rng.uniform(0, 0.06)) * np.sin(
        np.linspace(0, 1, size, dtype=np.float32)[None, :] * np.float32(rng.uniform(4, 14))
    )
    below = (y > line + hills).astype(np.float32)
    out: Pixels = 0.3 * y + 0.7 * below
    return out


def _plaster(rng: np.random.Generator, size: int) -> Pixels:
    """Fine noise over smooth noise."""
    fine = rng.random((size // 2, size // 2), np.float32)
    image = Image.fromarray(fine).resize((size, size), Image.Resampling.BILINEAR)
    out: Pixels = 0.35 * np.asarray(image) + 0.65 * _blobs(rng, size)
    return out


_KINDS: tuple[Callable[[np.random.Generator, int], Pixels], ...] = (
    _gradient, _stripes, _checks, _dots, _blobs, _horizon, _horizon, _plaster,
)  # fmt: skip
