"""Optimisation steps: the task's own, and those of a method's phases between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from biasbench.data import Batch, IntArray
from biasbench.errors import CellError
from biasbench.features import View
from biasbench.method import Activations, Phase
from biasbench.model import norms_held
from biasbench.recipe import Stage
from biasbench.streams import Stream

if TYPE_CHECKING:
    from biasbench.engine import Trainer


class Steps:
    """The optimisation steps of one stage; the trainer decides when."""

    def __init__(
        self,
        trainer: Trainer,
        stage: Stage,
        start: str,
        phases: Sequence[Phase],
        optimisers: Mapping[str, torch.optim.Optimizer],
        streams: Mapping[str, Stream],
        task: set[int],
    ) -> None:
        self.t, self.stage, self.start, self.phases = trainer, stage, start, phases
        self.optimisers, self.streams, self.task = optimisers, streams, task
        self.keep = trainer.model.method.taps if stage.method else ()

    def epoch(self, number: int, epoch: int) -> dict[str, float]:
        """One pass; returns the mean of every loss."""
        model = self.t.model
        sums: dict[str, list[float]] = {}
        model.train()
        if self.stage.norm == "eval":
            model.backbone.eval()
            model.backbone.training = True  # interventions read it; the layers below hold still
        view = self.t.view(number, epoch)
        if epoch == 0:
            for phase in self.phases:
                for _ in range(phase.before):
                    _note(sums, {phase.name: self.phase(phase, view)})
        for step, rows in enumerate(self.t.order(self.stage, number, epoch)):
            for phase in self.phases:
                for _ in range(phase.repeat):
                    _note(sums, {phase.name: self.phase(phase, view)})
            _note(sums, self.task_step(rows, view), where=f"stage {number}, epoch {epoch + 1}, step {step + 1}")
        return {f"loss_{name}" if name != "task" else "loss": float(np.mean(v)) for name, v in sums.items()}

    def forward(self, rows: IntArray, view: View, keep: Sequence[str]) -> tuple[Activations, Batch]:
        t = self.t
        batch, x = t.source.batch("train", rows, view, self.start, t.device, attributes=True)
        batch, x = t.source.prepared(t.model.method, batch, x, self.start)
        with t.device.autocast():
            return t.model(x, batch, self.start, act=self.stage.method, keep=keep), batch

    def task_loss(self, out: Activations, batch: Batch) -> Tensor:
        """The task's loss, weighted by the method, averaged over the batch."""
        losses = self.t.model.head.loss(out.scores, batch)  # [B]
        return (self.t.model.method.weight(losses, batch) * losses).mean()

    def task_step(self, rows: IntArray, view: View) -> dict[str, float]:
        """The task's own step: weighted task loss plus the method's terms."""
        t, method = self.t, self.t.model.method
        size = t.recipe.micro_batch or len(rows)
        parts = np.array_split(rows, -(-len(rows) // size))
        totals: dict[str, float] = {}

        def backward(scaled: Callable[[Tensor], Tensor]) -> None:
            for part in parts:
                out, batch = self.forward(part, view, self.keep)
                with t.device.autocast():
                    terms = {"task": self.task_loss(out, batch)}
                    if self.stage.method:
                        terms |= method.loss(out, batch)
                share = len(part) / len(rows)
                total = torch.stack([v.float() for v in terms.values()]).sum() * share
                for name, value in terms.items():
                    totals[name] = totals.get(name, 0.0) + float(value.detach()) * share
                scaled(total).backward()  # type: ignore[no-untyped-call]

        with norms_held(method, self.task):
            t.device.step(self.optimisers["task"], backward)
        return totals

    def phase(self, phase: Phase, view: View) -> float:
        """One step of another optimisation problem."""
        t = self.t
        rows = self.streams[phase.name].next()
        own = {id(p) for p in phase.params}
        value = 0.0

        def backward(scaled: Callable[[Tensor], Tensor]) -> None:
            nonlocal value
            with torch.set_grad_enabled(not phase.detached):
                out, batch = self.forward(rows, view, self.keep)
            with torch.enable_grad(), t.device.autocast():
                loss = phase.loss(out, batch)
                if phase.task:
                    loss = loss + self.task_loss(out, batch)
            value = float(loss.detach())
            scaled(loss).backward()  # type: ignore[no-untyped-call]

        with norms_held(t.model, own):
            t.device.step(self.optimisers[phase.name], backward)
        if not math.isfinite(value):
            raise CellError(f"the loss of phase {phase.name} is not finite")
        return value


def _note(sums: dict[str, list[float]], losses: Mapping[str, float], where: str = "") -> None:
    for name, value in losses.items():
        if not math.isfinite(value):
            place = f" at {where}" if where else ""
            raise CellError(f"the training loss {name!r} is not finite{place}", fix="Lower the learning rate")
        sums.setdefault(name, []).append(value)
