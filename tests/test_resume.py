"""Trainings that stop and go on with what only the process knew: numpy's and Python's generators, the scale of fp16.

That weights, optimisers and streams come back is the campaign's to prove (`benchmarks/campaign/resume.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from biasbench import engine, io
from biasbench.cell import Cell
from biasbench.model import Device
from biasbench.randomness import seed_globals
from biasbench.recipe import Stage
from biasbench.stopping import Stopped
from biasbench.store import Store
from biasbench.testing._subject import Subject

pytestmark = pytest.mark.torch
STAGES = (
    Stage(train="head", epochs=1, lr=1e-2, batch_size=8, norm="eval"),
    Stage(train="all", epochs=2, lr=1e-3, batch_size=8, norm="batch"),
)
PLUGIN = """
import random

import numpy as np

from biasbench import Method, hookimpl


class Draws(Method):
    name = "draws"

    def weight(self, losses, batch):
        drawn = np.random.rand() + np.random.randn() ** 2 + random.random() + random.gauss(0, 1) ** 2
        return 1 + drawn + 0 * losses.detach()


class Loud(Method):
    name = "loud"

    def weight(self, losses, batch):
        return 50 + 0 * losses.detach()


@hookimpl
def biasbench_methods():
    return [Draws, Loud]
"""
MIDDLE, EDGE = 2, 4  # of the four steps of an epoch, after which a training is asked whether to end


def trained(folder: Path, method: str, precision: str, stops: tuple[int, ...]) -> dict[str, str]:
    """Hashes of what a training leaves that ended early at some places; every process of it starts somewhere else."""
    folder.mkdir()
    plugin = folder.parent / "draws.py"
    plugin.write_text(PLUGIN)
    store = Store(folder / "results", create=True)
    for number, place in enumerate((*stops, None)):
        job = Subject(method, [plugin])._job(folder)
        recipe = job.recipe.model_copy(update={"stages": STAGES})
        seed_globals(number)
        try:
            cell = Cell(job.model_copy(update={"recipe": recipe, "precision": precision}), lambda _event: None)
            aside = cell.train(store, asked(place))
        except Stopped:
            continue
        return {file: io.hash_file(aside / file) for file in ("weights.safetensors", "log.jsonl")}
    raise AssertionError("it never ended")


def asked(place: int | None) -> Any:
    """Says yes when it is asked for the nth time."""
    times = iter(range(1, 1000))
    return lambda: next(times) == place


@pytest.mark.parametrize(("method", "precision"), [("draws", "fp32"), ("loud", "fp16")])
@pytest.mark.parametrize("stops", [(MIDDLE,), (EDGE,), (EDGE + MIDDLE, EDGE - 1)])
def test_a_resumed_training_is_the_uninterrupted_one_to_the_bit(
    tmp_path: Path, method: str, precision: str, stops: tuple[int, ...]
) -> None:
    assert trained(tmp_path / "resumed", method, precision, stops) == trained(tmp_path / "whole", method, precision, ())


@pytest.mark.parametrize(("method", "precision"), [("draws", "fp32"), ("loud", "fp16")])
def test_without_what_is_kept_it_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, precision: str
) -> None:
    whole = trained(tmp_path / "whole", method, precision, ())
    monkeypatch.setattr(engine, "set_random_state", lambda *_: seed_globals(5))
    monkeypatch.setattr(Device, "set_scale", lambda *_: None)
    assert trained(tmp_path / "resumed", method, precision, (MIDDLE,)) != whole


def test_the_scale_of_fp16_and_how_long_it_has_held_come_back() -> None:
    import torch

    parameter = torch.nn.Parameter(torch.ones(2))
    first, other = (torch.optim.SGD([parameter], lr=0.1) for _ in range(2))
    here, there = Device("cpu", "fp16"), Device("cpu", "fp16")
    for gradient in (float("inf"), 1.0, 1.0, 1.0):
        here.step(first, lambda scaled, gradient=gradient: scaled((parameter * gradient).sum()).backward())
    state = here.scale_of(first)
    assert (state["scale"], state["_growth_tracker"]) == (2.0**15, 3)
    there.set_scale(other, state)
    assert there.scale_of(other) == state
    there.step(other, lambda scaled: scaled(parameter.sum()).backward())
    assert there.scale_of(other)["_growth_tracker"] == 4
    assert Device("cpu", "fp32").scale_of(first) == {}
