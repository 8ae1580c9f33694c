"""Prediction, and the files that predictions live in."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biasbench import io
from biasbench.data import LARGEST, IntArray, Outputs
from biasbench.errors import CellError, IntegrityError, printable
from biasbench.features import View
from biasbench.model import Device, Model
from biasbench.source import Source
from biasbench.store import NOTES
from biasbench.streams import chunks


def predict_split(
    model: Model,
    source: Source,
    split: str,
    rows: IntArray,
    view: View,
    start: str,
    device: Device,
    size: int,
    *,
    embedding: str | None = None,
) -> Outputs:
    """What a trained model says about some rows of a split, in their order.

    Args:
        model: The model.
        source: Batches; no attribute is handed out.
        split: Split.
        rows: Row numbers.
        view: Crop.
        start: Tap to start from.
        device: Where to compute.
        size: Examples per pass.
        embedding: Name under which to keep the embedding, or None.

    Raises:
        CellError: When a method changes the number of rows, or a score is not finite.
    """
    keep = ("embedding",) if embedding else ()
    scores: dict[str, list[torch.Tensor]] = {}
    labels, embeddings = [], []
    model.eval()
    with torch.inference_mode():
        for part, counts in device.group.rounds(chunks(rows, size)):
            batch, x = source.batch(split, part, view, start, device, attributes=False)
            batch, x = source.prepared(model.method, batch, x, start)
            if len(x) != len(part):
                raise CellError(f"'prepare' turned {len(part)} rows into {len(x)} in evaluation")
            with device.autocast():
                out = model(x, batch, start, keep=keep)
            for name, value in out.scores.items():
                scores.setdefault(name, []).append(device.group.gather(value.float(), counts).cpu())
            labels.append(device.group.gather(model.head.decode(out.scores), counts).cpu())
            if embedding:
                embeddings.append(device.group.gather(out.taps["embedding"].float(), counts).cpu())
    joined = {name: torch.cat(values).numpy() for name, values in scores.items()}
    kept = {embedding: torch.cat(embeddings).numpy()} if embedding else {}
    check_finite({**joined, **{f"embedding {name}": array for name, array in kept.items()}}, split)
    ids = source.tables[split]["id"].to_numpy()[rows].tolist()
    return Outputs(joined, torch.cat(labels).numpy(), ids, kept)


def check_finite(scores: Mapping[str, NDArray[Any]], split: str) -> None:
    """Refuse scores that are not finite, or so large that sums of their squares are not.

    Raises:
        CellError: A broken model would look perfectly fair: no attacker learns from NaN.

    Example:
        >>> check_finite({"label": np.array([[1e15]])}, "test")
        >>> check_finite({"label": np.array([[1e38]])}, "test")
        Traceback (most recent call last):
        biasbench.errors.CellError: the score 'label' on test is as large as 1e+38: a broken model looks perfectly fair
    """
    for name, array in scores.items():
        largest = float(np.abs(array).max(initial=0))  # NaN if any is
        if not largest <= LARGEST:
            how = f"as large as {largest:.0e}" if math.isfinite(largest) else "not finite"
            raise CellError(f"the score {name!r} on {split} is {how}: a broken model looks perfectly fair")


def write_outputs(folder: Path, outputs: Outputs, notes: Mapping[str, float] | None = None) -> None:
    """Write one split's outputs as `.npy` arrays and a JSON list of ids.

    Args:
        folder: Where to.
        outputs: Of the split.
        notes: What `Method.report` says of them; undefined figures become null.
    """
    check_finite({**outputs.scores, **{f"embedding {k}": v for k, v in outputs.embeddings.items()}}, folder.name)
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in outputs.scores.items():
        io.write_array(folder / f"score-{_file(name)}.npy", array.astype(np.float32))
    for name, array in outputs.embeddings.items():
        io.write_array(folder / f"embedding-{_file(name)}.npy", array.astype(np.float32))
    io.write_array(folder / "labels.npy", outputs.labels)
    io.write_text(folder / "ids.json", json.dumps(list(outputs.ids)))
    if notes:
        defined = {name: float(value) for name, value in notes.items()}
        io.write_json(folder / NOTES, {k: v if math.isfinite(v) else None for k, v in defined.items()})


def _file(name: str) -> str:
    if not name.replace("_", "").replace("-", "").replace(".", "").isalnum():
        raise CellError(f"a score or embedding may not be called {printable(name)!r}")
    return name


def read_outputs(folder: Path) -> Outputs:
    """Read one split's outputs as memory maps. Hashes are the caller's to check.

    Raises:
        IntegrityError: When the files do not fit together.
    """
    ids: Sequence[str] = io.read_json(folder / "ids.json")
    scores = {p.stem.removeprefix("score-"): io.read_array(p) for p in sorted(folder.glob("score-*.npy"))}
    kept = {p.stem.removeprefix("embedding-"): io.read_array(p) for p in sorted(folder.glob("embedding-*.npy"))}
    outputs = Outputs(scores, io.read_array(folder / "labels.npy"), ids, kept)
    if any(len(a) != len(ids) for a in (outputs.labels, *scores.values(), *kept.values())):
        raise IntegrityError("the arrays differ in length", where=printable(folder), fix="Run the cell again")
    return outputs
