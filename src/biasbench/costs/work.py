"""The jobs of a plan, as the runner would queue them: each with what it does, shared parts counted once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from biasbench.costs.attackers import AttackerCounts
from biasbench.costs.cell import CellCounts
from biasbench.costs.counts import Job, Part, Room, Work
from biasbench.costs.rows import Rows, data_sets
from biasbench.costs.sketch import Sketches
from biasbench.errors import BiasBenchError
from biasbench.faces import DetectedFaces
from biasbench.method import Method
from biasbench.planned import Cell
from biasbench.plugins import Plugins
from biasbench.store import Store

WIDE = 4 / 3  # long side of a picture by its short side, about


def plan_work(cells: Sequence[Cell], store: Store | None, cache: Path, plugins: Plugins) -> Work:
    """What is left to do of a plan, in counts; no picture is decoded and nothing is written.

    Rows are those that the methods choose, activations those that no file holds yet, attackers those that no other
    cell trains.

    Args:
        cells: The plan.
        store: Where results are; None where there are none yet.
        cache: Where decoded images and cached activations are.
        plugins: Where backbones are looked up.
    """
    counted = _Counted(store, cache, plugins)
    states = {cell.key: counted.state(cell) for cell in cells}
    for cell in cells:
        if states[cell.key] == "finished":
            counted.attackers.known(cell)
        elif states[cell.key] == "to run":
            counted.trainers.setdefault(cell.training_key, f"cell-{cell.key}")
            counted.to_run[f"cell-{cell.key}"] = cell
    for cell in cells:
        if states[cell.key] in ("to run", "to measure"):
            counted.add(cell, run=states[cell.key] == "to run")
    return Work(states, list(counted.jobs.values()), counted.uncounted(), counted.cached())


class _Counted:
    def __init__(self, store: Store | None, cache: Path, plugins: Plugins) -> None:
        self.store = store
        self.rows, sketches = Rows(cache, plugins), Sketches(plugins)
        self.cells, self.attackers = CellCounts(sketches, self.rows), AttackerCounts(sketches, self.rows)
        self.sketches = sketches
        self.jobs: dict[str, Job] = {}
        self.trainers: dict[str, str] = {}  # training -> the job that does it
        self.to_run: dict[str, Cell] = {}
        self.own: dict[str, None] = {}
        self.after: dict[str, None] = {}
        self.searching = False
        self.trained: set[str] = set()

    def state(self, cell: Cell) -> str:
        if cell.reason is not None:
            return "n/a"
        if self.store is None or not self.store.has_run(cell.key):
            return "to run"
        try:
            return "finished" if cell.measured_by(self.store.metrics(cell.key)) else "to measure"
        except BiasBenchError:
            return "to measure"

    def add(self, cell: Cell, *, run: bool) -> None:
        """Queue a cell's jobs behind what they need."""
        needs = frozenset({f"cell-{cell.key}"} if run else ())
        for before in needs - set(self.jobs):
            self._cell(before, cell)
        checked = Part("read", hashed=sum(self.jobs[before].kept["runs"] for before in needs))
        name = f"measure-{cell.key}"
        parts = (Part("start"), checked, self.attackers.part(cell))
        self.jobs[name] = Job(name, cell.key, needs, cell.spec.recipe.threads, parts)

    def _cell(self, name: str, cell: Cell) -> None:
        needs, parts, kept, room = self._train(cell, name)
        predicting, written, arrays = self.cells.predicting(cell, trained=room is not None)
        sketch = self.sketches.of(cell, cell.spec.method)
        recipe = cell.spec.recipe
        assert recipe.crop is not None
        if room is None:
            room = Room(cell.spec.backbone, recipe.crop, recipe.eval_batch, arrays, 0)
            parts = [Part("read", hashed=sketch.size)]  # the finished training
        trains = "trainings" in kept
        features = kept.get("features", 0) + sum(p.written for p in predicting if p.name == "features")
        kept = {**kept, "features": features, "runs": written}
        parts = [Part("start"), *parts, *predicting]
        self.jobs[name] = Job(name, cell.key, frozenset(needs), recipe.threads, tuple(parts), kept, room, trains)
        later = (p.cls.name for p in cell.spec.method.parts if p.cls.postprocess is not Method.postprocess)
        self.after |= dict.fromkeys(later)

    def _train(self, cell: Cell, name: str) -> tuple[set[str], list[Part], dict[str, int], Room | None]:
        """What a job of this name does to have the cell's training, and what it waits for."""
        needs, faces = self._images(cell), cell.data.faces
        if cell.spec.boxes and isinstance(faces, DetectedFaces) and not faces.found:
            self.searching = True
        if self._trained(cell):
            return needs, [], {}, None
        first = self.trainers.setdefault(cell.training_key, name)
        if first != name:
            return needs | {first}, [], {}, None
        init = cell.init_cell()
        if init is not None and not self._trained(init):
            needs.add(self._init(init))
        parts, room, kept = self.cells.training(cell)
        sketch = self.sketches.of(cell, cell.spec.method)
        self.own |= dict.fromkeys(sketch.uncounted)
        return needs, parts, kept, room

    def _trained(self, cell: Cell) -> bool:
        if self.store is None or not self.store.has_training(cell.training_key):
            return False
        self.trained.add(cell.training_key)
        return True

    def _init(self, cell: Cell) -> str:
        """The job that trains what others start from: a cell of the plan, or a training of its own."""
        if cell.training_key not in self.trainers:
            name = f"train-{cell.training_key}"
            needs, parts, kept, room = self._train(cell, name)
            threads = cell.spec.recipe.threads
            whole = (Part("start"), *parts)
            self.jobs[name] = Job(name, cell.key, frozenset(needs), threads, whole, kept, room, training=True)
        name = self.trainers[cell.training_key]
        if name not in self.jobs:
            self._cell(name, self.to_run[name])  # it runs before what starts from it, wherever the plan has it
        return name

    def _images(self, cell: Cell) -> set[str]:
        """Decoding what is not decoded yet, one job a data set."""
        if cell.spec.recipe.pixels == "native":
            return set()
        needs = set()
        side = cell.spec.recipe.short_side
        assert side is not None
        for data, splits in data_sets(cell):
            name = f"images-{data.fingerprint[:16]}-{side}-{len(splits)}"
            missing = [s for s in splits if not self.rows.decoded(cell, data, s)]
            if missing and name not in self.jobs:
                count = sum(len(data.tables[split]) for split in missing)
                size = int(count * 3 * WIDE * side * side)
                part = Part("images", rows=count, decoded=count, written=size)
                self.jobs[name] = Job(name, None, frozenset(), 0, (Part("start"), part), {"images": size})
            needs |= {name} if missing else set()
        return needs

    def uncounted(self) -> list[str]:
        """What takes time too and is in no count."""
        found = [f"the own modules of {', '.join(self.own)}"] if self.own else []
        found += [f"what is done to finished predictions by {', '.join(self.after)}"] if self.after else []
        found += ["the search for faces"] if self.searching else []
        return found

    def cached(self) -> dict[str, int]:
        """What is there already, of what the jobs would otherwise compute."""
        return {"images": self.rows.there, "features": len(self.cells.found), "trainings": len(self.trained)}
