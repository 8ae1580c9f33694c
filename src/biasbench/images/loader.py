"""From rows of a split to a batch: pixels, edits, crop, flip, masks.

A crop is a pure function of (seed, row): batch composition, order and threads do not
matter. Images leave in channels-last memory, [B, 3, H, W] by shape.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasbench import io
from biasbench.data import Batch, IntArray, Split, Task, attribute, attributes_of, targets
from biasbench.errors import UsageError
from biasbench.images.decode import Image, read_image, read_resized, resize_short
from biasbench.images.store import ImageStore
from biasbench.regions import Mask, Regions, grow
from biasbench.rng import uniforms

if TYPE_CHECKING:
    from torch import Tensor

Edit = Callable[[Image, Mapping[str, Mask], float], Image]


@dataclass(frozen=True)
class SplitInput:
    """What a loader needs of one split.

    Attributes:
        table: The split's table, index 0..N-1; targets and attributes only if they may be seen.
        regions: Geometry of the regions that edits and masks ask for; see `Dataset.region`.
        store: The images decoded, row by row; None = decode the files at every load.
        root: Folder that the paths are relative to; only needed without a store.
    """

    table: pd.DataFrame
    regions: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    store: ImageStore | None = None
    root: Path | None = None


@dataclass(frozen=True)
class _Split:
    ids: Sequence[str]
    paths: Sequence[str]
    store: ImageStore | None
    root: Path | None
    regions: Mapping[str, Regions]
    targets: Tensor | None
    attributes: Mapping[str, Tensor]


class Loader:
    """Batches of any rows of any split.

    With a store, edits run on the stored image and lengths are scaled; without one, they
    run at native size, and the picture is resized after them.

    Args:
        splits: Inputs by split.
        crop: Side of the square crop.
        short_side: Short side before cropping, at least `crop`.
        task: Decides the dtype of targets.
        edit: Changes an image before it is cropped (`Pipeline.edit`), or None.
        edit_regions: Regions handed to `edit`.
        mask_regions: Regions that become `Batch.masks`.
        threads: Threads that decode and edit; they do not change a bit.

    Raises:
        UsageError: When the crop does not fit.

    Example (`store` holds 10 images):
        `Loader({"train": SplitInput(table, store=store)}, crop=224, short_side=256,
        task="multilabel").load("train", np.array([3, 5]), augment_seed=7).images.shape`
        is `[2, 3, 224, 224]`.
    """

    def __init__(
        self,
        splits: Mapping[str, SplitInput] | Mapping[Split, SplitInput],
        *,
        crop: int,
        short_side: int,
        task: Task,
        edit: Edit | None = None,
        edit_regions: Iterable[str] = (),
        mask_regions: Iterable[str] = (),
        threads: int = 1,
    ) -> None:
        if crop > short_side:
            raise UsageError(f"a crop of {crop} does not fit into a short side of {short_side}")
        self.crop, self.short_side, self.edit = crop, short_side, edit
        self.edit_regions = tuple(edit_regions) if edit is not None else ()
        self.mask_regions = tuple(mask_regions)
        wanted = {*self.edit_regions, *self.mask_regions}
        self._splits = {name: self._prepared(name, split, task, wanted) for name, split in splits.items()}
        self._buffers = _Buffers()
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def _prepared(self, name: str, split: SplitInput, task: Task, wanted: set[str]) -> _Split:
        import torch

        table, store = split.table, split.store
        if store is None and split.root is None:
            raise ValueError(f"split {name} has neither a store nor a folder")
        if store is not None and (store.short_side != self.short_side or len(store) != len(table)):
            raise ValueError(f"split {name}: the image store belongs to another table or size")
        y = targets(table) if any(str(c) == "label" or str(c).startswith("label/") for c in table) else None
        return _Split(
            table["id"].astype(str).to_list(),
            table["path"].astype(str).to_list(),
            store,
            split.root,
            {region: Regions(split.regions[region], region) for region in sorted(wanted)},
            None if y is None else torch.tensor(y, dtype=torch.float32 if task == "multilabel" else torch.int64),
            {a: torch.tensor(attribute(table, a)) for a in attributes_of(table)},
        )

    def load(self, split: str, rows: IntArray, *, augment_seed: int | None) -> Batch:
        """The batch of some rows.

        Args:
            split: Split.
            rows: [B] row numbers of the split's table.
            augment_seed: None = centre crop, not flipped; else each row's crop and flip
                (probability 1/2) come from this seed and the row alone.

        Raises:
            DataError: When an image cannot be read (without a store only) or a region is damaged.
        """
        import torch

        rows = np.asarray(rows, np.int64)
        source = self._splits[split]
        draws = None if augment_seed is None else uniforms(augment_seed, rows, 3)  # [B, 3]
        size = (len(rows), self.crop, self.crop)
        images = self._buffers.lend((*size, 3))  # [B, H, W, 3] float32
        masks = {name: np.empty(size, np.float32) for name in self.mask_regions}

        def fill(i: int) -> None:
            image, drawn = self._picture(source, int(rows[i]))
            crop = self._crop(image.shape, None if draws is None else draws[i])
            images[i].copy_(torch.from_numpy(_cropped(image, crop)))
            for name, mask in drawn.items():
                masks[name][i] = _cropped(mask, crop)

        if self._pool is None:
            for i in range(len(rows)):
                fill(i)
        else:
            for _ in self._pool.map(fill, range(len(rows))):
                pass  # raises what a row raised
        index = torch.from_numpy(rows.copy())
        return Batch(
            images.div_(255).permute(0, 3, 1, 2),
            None if source.targets is None else source.targets[index],
            {name: codes[index] for name, codes in source.attributes.items()},
            {name: torch.from_numpy(mask).unsqueeze(1) for name, mask in masks.items()},
            index,
        )

    def _picture(self, source: _Split, row: int) -> tuple[Image, Mapping[str, Mask]]:
        """The image before cropping, edited, and its masks at the same size."""
        if source.store is not None:
            image, native, scale = source.store.image(row), source.store.native(row), source.store.scale(row)
        else:
            assert source.root is not None
            path, scale = io.safe_join(source.root, source.paths[row]), 1.0
            if self.edit is None:
                image, native = read_resized(path, self.short_side)
            else:
                image = read_image(path)
                native = (image.shape[0], image.shape[1])

        def masks(names: Iterable[str]) -> dict[str, Mask]:
            height, width = image.shape[:2]
            return {n: source.regions[n].rasterise(source.ids[row], height, width, native) for n in names}

        if self.edit is not None:
            inside = masks(self.edit_regions)
            if scale != 1.0:  # a bilinear resize mixes what lies within one pixel of the coarser grid
                inside = {name: grow(mask, math.ceil(max(1.0, scale))) for name, mask in inside.items()}
            edited = self.edit(image, inside, scale)
            if edited.shape != image.shape or edited.dtype != np.uint8:
                raise ValueError(f"an edit turned {image.shape} uint8 into {edited.shape} {edited.dtype}")
            image = edited if source.store is not None else resize_short(edited, self.short_side)
        return image, masks(self.mask_regions)

    def _crop(self, shape: tuple[int, ...], draw: NDArray[np.float64] | None) -> tuple[slice, slice, bool]:
        """Rows, columns and whether to flip."""
        spare = (shape[0] - self.crop, shape[1] - self.crop)
        if draw is None:
            top, left = (round(s / 2) for s in spare)  # rounds halves to even, as torchvision's CenterCrop does
            flip = False
        else:
            top, left = (int(u * (s + 1)) for u, s in zip(draw, spare, strict=False))
            flip = bool(draw[2] < 0.5)
        return slice(top, top + self.crop), slice(left, left + self.crop), flip


def _cropped(image: NDArray[Any], crop: tuple[slice, slice, bool]) -> NDArray[Any]:
    rows, columns, flip = crop
    part = np.array(image[rows, columns], order="C")  # a copy: the store is read-only
    if not flip:
        return part
    if part.ndim == 2:
        return part[:, ::-1]
    import torch  # it flips channels-last pixels several times faster than numpy

    flipped: NDArray[Any] = torch.from_numpy(part).permute(2, 0, 1)[None].flip(3)[0].permute(1, 2, 0).numpy()
    return flipped


class _Buffers:
    """Float batches that are lent out again once nobody holds them.

    Fresh memory for each batch costs more in page faults than everything else together.
    A lent tensor keeps its array view alive; when the last tensor over it is gone, so is
    the view, and its buffer is free.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._lent: list[tuple[NDArray[np.float32], weakref.ref[NDArray[np.float32]]]] = []

    def lend(self, shape: tuple[int, ...]) -> Tensor:
        """An uninitialised float32 tensor."""
        import torch

        size = int(np.prod(shape))
        with self._lock:
            held = [(buffer, view) for buffer, view in self._lent if view() is not None]
            free = [buffer for buffer, view in self._lent if view() is None and size <= buffer.size]
            buffer = free[0] if free else np.empty(size, np.float32)
            view = buffer[:size].reshape(shape)
            self._lent = [*held, (buffer, weakref.ref(view))]
        return torch.from_numpy(view)
