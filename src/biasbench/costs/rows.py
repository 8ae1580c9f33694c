"""Rows and pixels of a cell as its process will see them: what is drawn, what is decoded, what is cached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from biasbench.data import SPLITS, IntArray, Split, attribute
from biasbench.features import FeatureBank, View, bank_parts
from biasbench.images import ImageStore, store_key
from biasbench.method import Method
from biasbench.planned import Cell, Data
from biasbench.plugins import Plugins
from biasbench.rng import generator, seed_for
from biasbench.source import CENTRE
from biasbench.spec import resolve_method, source_of


class Rows:
    """Answers about data sets, each worked out once for all the cells that share it.

    Args:
        cache: Where decoded images and cached activations lie.
        plugins: Where names are looked up.
    """

    def __init__(self, cache: Path, plugins: Plugins) -> None:
        self.cache, self.plugins = cache, plugins
        self._train: dict[tuple[str, str], IntArray] = {}
        self._stores: dict[tuple[str, str, str, int], Path] = {}
        self._identities: dict[tuple[str, ...], str] = {}
        self._found: set[Path] = set()

    def resampling(self, cell: Cell) -> str:
        """Canonical text of what chooses the cell's training rows; empty for all of them."""
        parts = [p for p in cell.spec.method.training if p.cls.resample is not Method.resample]
        return "+".join(p.text for p in parts)

    def train(self, cell: Cell) -> IntArray:
        """The training rows that the method chooses; all of them if it cannot be asked.

        Chosen once for all seeds: their numbers hardly differ, and choosing from a large table takes a second.
        """
        table = cell.data.tables["train"]
        key = (cell.data.fingerprint, self.resampling(cell))
        if not key[1]:
            return np.arange(len(table))
        if key not in self._train:
            try:
                rng = generator("data", cell.spec.fingerprint, cell.spec.seed, "resample")
                chosen = cell.spec.method.build().resample(table, rng).index.to_numpy(np.int64)
            except Exception:  # a plugin's code: the cell will fail by it and say so; a count need not
                chosen = np.arange(len(table))
            self._train[key] = chosen
        return self._train[key]

    def groups(self, cell: Cell, data: Data, name: str) -> int:
        """Groups of an attribute that the rows trained on have."""
        codes = attribute(data.tables["train"], name)
        codes = codes[self.train(cell)] if data is cell.data else codes
        return len(np.unique(codes[codes >= 0]))

    def store(self, cell: Cell, data: Data, split: Split) -> Path:
        """Where a split's decoded images are, or will be."""
        side = cell.spec.recipe.short_side
        assert side is not None
        key = (data.fingerprint, str(data.dataset.root), split, side)
        if key not in self._stores:
            self._stores[key] = self.cache / "images" / store_key(data.tables[split], data.dataset.root, side)
        return self._stores[key]

    def decoded(self, cell: Cell, data: Data, split: Split) -> bool:
        """Whether a split's images are decoded already."""
        folder = self.store(cell, data, split)
        if ImageStore.exists(folder):
            self._found.add(folder)
        return folder in self._found

    @property
    def there(self) -> int:
        """Sets of decoded images that were asked for and are there."""
        return len(self._found)

    def identity(self, cell: Cell, data: Data, splits: Sequence[Split]) -> str:
        """Hash of all that decides the pixels of a data set."""
        method = cell.spec.method.build()
        regions = tuple(dict.fromkeys((*method.regions, *method.masks)))
        key = (data.fingerprint, *regions, "/", *splits)
        if key not in self._identities:
            self._identities[key] = data.identity(method, splits)
        return self._identities[key]

    def bank(self, cell: Cell, identity: str, pixels: str, fresh: Sequence[str]) -> FeatureBank:
        """The cached activations that the cell reads of one data set, under the key that its process gives them."""
        spec, recipe = cell.spec, cell.spec.recipe
        offer = self.plugins.backbones.find(cell.backbone)
        edits = resolve_method(pixels, self.plugins.methods, cell.data.dataset.primary_attribute)
        parts = bank_parts(
            recipe,
            sources=[*edits.sources, source_of(offer.load(), offer)],
            identity=identity,
            edits=pixels,
            backbone=cell.backbone,
            options=cell.options,
            weights=cell.weights.digest,
            precision=spec.precision,
            device=spec.device,
        )
        return FeatureBank(self.cache / "features", parts, {tap: {"seed": spec.seed} for tap in fresh})


def data_sets(cell: Cell) -> Iterator[tuple[Data, Sequence[Split]]]:
    """The data sets that the cell's process sees, and the splits of each: of those beside it mostly the first."""
    yield cell.data, SPLITS
    for name, data in cell.secondary.items():
        yield data, SPLITS if name in cell.spec.beside else SPLITS[:1]


def views(cell: Cell, split: str) -> Iterator[View]:
    """The views of a split whose activations are kept."""
    yield CENTRE
    if split == "train":
        for number in range(cell.spec.recipe.views):
            yield View(f"view-{number}", seed_for("view", cell.spec.fingerprint, number))


def stream_rows(size: int, groups: int | None) -> int:
    """Rows of a batch that is balanced over so many groups; None for one that is not."""
    if groups is None:
        return size
    groups = max(groups, 1)
    return groups * -(-max(size, groups) // groups)


def epoch_rows(rows: int, size: int, most: int | None) -> int:
    """Rows in an epoch's batches: near-equal ones of at most `size`, of which `most` are taken.

    Example:
        >>> epoch_rows(10, 4, None), epoch_rows(10, 4, 2)
        (10, 7)
    """
    batches = max(1, -(-rows // size))
    each, longer = divmod(rows, batches)
    taken = min(batches, most or batches)
    return taken * each + min(taken, longer)
