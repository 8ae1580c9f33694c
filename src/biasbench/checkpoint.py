"""Checkpoints: everything a training needs to go on with the same bits.

Tensors go to safetensors, the rest to JSON; nothing that could run code is read or written.
Our own streams leave no generator's state to save: each is a function of its name and a counter. The generators that a
process shares stand in the checkpoint, for plugins and libraries that draw from them.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from biasbench import io
from biasbench.errors import IntegrityError, StoreError, printable
from biasbench.faults import point
from biasbench.seal import LOG, read_sealed, write_sealed


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors, whole or not at all."""
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    io.write_bytes(path, save(plain))


def load_tensors(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Read named tensors, their hash checked first.

    Raises:
        IntegrityError: When the hash differs.
        StoreError: When the file is missing or damaged.
    """
    if sha256 is not None:
        io.check_file(path, sha256)
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise StoreError("cannot be read as safetensors", where=printable(path)) from error


def flatten(prefix: str, value: Any, tensors: dict[str, Tensor]) -> Any:
    """Move the tensors of a nested state into `tensors`; returns its JSON skeleton."""
    if isinstance(value, Tensor):
        tensors[prefix] = value
        return {"__tensor__": prefix}
    if isinstance(value, Mapping):
        return {"__dict__": [[k, flatten(f"{prefix}/{k}", v, tensors)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return [flatten(f"{prefix}/{i}", v, tensors) for i, v in enumerate(value)]
    return value


def unflatten(skeleton: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `flatten` (tuples come back as lists).

    Example:
        >>> import torch
        >>> store: dict[str, Tensor] = {}
        >>> unflatten(flatten("x", {0: torch.ones(1), "lr": [1e-3]}, store), store)
        {0: tensor([1.]), 'lr': [0.001]}
    """
    if isinstance(skeleton, dict) and "__tensor__" in skeleton:
        return tensors[skeleton["__tensor__"]]
    if isinstance(skeleton, dict):
        return {k: unflatten(v, tensors) for k, v in skeleton["__dict__"]}
    if isinstance(skeleton, list):
        return [unflatten(v, tensors) for v in skeleton]
    return skeleton


class Checkpoints:
    """The checkpoints of one training, newest last; an unreadable one is passed over.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, number: int, state: Mapping[str, Any]) -> None:
        """Write checkpoint `number`, then drop all but it and its predecessor."""
        tensors: dict[str, Tensor] = {}
        skeleton = flatten("state", state, tensors)
        with io.writing_folder(self.folder / f"{number:06d}") as aside:
            save_tensors(aside / "tensors.safetensors", tensors)
            digest = io.hash_file(aside / "tensors.safetensors")
            write_sealed(aside / "state.json", {"tensors": digest, "state": skeleton})
        point("checkpoint.saved")
        for old in self._numbers()[:-2]:
            shutil.rmtree(self.folder / f"{old:06d}", ignore_errors=True)

    def latest(self) -> Any | None:
        """The newest readable state, or None."""
        for number in reversed(self._numbers()):
            folder = self.folder / f"{number:06d}"
            try:
                meta = read_sealed(folder / "state.json")
                return unflatten(meta["state"], load_tensors(folder / "tensors.safetensors", meta["tensors"]))
            except (IntegrityError, StoreError, KeyError) as error:
                LOG.warning("%s The training goes on from the checkpoint before it, if there is one", error)
                shutil.rmtree(folder, ignore_errors=True)
        return None

    def _numbers(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        return sorted(int(p.name) for p in self.folder.iterdir() if p.name.isdecimal())
