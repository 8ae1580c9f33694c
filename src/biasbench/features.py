"""Activations of frozen layers, computed once and read from memory-mapped files.

A bank holds the activation at some taps for one split under one view, for all rows of the
split. Its key names everything that decides the numbers; its bytes are checked once per
process before use.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from biasbench import io
from biasbench.backbone import Backbone
from biasbench.data import LARGEST, IntArray
from biasbench.errors import CellError, IntegrityError, StoreError, printable
from biasbench.faults import point
from biasbench.model import Device
from biasbench.recipe import Recipe
from biasbench.seal import LOG
from biasbench.streams import chunks

GIGABYTE = 2**30
CACHE_LIMIT_GB = 4.0  # per split, view and tap; above it the layers run live


@dataclass(frozen=True)
class View:
    """How images are cropped: `seed=None` is the centre crop, else random crops and flips."""

    name: str
    seed: int | None


def fits(shape: Sequence[int], rows: int) -> bool:
    """Whether an activation of `shape` for `rows` examples may be cached.

    Depends on sizes alone, never on the machine: batches differ in the last bit between a
    cached and a live pass, so that the choice is part of the result.

    Example:
        >>> fits((112, 6, 6), 2500), fits((1024, 14, 14), 22826)
        (True, False)
    """
    return int(np.prod(shape)) * 4 * rows <= CACHE_LIMIT_GB * GIGABYTE


def bank_key(parts: dict[str, Any], tap: str, split: str, view: View) -> str:
    """Identity of one file of activations."""
    payload = {**parts, "tap": tap, "split": split, "view": view.name, "view_seed": view.seed, "schema": 1}
    return io.hash_json(payload)[:24]


def bank_parts(
    recipe: Recipe,
    *,
    sources: Sequence[str],
    identity: str,
    edits: str,
    backbone: str,
    options: Mapping[str, Any],
    weights: str,
    precision: str,
    device: str,
) -> dict[str, Any]:
    """Everything that decides an activation of a layer that is not trained, as a `FeatureBank` takes it.

    Args:
        recipe: Of the cell.
        sources: Identities of the code of the methods that edit pictures, and of the backbone.
        identity: `Data.identity` of the data set.
        edits: Canonical text of the methods that edit pictures.
        backbone: Its name alone.
        options: Its options.
        weights: Their digest.
        precision: Of the forward pass.
        device: Its kind, without a number.
    """
    return {
        "sources": list(sources),
        "torch": torch.__version__,
        "pixels": identity,
        "edit": edits,
        "backbone": backbone,
        "options": dict(options),
        "weights": weights,
        "crop": recipe.crop,
        "short_side": recipe.short_side,
        "store": recipe.pixels,
        "precision": precision,
        "device": device,
        "threads": recipe.threads,
        "channels_last": recipe.channels_last,
        "batch": recipe.eval_batch,
        **({"compile": True} if recipe.compile else {}),
    }


class FeatureBank:
    """The cached activations of one backbone over one way of making pixels.

    Args:
        folder: Cache folder; shared by all cells.
        parts: Everything that decides the numbers: data, weights, crop, edits, precision.
        more: By tap, what decides the numbers there besides.
    """

    def __init__(
        self, folder: Path, parts: dict[str, Any], more: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self.folder, self.parts, self.more = folder, parts, more or {}
        self._open: dict[str, NDArray[np.float32]] = {}

    def path(self, tap: str, split: str, view: View) -> Path:
        """Folder of one array."""
        return self.folder / bank_key({**self.parts, **self.more.get(tap, {})}, tap, split, view)

    def has(self, tap: str, split: str, view: View) -> bool:
        """Whether the array is there (not whether its bytes are good)."""
        return (self.path(tap, split, view) / "meta.json").exists()

    def rows(self, tap: str, split: str, view: View, rows: IntArray) -> torch.Tensor:
        """[B, ...] float32 activations of some rows.

        Raises:
            StoreError: When they are missing or unreadable.
            IntegrityError: When they are not what was written.
        """
        path = self.path(tap, split, view)
        if path.name not in self._open:
            meta = io.read_json(path / "meta.json")
            digest = meta.get("sha256") if isinstance(meta, dict) else None
            if meta != self._meta(tap, split, view, digest):
                raise IntegrityError("the file is damaged", where=printable(path / "meta.json"))
            self._open[path.name] = io.read_array(path / "data.npy", digest)
            with contextlib.suppress(OSError):
                os.utime(path / "meta.json")  # when it was last used: `biasbench gc --cache` asks
        return torch.from_numpy(np.ascontiguousarray(self._open[path.name][rows]))

    def ensure(
        self,
        backbone: Backbone,
        images: Callable[[IntArray], torch.Tensor],
        taps: Sequence[str],
        split: str,
        view: View,
        count: int,
        device: Device,
        batch: int,
        report: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> None:
        """Compute what is missing, in one pass over the split's images.

        Args:
            backbone: On the device; run in evaluation mode.
            images: Rows to [B, 3, H, W] images.
            taps: Taps wanted, in the backbone's order.
            split: Split.
            view: View.
            count: Rows of the split.
            device: Where to compute.
            batch: Images per pass.
            report: Called with rows done and rows in all.
        """
        lock = self.folder / f"{bank_key(self.parts, '+'.join(taps), split, view)}.lock"
        self.folder.mkdir(parents=True, exist_ok=True)
        group = device.group
        with FileLock(lock) if group.first else contextlib.nullcontext():  # it holds for all of the cell's processes
            if group.first:
                self._discard_damaged(taps, split, view)
            missing = [t for t in taps if group.told(not self.has(t, split, view))]
            if not missing:
                return
            arrays: dict[str, NDArray[np.float32]] = {}
            training = backbone.training
            backbone.eval()
            done = 0
            for rows, counts in group.rounds(chunks(np.arange(count), batch)):
                x, at = device.put(images(rows)), "image"
                with torch.inference_mode(), device.autocast():
                    for tap in sorted(missing, key=backbone.taps.index):
                        x, at = backbone.run(x, at, tap), tap
                        out = group.gather(x.float(), counts).cpu().contiguous().numpy()
                        if tap not in arrays:
                            arrays[tap] = np.empty((count, *out.shape[1:]), np.float32)
                        arrays[tap][done : done + len(out)] = out
                done += sum(counts)
                report(done, count)
            backbone.train(training)
            point("features.computed")
            for tap, array in arrays.items() if group.first else ():
                self._write(self.path(tap, split, view), array, tap, split, view)
            point("features.written")
            group.all_of(None)  # what was written can be read

    def _write(self, path: Path, array: NDArray[np.float32], tap: str, split: str, view: View) -> None:
        if not np.abs(array).max(initial=0) <= LARGEST:
            raise CellError(f"the backbone's activation at {tap} is not finite on {split} images")
        with io.writing_folder(path) as aside:
            io.write_array(aside / "data.npy", array)
            io.write_json(aside / "meta.json", self._meta(tap, split, view, io.hash_file(aside / "data.npy")))

    def _meta(self, tap: str, split: str, view: View, digest: Any) -> Any:
        """What stands beside an array, as it is read from JSON."""
        meta = {"sha256": digest, "tap": tap, "split": split, "view": view.name, "parts": self.parts}
        return json.loads(io.canonical_json(meta))

    def _discard_damaged(self, taps: Sequence[str], split: str, view: View) -> None:
        """A cached array that cannot be trusted is computed again: it is no result."""
        for tap in taps:
            if not self.has(tap, split, view):
                continue
            try:
                self.rows(tap, split, view, np.arange(1))
            except (IntegrityError, StoreError) as error:
                LOG.warning("%s It is computed again", error)
                shutil.rmtree(self.path(tap, split, view), ignore_errors=True)
