"""What a cell's process does: frozen layers over every image, epochs, predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from biasbench.costs.counts import Part, Passes, Room
from biasbench.costs.rows import Rows, data_sets, epoch_rows, stream_rows, views
from biasbench.costs.sketch import Sketch, Sketches
from biasbench.data import SPLITS
from biasbench.method import Phase
from biasbench.planned import Cell
from biasbench.recipe import Stage
from biasbench.spec import MethodSpec

ID_BYTES = 24  # of an example's id in the predictions' list, about


class CellCounts:
    """Counts the parts of cells; activations that one of them computes are there for those after it.

    Args:
        sketches: Of the models.
        rows: Of the data.
    """

    def __init__(self, sketches: Sketches, rows: Rows) -> None:
        self.sketches, self.rows = sketches, rows
        self._computed: set[Path] = set()
        self.found: set[Path] = set()  # files of activations that are there

    # ------------------------------------------------------------------ training
    def stages(self, cell: Cell) -> list[tuple[int, Stage]]:
        """The stages that run."""
        return cell.spec.recipe.stages_run(started=cell.spec.method.init is not None)

    def training(self, cell: Cell) -> tuple[list[Part], Room, dict[str, int]]:
        """Parts of a cell's training, what it has to hold, and what it leaves on disk."""
        method = MethodSpec("", cell.spec.method.training)
        sketch = self.sketches.of(cell, method)
        features, arrays = self.features(cell, method)
        parts = [*features, *(self._stage(cell, sketch, number, stage) for number, stage in self.stages(cell))]
        if cell.spec.recipe.select == "released" and cell.spec.method.init is not None:
            number, _ = self.stages(cell)[0]
            parts.insert(len(features), self._scored(cell, sketch, number))
        recipe = cell.spec.recipe
        assert recipe.crop is not None
        deep = [
            s.batch_size for i, s in self.stages(cell) if sketch.frozen[i] != "embedding" or sketch.starts[i] == "image"
        ]
        batch = max(deep, default=0)  # a head alone on stored embeddings holds next to nothing
        scratch = max(self._checkpoint(sketch, number) for number, _ in self.stages(cell))
        room = Room(cell.spec.backbone, recipe.crop, batch, arrays, scratch)
        return parts, room, {"features": sum(p.written for p in features), "trainings": sketch.size}

    def _stage(self, cell: Cell, sketch: Sketch, number: int, stage: Stage) -> Part:
        """One epoch of a stage: the task's batches, the phases' between them, validation, a checkpoint."""
        method, start = sketch.model.method, sketch.starts[number]
        balanced, rows = method.balance_by(), len(self.rows.train(cell))
        steps = max(1, -(-rows // stage.batch_size))
        steps = min(steps, stage.max_steps or steps)
        taken = epoch_rows(rows, stage.batch_size, stage.max_steps)
        if balanced is not None:
            taken = steps * stream_rows(stage.batch_size, self.rows.groups(cell, cell.data, balanced))
        forward = len(cell.data.tables["val"])
        both = taken
        for phase in sketch.phases[number]:
            drawn = self._phase_rows(cell, phase, stage, steps)
            if phase.joint or not phase.detached:
                both += drawn
            else:
                forward += drawn
        passes = [_passes(cell, sketch, number, start, both), _passes(cell, sketch, None, start, forward)]
        written = self._checkpoint(sketch, number)
        return self._pixels(
            cell, f"stage {number}", stage.epochs, taken, both + forward if start == "image" else 0, passes, written
        )

    def _phase_rows(self, cell: Cell, phase: Phase, stage: Stage, steps: int) -> int:
        """Rows of a phase in an epoch; the steps before the first one are spread over all."""
        data = cell.data if phase.data == "train" else cell.secondary.get(phase.data)
        if data is None:
            return 0  # the cell will fail and say so
        groups = None if phase.balance is None else self.rows.groups(cell, data, phase.balance)
        turns = steps if phase.joint else steps * phase.repeat + -(-phase.before // max(1, stage.epochs))
        return turns * stream_rows(stage.batch_size, groups)

    def _scored(self, cell: Cell, sketch: Sketch, number: int) -> Part:
        """The validation split, once, before the first epoch."""
        count, start = len(cell.data.tables["val"]), sketch.starts[number]
        passes = [_passes(cell, sketch, None, start, count)]
        return self._pixels(cell, "init", 1, count, count if start == "image" else 0, passes, 0)

    def _checkpoint(self, sketch: Sketch, number: int) -> int:
        """Bytes of the model, of the best so far, and of two moments of all that is trained."""
        return 2 * sketch.size + 2 * (sketch.trained(number) + sketch.own)

    # ------------------------------------------------------------------ frozen layers
    def features(self, cell: Cell, method: MethodSpec) -> tuple[list[Part], int]:
        """Passes through the frozen layers that nobody has made yet, and the bytes held at once."""
        sketch, backbone = self.sketches.of(cell, method), self.sketches.of(cell, method).model.backbone
        starts = {sketch.starts[number] for number, _ in self.stages(cell)} - {"image"}
        taps = sorted(starts, key=backbone.taps.index)
        if not cell.spec.recipe.cache or not taps:
            return [], 0
        fresh = (backbone.fresh[0], *backbone.after(backbone.fresh[0])) if backbone.fresh else ()
        parts, most, read = [], 0, 0
        crop = cell.spec.recipe.crop
        assert crop is not None
        for data, splits in data_sets(cell):
            bank = self.rows.bank(cell, self.rows.identity(cell, data, splits), method.pixels, fresh)
            for split in splits:
                for view in views(cell, split):
                    count = len(data.tables[split])
                    sizes = {tap: 4 * count * _numbers(backbone.shape_at(tap, crop)) for tap in taps}
                    read += sum(sizes.values())
                    places = {tap: bank.path(tap, split, view) for tap in taps}
                    self.found |= {p for t, p in places.items() if p not in self._computed and bank.has(t, split, view)}
                    missing = [t for t, place in places.items() if place not in self._computed | self.found]
                    self._computed |= set(places.values())
                    if missing:
                        held = sum(sizes[tap] for tap in missing)
                        most = max(most, held)
                        names = backbone.after("image")
                        through = names[: names.index(missing[-1]) + 1]
                        passes = [Passes(cell.spec.backbone, crop, through, 0, count)]
                        parts.append(self._pixels(cell, "features", 1, count, count, passes, held))
        return [*parts, Part("read", hashed=read)], most

    # ------------------------------------------------------------------ predicting
    def predicting(self, cell: Cell, *, trained: bool) -> tuple[list[Part], int, int]:
        """Parts of a cell's prediction, bytes left on disk, bytes held at once.

        Args:
            cell: The cell.
            trained: Whether its process has trained it, and has the activations at hand if pictures are not edited
                otherwise in prediction.
        """
        method = cell.spec.method
        at_hand = trained and method.text == MethodSpec("", method.training).text
        features, arrays = ([], 0) if at_hand else self.features(cell, method)
        sketch, recipe = self.sketches.of(cell, method), cell.spec.recipe
        taps = sketch.model.backbone.taps
        start = min((sketch.starts[number] for number, _ in self.stages(cell)), key=taps.index)
        sizes = [len(self.rows.train(cell))] * (1 + recipe.views)
        sizes += [len(cell.data.tables[split]) for split in ("val", "test")]
        sizes += [len(cell.secondary[name].tables[split]) for name in cell.spec.beside for split in SPLITS]
        count = sum(sizes)
        width = 5 * len(cell.data.dataset.label_names) + ID_BYTES
        width += 4 * sketch.model.backbone.channels["embedding"] if recipe.embeddings else 0
        passes = [_passes(cell, sketch, None, start, count)]
        part = self._pixels(cell, "predict", 1, count, count if start == "image" else 0, passes, count * width)
        return [*features, part], count * width, arrays

    def _pixels(
        self, cell: Cell, name: str, times: int, rows: int, images: int, passes: Sequence[Passes], written: int
    ) -> Part:
        """A part; images that it needs are decoded or cut out, as the recipe says."""
        native = cell.spec.recipe.pixels == "native"
        through = tuple(p for p in passes if p.images and p.segments)
        return Part(name, times, rows, images * native, images * (not native), through, written=written)


def _passes(cell: Cell, sketch: Sketch, stage: int | None, start: str, images: int) -> Passes:
    """Images from `start` to the embedding, backwards as far as the stage trains; forward alone without one."""
    segments, crop = sketch.segments(start), cell.spec.recipe.crop
    assert crop is not None
    trained = 0 if stage is None else len(sketch.model.backbone.after(sketch.frozen[stage]))
    return Passes(cell.spec.backbone, crop, segments, min(trained, len(segments)), images)


def _numbers(shape: Sequence[int]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product
