"""A few pictures once more: what is said of a picture may depend on nothing but the picture.

After all splits are predicted, some rows of train, val and test are predicted again, together in one batch. What is
said of them must be what was said before, whatever stands beside them, under which number they come, and, but for a
few, when a handful of pixels is one grey level off. Predictions that lean on the batch, on the order, on the split's
name, on chance, on a table of row numbers or on a table of known pictures are found so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from biasbench.data import Batch, IntArray, Outputs
from biasbench.errors import IntegrityError
from biasbench.images import Loader
from biasbench.method import Method, Pipeline, overrides
from biasbench.model import Device, Model
from biasbench.rng import Part, generator
from biasbench.source import Source

Change = Callable[[Batch], Batch]
ROWS = 16  # of each split
TOLERANCE = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 5e-2}
"""Largest difference, relative to the range of a split's scores: sums in another order, and fast matrix products."""
KEPT = 0.75
"""Share of a split's pictures whose scores must hold when pixels change a little; how far, relative to the range."""
FARTHER = 0.01  # our own methods' scores move by at most 0.002, those of known pictures by more
PIXELS = 30


@dataclass(frozen=True)
class Said:
    """What was said of a split: of some rows, before and after `postprocess`."""

    rows: IntArray
    raw: Outputs
    final: Outputs


@dataclass
class Again:
    """Collects what is predicted, then predicts some of it again.

    Attributes:
        model: As it predicted.
        source: Its batches.
        start: The tap that predictions start from.
        device: Where they are computed.
        name: Names the choice of rows.
        said: By split.
    """

    model: Model
    source: Source
    start: str
    device: Device
    name: tuple[Part, ...]
    said: dict[str, Said] = field(default_factory=dict)

    @property
    def method(self) -> Pipeline:
        assert isinstance(self.model.method, Pipeline)
        return self.model.method

    def keep(self, split: str, rows: IntArray, raw: Outputs, final: Outputs) -> None:
        """Remember a split's outputs."""
        self.said[split] = Said(rows, raw, final)

    # ------------------------------------------------------------------ the checks
    def check(self, reference: pd.DataFrame) -> None:
        """Predict some rows again.

        Args:
            reference: The training table, for `postprocess`.

        Raises:
            IntegrityError: When something else is said of the same picture.
        """
        picked = self._picked()
        if not any(m.transductive and _passes(m) for m in self.method.components):
            self._forward(picked)
        if overrides(self.method, "postprocess") and not self.method.transductive:
            self._after(picked, reference)

    def _forward(self, picked: list[tuple[str, int]]) -> None:
        self._compare(picked, _unchanged, "when it comes again, in another batch and order")
        if not any(m.by_row for m in self.method.components):
            self._compare(picked, _renumbered, "when it comes under another row's number")
        with _grained_files(self.source.loader):
            self._compare(picked, _grained, "when a few pixels are a grey level off", KEPT)

    def _after(self, picked: list[tuple[str, int]], reference: pd.DataFrame) -> None:
        """`postprocess` on a mixture of splits under made-up names."""
        parts = [self.said[split].raw for split, _ in picked]
        at = [position for _, position in picked]
        ids = [f"picture {i}" for i in range(len(picked))]
        mixed = Outputs(_taken([p.scores for p in parts], at), _rows([p.labels for p in parts], at), ids,
                        _taken([p.embeddings for p in parts], at))  # fmt: skip
        told = self.method.postprocess(mixed, reference, self.model.head)
        if list(told.ids) != ids:
            raise IntegrityError("'postprocess' changes the rows: it drops one, names an example twice or moves them")
        wanted = [self.said[split].final for split, _ in picked]
        where = "when 'postprocess' sees other pictures beside it"
        for name, expected in _taken([w.scores for w in wanted], at).items():
            _require(self._near(name, told.scores[name], expected), where)
        _require((_rows([w.labels for w in wanted], at) == told.labels).reshape(len(at), -1).all(1), where)

    def _compare(self, picked: list[tuple[str, int]], change: Change, when: str, share: float = 1.0) -> None:
        """Predict the picked rows again after a change that should change nothing."""
        far = 1.0 if share == 1 else max(1.0, FARTHER / TOLERANCE[self.device.precision])
        kept = []
        for part in _uneven(picked):
            scores, labels = self._predict(part, change)
            at = [position for _, position in part]
            before = [self.said[split].raw for split, _ in part]
            same = np.ones(len(part), bool)
            for name, expected in _taken([b.scores for b in before], at).items():
                same &= self._near(name, scores[name], expected, far)
                exact = (scores[name] == expected).reshape(len(part), -1).all(1)
                told = (_rows([b.labels for b in before], at) == labels).reshape(len(part), -1).all(1)
                same &= told | ~exact if name == "label" else True
            kept.append(same)
        every, of = np.concatenate(kept), np.array([split for split, _ in picked])
        for split in self.said:
            _require(every[of == split], f"of {split} {when}", share)

    # ------------------------------------------------------------------ pieces
    def _picked(self) -> list[tuple[str, int]]:
        """Splits and positions, mixed."""
        found = []
        for split, said in self.said.items():
            order = generator("again", *self.name, split).permutation(len(said.rows))[:ROWS]
            found += [(split, int(i)) for i in order]
        return [found[i] for i in generator("again", *self.name).permutation(len(found))]

    def _predict(self, part: list[tuple[str, int]], change: Change) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
        """From the pictures themselves, whatever was cached; methods see them only where they did before."""
        loaded = [self.source.loader.load(split, self.said[split].rows[[i]], augment_seed=None) for split, i in part]
        masks = {name: torch.cat([b.masks[name] for b in loaded]) for name in loaded[0].masks}
        images, index = torch.cat([b.images for b in loaded]), torch.cat([b.index for b in loaded])
        self.model.eval()
        with torch.inference_mode():
            batch = change(self.device.batch(Batch(images, None, {}, masks, index)))
            x = batch.images
            if self.start == "image":
                batch, x = self.source.prepared(self.method, batch, x, self.start)
            else:
                with self.device.autocast():
                    x = self.model.backbone.run(x, "image", self.start)
                batch, x = replace(batch, images=batch.images[:, :, :0, :0]), self.device.put(x.float())
            with self.device.autocast():
                out = self.model(x, batch, self.start)
            labels = self.model.head.decode(out.scores)
        return {k: v.float().cpu().numpy() for k, v in out.scores.items()}, labels.cpu().numpy()

    def _near(self, name: str, found: NDArray[Any], expected: NDArray[Any], far: float = 1.0) -> NDArray[np.bool_]:
        """[N] whether rows of scores are the same but for rounding."""
        every = [s.raw.scores[name] for s in self.said.values() if name in s.raw.scores]
        every += [s.final.scores[name] for s in self.said.values() if name in s.final.scores]
        low, high = min(float(e.min()) for e in every), max(float(e.max()) for e in every)
        room = far * TOLERANCE[self.device.precision] * (high - low) + 1e-5 * max(abs(low), abs(high))
        if found.shape != expected.shape:
            return np.zeros(len(expected), bool)
        near: NDArray[np.bool_] = (np.abs(found - expected) <= room).reshape(len(expected), -1).all(1)
        return near


def degenerate(outputs: Outputs) -> bool:
    """Whether the same is said of every picture, but for rounding.

    Example:
        >>> scores = np.array([[0.5, 1.0], [0.5, 1.0]], np.float32)
        >>> degenerate(Outputs({"label": scores}, scores > 0, ["a", "b"]))
        True
    """
    scores = outputs.scores["label"].reshape(len(outputs.ids), -1)
    return bool((np.ptp(scores, axis=0) <= 1e-6 * np.abs(scores).max(axis=0)).all())


def _passes(method: Method) -> bool:
    """Whether a method acts before the scores are there."""
    return any(overrides(method, point) for point in ("edit", "prepare", "head", "intervene"))


def _uneven(picked: list[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    """Three, then half of the others, then the rest: batches unlike any before."""
    half = 3 + (len(picked) - 3) // 2
    yield from (part for part in (picked[:3], picked[3:half], picked[half:]) if part)


def _unchanged(batch: Batch) -> Batch:
    return batch


def _renumbered(batch: Batch) -> Batch:
    """Every picture under the next one's row number, or another one where they are the same."""
    rolled = batch.index.roll(1)
    return replace(batch, index=torch.where(rolled == batch.index, (batch.index + 1) % 2, rolled))


def _grained(batch: Batch) -> Batch:
    """A few numbers of each picture one grey level off."""
    flat = batch.images.flatten(1).clone()
    rng = generator("grain", *flat.shape)
    for row in flat:
        at = torch.from_numpy(rng.integers(0, flat.shape[1], PIXELS))
        row[at] = torch.where(row[at] > 0.5, row[at] - 1 / 255, row[at] + 1 / 255)
    return replace(batch, images=flat.view_as(batch.images))


@contextmanager
def _grained_files(loader: Loader) -> Iterator[None]:
    """The same before edits see the pictures."""
    edit = loader.edit

    def grained(image: NDArray[np.uint8], masks: Mapping[str, NDArray[np.bool_]], scale: float) -> NDArray[np.uint8]:
        changed = image.copy()
        at = generator("grain", *image.shape).integers(0, changed.size, PIXELS)
        values = changed.reshape(-1)
        values[at] = np.where(values[at] > 127, values[at] - 1, values[at] + 1)
        return changed if edit is None else edit(changed, masks, scale)

    loader.edit = grained
    try:
        yield
    finally:
        loader.edit = edit


def _taken(parts: list[Mapping[str, NDArray[Any]]], at: list[int]) -> dict[str, NDArray[Any]]:
    return {name: _rows([part[name] for part in parts], at) for name in (parts[0] if parts else {})}


def _rows(parts: list[NDArray[Any]], at: list[int]) -> NDArray[Any]:
    return np.stack([part[i] for part, i in zip(parts, at, strict=True)])


def _require(same: NDArray[np.bool_], when: str, share: float = 1.0) -> None:
    if same.mean() < share:
        raise IntegrityError(
            f"the cell is void: the method says something else of {int((~same).sum())} of {len(same)} pictures {when}",
            fix="Predictions must be a function of the picture; declare what else they rest on "
            "(`transductive`, `by_row`)",
        )
