"""Joint learning and unlearning in cells of the real harness, with secondary data sets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from biasbench import DataError, UsageError
from biasbench.config import Settings
from biasbench.plan import Request, make_plan
from biasbench.plugins import load_plugins
from biasbench.runner import Runner, Summary
from biasbench.store import Store

pytestmark = pytest.mark.torch
HELPERS = Path(__file__).parent.parent / "helpers"
FILES = tuple(str(HELPERS / name) for name in ("tiny.py", "trouble.py", "posed.py"))
FEW = "warmup=2, steps=2, lr=1.0"


class Bench:
    """One store and cache."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings((), folder / "results", folder / "cache")
        self.store = Store(self.settings.results, create=True)

    def plan(self, *methods: str, dataset: str = "plain", **overrides: Any) -> list[Any]:
        request = Request(
            methods,
            [dataset],
            backbones=["tiny"],
            profile="smoke",
            overrides={"crop": 32, "short_side": 32, "select": "last", **overrides},
        )
        return make_plan([request], load_plugins(FILES), self.settings)

    def run(self, *methods: str, **given: Any) -> list[Any]:
        cells = self.plan(*methods, **given)
        found = Runner(cells, self.store, self.settings.cache, plugin_files=FILES).run()
        assert found == Summary(ok=len(cells)), [r["reason"] for r in self.store.records()]
        return cells

    def log(self, cell: Any) -> list[dict[str, Any]]:
        lines = (self.store.training(cell.training_key) / "log.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def weights(self, cell: Any) -> Any:
        return load_file(self.store.training(cell.training_key) / "weights.safetensors")


def test_own_and_secondary_attributes_together(tmp_path):
    bench = Bench(tmp_path)
    text = f"jlu(attributes=('gender',), data=('posed', 'posed:tilt'), {FEW})"
    plain, cell = bench.run("original", text)
    first, second = bench.log(cell)
    assert "loss_0.jlu/confusion" not in first  # the head's own stage is without the method
    names = {
        "loss_0.jlu/confusion",
        "loss_0.jlu/classifiers-train",
        "loss_0.jlu/classifiers-posed",
        "loss_0.jlu/confusion-posed",
    }
    assert names <= set(second)
    assert "val_0.jlu/accuracy gender" in second
    mine = bench.weights(cell)
    for i, name in ((1, "pose"), (2, "tilt")):  # the validation rows have no labels of theirs
        known = mine["method.methods.0.known"][i].item()
        assert second[f"val_0.jlu/training score posed:{name}"] == pytest.approx(known, rel=1e-6)
    sizes = [mine[f"method.methods.0.classifiers.{i}.weight"].shape[0] for i in range(3)]
    assert sizes == [2, 3, 2]  # gender; pose, which is the primary one though named second; tilt
    weights = mine["method.methods.0.class_weights_1"]
    pose = np.bincount([i % 3 for i in range(30) if i % 7 != 6], minlength=3)
    assert weights.tolist() == pytest.approx((1 / pose / np.mean(1 / pose)).tolist())
    assert cell.training_key != plain.training_key


@pytest.mark.parametrize("frozen", [True, False])
def test_other_images_leave_no_trace_in_running_statistics(tmp_path, frozen):
    """With a weight of 0 the secondary images only pass through: the model is bit for bit the same as without."""
    given: dict[str, Any] = (
        {} if frozen else {"stages.0.norm": "batch", "stages.1.norm": "batch", "train_views": "fresh"}
    )
    bench = Bench(tmp_path)
    without, beside = bench.run(
        f"jlu(weight=0.0, {FEW})", f"jlu(attributes=('gender',), data=('posed',), weight=0.0, {FEW})", **given
    )
    mine, theirs = bench.weights(beside), bench.weights(without)
    shared = [k for k in theirs if not k.startswith("method.")]
    assert any("running_mean" in k for k in shared)
    for name in shared:
        assert mine[name].equal(theirs[name]), name


def test_a_secondary_data_set_moves_the_representation(tmp_path):
    bench = Bench(tmp_path)
    still, moved = bench.run(*(f"jlu(data=('posed',), weight={w}, {FEW})" for w in (0.0, 50.0)))
    one, other = bench.weights(still), bench.weights(moved)
    assert any(not one[k].equal(other[k]) for k in one if k.startswith("backbone.segments.conv5"))
    assert all(one[k].equal(other[k]) for k in one if k.startswith("backbone.segments.conv4"))  # frozen by the recipe


def test_cached_activations_of_the_secondary_set_are_its_own(tmp_path):
    bench = Bench(tmp_path)
    (cell,) = bench.run(f"jlu(data=('posed',), {FEW})")
    assert {record["start"] for record in bench.log(cell)} == {"conv4", "embedding"}
    metas = {path: json.loads(path.read_text()) for path in (tmp_path / "cache" / "features").glob("*/meta.json")}
    train = {path: meta for path, meta in metas.items() if meta["split"] == "train" and meta["tap"] == "conv4"}
    rows = [len(np.load(path.parent / "data.npy", mmap_mode="r")) for path in train]
    assert sorted(rows) == [30, 30, 40, 40]  # the centre view and one more of each
    assert len({meta["parts"]["pixels"] for meta in train.values()}) == 2


def test_the_secondary_content_is_part_of_the_key(tmp_path):
    bench = Bench(tmp_path)
    (cell,) = bench.plan(f"jlu(data=('posed',), {FEW})")
    assert cell.spec.secondary.keys() == {"posed"}
    payload = cell.spec.training_payload()
    assert payload["secondary"] == dict(cell.spec.secondary)
    (alone,) = bench.plan(f"jlu({FEW})")
    assert "secondary" not in alone.spec.training_payload()


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("jlu(attributes=('age',))", "n/a: needs attribute:age"),
        ("jlu(data=('posed:age',))", "n/a: needs posed/attribute:age"),
        ("blackout-segm+jlu(data=('posed',))", "n/a: needs masks:person, posed/masks:person"),
    ],
)
def test_what_the_data_lack_is_told_in_the_plan(tmp_path, method, reason):
    (cell,) = Bench(tmp_path).plan(method)
    assert cell.reason is not None
    assert cell.reason.startswith(reason)


def test_an_unknown_secondary_data_set_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="pozed"):
        Bench(tmp_path).plan("jlu(data=('pozed',))")


def test_the_head_learns_ten_times_faster_and_by_sgd(tmp_path):
    """One step from the same start: SGD without momentum moves by rate times gradient."""
    bench = Bench(tmp_path)
    settings = {
        f"stages.{i}.{k}": v
        for i in (0, 1)
        for k, v in {"max_steps": 1, "optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0}.items()
    }
    settings |= {"stages.0.lr": 1e-6, "stages.1.lr": 1e-3}
    moves = {}
    for times in (1.0, 10.0):
        (cell,) = bench.run("original", **settings, **{"stages.1.head_lr": times})
        (start,) = bench.run("original", **{**settings, "stages.1.head_lr": times, "stages.1.lr": 1e-12})
        after, before = bench.weights(cell), bench.weights(start)
        name = next(k for k in after if k.startswith("backbone.segments.conv5") and after[k].ndim == 4)
        moves[times] = [(after[k] - before[k]).abs().sum().item() for k in ("head.linear.weight", name)]
    assert moves[10.0][0] == pytest.approx(10 * moves[1.0][0], rel=1e-2)
    assert moves[10.0][1] == pytest.approx(moves[1.0][1], rel=1e-2)


# ------------------------------------------------------------------ secondary data, predicted too
def test_what_the_embedding_tells_of_another_data_set(tmp_path):
    """The plain model and the one that unlearns are both read on the secondary data set's own splits."""
    bench = Bench(tmp_path)
    request = Request(
        ["original", f"jlu(data=('posed',), {FEW})"], ["plain"], backbones=["tiny"], profile="smoke",
        overrides={"crop": 32, "short_side": 32, "embeddings": True}, secondary=["posed"],
        attributes=["gender", "posed:tilt"], metrics=["accuracy", "embedding"],
    )  # fmt: skip
    cells = make_plan([request], load_plugins(FILES), bench.settings)
    assert Runner(cells, bench.store, bench.settings.cache, plugin_files=FILES).run() == Summary(ok=2)
    for cell in cells:
        records = {(r["metric"], r["attribute"]): r for r in bench.store.metrics(cell.key)}
        assert records["embedding", "posed:tilt"]["values"]["embedding"]["mean"] is not None
        assert records["accuracy", "gender"]["values"]["f1"]["mean"] is not None
        assert records["accuracy", "posed:tilt"]["values"]["f1"]["mean"] is None  # of a task that it does not have
        folder = bench.store.run(cell.key) / "secondary" / "0" / "predictions"
        assert {s: len(np.load(folder / s / "labels.npy")) for s in ("train", "val", "test")} == {
            "train": 30, "val": 6, "test": 6,
        }  # fmt: skip
        (kept,) = (folder / "train").glob("embedding-*.npy")
        assert np.load(kept).shape == (30, 64)
        assert bench.store.verify(bench.store.run(cell.key))["beside"][0]["dataset"] == "posed"
    (alone,) = bench.plan("original", embeddings=True, select="best")
    assert alone.training_key == cells[0].training_key  # the training does not know of it
    assert alone.key != cells[0].key


def test_attributes_of_secondary_data_are_checked_in_the_plan(tmp_path):
    request = Request(["original"], ["plain"], backbones=["tiny"], profile="smoke", secondary=["posed"])
    for name, problem in (("posed:age", "age"), ("pozed:tilt", "pozed:tilt")):
        with pytest.raises(DataError, match=f"no protected attribute '{problem}'"):
            make_plan([replace(request, attributes=[name])], load_plugins(FILES), Settings((), tmp_path, tmp_path))
