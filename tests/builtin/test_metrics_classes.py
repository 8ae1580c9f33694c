"""Metrics on class predictions and embeddings: by hand, and on a cell of the real harness."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import entropy
from sklearn.metrics import accuracy_score

from biasbench import SPLITS, CellError, DataError, Measurement, Predictions, embedding_leakage
from biasbench.builtin.metrics.classes import Classes
from biasbench.builtin.metrics.embedding import Embedding
from biasbench.config import Settings
from biasbench.plan import Request, make_plan
from biasbench.plugins import load_plugins
from biasbench.runner import Runner, Summary
from biasbench.store import Store

HELPERS = Path(__file__).parent.parent / "helpers"
FILES = tuple(str(HELPERS / name) for name in ("tiny.py", "posed.py"))
GROUPS = ("woman", "man")


def context(task="multiclass", groups=GROUPS, protocol="smoke(epochs=8, batch_size=16)"):
    return Measurement(task, ("a", "b", "c"), "gender", groups, protocol, 0)


def said(targets, labels, codes, embeddings=None):
    n = len(targets)
    return Predictions(
        {"label": np.zeros((n, 3), np.float32)}, np.asarray(labels), np.asarray(targets),
        {"gender": np.asarray(codes)}, [str(i) for i in range(n)], embeddings=embeddings or {},
    )  # fmt: skip


# ------------------------------------------------------------------ classes
def test_classes_by_hand():
    test = said([0, 1, 2, 2, 0, 1], [0, 1, 0, 1, 1, 1], [0, 0, 0, 1, 1, -1])
    got = Classes().measure({"test": test}, {}, context())
    assert got["accuracy"] == pytest.approx(50)  # the unknown row counts
    assert got["within_one"] == pytest.approx(500 / 6)
    assert got["class_mean"] == pytest.approx(100 * np.mean([1 / 2, 1, 0]))
    assert got["exact_by_group"] == pytest.approx({"woman": 200 / 3, "man": 0})
    assert got["within_one_by_group"] == pytest.approx({"woman": 200 / 3, "man": 100})
    assert got["group_gap"] == pytest.approx(200 / 3)
    women, men = np.array([2.5, 1.5, 0.5]), np.array([0.5, 2.5, 0.5])
    assert got["divergence_by_pair"]["woman || man"] == pytest.approx(entropy(women, men))
    assert got["divergence"] == pytest.approx((entropy(women, men) + entropy(men, women)) / 2)
    assert (got["n_by_group"], got["unknown"], got["absent_classes"]) == ({"woman": 3, "man": 2}, 1, 0)


def test_an_absent_group_is_undefined_and_shifts_nothing():
    test = said([0, 1, 2], [0, 1, 1], [0, 0, 0])
    got = Classes().measure({"test": test}, {}, context())
    assert got["accuracy"] == pytest.approx(200 / 3)
    assert math.isnan(got["group_gap"])
    assert math.isnan(got["divergence"])


def test_classes_need_one_label_an_image():
    with pytest.raises(CellError, match="one label"):
        Classes().measure({"test": said([0], [0], [0])}, {}, context("multilabel"))


# ------------------------------------------------------------------ embedding
def planted(n, tells):
    """Embeddings of 4 numbers, one of which is the group with probability `tells`."""
    rng = np.random.default_rng(n)
    codes = np.arange(n) % 2
    shown = np.where(rng.random(n) < tells, codes, 1 - codes)
    return np.column_stack([shown + rng.normal(0, 0.01, n), rng.normal(0, 5, (n, 3))]).astype(np.float32), codes


@pytest.mark.torch
@pytest.mark.parametrize("tells", [1.0, 0.8, 0.5])
def test_a_planted_embedding_is_read_at_its_bayes_value(tells):
    sizes = dict(zip(SPLITS, (3000, 1500, 4000), strict=True))
    made = {split: planted(n, tells) for split, n in sizes.items()}
    found = embedding_leakage(
        {s: x for s, (x, _) in made.items()}, {s: a for s, (_, a) in made.items()},
        "smoke(rounds=1, epochs=30, lr=1e-3, layers=2, width=16, batch_size=64)",
    )  # fmt: skip
    x, a = made["test"]
    bayes = 100 * accuracy_score(a, (x[:, 0] > 0.5).astype(int))
    assert found.embedding.mean == pytest.approx(max(bayes, 100 - bayes), abs=2.5)
    if tells == 0.5:  # elsewhere a signal-free attacker falls on either side of a gap that is the attribute
        assert found.null.mean < 54


@pytest.mark.torch
def test_metric_reads_the_kept_embedding():
    made = {split: planted(n, 1.0) for split, n in zip(SPLITS, (400, 200, 200), strict=True)}
    zeros = {split: np.zeros(len(a), np.int64) for split, (_, a) in made.items()}
    predictions = {split: said(zeros[split], zeros[split], a, {"net": x}) for split, (x, a) in made.items()}
    got = Embedding().measure(predictions, {}, context(protocol="smoke(epochs=25, lr=1e-2, batch_size=16)"))
    assert np.mean(got["embedding"]) > 97
    assert np.mean(got["embedding_rescaled"]) == pytest.approx(2 * np.mean(got["embedding"]) - 100)
    assert got["chance"] == 50
    low, high = got["intervals"]["embedding"]
    assert low <= np.mean(got["embedding"]) <= high + 1e-9


@pytest.mark.torch
def test_chance_is_that_of_the_groups_that_are_large_enough():
    rng = np.random.default_rng(0)
    codes = {split: np.repeat([0, 1, 2], (n, n, 20)) for split, n in zip(SPLITS, (200, 150, 150), strict=True)}
    rows = {
        split: said(a * 0, a * 0, a, {"net": rng.normal(size=(len(a), 3)).astype(np.float32)})
        for split, a in codes.items()
    }
    for groups in (("a", "b", "few"), ()):  # unnamed: an attribute that the run does not know by name
        got = Embedding().measure(rows, {}, context(groups=groups, protocol="smoke(batch_size=16)"))
        assert got["chance"] == 50
        assert got["dropped_groups"]
        assert np.mean(got["embedding_rescaled"]) == pytest.approx(2 * np.mean(got["embedding"]) - 100)


def test_metric_needs_embeddings_and_every_group():
    rows = {split: said([0, 0], [0, 0], [0, 1]) for split in SPLITS}
    with pytest.raises(CellError, match="kept no embeddings"):
        Embedding().measure(rows, {}, context())
    kept = {split: said([0, 0], [0, 0], [0, 0], {"net": np.ones((2, 3), np.float32)}) for split in SPLITS}
    with pytest.raises(CellError, match="what the embedding tells is undefined"):
        Embedding().measure(kept, {}, context())
    with pytest.raises(DataError, match="not finite"):  # such outputs cannot even be put together
        said([0, 0], [0, 0], [0, 1], {"net": np.full((2, 3), np.nan, np.float32)})


@pytest.mark.torch
def test_both_run_on_a_cell(tmp_path):
    settings = Settings((), tmp_path / "results", tmp_path / "cache")
    request = Request(
        ["original"], ["posed"], backbones=["tiny"], profile="smoke", attributes=["tilt", "pose"],
        metrics=["classes", "embedding"], overrides={"crop": 32, "short_side": 32, "embeddings": True},
    )  # fmt: skip
    (cell,) = make_plan([request], load_plugins(FILES), settings)
    store = Store(settings.results, create=True)
    assert Runner([cell], store, settings.cache, plugin_files=FILES).run() == Summary(ok=1)
    records = {(r["metric"], r["attribute"]): r for r in store.metrics(cell.key)}
    assert len(records) == 4
    assert not any(r["error"] for r in records.values())
    table = pd.read_parquet(store.run(cell.key) / "truth" / "test.parquet")
    labels = np.load(store.run(cell.key) / "predictions" / "test" / "labels.npy")
    right = 100 * accuracy_score(table["label"], labels)
    assert records["classes", "tilt"]["values"]["accuracy"]["mean"] == pytest.approx(right)
    assert records["embedding", "tilt"]["values"]["embedding"]["mean"] is not None
    # three poses of fewer than 100 images each: left out, and said
    assert "undefined" in " ".join(records["embedding", "pose"]["flags"])
