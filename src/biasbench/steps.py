"""Optimisation steps: the task's own, and those of a method's phases between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from biasbench.data import LARGEST, Batch, IntArray
from biasbench.errors import CellError
from biasbench.features import View
from biasbench.method import Activations, Phase
from biasbench.model import norms_held
from biasbench.recipe import Stage
from biasbench.streams import Stream

if TYPE_CHECKING:
    from biasbench.engine import Trainer


_DROPOUT = nn.modules.dropout._DropoutNd  # noqa: SLF001


@dataclass
class Begun:
    """How far an epoch is.

    Attributes:
        step: Task steps taken.
        sums: The value of every loss at every step.
        taken: Steps of turns that may end early.
    """

    step: int = 0
    sums: dict[str, list[float]] = field(default_factory=dict)
    taken: dict[str, list[int]] = field(default_factory=dict)


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
        self.t, self.stage, self.start = trainer, stage, start
        self.optimisers, self.streams, self.task = optimisers, streams, task
        self.keep = trainer.model.method.taps if stage.method else ()
        self.turns = [phase for phase in phases if not phase.joint]
        self.joined = [phase for phase in phases if phase.joint]

    def epoch(self, number: int, epoch: int, begun: Begun, between: Callable[[], None]) -> dict[str, float]:
        """One pass, or what is left of it.

        Args:
            number: Of the stage in the recipe.
            epoch: Epochs of it that are over.
            begun: How far this one is; kept up to date.
            between: Called between two steps; what it raises ends the pass there.

        Returns:
            The mean of every loss, and of the steps of turns that may end early.
        """
        model, sums, taken = self.t.model, begun.sums, begun.taken
        model.train()
        if self.stage.norm == "eval":
            model.backbone.eval()
            model.backbone.training = True  # interventions read it; the layers below hold still
            for layer in self._dropouts():
                layer.train()
        view = self.t.view(number, epoch)
        if epoch == 0 and begun.step == 0:
            for phase in self.turns:
                self.turn(phase, view, phase.before, sums)
        order = self.t.order(self.stage, number, epoch)
        for rows in order[begun.step :]:
            for phase in self.turns:
                steps = self.turn(phase, view, phase.repeat, sums)
                if phase.until:
                    taken.setdefault(f"steps_{phase.name}", []).append(steps)
            begun.step += 1
            _note(sums, self.task_step(rows, view), where=f"stage {number}, epoch {epoch + 1}, step {begun.step}")
            if begun.step < len(order):
                between()
        means = {f"loss_{name}" if name != "task" else "loss": float(np.mean(v)) for name, v in sums.items()}
        return means | {name: float(np.mean(v)) for name, v in taken.items()}

    def check(self) -> None:
        """See that what the optimisers remember is finite: one huge gradient can end all learning without a word.

        Raises:
            CellError: When it is not.
        """
        for name, optimiser in self.optimisers.items():
            for state in optimiser.state.values():
                if not all(bool(v.isfinite().all()) for v in state.values() if isinstance(v, Tensor)):
                    what = f"a gradient of {name} was not finite, or its square"
                    raise CellError(what, fix="Lower the learning rate")

    def _dropouts(self) -> Iterator[nn.Module]:
        """Dropout in the segments that learn: what is frozen may be cached, and says the same each time."""
        for segment in self.t.model.backbone.segments.values():
            if any(id(p) in self.task for p in segment.parameters()):
                yield from (part for part in segment.modules() if isinstance(part, _DROPOUT))

    def turn(self, phase: Phase, view: View, most: int, sums: dict[str, list[float]]) -> int:
        """Steps of a phase, until its gradient is short enough; returns how many."""
        for step in range(most):
            value, length = self.phase(phase, view)
            _note(sums, {phase.name: value})
            if length < phase.until:
                return step + 1
        return most

    def forward(self, rows: IntArray, view: View, data: str = "train") -> tuple[Activations, Batch]:
        t, keep = self.t, self.keep
        source = t.source if data == "train" else t.secondary[data]
        mine = rows[t.device.group.span(len(rows))]
        batch, x = source.batch("train", mine, view, self.start, t.device, attributes=True)
        batch, x = source.prepared(t.model.method, batch, x, self.start)
        shares = t.device.shares(len(rows))
        with t.device.autocast():
            out = t.model(x, batch, self.start, act=self.stage.method, keep=keep, shares=shares)
        return out, batch if shares is None else t.device.whole(batch, len(rows))

    def task_loss(self, out: Activations, batch: Batch) -> Tensor:
        """The task's loss, weighted by the method, averaged over the batch."""
        losses = self.t.model.head.loss(out.scores, batch)  # [B]
        return (self.t.model.method.weight(losses, batch) * losses).mean()

    def task_step(self, rows: IntArray, view: View) -> dict[str, float]:
        """The task's own step: weighted task loss plus the method's terms, joined phases' among them."""
        t, method = self.t, self.t.model.method
        size = t.recipe.micro_batch or len(rows)
        parts = np.array_split(rows, -(-len(rows) // size))
        totals: dict[str, float] = {}
        others = [(phase, self.streams[phase.name].next()) for phase in self.joined]

        def backward(scaled: Callable[[Tensor], Tensor]) -> None:
            for part in parts:
                out, batch = self.forward(part, view)
                with t.device.autocast():
                    terms = {"task": self.task_loss(out, batch)}
                    if self.stage.method:
                        terms |= method.loss(out, batch)
                share = len(part) / len(rows)
                total = torch.stack([v.float() for v in terms.values()]).sum() * share
                for name, value in terms.items():
                    totals[name] = totals.get(name, 0.0) + float(value.detach()) * share
                scaled(total).backward()  # type: ignore[no-untyped-call]
            for phase, drawn in others:
                with norms_held(t.model):  # other images leave no trace in running statistics
                    out, batch = self.forward(drawn, view, phase.data)
                with t.device.autocast():
                    value = phase.loss(out, batch).float()
                totals[phase.name] = float(value.detach())
                scaled(value).backward()  # type: ignore[no-untyped-call]

        with norms_held(method, self.task):
            t.device.step(self.optimisers["task"], backward)
        return totals

    def phase(self, phase: Phase, view: View) -> tuple[float, float]:
        """One step of another optimisation problem: its loss, and its gradient's length if the turn may end early."""
        t = self.t
        rows = self.streams[phase.name].next()
        own = {id(p) for p in phase.params}
        value, length = 0.0, math.inf

        def backward(scaled: Callable[[Tensor], Tensor]) -> None:
            nonlocal value
            with torch.set_grad_enabled(not phase.detached):
                out, batch = self.forward(rows, view, phase.data)
            with torch.enable_grad(), t.device.autocast():
                loss = phase.loss(out, batch)
                if phase.task:
                    loss = loss + self.task_loss(out, batch)
            value = float(loss.detach())
            scaled(loss).backward()  # type: ignore[no-untyped-call]

        def look(scaled: Callable[[Tensor], Tensor]) -> None:
            nonlocal length
            if phase.until:
                norms = [p.grad.norm() for p in phase.params if p.grad is not None]
                length = float(torch.stack(norms).norm() / scaled(torch.ones_like(norms[0])))

        with norms_held(t.model, own):
            t.device.step(self.optimisers[phase.name], backward, look)
        if not abs(value) <= LARGEST:
            raise CellError(f"the loss of phase {phase.name} is not finite")
        return value, length


def _note(sums: dict[str, list[float]], losses: Mapping[str, float], where: str = "") -> None:
    for name, value in losses.items():
        if not abs(value) <= LARGEST:
            place = f" at {where}" if where else ""
            raise CellError(f"the training loss {name!r} is not finite{place}", fix="Lower the learning rate")
        sums.setdefault(name, []).append(value)
