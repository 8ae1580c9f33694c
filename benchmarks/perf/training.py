"""Training throughput of a cell against a bare PyTorch loop: the same network, batches and precision.

The cell trains as its process does: `Cell.train`, with pictures from the prepared store, checks for finite losses and
everything else. Between two of its steps, the bare loop takes the same batch, which lies in memory already, and does
the least that training is: forward, the same weighted loss, backward, Adam (fused, as the cell's). So both take turns
step by step, both begin with the same weights, and they have to report the same losses. What comes once an epoch, the
validation split and the checkpoint, is on neither side.

Wanted: a ratio of 0.95 (pictures a second of the cell over those of the bare loop).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from statistics import mean
from typing import Any

import click
import torch
from cells import decoded, plan, scenes
from sides import Took, between, now, ratio, tell

from biasbench.cell import Cell
from biasbench.data import Batch
from biasbench.store import Store

NETWORKS = {"resnet18": 96, "resnet50": 224, "tiny": 32}  # side of a picture
WARM = 2  # steps that do not count


class Bare:
    """The least that training is."""

    def __init__(self, cell: Cell, lr: float, decay: float) -> None:
        self.model, self.device = deepcopy(cell.model).train(), cell.device
        self.adam = torch.optim.Adam(self.model.parameters(), lr=lr, weight_decay=decay, fused=True)
        self.losses: list[float] = []

    def step(self, batch: Batch) -> None:
        with self.device.autocast():
            scores = self.model.head(self.model.backbone(batch.images))
            loss = self.model.head.loss(scores, batch).mean()
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        self.adam.step()
        self.losses.append(loss.item())


class Turns:
    """Called by the cell between two steps: takes its time, and lets the bare loop take the same step."""

    def __init__(self, cell: Cell, bare: Bare) -> None:
        self.bare = bare
        self.began: Took | None = None
        self.found: dict[str, list[Took]] = {"cell": [], "bare loop": []}
        self.batch: Batch | None = None
        take = cell.source.batch

        def seen(split: str, *args: Any, **more: Any) -> Any:
            found = take(split, *args, **more)
            if split == "train":
                self.batch = found[0]
            return found

        cell.source.batch = seen  # type: ignore[method-assign]

    def __call__(self) -> bool:
        middle = now()
        assert self.batch is not None
        self.bare.step(self.batch)
        if self.began is not None:
            self.found["cell"].append(between(self.began, middle))
            self.found["bare loop"].append(between(middle, now()))
        self.began = now()
        return False


def compare(folder: Path, name: str, steps: int, batch: int, device: str, precision: str) -> None:
    side = NETWORKS[name]
    short = side * 8 // 7
    recipe: Mapping[str, Any] = {
        "crop": side, "short_side": short, "stages.0.epochs": 0, "stages.1.train": "all", "stages.1.epochs": 1,
        "stages.1.norm": "batch", "stages.1.batch_size": batch, "stages.1.max_steps": steps + WARM + 1,
        "train_views": "fresh", "select": "last",
    }  # fmt: skip
    data = scenes((steps + WARM + 1) * batch, size=short)
    cells, jobs = plan(folder, ["original"], data, name, recipe, device=device, precision=precision)
    job = decoded(cells[0], jobs)
    told: list[Mapping[str, Any]] = []
    cell = Cell(job, told.append)
    stage = job.recipe.stages[1]
    turns = Turns(cell, Bare(cell, stage.lr, stage.weight_decay))
    cell.train(Store(job.results), turns)
    found = {way: took[WARM - 1 : -1] for way, took in turns.found.items()}  # the last has the end of the epoch in it
    click.echo(f"{name}, {side} px, batches of {batch}, {precision} on {device}, {len(found['cell'])} steps of each")
    per = dict.fromkeys(found, float(batch))
    tell(found, per, "a picture")
    ratio(found, per, "bare loop", "cell", 0.95, f"ratio {name}")
    (loss,), bare = (e["loss"] for e in told if e["event"] == "epoch"), mean(turns.bare.losses)
    click.echo(f"mean loss {loss:.6f}, of the bare loop {bare:.6f}")
    if not abs(loss - bare) <= 1e-4 * abs(bare):
        raise click.ClickException("the two ways do not train the same network")


@click.command(help=__doc__)
@click.option("--network", "networks", type=click.Choice(list(NETWORKS)), multiple=True, help="Both, unless named.")
@click.option("--steps", type=click.IntRange(min=2), default=30, show_default=True, help="Of each side.")
@click.option("--batch", type=click.IntRange(min=2), default=16, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--small", is_flag=True, help="A network of three layers and four steps: does it run at all?")
def main(networks: tuple[str, ...], steps: int, batch: int, device: str, precision: str, *, small: bool) -> None:
    """See the text of this file."""
    if small:
        networks, steps, batch = ("tiny",), 4, 8
    with tempfile.TemporaryDirectory(prefix="biasbench-perf-") as folder:
        for name in networks or ("resnet18", "resnet50"):
            compare(Path(folder), name, steps, batch, device, precision)


if __name__ == "__main__":
    main()
