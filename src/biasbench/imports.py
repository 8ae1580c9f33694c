"""Turning a PyTorch file of weights into safetensors, without trusting it.

Such a file is a pickle: reading one carelessly runs what it says. It is read in a process of its own with limits on
memory and time, by the reader that makes plain tensors and nothing else, and only by a PyTorch whose reader is sound.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from biasbench import io
from biasbench.errors import UsageError, printable
from biasbench.sandbox import read_apart
from biasbench.weights import PICKLES, SUFFIXES, ResolvedWeights, read_pickle

SOUND = (2, 10)  # CVE-2025-32434 is fixed in 2.6, CVE-2026-24747 in 2.10
_MEMORY = 6 << 30  # bytes beside the file: PyTorch itself, built for CUDA, takes a part
_MADE = "weights.safetensors"


@dataclass(frozen=True)
class Imported:
    """What was written.

    Attributes:
        path: The safetensors file.
        sha256: Of its bytes.
        tensors: How many.
        numbers: In all of them.
    """

    path: Path
    sha256: str
    tensors: int
    numbers: int


def import_weights(path: Path, out: Path) -> Imported:
    """Write the tensors of a PyTorch file as safetensors, under the names that they have there.

    A state inside `state_dict` or `model` is found, and a leading `module.` is dropped from names.

    Args:
        path: Ends in `.pth`, `.pt` or `.bin`.
        out: A new file that ends in `.safetensors`.

    Raises:
        UsageError: For other names, an `out` that is there, or a PyTorch whose reader is not sound.
        DataError: When the file is missing, damaged, holds code, or holds anything but finite dense tensors.
        StoreError: When `out` cannot be written.
    """
    _check_names(path, out)
    if _release(version("torch")) < SOUND:
        wanted = ".".join(map(str, SOUND))
        raise UsageError(
            f"PyTorch {version('torch')} can be made to run code by such a file",
            where=printable(path),
            fix=f"Install torch {wanted} or newer, or get the weights as .safetensors",
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise io.unwritable(out, error) from error
    with read_apart("biasbench.imports:convert", path, memory=_MEMORY, scratch=out.parent) as folder:
        made = ResolvedWeights.of_file(folder / _MADE)
        state = made.read()
        with io.writing(out) as aside:
            shutil.copyfile(folder / _MADE, aside)
    return Imported(out, made.digest, len(state), sum(value.numel() for value in state.values()))


def _check_names(path: Path, out: Path) -> None:
    if path.suffix not in PICKLES:
        raise UsageError("no PyTorch file by its name", where=printable(path), fix=f"Use one of {', '.join(PICKLES)}")
    if not path.is_file():
        raise UsageError("no such file", where=printable(path), fix="Give the path of an existing file")
    if out.suffix not in SUFFIXES:
        raise UsageError("weights are written as safetensors", where=printable(out), fix="End --out in .safetensors")
    if out.exists():
        raise UsageError("is there already", where=printable(out), fix="Give another --out, or delete it first")


def _release(text: str) -> tuple[int, ...]:
    """Major and minor number of a version."""
    return tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in text.split(".")[:2])


def convert(path: Path, folder: Path) -> None:
    """Read a file and write its tensors into a folder: called in a process of its own."""
    from safetensors.torch import save_file

    state = {name: value.clone().contiguous() for name, value in read_pickle(path).items()}
    save_file(state, folder / _MADE)
