"""Where a backbone's parameters come from, and strict loading of them.

Resolving (a label and a digest, for the row and the run's key) is separate from loading:
plans resolve, cells load. A file that a user names is safetensors: PyTorch's own files are
pickles, which `biasbench import-weights` turns into it (see `imports`). The files of a pip
package or of a hub's cache are read by PyTorch's reader of plain tensors.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from biasbench import io
from biasbench.errors import DataError, UsageError, printable

if TYPE_CHECKING:
    from torch import Tensor, nn

SUFFIXES = (".safetensors",)
PICKLES = (".pth", ".pt", ".bin")
_CONTAINERS = ("state_dict", "model")


@dataclass(frozen=True)
class ResolvedWeights:
    """A choice of parameters, before anything is loaded.

    Attributes:
        kind: Random initialisation, a file the user named, a package's file, or a hub's.
        label: What the leaderboard shows, such as `random` or `package:efficientnet-lite0`.
        digest: SHA-256 of the file, or `"random"`: part of a run's key.
        path: The file; None for random initialisation.

    Example:
        >>> ResolvedWeights.random()
        ResolvedWeights(kind='random', label='random', digest='random', path=None)
    """

    kind: Literal["random", "file", "package", "hub"]
    label: str
    digest: str
    path: Path | None = None

    @classmethod
    def random(cls) -> ResolvedWeights:
        """Random initialisation from the named stream of the backbone."""
        return cls("random", "random", "random")

    @classmethod
    def of_file(
        cls,
        path: Path,
        kind: Literal["file", "package", "hub"] = "file",
        label: str = "",
        suffixes: Sequence[str] = (*SUFFIXES, *PICKLES),
    ) -> ResolvedWeights:
        """Weights that lie in a file.

        Args:
            path: The file.
            kind: Where it was found.
            label: What the leaderboard shows; the file's name and hash if empty.
            suffixes: Of the formats that the backbone reads.

        Raises:
            UsageError: When there is no such file, its format is not read, or the user named a pickle.
        """
        if kind == "file" and path.suffix in PICKLES:
            out = printable(path.with_suffix(".safetensors"))
            raise UsageError(
                "PyTorch's own files can hold code, and are imported once before they are used",
                where=printable(path),
                fix=f"Run: biasbench import-weights {printable(path)} --out {out}",
            )
        if path.suffix not in suffixes:
            raise UsageError(
                "weights of this format are not read", where=printable(path), fix=f"Use one of {', '.join(suffixes)}"
            )
        if not path.is_file():
            raise UsageError("no such weights file", where=printable(path), fix="Give the path of an existing file")
        digest = io.hash_file(path)
        return cls(kind, label or f"{printable(path.name)}#{digest[:8]}", digest, path.absolute())

    def read(self) -> dict[str, Tensor]:
        """The file's tensors by name, on the CPU.

        Raises:
            IntegrityError: When the file is not the one that was resolved.
            DataError: When it holds no tensors, cannot be read, or holds NaN or infinities.
        """
        assert self.path is not None, "random weights have no file"
        io.check_file(self.path, self.digest)
        state = _read_safetensors(self.path) if self.path.suffix == ".safetensors" else read_pickle(self.path)
        for name, value in state.items():
            if value.is_floating_point() and not value.isfinite().all():
                raise DataError(f"{printable(name)!r} holds NaN or infinite values", where=printable(self.path))
        return state


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"not a safetensors file: {printable(error)}", where=printable(path)) from error
    return state


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch file, through the reader that makes plain tensors and nothing else.

    Raises:
        DataError: When it is damaged, holds anything but a state of dense tensors, or a tensor claims more
            elements than are stored.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # the unpickler raises whatever the bytes make it raise
        if "allocate memory" in str(error):
            raise MemoryError from error
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"not a PyTorch file of plain tensors: {printable(reason[0])}",
            where=printable(path),
            fix="Files that hold code are never opened; save the state_dict, best as .safetensors",
        ) from error
    for key in _CONTAINERS:  # training scripts wrap the state in a checkpoint
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise DataError("holds no state_dict", where=printable(path))
    state = {str(k).removeprefix("module."): v for k, v in content.items()}
    if not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise DataError("holds values that are not tensors", where=printable(path), fix="Save the state_dict alone")
    for name, value in state.items():
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise DataError(f"{printable(name)!r} is no dense tensor", where=printable(path))
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            what = f"{printable(name)!r} claims {value.numel()} elements, more than are stored"
            raise DataError(what, where=printable(path), fix="Get the file again from where it was published")
    return state


def mismatch(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """What keeps `state` from being loaded into `own`, or the empty string.

    Missing counters of batches (`num_batches_tracked`) do not count: old files lack them.

    Example:
        >>> import torch
        >>> mismatch({"a": torch.zeros(2), "b": torch.zeros(1)}, {"a": torch.zeros(3), "c": torch.zeros(1)})
        'missing b; unexpected c; of another shape a ([3], expected [2])'
    """
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in own]
    shapes = [
        f"{k} ({list(state[k].shape)}, expected {list(own[k].shape)})"
        for k in own
        if k in state and own[k].shape != state[k].shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    return "; ".join(f"{what} {_some(names)}" for what, names in found.items() if names)


def _some(names: list[str], limit: int = 3) -> str:
    shown = ", ".join(printable(n) for n in names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def load_strict(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load every tensor of `state` into `module`, or none.

    Args:
        module: What to load into.
        state: Tensors by the module's own names.
        where: The file, for the message.

    Raises:
        DataError: Naming missing and unexpected names and other shapes.
    """
    problem = mismatch(module.state_dict(), state)
    if problem:
        raise DataError(f"these weights do not fit: {problem}", where=where, fix="Give weights of this very model")
    module.load_state_dict(state, strict=False)  # strictness is `mismatch`, which allows for absent counters
