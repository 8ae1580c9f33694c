"""What children may know of the data: tables and regions as files, the test split without labels."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from biasbench import io
from biasbench.data import SPLITS, Split, withhold
from biasbench.errors import printable
from biasbench.faces import boxes_file
from biasbench.images import store_key
from biasbench.job import DataInput
from biasbench.planned import Cell, Data
from biasbench.seal import LOG
from biasbench.store import Store


class Inputs:
    """Writes each data set's inputs once per store.

    Args:
        store: Inputs lie in its work folder, named by content.
        cache: Where image stores lie.
    """

    def __init__(self, store: Store, cache: Path) -> None:
        self.store, self.cache = store, cache
        self._made: dict[str, DataInput] = {}

    def of(self, cell: Cell) -> DataInput:
        """Write what a child may know of the cell's data; the test table without labels."""
        return self._write(cell, cell.data, SPLITS)

    def secondary(self, cell: Cell) -> dict[str, DataInput]:
        """Write the data sets beside it by their names: the training split alone, unless they are predicted too."""
        return {
            name: self._write(cell, data, SPLITS if name in cell.spec.beside else ("train",))
            for name, data in cell.secondary.items()
        }

    def _write(self, cell: Cell, data: Data, splits: Sequence[Split]) -> DataInput:
        recipe, pipeline = cell.spec.recipe, cell.spec.method.build()
        regions = tuple(dict.fromkeys((*pipeline.regions, *pipeline.masks)))
        identity = data.identity(pipeline, splits)
        columns = ",".join(data.tables["train"].columns)  # derived attributes come and go
        name = f"{identity} {columns} {recipe.short_side} {recipe.pixels}"
        if name in self._made:
            return self._made[name]
        writers = " ".join(f"{package}={version(package)}" for package in ("pandas", "pyarrow"))  # they decide bytes
        folder = self.store.work("inputs", io.hash_bytes(f"{identity} {columns} {writers}".encode())[:20])
        digests: dict[str, str] = {}
        tables: dict[str, Path] = {}
        region_files: dict[str, dict[str, Path]] = {}
        stores: dict[str, Path | None] = {}
        for split in splits:
            table = data.tables[split]
            tables[split] = folder / f"{split}.parquet"
            digests[tables[split].name] = _write_frame(tables[split], withhold(table) if split == "test" else table)
            region_files[split] = {}
            for region in regions:
                detected = data.detected(split, region)  # a job of its own writes these before the cell starts
                path = folder / f"{split}-{region}.parquet" if detected is None else boxes_file(detected)
                region_files[split][region] = path
                if detected is None:
                    digests[path.name] = _write_frame(path, data.region(split, region))
            stores[split] = None
            if recipe.pixels == "store":
                assert recipe.short_side is not None
                key = store_key(table, data.dataset.root, recipe.short_side)
                stores[split] = (self.cache / "images" / key).absolute()
        dataset = data.dataset
        first = sorted(data.groups, key=lambda name: name != dataset.primary_attribute)
        self._made[name] = DataInput(
            root=Path(dataset.root).absolute(),
            tables={k: v.absolute() for k, v in tables.items()},
            regions={s: {r: p.absolute() for r, p in files.items()} for s, files in region_files.items()},
            stores=stores,
            task=dataset.task,
            label_names=dataset.label_names,
            groups={n: len(data.groups[n]) for n in first},
            identity=identity,
            digests=digests,
        )
        return self._made[name]


def _write_frame(path: Path, frame: Any) -> str:
    """Write a table unless just that is there; returns the file's SHA-256."""
    content = frame.to_parquet(None, compression="zstd", index=False)
    digest = io.hash_bytes(content)
    if path.exists():
        if io.hash_file(path) == digest:
            return digest
        LOG.warning("%s: the file is damaged. It is written again", printable(path))
    io.write_bytes(path, content)
    return digest
