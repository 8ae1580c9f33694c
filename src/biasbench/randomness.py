"""The random generators that everything in a process shares: torch's, numpy's and Python's.

Ours draw by name and leave these alone; a library that a model is made of, or a plugin, may not. They start anew with
every epoch, and what an epoch has left of them is in its checkpoint.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from biasbench.model import Device


def seed_globals(seed: int) -> None:
    """Seed numpy's and Python's global generators.

    Example:
        >>> seed_globals(3)
        >>> drawn = random.random(), np.random.rand()
        >>> seed_globals(3)
        >>> drawn == (random.random(), np.random.rand())
        True
    """
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


def random_state(device: Device) -> dict[str, Tensor]:
    """Where the global generators stand, by name.

    Example:
        >>> here = Device("cpu", "fp32")
        >>> kept, drawn = random_state(here), (torch.rand(1), np.random.randn(), random.gauss(0, 1))
        >>> set_random_state(here, kept)
        >>> drawn == (torch.rand(1), np.random.randn(), random.gauss(0, 1))
        True
    """
    found = {"cpu": torch.get_rng_state()}
    if device.device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device.device)
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002
    twister = numpy["state"]
    found["numpy"] = torch.tensor([*twister["key"].tolist(), twister["pos"], numpy["has_gauss"]])
    found["numpy's spare normal"] = torch.tensor(numpy["gauss"], dtype=torch.float64)
    _, state, other = random.getstate()
    found["Python"] = torch.tensor(state)
    found["Python's spare normal"] = torch.tensor([] if other is None else [other], dtype=torch.float64)
    return found


def set_random_state(device: Device, state: Mapping[str, Tensor]) -> None:
    """The inverse of `random_state`."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device.device)
    if "numpy" not in state:
        return  # an early version kept torch's alone
    *key, place, there = state["numpy"].tolist()
    spare = state["numpy's spare normal"].item()
    np.random.set_state(("MT19937", np.array(key, np.uint32), place, there, spare))  # noqa: NPY002
    other = state["Python's spare normal"].tolist()
    random.setstate((3, tuple(state["Python"].tolist()), other[0] if other else None))
