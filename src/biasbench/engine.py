"""Training: the one loop, read top to bottom.

`Trainer.run` goes through the recipe's stages. In each epoch the task's step alternates
with the steps of the method's phases; after each epoch the validation split is scored, the
log grows by one line and a checkpoint is written. A training that was killed goes on from
its last epoch, one that was asked to end from its last step, with the same bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from biasbench import io
from biasbench.checkpoint import Checkpoints, flatten
from biasbench.data import LARGEST, IntArray, Task
from biasbench.errors import CellError
from biasbench.faults import point
from biasbench.features import View, fits
from biasbench.method import Phase, overrides
from biasbench.model import Device, Model
from biasbench.randomness import random_state, seed_globals, set_random_state
from biasbench.recipe import Recipe, Stage
from biasbench.rng import Part, seed_for
from biasbench.scoring import macro_f1, mean_average_precision
from biasbench.source import CENTRE, Source
from biasbench.steps import Begun, Steps
from biasbench.stopping import Stopped
from biasbench.streams import Stream, chunks, epoch_batches

Report = Callable[[Mapping[str, Any]], None]


@dataclass
class Progress:
    """How far a training is; all of it is in the checkpoint.

    Attributes:
        stage: Current stage.
        epoch: Epochs finished in it.
        log: One record per epoch.
        best: Validation F1 of the kept weights, and which epoch they are from; its stage is
            `"init"` if they are those that the training started from.
        saved: Checkpoints written.
    """

    stage: int = 0
    epoch: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    saved: int = 0


def trained_from(model: Model, stage: Stage) -> str:
    """What a stage trains: as the recipe says, or from the first layer that the method is to move."""
    if not stage.method or stage.train in ("head", "all"):
        return stage.train
    return min((stage.train, *model.method.moves), key=model.backbone.taps.index)


def start_tap(model: Model, stage: Stage, recipe: Recipe, rows: Mapping[str, int]) -> str:
    """The tap from which a stage's forward passes start: the last one that nothing before it can change.

    Args:
        model: Backbone, head and method.
        stage: The stage.
        recipe: The recipe.
        rows: Rows of each split, to see what fits the cache.
    """
    method, taps = model.method, model.backbone.taps
    if not recipe.cache or recipe.train_views != "fixed" or stage.norm == "batch":
        return "image"
    if overrides(method, "prepare") or method.masks or not getattr(model.backbone, "resumable", True):
        return "image"
    wanted = [model.boundary(trained_from(model, stage)), *method.touches]
    if stage.method:
        wanted += method.taps
    start = min(wanted, key=taps.index)
    if start == "image":
        return start
    assert recipe.crop is not None  # the planner fills it in
    shape = model.backbone.shape_at(start, recipe.crop)
    return start if all(fits(shape, n) for n in rows.values()) else "image"


@dataclass
class Trainer:
    """Trains one model.

    Attributes:
        model: On the device.
        source: Batches.
        secondary: Batches of other data sets that phases train on; of these, the training split alone.
        recipe: Its `crop` is filled in.
        stages: The stages to run, with their numbers in the recipe.
        rows: Training rows after resampling.
        task: Multi-label or multi-class.
        num_labels: K.
        device: Where to compute.
        views: The fixed views of the training split.
        data_name: Name of the streams that methods share: data and seed, no method.
        run_name: Name of the streams that are this training's own.
        checkpoints: Where to keep them.
        start_competes: Whether the weights that the training starts from may be selected.
        report: Receives an event after every epoch.
        stop: Whether to end, asked between steps.
        progress: How far it is.
        kept: The selected weights so far.
    """

    model: Model
    source: Source
    recipe: Recipe
    stages: Sequence[tuple[int, Stage]]
    rows: IntArray
    task: Task
    num_labels: int
    device: Device
    views: Sequence[View]
    data_name: tuple[Part, ...]
    run_name: tuple[Part, ...]
    checkpoints: Checkpoints
    secondary: Mapping[str, Source] = field(default_factory=dict)
    start_competes: bool = False
    report: Report = lambda _event: None
    stop: Callable[[], bool] = lambda: False
    progress: Progress = field(default_factory=Progress)
    kept: dict[str, Tensor] = field(default_factory=dict)

    @property
    def sizes(self) -> dict[str, int]:
        """Rows of each split, and of the training split of each secondary data set."""
        sizes: dict[str, int] = {split: len(table) for split, table in self.source.tables.items()}
        return sizes | {name: len(source.tables["train"]) for name, source in self.secondary.items()}

    # ------------------------------------------------------------------ the loop
    def run(self) -> Progress:
        """Train to the end, or on from the last checkpoint; leaves the selected weights in the model.

        Raises:
            CellError: When a loss or logit is not finite.
            Stopped: When it was asked to end; a checkpoint is written.
        """
        saved = self.checkpoints.latest()
        if saved is not None:
            self.progress = Progress(**saved["progress"])
            self.model.load_state_dict(saved["model"])
            self.kept = saved["kept"]
        self.device.group.agree(self.model.state_dict().items)
        if saved is None and self.start_competes:
            self._enter_start()
        for position, (number, stage) in enumerate(self.stages):
            if position < self.progress.stage:
                continue
            self._run_stage(position, number, stage, saved)
            saved = None
        if self.kept:
            self.model.load_state_dict(self.kept)
        return self.progress

    def _run_stage(self, position: int, number: int, stage: Stage, saved: Any) -> None:
        method = self.model.method
        start = start_tap(self.model, stage, self.recipe, self.sizes)
        phases = list(method.phases()) if stage.method else []
        owned = {id(p) for phase in phases if phase.repeat for p in phase.params}
        learns = self.model.learns(trained_from(self.model, stage))
        if stage.method:
            learns += list(method.parameters())
        task = [p for p in dict.fromkeys(learns) if id(p) not in owned]
        movable = {id(p) for p in task} | {id(p) for phase in phases for p in phase.params}
        for p in self.model.parameters():
            p.requires_grad_(id(p) in movable)
        optimisers = {"task": self._optimiser(task, stage.lr, stage)}
        streams: dict[str, Stream] = {}
        for phase in phases:
            if not phase.joint:
                rate = phase.lr if phase.absolute_lr else phase.lr * stage.lr
                optimisers[phase.name] = self._optimiser(list(phase.params), rate, stage)
            streams[phase.name] = self._stream(phase, stage, number)
        begun = Begun()
        if saved is not None:
            begun = Begun(**saved["begun"])
            for name, state in saved["optimisers"].items():
                restore(optimisers[name], state)
                self.device.set_scale(optimisers[name], saved.get("scales", {}).get(name, {}))
            for name, cursor in saved["cursors"].items():
                streams[name].cursor = cursor
        step = Steps(self, stage, start, phases, optimisers, streams, {id(p) for p in task})

        def save() -> None:
            self.progress.saved += 1
            if not self.device.group.first:
                return
            state = {
                "progress": vars(self.progress),
                "model": self.model.state_dict(),
                "kept": self.kept,
                "optimisers": {name: o.state_dict() for name, o in optimisers.items()},
                "scales": {name: self.device.scale_of(o) for name, o in optimisers.items()},
                "cursors": {name: s.cursor for name, s in streams.items()},
                "begun": vars(begun),
                "random": random_state(self.device),
            }
            self.checkpoints.save(self.progress.saved, state)

        def between() -> None:
            point("train.step")
            if self.device.group.told(self.stop()):
                save()
                raise Stopped

        while self.progress.epoch < stage.epochs:
            epoch, began = self.progress.epoch, time.perf_counter()
            seed = seed_for(*self.run_name, "torch", number, epoch)
            torch.manual_seed(seed)
            seed_globals(seed)
            if begun.step:
                set_random_state(self.device, saved["random"])
            losses = step.epoch(number, epoch, begun, between)
            step.check()
            self.device.group.agree(partial(self._state, optimisers, losses))
            score, notes = self.evaluate(start, act=stage.method)
            self.progress.epoch += 1
            record = {"stage": number, "epoch": epoch + 1, "epochs": stage.epochs, "start": start, **losses}
            record |= {"val_f1": score["f1"], "val_map": score["map"], **notes}
            self._keep(score["f1"], record, last=position == len(self.stages) - 1)
            self.progress.log.append(record)
            begun = Begun()
            point("train.epoch_end")
            save()
            if self.device.group.first:
                write_log(self.checkpoints.folder / "log.jsonl", self.progress.log)  # to be watched while it runs
            self.report({"event": "epoch", **record, "seconds": time.perf_counter() - began})
            if self.device.group.told(self.stop()):
                raise Stopped
        self.progress.stage, self.progress.epoch = position + 1, 0

    def _state(
        self, optimisers: Mapping[str, torch.optim.Optimizer], losses: Mapping[str, float]
    ) -> Iterator[tuple[str, Tensor]]:
        """An epoch's losses, and all tensors that the training goes on from, by name."""
        yield from ((name, torch.tensor(value, dtype=torch.float64)) for name, value in losses.items())
        yield from ((f"the weight {name}", value) for name, value in self.model.state_dict().items())
        for name, optimiser in optimisers.items():
            tensors: dict[str, Tensor] = {}
            flatten(f"the optimiser of {name}", optimiser.state_dict()["state"], tensors)
            yield from tensors.items()
        yield from ((f"the random state of {kind}", state) for kind, state in random_state(self.device).items())

    def _enter_start(self) -> None:
        """The weights before the first epoch, scored and kept like an epoch's."""
        _, stage = self.stages[0]
        start = start_tap(self.model, stage, self.recipe, self.sizes)
        score, _ = self.evaluate(start, act=stage.method)
        self._keep(score["f1"], {"stage": "init", "epoch": 0}, last=False)

    def _keep(self, f1: float, record: Mapping[str, Any], *, last: bool) -> None:
        """Selection on validation only: the best epoch so far, or simply the last."""
        better = not self.progress.best or f1 > self.progress.best["val_f1"]
        if better or (self.recipe.select == "last" and last):
            self.progress.best = {"val_f1": f1, "stage": record["stage"], "epoch": record["epoch"]}
            self.kept = {name: t.detach().cpu().clone() for name, t in self.model.state_dict().items()}

    def _optimiser(self, params: list[nn.Parameter], lr: float, stage: Stage) -> torch.optim.Optimizer:
        if not params:
            raise CellError("a stage or phase has nothing to train")
        # torch's fused SGD takes up unwritten memory as momentum when its first step is left out, as with fp16
        fused = all(p.device.type in ("cpu", "cuda") for p in params) and self.device.precision != "fp16"
        head = {id(p) for p in self.model.head.parameters()} if stage.head_lr != 1 else set()
        split = [
            (lr, [p for p in params if id(p) not in head]),
            (lr * stage.head_lr, [p for p in params if id(p) in head]),
        ]
        groups = [{"params": part, "lr": rate} for rate, part in split if part]
        if stage.optimizer == "sgd":
            return torch.optim.SGD(groups, lr=lr, momentum=stage.momentum, weight_decay=stage.weight_decay, fused=fused)
        return torch.optim.Adam(groups, lr=lr, weight_decay=stage.weight_decay, fused=fused)

    def _stream(self, phase: Phase, stage: Stage, number: int) -> Stream:
        source, rows = self.source, self.rows
        if phase.data != "train":
            if phase.data not in self.secondary:
                raise CellError(
                    f"phase {phase.name} wants data set {phase.data!r}, which its method does not name in `data`"
                )
            source = self.secondary[phase.data]
            rows = np.arange(len(source.tables["train"]))
        groups = None if phase.balance is None else _codes(source, phase.balance)[rows]
        return Stream(rows, stage.batch_size, (*self.run_name, "phase", phase.name, number), groups)

    # ------------------------------------------------------------------ pieces
    def order(self, stage: Stage, number: int, epoch: int) -> list[IntArray]:
        """The task's batches of an epoch; balanced over an attribute if a method asks for it."""
        attribute = self.model.method.balance_by()
        name = (*self.data_name, "order", number, epoch)
        if attribute is None:
            return epoch_batches(self.rows, stage.batch_size, name, stage.max_steps)
        steps = max(1, -(-len(self.rows) // stage.batch_size))
        steps = min(steps, stage.max_steps or steps)
        stream = Stream(self.rows, stage.batch_size, name, _codes(self.source, attribute)[self.rows])
        return [stream.next() for _ in range(steps)]

    def view(self, number: int, epoch: int) -> View:
        """The training view of an epoch."""
        if self.recipe.train_views == "fresh":
            return View(f"fresh-{number}-{epoch}", seed_for(*self.data_name, "crop", number, epoch))
        return self.views[epoch % len(self.views)]

    def evaluate(self, start: str, *, act: bool) -> tuple[dict[str, float], dict[str, float]]:
        """Validation mAP and macro F1 in [0, 1], and the means of what the method diagnoses."""
        model, method = self.model, self.model.method
        scores, labels = [], []
        seen: dict[str, list[Tensor]] = {}
        model.eval()
        labels_of = self.source.labels["val"]
        with torch.inference_mode():
            group = self.device.group
            for rows, counts in group.rounds(chunks(np.arange(self.sizes["val"]), self.recipe.eval_batch)):
                batch, x = self.source.batch("val", rows, CENTRE, start, self.device, attributes=False)
                batch, x = self.source.prepared(method, batch, x, start)
                with self.device.autocast():
                    out = model(x, batch, start, act=act, keep=method.taps if act else ())
                    codes = {k: self.device.put(v[batch.index]) for k, v in labels_of.attributes.items()}
                    targets = None if labels_of.targets is None else self.device.put(labels_of.targets[batch.index])
                    told = replace(batch, attributes=codes, targets=targets)
                    for name, values in (method.diagnose(out, told) if act else {}).items():
                        seen.setdefault(name, []).append(group.gather(values.float(), counts).cpu())
                scores.append(group.gather(out.scores["label"].float(), counts).cpu())
                labels.append(group.gather(model.head.decode(out.scores), counts).cpu())
        model.train()
        y = labels_of.targets
        assert y is not None
        logits = torch.cat(scores)
        if not bool((logits.abs() <= LARGEST).all()):
            raise CellError("a validation logit is not finite; a broken model would look perfectly fair")
        truth, decoded = y.numpy().astype(np.int64), torch.cat(labels).numpy()
        result = {
            "f1": macro_f1(decoded, truth, self.task, self.num_labels),
            "map": mean_average_precision(logits.numpy(), truth, self.task),
        }
        means = {name: torch.cat(values).nanmean(0).nanmean().item() for name, values in seen.items()}
        return result, {f"val_{k}": v for k, v in means.items() if math.isfinite(v)}


def _codes(source: Source, attribute: str) -> IntArray:
    """[N] groups of the training rows."""
    codes = source.labels["train"].attributes
    if attribute not in codes:
        raise CellError(f"the data have no protected attribute {attribute!r}")
    return codes[attribute].numpy()


def write_log(path: Path, log: Sequence[Mapping[str, Any]]) -> None:
    """Write an epoch log as JSON lines, whole or not at all."""
    io.write_text(path, "".join(io.canonical_json(record) + "\n" for record in log))


def restore(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an optimiser's state in the memory format of its parameters.

    The fused kernels read parameters and moments side by side in memory; moments that come
    back from a file in another format would be paired with the wrong weights.
    """
    optimiser.load_state_dict(state)
    for parameter, moments in optimiser.state.items():
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter).copy_(value)
