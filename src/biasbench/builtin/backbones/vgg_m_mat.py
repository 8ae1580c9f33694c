"""Layers of a MatConvNet file (`.mat`). Numbers and names are read, nothing is executed; `vgg_m_apart` is the door.

Two layouts, as `vl_simplenn_tidy.m`, `DagNN/saveobj.m` and `import-caffe.py` (github.com/vlfeat/matconvnet) leave them:
a cell array `layers` whose structs hold `weights` (older files: `filters` and `biases`), or struct arrays `layers` and
`params`. Either may lie inside a struct `net`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench import DataError, printable

Fields = Mapping[str, Any]
_WANTED = ("net", "layers", "params", "meta", "normalization")
_KINDS = {"normalize": "lrn", "batchnorm": "bnorm", "pooling": "pool"}  # one name for each kind


@dataclass(frozen=True)
class Layer:
    """A layer as the file tells it.

    Attributes:
        kind: `conv`, `bnorm`, `relu`, `lrn`, `pool`, or what else it is called.
        name: Its name.
        arrays: Its parameters, in order.
        fields: Everything else.
        path: The file, for errors.
    """

    kind: str
    name: str
    arrays: Sequence[Any]
    fields: Fields
    path: Path

    def wrong(self, why: str) -> DataError:
        """An error about this layer."""
        return wrong(self.path, f"layer {printable(self.name)!r}: {why}")

    def row(self, field: str, default: Sequence[float]) -> tuple[float, ...]:
        """The numbers of a field, or the default where it is absent or empty."""
        value = self.fields.get(field)
        if value is None or (isinstance(value, np.ndarray) and value.size == 0):
            return tuple(map(float, default))
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iufb":
            raise self.wrong(f"its {field} is no number")
        return tuple(map(float, value.flat))

    def number(self, field: str, default: float) -> float:
        """A field that is one number above 0, or the default."""
        found = self.row(field, [default])
        if len(found) != 1 or not 0 < found[0] < math.inf:
            raise self.wrong(f"its {field} is {_shown(found)}, not one number above 0")
        return found[0]

    def text(self, field: str, default: str) -> str:
        """A field that is a text, or the default where it is absent."""
        if field not in self.fields:
            return default
        return _text(self.fields[field], f"the {field} of layer {printable(self.name)!r}", self.path)

    def check(self, field: str, *allowed: Sequence[float], default: Sequence[float] = ()) -> None:
        """Raise a `DataError` unless a field has one of some values."""
        found = self.row(field, default)
        if found not in [tuple(map(float, values)) for values in allowed]:
            raise self.wrong(f"its {field} is {_shown(found)}, in vgg-m {_shown(allowed[0])}")

    def parameters(self, *shapes: tuple[int, ...]) -> list[NDArray[np.float32]]:
        """Its parameters as float32, of just these shapes; a vector may be a row or a column."""
        if len(self.arrays) != len(shapes):
            raise self.wrong(f"it has {len(self.arrays)} parameters, in vgg-m {len(shapes)}")
        found = []
        for value, shape in zip(self.arrays, shapes, strict=True):
            if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
                raise self.wrong("a parameter is no array of real numbers")
            if value.shape != shape and not (len(shape) == 1 and sorted(value.shape) == [1, *shape]):
                raise self.wrong(f"a parameter is {_shape(value.shape)}, in vgg-m {_shape(shape)}")
            if not np.isfinite(value).all():
                raise self.wrong("a parameter holds NaN or infinite values")
            found.append(np.require(value, np.float32, "W").reshape(shape))
        return found


def wrong(path: Path, why: str, fix: str = "Use a MatConvNet file of VGG-M as it was released") -> DataError:
    """An error about the file."""
    return DataError(why, where=printable(path), fix=fix)


def read_network(path: Path) -> tuple[list[Layer], NDArray[np.float32] | None]:
    """What a file holds.

    Args:
        path: The file.

    Returns:
        Its layers in order, losses and the like left out, and the mean that is to be subtracted from RGB images of
        0 to 255: [3] or [H, W, 3] float32, or None if the file says none.

    Raises:
        DataError: When the file cannot be read or holds no chain of layers.
    """
    found = _contents(path)
    layers = found.get("layers")
    if not isinstance(layers, np.ndarray) or layers.size == 0 or layers.dtype.kind not in "OV":
        raise wrong(path, "there is no network in it: no list of 'layers'")
    read = _simple(layers, path) if layers.dtype.names is None else _graph(layers, found.get("params"), path)
    return list(read), _mean(found, path)


def _contents(path: Path) -> Fields:
    """The variables of the file, or the fields of its struct `net`."""
    from scipy.io import loadmat  # slow to import

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about variables that stand twice: the last one counts, as in Matlab
            found: Fields = loadmat(str(path), variable_names=list(_WANTED))
    except NotImplementedError as error:  # what scipy says of HDF5
        raise wrong(path, "it is a Matlab file of version 7.3 (HDF5)", "Save it in Matlab with -v7") from error
    except Exception as error:  # the reader lets many kinds through
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise wrong(path, f"it cannot be read as a Matlab file: {printable(reason, 120)}") from error
    return _struct(found["net"], "'net'", path) if "net" in found else found


def _simple(layers: NDArray[Any], path: Path) -> Iterator[Layer]:
    """Layers of a SimpleNN network: a cell array of structs."""
    for number, cell in enumerate(layers.flat, start=1):
        fields = _struct(cell, f"layer {number}", path)
        arrays = _cells(fields.get("weights")) or [fields[f] for f in ("filters", "biases") if f in fields]
        kind = _text(fields.get("type"), f"the type of layer {number}", path)
        name = _text(fields["name"], f"the name of layer {number}", path) if "name" in fields else f"number {number}"
        yield Layer(_KINDS.get(kind, kind), name, arrays, fields, path)


def _graph(layers: NDArray[Any], params: Any, path: Path) -> Iterator[Layer]:
    """Layers of a DagNN network, as long as each reads what the one before it wrote."""
    if not isinstance(params, np.ndarray) or not {"name", "value"} <= set(params.dtype.names or ()):
        raise wrong(path, "there are no 'params' with names and values")
    if not {"name", "type", "inputs", "outputs", "params", "block"} <= set(layers.dtype.names or ()):
        raise wrong(path, "its 'layers' lack a name, type, inputs, outputs, params or block")
    values = {_text(p["name"], "the name of a parameter", path): p["value"] for p in params.flat}
    before: str | None = None
    for number, record in enumerate(layers.flat, start=1):
        name = _text(record["name"], f"the name of layer {number}", path)
        inputs, outputs, used = (
            [_text(cell, f"{field} of layer {number}", path) for cell in _cells(record[field])]
            for field in ("inputs", "outputs", "params")
        )
        if before is not None and inputs[:1] != [before]:
            return
        before = outputs[0] if outputs else ""
        missing = [p for p in used if p not in values]
        if missing:
            raise wrong(path, f"layer {printable(name)!r}: there is no parameter {printable(missing[0])!r}")
        kind = _text(record["type"], f"the type of layer {number}", path).removeprefix("dagnn.").lower()
        block = _struct(record["block"], f"the block of layer {number}", path)
        yield Layer(_KINDS.get(kind, kind), name, [values[p] for p in used], block, path)


def _mean(found: Fields, path: Path) -> NDArray[np.float32] | None:
    """`meta.normalization.averageImage`, in older files `normalization.averageImage`."""
    about = _struct(found["meta"], "'meta'", path) if "meta" in found else found
    fields = _struct(about["normalization"], "'normalization'", path) if "normalization" in about else {}
    value = fields.get("averageImage")
    if value is None or (isinstance(value, np.ndarray) and value.size == 0):
        return None
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf" or not np.isfinite(value).all():
        raise wrong(path, "its averageImage does not hold real numbers")
    if value.size == 3:
        return np.array(value, np.float32).ravel()
    if value.ndim != 3 or value.shape[2] != 3:
        raise wrong(path, f"its averageImage is {_shape(value.shape)}, not 3 numbers or an RGB image")
    return np.array(value, np.float32, order="C")


def _struct(value: Any, what: str, path: Path) -> Fields:
    """The fields of a 1 x 1 struct; an empty array stands for one without fields."""
    if isinstance(value, np.ndarray) and value.size == 0:
        return {}
    if not isinstance(value, np.ndarray) or value.dtype.names is None or value.size != 1:
        raise wrong(path, f"{what} is no struct")
    return {field: value[field].flat[0] for field in value.dtype.names}


def _cells(value: Any) -> list[Any]:
    """The cells of a cell array; nothing of anything else."""
    return list(value.flat) if isinstance(value, np.ndarray) and value.dtype == object else []


def _text(value: Any, what: str, path: Path) -> str:
    if isinstance(value, np.ndarray) and value.dtype.kind == "U" and value.size == 1:
        return str(value.flat[0])
    raise wrong(path, f"{what} is no text")


def _shown(values: Sequence[float]) -> str:
    return " ".join(f"{v:g}" for v in values) or "not there"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
