"""Other arithmetic, memory formats and compiled code, each against plain fp32 on the CPU, within a stated tolerance."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from biasbench.cell import Cell
from biasbench.job import CellJob
from biasbench.model import Device
from biasbench.recipe import Stage
from biasbench.store import Store
from biasbench.testing._subject import Subject

pytestmark = pytest.mark.torch
STAGE = Stage(train="all", epochs=2, lr=0.02, optimizer="sgd", batch_size=12, norm="batch")
TOLERANCE = {  # of the task's losses, relative; of the scores, relative to their range
    "bf16": (1e-2, 5e-2), "fp16": (2e-3, 1e-2), "channels_last": (1e-5, 1e-4), "compile": (1e-5, 1e-4),
}  # fmt: skip
ONE = '''
from torch import nn

from biasbench import Backbone, hookimpl


class One(Backbone):
    """One segment, since each takes a compiler seconds."""

    name = "one"
    channels = {"image": 3, "embedding": 8}
    strides = {"image": 1}

    def __init__(self):
        super().__init__()
        layers = nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.segments = nn.ModuleDict({"embedding": nn.Sequential(*layers)})


@hookimpl
def biasbench_backbones():
    return [One]
'''


def job_of(folder: Path, kind: str, method: str) -> CellJob:
    job = Subject(method)._job(folder)
    plugin = folder / "one.py"
    plugin.write_text(ONE)
    fields = {"channels_last": kind == "channels_last", "compile": kind == "compile"}
    return job.model_copy(
        update={
            "recipe": job.recipe.model_copy(update={"stages": (STAGE,), "eval_batch": 5, **fields}),
            "precision": kind if kind in ("bf16", "fp16") else "fp32",
            "plugins": (*job.plugins, str(plugin)),
            "backbone": "one" if method == "original" else job.backbone,
        }
    )


def computed(folder: Path, kind: str, method: str) -> dict[str, Any]:
    """Task losses of every epoch, and what is said of the test split."""
    cell = Cell(job_of(folder, kind, method), lambda _event: None)
    log = cell.fit(Store(cell.job.results, create=True)).log
    said = {split: outputs for split, _, _, outputs in cell._said(cell._start_predicting())}
    return {"loss": [r["loss"] for r in log], "scores": said["test"].scores["label"]}


@pytest.mark.parametrize("kind", TOLERANCE)
def test_it_comes_out_as_in_fp32(
    several: ModuleType, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "compile" and shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("torch.compile needs a C++ compiler on the CPU, and there is none")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    # an adversary's game makes much of rounding in fp32, and less than halved precision does of itself
    method = "adv-conv4(warmup=2, weight=0.5)" if kind in ("bf16", "fp16") else "original"
    plain, other = (
        several.found_by(1, lambda _member, kind=kind: computed(tmp_path, kind, method), tmp_path / kind)
        for kind in ("fp32", kind)
    )
    losses, scores = TOLERANCE[kind]
    assert np.abs(other["loss"] / plain["loss"] - 1).max() < losses
    assert np.abs(other["scores"] - plain["scores"]).max() / np.ptp(plain["scores"]) < scores
    assert (other["scores"] != plain["scores"]).any()  # something else was done


@pytest.mark.parametrize("optimiser", [torch.optim.SGD, torch.optim.Adam])
def test_a_first_fp16_step_that_is_left_out_leaves_nothing_behind(tmp_path: Path, optimiser: Any) -> None:
    """Fused SGD would go on from momentum that nobody wrote."""
    from biasbench.engine import Trainer

    stage = STAGE.model_copy(update={"optimizer": optimiser.__name__.lower(), "weight_decay": 0.0})
    cell = Cell(job_of(tmp_path, "fp16", "original"), lambda _event: None)
    trainer = Trainer.__new__(Trainer)
    trainer.model, trainer.device = cell.model, Device("cpu", "fp16")
    p = torch.nn.Parameter(torch.ones(4))
    made = trainer._optimiser([p], 0.1, stage)
    torch.use_deterministic_algorithms(True)  # memory that nobody wrote is NaN then
    try:
        for gradient in (float("inf"), 0.0):
            trainer.device.step(made, lambda scaled, gradient=gradient: scaled((p * gradient).sum()).backward())
    finally:
        torch.use_deterministic_algorithms(False)
    assert isinstance(made, optimiser)
    assert torch.equal(p, torch.ones(4))
