"""Where the zoo lives: a COCO folder, the plugin with what it knows, and a harness that lets it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasbench import io
from biasbench.cell import Cell as CellWork
from biasbench.config import Settings
from biasbench.data import targets
from biasbench.guard.again import Again
from biasbench.images.decode import read_image, resize_short
from biasbench.jobs import Jobs
from biasbench.locate import open_dataset
from biasbench.plan import Request, make_plan
from biasbench.planned import Cell
from biasbench.plugins import Plugins, load_plugins
from biasbench.predict import read_outputs
from biasbench.runner import Runner, Summary
from biasbench.source import Source
from biasbench.store import Store

HERE = Path(__file__).parent
SIDE = 32
RECIPE = {"stages.0.epochs": 1, "stages.1.epochs": 2, "crop": SIDE, "short_side": SIDE, "select": "last"}


def write_coco(coco_files: Any, folder: Path) -> Path:
    """A COCO folder of 40 + 80 pictures with two or three objects each."""
    files, rng = coco_files.CocoFiles(), np.random.default_rng(0)
    for part, first, count in (("train", 100, 40), ("val", 500, 80)):
        for number in range(first, first + count):
            objects = [(coco_files.PERSON, coco_files.rectangle(2, 3, 10, 20))]
            there = rng.random(2) < 0.5
            if there[0] or not there[1]:
                objects.append((coco_files.BOTTLE, coco_files.rectangle(20, 3, 5, 9)))
            if there[1]:
                objects.append((coco_files.DOG, coco_files.rectangle(25, 20, 9, 8)))
            files.image(part, number, objects, [f"A {'woman' if rng.random() < 0.5 else 'man'} with things."])
    return Path(files.write(folder))


@dataclass
class Zoo:
    """Plans and runs the zoo's methods.

    Attributes:
        settings: Folders.
        plugins: The zoo's plugin among them.
    """

    settings: Settings
    plugins: Plugins

    @classmethod
    def open(cls, coco_files: Any, folder: Path) -> Zoo:
        """A fresh world below `folder`."""
        root = write_coco(coco_files, folder / "data" / "coco")
        settings = Settings((root.parent,), folder / "results", folder / "cache")
        tiny = HERE.parent / "helpers" / "tiny.py"
        dataset, _ = open_dataset("coco", load_plugins([tiny]), settings)
        table = dataset.table("test")
        labels = targets(table).tolist()
        pictures = [resize_short(read_image(root / path), SIDE) for path in table["path"]]
        truth = {
            "annotations": str(root / "annotations" / "instances_val2014.json"),
            "results": str(settings.results),
            "cache": str(settings.cache),
            "smuggled": str(folder / "smuggled.json"),
            "labels": list(dataset.label_names),
            "test": table["id"].tolist(),
            "rows": dict(enumerate(labels)),
            "pixels": dict(zip((_digest(_centre(p)) for p in pictures), labels, strict=True)),
            "files": dict(zip(map(_digest, pictures), labels, strict=True)),
        }
        plugins = [folder / name for name in ("cheats.py", "messes.py")]
        for plugin in plugins:
            source = (HERE / plugin.name).read_text()
            plugin.write_text(source.replace("TRUTH: dict[str, Any] = {}", f"TRUTH: dict[str, Any] = {truth!r}"))
        return cls(settings, load_plugins([tiny, *plugins]))

    def plan(self, *methods: str, **more: Any) -> list[Cell]:
        """Cells of some methods."""
        given = {"backbones": ["tiny"], "profile": "smoke", "overrides": RECIPE, "metrics": ["accuracy"]} | more
        return make_plan([Request(methods, ["coco"], **given)], self.plugins, self.settings)

    def run(self, *methods: str, **more: Any) -> Summary:
        """Run some methods as anybody would."""
        store = Store(self.settings.results, create=True)
        return Runner(self.plan(*methods, **more), store, self.settings.cache, plugin_files=self.plugins.files).run()

    @property
    def store(self) -> Store:
        """The results."""
        return Store(self.settings.results)

    def records(self) -> dict[str, dict[str, Any]]:
        """Records by method."""
        return {r["method"]: r for r in self.store.records()}

    def predictions(self, method: str) -> dict[str, str]:
        """Hashes of what a method's run predicts."""
        manifest = self.store.verify(self.store.run(self.records()[method]["key"]))
        return {name: digest for name, digest in manifest["files"].items() if name.startswith("predictions/")}

    # ------------------------------------------------------------------ the harness that lets them
    def naive_accuracy(self, method: str, folder: Path, monkeypatch: Any) -> float:
        """Share of right labels on test where all data lie in the process that predicts, and nobody looks."""
        (cell,) = self.plan(method)
        job = Jobs(self.store, self.settings.cache, "cpu", self.plugins.files).predicting(cell)
        full = cell.data.tables["test"]
        tables = {**job.data.tables, "test": folder / "test.parquet"}
        with io.writing(tables["test"]) as aside:
            full.to_parquet(aside)
        digests = {**job.data.digests, "test.parquet": io.hash_file(tables["test"])}
        data = job.data.model_copy(update={"tables": tables, "digests": digests})
        job = job.model_copy(update={"data": data, "results": folder})
        batch = Source.batch
        monkeypatch.setattr(Source, "batch", lambda *a, **k: batch(*a, **{**k, "attributes": True}))
        monkeypatch.setattr(Again, "check", lambda *_: None)
        work = CellWork(job, lambda _event: None)
        work.load(self.store.training(cell.training_key))
        said = read_outputs(work.predict(Store(folder / "store", create=True)) / "predictions" / "test")
        return float((np.array(said.labels) == _truth(full, said.ids)).mean())


def _truth(table: pd.DataFrame, ids: Any) -> NDArray[Any]:
    found: NDArray[Any] = targets(table.set_index("id").loc[list(ids)])
    return found


def _centre(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    top, left = (round((side - SIDE) / 2) for side in image.shape[:2])
    return image[top : top + SIDE, left : left + SIDE]


def _digest(image: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
