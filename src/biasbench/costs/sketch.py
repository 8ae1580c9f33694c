"""A cell's model without numbers: where each stage starts, what it trains, what the method steps beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import nn

from biasbench.backbone import Backbone, seeded
from biasbench.data import SPLITS
from biasbench.engine import start_tap, trained_from
from biasbench.head import Head, default_head
from biasbench.method import BuildInfo, Method, Phase, Pipeline
from biasbench.model import Model
from biasbench.planned import Cell
from biasbench.plugins import Plugins
from biasbench.recipe import Stage
from biasbench.spec import MethodSpec


@dataclass(frozen=True)
class Sketch:
    """The model of cells that differ in their seed alone.

    Attributes:
        model: Backbone, head and method; on torch's meta device as far as they can be made there.
        starts: By stage number, the tap from which passes start.
        frozen: By stage number, the last tap that the stage leaves alone.
        phases: By stage number; those of a method that cannot be built without data are missing.
        whole: Whether none is missing.
    """

    model: Model
    starts: Mapping[int, str]
    frozen: Mapping[int, str]
    phases: Mapping[int, Sequence[Phase]]
    whole: bool

    @cached_property
    def own(self) -> int:
        """Bytes of the method's own modules."""
        return _bytes(self.model.method)

    @property
    def uncounted(self) -> list[str]:
        """Names of the methods whose own modules take time, or whose modules could not be made."""
        parts = [m for m in self.model.method.modules() if isinstance(m, Method) and not isinstance(m, Pipeline)]
        return [m.name for m in parts if not self.whole or next(m.parameters(), None) is not None]

    @cached_property
    def size(self) -> int:
        """Bytes of all parameters and buffers."""
        return _bytes(self.model)

    def trained(self, stage: int) -> int:
        """Bytes of what a stage trains of backbone and head."""
        backbone = self.model.backbone
        after = [backbone.segments[name] for name in backbone.after(self.frozen[stage])]
        return sum(_bytes(module) for module in (self.model.head, *after))

    def segments(self, start: str) -> tuple[str, ...]:
        """What a pass from `start` to the embedding goes through."""
        return self.model.backbone.after(start)


class Sketches:
    """Makes each model's sketch once.

    Args:
        plugins: Where backbones are looked up.
    """

    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins
        self._outlines: dict[tuple[str, str], Backbone] = {}
        self._made: dict[tuple[object, ...], Sketch] = {}

    def of(self, cell: Cell, method: MethodSpec) -> Sketch:
        """The sketch of the cell's model with a method, which may be that of its training alone."""
        recipe = cell.spec.recipe
        key = (method.text, cell.spec.backbone, cell.data.text, cell.data.limit, recipe, tuple(cell.secondary))
        if key not in self._made:
            self._made[key] = self._sketch(cell, method.build())
        return self._made[key]

    def _sketch(self, cell: Cell, method: Pipeline) -> Sketch:
        outline, data, recipe = self._outline(cell), cell.data, cell.spec.recipe
        labels = data.dataset.label_names
        groups = {name: len(names) for name, names in data.groups.items()}
        others = {name: {n: [1] * len(g) for n, g in other.groups.items()} for name, other in cell.secondary.items()}
        assert recipe.crop is not None
        counts = {name: [1] * size for name, size in groups.items()}
        ones = torch.ones(len(labels))
        info = BuildInfo(outline, data.dataset.task, labels, groups, recipe.crop, ones, counts, others)
        head, whole = _build(method, info)
        model = Model(outline, head, method)
        rows: dict[str, int] = {split: len(data.tables[split]) for split in SPLITS}
        for name, other in cell.secondary.items():
            parts = SPLITS if name in cell.spec.beside else SPLITS[:1]
            rows |= {f"{name} {split}": len(other.tables[split]) for split in parts}
        stages = dict(enumerate(recipe.stages))
        return Sketch(
            model,
            {i: start_tap(model, stage, recipe, rows) for i, stage in stages.items()},
            {i: model.boundary(trained_from(model, stage)) for i, stage in stages.items()},
            {i: _phases(method, stage) if whole else () for i, stage in stages.items()},
            whole,
        )

    def _outline(self, cell: Cell) -> Backbone:
        key = (cell.backbone, repr(sorted(cell.options.items())))
        if key not in self._outlines:
            cls = self.plugins.backbones.find(cell.backbone).load()
            outline: Backbone = cls.outline(cell.backbone, cell.options)
            outline.__dict__["shape_at"] = cache(outline.shape_at)  # even without numbers a large network takes a while
            self._outlines[key] = outline
        return self._outlines[key]


def _build(method: Pipeline, info: BuildInfo) -> tuple[Head, bool]:
    """The head, and whether the method's modules could be made: on the meta device, or where that lacks something."""
    for device in ("meta", "cpu"):
        head = _built(method, info, device)
        if head is not None:
            return head, True
    return default_head(info.task, info.backbone.channels["embedding"], info.class_weights), False


def _built(method: Pipeline, info: BuildInfo, device: str) -> Head | None:
    try:
        with torch.device(device), seeded("costs"):
            head = method.head(info) or default_head(info.task, info.backbone.channels["embedding"], info.class_weights)
            method.build(info)
            method.phases()
    except Exception:  # a plugin's code, or an operation that meta tensors lack: counted without its modules then
        return None
    return head


def _phases(method: Pipeline, stage: Stage) -> Sequence[Phase]:
    return tuple(method.phases()) if stage.method else ()


def _bytes(module: nn.Module) -> int:
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
