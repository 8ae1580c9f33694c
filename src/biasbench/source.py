"""Where the engine gets its batches: pixels or cached activations, labels as the parent allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from biasbench.data import Batch, IntArray, Task, attribute, attributes_of, targets
from biasbench.features import FeatureBank, View
from biasbench.method import Method
from biasbench.model import Device

if TYPE_CHECKING:
    from biasbench.images import Loader

CENTRE = View("centre", None)


@dataclass(frozen=True)
class Labels:
    """Targets and attributes of a split as tensors; empty where they are withheld."""

    targets: Tensor | None
    attributes: Mapping[str, Tensor]

    @classmethod
    def of(cls, table: pd.DataFrame, task: Task) -> Labels:
        """Read a table's label columns, if it has any."""
        names = attributes_of(table)
        codes = {name: torch.from_numpy(attribute(table, name).copy()) for name in names}
        if not any(str(c) == "label" or str(c).startswith("label/") for c in table):
            return cls(None, codes)
        y = torch.from_numpy(targets(table).copy())
        return cls(y.float() if task == "multilabel" else y, codes)


class Source:
    """Batches of every split, at any tap.

    Args:
        tables: The split tables, in full; the test table has no labels.
        loader: Pixels.
        bank: Cached activations, or None.
        task: Multi-label or multi-class.
        alive: Called for every batch.
    """

    def __init__(
        self,
        tables: Mapping[str, pd.DataFrame],
        loader: Loader,
        bank: FeatureBank | None,
        task: Task,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self.tables, self.loader, self.bank, self.task, self.alive = tables, loader, bank, task, alive
        self.labels = {split: Labels.of(table, task) for split, table in tables.items()}

    def batch(
        self, split: str, rows: IntArray, view: View, start: str, device: Device, *, attributes: bool
    ) -> tuple[Batch, Tensor]:
        """Some rows' batch and their activation at `start`, on the device.

        Args:
            split: Split.
            rows: [B] row numbers.
            view: Crop and flip.
            start: `"image"` for pixels, else a cached tap.
            device: Where to put them.
            attributes: Whether the batch carries targets and protected attributes; never in evaluation, so that no
                split looks different from another.
        """
        self.alive()
        labels = self.labels[split]
        index = torch.from_numpy(np.array(rows, np.int64))
        masks: Mapping[str, Tensor] = {}
        if start == "image":
            loaded = self.loader.load(split, rows, augment_seed=view.seed)
            images, masks = loaded.images, loaded.masks
        else:
            images = torch.zeros(len(rows), 3, 0, 0)
        batch = Batch(
            images,
            labels.targets[index] if attributes and labels.targets is not None else None,
            {k: v[index] for k, v in labels.attributes.items()} if attributes else {},
            masks,
            index,
        )
        batch = device.batch(batch)
        if start == "image":
            return batch, batch.images
        assert self.bank is not None
        return batch, device.put(self.bank.rows(start, split, view, rows))

    def prepared(self, method: Method, batch: Batch, x: Tensor, start: str) -> tuple[Batch, Tensor]:
        """The batch after the method's `prepare`; only pixels can be prepared."""
        if start != "image":
            return batch, x
        batch = method.prepare(batch)
        return batch, batch.images
