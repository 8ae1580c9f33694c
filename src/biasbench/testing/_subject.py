"""A method under check, in a cell of the real harness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biasbench import io
from biasbench.cell import Cell
from biasbench.data import SPLITS, Task
from biasbench.job import CellJob, DataInput, WeightsInput
from biasbench.method import Pipeline
from biasbench.plugins import load_plugins
from biasbench.predict import read_outputs
from biasbench.recipe import Recipe, Stage
from biasbench.spec import resolve_method
from biasbench.store import Store
from biasbench.testing import _backbone, _world

STAGE = Stage(train="all", epochs=1, lr=1e-3, batch_size=16, norm="batch", max_steps=2)


@dataclass(frozen=True)
class Trained:
    """What a training of two steps left.

    Attributes:
        state: The model's parameters and buffers.
        outputs: Scores and labels by `split/name`.
    """

    state: Mapping[str, Tensor]
    outputs: Mapping[str, NDArray[Any]]


class Subject:
    """A method string on the kit's data and backbone.

    Args:
        text: As a user would write it.
        plugins: Plugin files that offer what it names, if no installed distribution does.
        task: Multi-label or multi-class data.

    Raises:
        UsageError: When the string cannot be read or its options are wrong.
    """

    def __init__(self, text: str, plugins: Sequence[str | Path] = (), task: Task = "multilabel") -> None:
        self.text, self.task = text, task
        self.plugins = (*(str(p) for p in plugins), str(_backbone.__file__))
        self.spec = resolve_method(text, load_plugins(self.plugins).methods, "gender")

    def method(self) -> Pipeline:
        """Fresh method objects, not built."""
        return self.spec.build()

    def cell(self, folder: Path) -> Cell:
        """A cell of the harness, built and not trained.

        Args:
            folder: For its files.
        """
        return Cell(self._job(folder), lambda _: None)

    def train(self, folder: Path, *, predict: bool = True) -> Trained:
        """Train two steps and predict every split."""
        with _one_thread():
            cell = self.cell(folder)
            store = Store(folder / "results", create=True)
            trained = cell.train(store)
            store.commit_training(trained, cell.job.training_key, cell.manifest)
            return Trained(dict(cell.model.state_dict()), self._predict(cell, store) if predict else {})

    def reload(self, folder: Path) -> Trained:
        """A fresh cell with the weights that `train` saved in the same folder, predicting again."""
        with _one_thread():
            cell, store = self.cell(folder), Store(folder / "results")
            cell.load(store.training(cell.job.training_key))
            return Trained(dict(cell.model.state_dict()), self._predict(cell, store))

    def _predict(self, cell: Cell, store: Store) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = {}
        folder = cell.predict(store)
        for split in SPLITS:
            outputs = read_outputs(folder / "predictions" / split)
            arrays[f"{split}/labels"] = np.array(outputs.labels)
            arrays |= {f"{split}/{name}": np.array(scores) for name, scores in outputs.scores.items()}
        return arrays

    def _job(self, folder: Path) -> CellJob:
        inputs = folder / "inputs"
        pipeline = self.method()
        names = dict.fromkeys((*pipeline.regions, *pipeline.masks))
        tables = {split: inputs / f"{split}.parquet" for split in SPLITS}
        regions = {split: dict.fromkeys(names, inputs / f"{split}-region.parquet") for split in SPLITS}
        for split, path in tables.items():
            frame = _world.table(split, self.task)
            for file, content in ((path, frame), (inputs / f"{split}-region.parquet", _world.region(split))):
                with io.writing(file) as aside:
                    content.to_parquet(aside)
        data = DataInput(
            root=_world.root(), tables=dict(tables), regions=dict(regions), stores=dict.fromkeys(SPLITS),
            task=self.task, label_names=_world.LABELS, groups=_world.GROUPS, identity="conformance",
        )  # fmt: skip
        recipe = Recipe(
            name="conformance", stages=(STAGE,), select="last", crop=_world.SIDE, short_side=_world.SIDE,
            pixels="native", train_views="fixed", cache=False, views=0, random_weights=True,
        )  # fmt: skip
        return CellJob(
            key=f"run-{self.task}", method=self.spec.text, training_method=self.spec.training_text,
            training_key=f"training-{self.task}", init_key=None, streams=f"training-{self.task}",
            run_streams=f"run-{self.task}", primary_attribute="gender", data=data,
            backbone="conformance", backbone_options={}, recipe=recipe, seed=0, fingerprint="conformance",
            weights=WeightsInput(kind="random", label="random", digest="random", path=None), device="cpu",
            precision="fp32", predict=True, cache=folder / "cache", results=folder / "results", plugins=self.plugins,
            sources=tuple(self.spec.sources),
        )  # fmt: skip


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a cell's own process: equal sums, and no waiting for other cores
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def scratch() -> TemporaryDirectory[str]:
    """A folder that is gone afterwards."""
    return TemporaryDirectory(prefix="biasbench-conformance-")
