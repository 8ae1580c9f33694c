"""Randomness by name: every consumer derives its own stream from the run's key.

A stream is named by a tuple such as `(key, "train", epoch)`. Adding a consumer reshuffles
nobody else's numbers, and a resumed run needs no saved generator state to go on with the
same bits: the state *is* the name.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Part = str | int | float | bool | None
_MASK = (1 << 64) - 1


def seed_for(*name: Part) -> int:
    """A 63-bit seed derived from the parts of a stream's name.

    Example:
        >>> seed_for("run", 1) == seed_for("run", 1), seed_for("run", 1) == seed_for("run", "1")
        (True, False)
    """
    digest = hashlib.blake2b(repr(name).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*name: Part) -> np.random.Generator:
    """The numpy generator of a named stream.

    Example:
        >>> int(generator("doc").integers(100)) == int(generator("doc").integers(100))
        True
    """
    return np.random.Generator(np.random.PCG64(seed_for(*name)))


def torch_generator(*name: Part) -> torch.Generator:
    """The torch CPU generator of a named stream."""
    import torch

    return torch.Generator().manual_seed(seed_for(*name))


def uniforms(seed: int, index: NDArray[np.integer[Any]], count: int) -> NDArray[np.float64]:
    """`count` numbers in [0, 1) for each example, a pure function of (seed, example).

    Worker counts, batch order and subsets cannot change what an example gets.

    Args:
        seed: From `seed_for`.
        index: [B] example numbers.
        count: Numbers per example.

    Returns:
        [B, count] float64.

    Example:
        >>> a = uniforms(7, np.array([3, 5]), 2)
        >>> bool((a[1] == uniforms(7, np.array([5]), 2)[0]).all())
        True
    """
    lane = np.arange(count, dtype=np.uint64)
    with np.errstate(over="ignore"):
        x = index.astype(np.uint64)[:, None] * np.uint64(count) + lane[None, :]  # [B, count]
        x = _splitmix(_splitmix(x + np.uint64(seed & _MASK)) ^ np.uint64(seed & _MASK))
    out: NDArray[np.float64] = (x >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return out


def _splitmix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
