"""RBA in the harness: one training serves the field and its constrained predictions, and what it did is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from biasbench import UsageError
from biasbench.builtin.methods.crf_fields import StarField
from biasbench.builtin.methods.rba_lagrange import Constraints, relax
from biasbench.config import Settings
from biasbench.plan import Request, make_plan
from biasbench.plugins import load_plugins
from biasbench.predict import read_outputs
from biasbench.runner import Runner, Summary
from biasbench.store import Store
from biasbench.testing import check_method

pytestmark = pytest.mark.torch
HELPERS = Path(__file__).resolve().parents[1] / "helpers"
PLUGIN = """
from biasbench import Entry, hookimpl
from biasbench.builtin.methods.crf import Crf
from biasbench.builtin.methods.rba import Rba

class Joint(Crf):
    name = "joint"

class Corpus(Rba):
    name = "corpus"

@hookimpl
def biasbench_methods():
    return [Joint, Corpus]
"""


@pytest.fixture
def plugin(tmp_path):
    """The two methods under names of their own, whatever is registered."""
    path = tmp_path / "methods_plugin.py"
    path.write_text(PLUGIN)
    return path


@pytest.mark.parametrize("text", ["joint+corpus(support=2)", "joint+adv-conv5(warmup=2, width=8)"])
def test_conforms(plugin, text):
    check_method(text, plugins=[plugin], tasks=("multilabel", "multiclass"))


def test_cells(plugin, tmp_path):
    """Three rows on tiny data: one training serves `joint` and its constrained predictions."""
    plugins = load_plugins((HELPERS / "tiny.py", HELPERS / "trouble.py", plugin))
    settings_ = Settings((), tmp_path / "results", tmp_path / "cache")
    overrides = {"stages.0.epochs": 1, "stages.1.epochs": 1, "stages.1.max_steps": 2, "crop": 32, "short_side": 32}

    def plan(*methods):
        request = Request(methods=methods, datasets=["plain"], backbones=["tiny"], profile="smoke", overrides=overrides)
        return make_plan([request], plugins, settings_)

    (alone,) = plan("corpus")
    assert "needs pairwise" in alone.reason
    with pytest.raises(UsageError, match="only one method may decide this"):
        plan("joint+joint")
    store = Store(settings_.results, create=True)
    cells = plan("joint", "joint+corpus(support=1)", "joint+adv-conv5(warmup=1, width=4)")
    summary = Runner(cells, store, settings_.cache, jobs=1, plugin_files=plugins.files).run()
    assert summary == Summary(ok=3)
    records = {r["method"]: r for r in store.records()}
    runs = {name: store.run(r["key"]) for name, r in records.items()}
    trainings = {name: store.verify(run)["spec"]["training_key"] for name, run in runs.items()}
    assert trainings["joint"] == trainings["joint+corpus(support=1)"]
    assert len(set(trainings.values())) == 2
    moved = []
    for split in ("train", "val", "test"):
        plain, told = (
            read_outputs(runs[name] / "predictions" / split) for name in ("joint", "joint+corpus(support=1)")
        )
        assert set(plain.scores) == set(told.scores) == {"label", "gender", "unary", "pairwise"}
        off = plain.scores["pairwise"] - told.scores["pairwise"]  # one penalty for all pictures of the split
        np.testing.assert_allclose(off, np.broadcast_to(off[0], off.shape), atol=1e-5)
        moved.append(bool(np.abs(off).max() > 0))
    assert any(moved)
    assert "transductive" in records["joint+corpus(support=1)"]["flags"]
    assert "transductive" not in records["joint"]["flags"]
    assert records["joint"]["notes"] == {}
    notes = records["joint+corpus(support=1)"]["notes"]
    assert list(notes) == sorted(["train", "val", "test", "train@0"])
    reference = pd.read_parquet(runs["joint"] / "truth" / "train.parquet")
    hot, codes = reference[["label/left", "label/right"]].to_numpy(), reference["attribute/gender"].to_numpy()
    counts = np.stack([hot[codes == g].sum(0) for g in (0, 1)], 1)
    limits = Constraints(torch.tensor(counts[:, :1] / counts.sum(1, keepdims=True)), 0.05)
    for split, told in notes.items():  # by hand, from the potentials that the unconstrained run stored
        stored = read_outputs(runs["joint"] / "predictions" / split).scores
        unary, pairwise = (torch.tensor(stored[name], dtype=torch.float64) for name in ("unary", "pairwise"))
        found = relax(StarField(unary, pairwise), limits, 0.5, 200)
        assert told == {
            "1.corpus/constraints": 4, "1.corpus/violated_before": found.before, "1.corpus/violated_after": found.after,
            "1.corpus/beyond_before": none_if_nan(found.beyond_before),
            "1.corpus/beyond_after": none_if_nan(found.beyond_after), "1.corpus/iterations": found.iterations,
        }  # fmt: skip
    assert max(told["1.corpus/violated_before"] for told in notes.values()) > 0
    assert "predictions/test/notes.json" in store.verify(runs["joint+corpus(support=1)"])["files"]


def none_if_nan(value):
    return None if np.isnan(value) else value
