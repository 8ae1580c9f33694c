"""Adversaries in cells of the real harness: every tap, every front, and which epoch is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from biasbench.config import Settings
from biasbench.plan import Request, make_plan
from biasbench.plugins import load_plugins
from biasbench.runner import Runner, Summary
from biasbench.store import Store
from biasbench.testing._subject import Subject

pytestmark = pytest.mark.torch
HELPERS = Path(__file__).parent.parent / "helpers"
FILES = (str(HELPERS / "tiny.py"), str(HELPERS / "trouble.py"))
CONVS = ("conv1", "conv2", "conv3", "conv4", "conv5")


@pytest.mark.parametrize("conv", ["False", "True", "'plain'"])
@pytest.mark.parametrize("at", CONVS)
def test_every_tap_and_front(tmp_path: Path, at: str, conv: str) -> None:
    subject = Subject(f"adv(at='{at}', conv={conv}, warmup=1, repeat=1, width=4)")
    before = {k: v.clone() for k, v in subject.cell(tmp_path / "before").model.state_dict().items()}
    after = subject.train(tmp_path / "after", predict=False).state
    own = [k for k in after if k.startswith("method.") and k.endswith("weight")]
    assert own
    assert all(not torch.equal(before[k], after[k]) for k in own)


def test_early_taps_train_the_layers_before_them_too(tmp_path: Path) -> None:
    plugins, settings = load_plugins(FILES), Settings((), tmp_path / "results", tmp_path / "cache")
    given: dict[str, Any] = {"datasets": ["plain"], "backbones": ["tiny"], "profile": "smoke"}
    (cell,) = make_plan([Request(["adv(at='conv3')"], **given)], plugins, settings)
    assert "trains from conv3" in cell.flags


# ------------------------------------------------------------------ which epoch is kept
class Selection:
    """A plain model and an adversarial one that starts from it, under one selection rule."""

    def __init__(self, folder: Path, select: str, method: str, lr: float, epochs: int = 40) -> None:
        plugins, settings = load_plugins(FILES), Settings((), folder / "results", folder / "cache")
        training = {"stages.0.epochs": epochs, "stages.0.lr": 0.05, "stages.1.epochs": 2, "stages.1.lr": lr,
                    "stages.1.max_steps": 2, "crop": 32, "short_side": 32, "select": select}  # fmt: skip
        request = Request(["original", method], ["plain"], backbones=["tiny"], profile="smoke", overrides=training)
        cells = make_plan([request], plugins, settings)
        store = self.store = Store(settings.results, create=True)
        assert Runner(cells, store, settings.cache, plugin_files=FILES).run() == Summary(ok=2)
        rows = {r["method"]: r for r in store.records()}
        self.flags = {"plain": rows["original"]["flags"], "debiased": rows[method]["flags"]}
        self.runs = {"plain": store.run(rows["original"]["key"]), "debiased": store.run(rows[method]["key"])}

    def selected(self, which: str) -> dict[str, Any]:
        manifest = self.store.manifest(self.runs[which])
        found: dict[str, Any] = self.store.manifest(self.store.training(manifest["spec"]["training_key"]))["selected"]
        return found

    def scores(self, which: str) -> Any:
        return np.load(self.runs[which] / "predictions" / "test" / "score-label.npy")


RUINED = "adv-conv5(warmup=1, width=4, weight=100.0)"  # with a rate at which no epoch comes near the plain model


def test_released_selection_can_keep_the_undebiased_start(tmp_path: Path) -> None:
    found = Selection(tmp_path, "released", RUINED, lr=3.0)
    kept = found.selected("debiased")
    assert (kept["stage"], kept["epoch"]) == ("init", 0)
    assert kept["val_f1"] == found.selected("plain")["val_f1"]
    assert np.array_equal(found.scores("debiased"), found.scores("plain"))
    assert "select=released: may be the undebiased start" in found.flags["debiased"]
    assert not [f for f in found.flags["plain"] if f.startswith("select")]


def test_by_default_only_debiased_epochs_are_kept(tmp_path: Path) -> None:
    found = Selection(tmp_path, "best", RUINED, lr=3.0)
    assert found.selected("debiased")["stage"] == 1
    assert found.selected("debiased")["val_f1"] < found.selected("plain")["val_f1"]
    assert not np.array_equal(found.scores("debiased"), found.scores("plain"))
    assert not [f for f in found.flags["debiased"] if f.startswith("select")]


def test_released_selection_keeps_a_better_epoch(tmp_path: Path) -> None:
    found = Selection(tmp_path, "released", "adv-conv5(warmup=1, width=4, weight=0.0)", lr=2e-2, epochs=1)
    assert found.selected("debiased")["stage"] == 1  # the plain model has hardly been trained
    assert found.selected("debiased")["val_f1"] > found.selected("plain")["val_f1"]
