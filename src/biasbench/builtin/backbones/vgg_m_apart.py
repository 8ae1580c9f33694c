"""A MatConvNet file read in a process of its own, with limits: scipy's reader dies of some damaged files.

The child writes what it found as arrays and a list; nothing of Matlab's reaches the parent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench import io, sandbox
from biasbench.builtin.backbones.vgg_m_mat import Layer, read_network

_ARRAYS, _LAYERS = "arrays.npz", "layers.json"
_NOT_READ = np.array([None], object)  # stands for a cell, a struct or several texts, which no layer may need


def open_network(path: Path) -> tuple[list[Layer], NDArray[np.float32] | None]:
    """As `read_network`.

    Raises:
        DataError: When the file cannot be read, or holds no chain of layers.
    """
    with sandbox.read_apart(f"{__name__}:write_network", path) as folder:
        return _read(path, folder)


def write_network(path: Path, folder: Path) -> None:
    """Write what `read_network` finds into a folder: called in a process of its own."""
    layers, mean = read_network(path)
    arrays: dict[str, NDArray[Any]] = {} if mean is None else {"mean": mean}

    def kept(value: Any) -> dict[str, str]:
        if isinstance(value, np.ndarray) and value.dtype.kind in "iufbc":
            arrays[f"a{len(arrays)}"] = value
            return {"array": f"a{len(arrays) - 1}"}
        if isinstance(value, np.ndarray) and value.size == 0:
            return {"array": ""}
        if isinstance(value, np.ndarray) and value.dtype.kind == "U" and value.size == 1:
            return {"text": str(value.flat[0])}
        return {}

    told = [
        {
            "kind": layer.kind,
            "name": layer.name,
            "arrays": [kept(value) for value in layer.arrays],
            "fields": {name: kept(value) for name, value in layer.fields.items()},
        }
        for layer in layers
    ]
    np.savez(folder / _ARRAYS, **arrays)  # type: ignore[arg-type]  # its stubs take every name for an option
    io.write_json(folder / _LAYERS, told)


def _read(path: Path, folder: Path) -> tuple[list[Layer], NDArray[np.float32] | None]:
    with np.load(folder / _ARRAYS, allow_pickle=False) as arrays:

        def given(value: Mapping[str, str]) -> NDArray[Any]:
            if "text" in value:
                return np.array([value["text"]])
            if "array" not in value:
                return _NOT_READ
            return np.array(arrays[value["array"]]) if value["array"] else np.zeros((0, 0))

        layers = [
            Layer(
                told["kind"],
                told["name"],
                [given(value) for value in told["arrays"]],
                {name: given(value) for name, value in told["fields"].items()},
                path,
            )
            for told in json.loads((folder / _LAYERS).read_bytes())
        ]
        return layers, arrays.get("mean")
