"""Plans and cells end to end on tiny data: what is kept, what is refused, what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from biasbench.checkpoint import load_tensors
from biasbench.config import Settings
from biasbench.errors import DataError, UsageError
from biasbench.executors.local import LocalExecutor, StartMethod
from biasbench.plan import Request, make_plan
from biasbench.planned import Cell
from biasbench.plugins import Plugins, load_plugins
from biasbench.runner import Runner, Summary
from biasbench.store import Store

pytestmark = pytest.mark.torch
HELPERS = Path(__file__).parent / "helpers"
FILES = (HELPERS / "tiny.py", HELPERS / "trouble.py")
TRAINING = {
    "stages.0.epochs": 1,
    "stages.1.epochs": 3,
    "stages.1.max_steps": 2,
    "crop": 32,
    "short_side": 32,
    "select": "last",
}


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return load_plugins(FILES)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


class Bench:
    """Plans and runs against one results folder."""

    def __init__(self, plugins: Plugins, cache: Path, results: Path) -> None:
        self.plugins, self.settings = plugins, Settings((), results, cache)
        self.events: list[Mapping[str, Any]] = []

    def plan(self, *methods: str, **more: Any) -> list[Cell]:
        given = {"datasets": ["plain"], "backbones": ["tiny"], "profile": "smoke", "overrides": TRAINING} | more
        return make_plan([Request(methods=methods, **given)], self.plugins, self.settings)

    def run(self, *methods: str, start: StartMethod = "forkserver", **more: Any) -> Summary:
        self.events = []
        store = Store(self.settings.results, create=True)
        runner = Runner(
            self.plan(*methods, **more), store, self.settings.cache, jobs=2, plugin_files=self.plugins.files,
            report=self.events.append, executor=partial(LocalExecutor, start=start),
        )  # fmt: skip
        return runner.run()

    @property
    def store(self) -> Store:
        return Store(self.settings.results)

    def records(self) -> dict[str, dict[str, Any]]:
        return {r["method"]: r for r in self.store.records()}

    def files(self, method: str) -> dict[str, str]:
        """Hashes of a run's predictions and of its training's weights and log."""
        key = self.records()[method]["key"]
        manifest = self.store.verify(self.store.run(key))
        training = self.store.verify(self.store.training(manifest["spec"]["training_key"]))
        return {**manifest["files"], **training["files"]}


@pytest.fixture
def bench(plugins: Plugins, cache: Path, tmp_path: Path) -> Bench:
    return Bench(plugins, cache, tmp_path / "results")


def test_a_finished_cell_is_never_computed_twice(bench: Bench) -> None:
    assert bench.run("original") == Summary(ok=1)
    before, decoded = bench.files("original"), _decoded(bench)
    assert decoded
    assert bench.run("original", "adv-conv5(warmup=1)") == Summary(ok=2, cached=1)
    started = [e["label"] for e in bench.events if e["event"] == "cell" and e["state"] == "start"]
    assert started == ["plain/tiny/adv-conv5(warmup=1)/seed=0"]
    assert _decoded(bench) == decoded
    assert bench.files("original") == before


def _decoded(bench: Bench) -> dict[Path, tuple[int, int]]:
    """The stores of decoded images, by what changes when one is made again."""
    files = (bench.settings.cache / "images").rglob("pixels.bin")
    return {f: (f.stat().st_ino, f.stat().st_mtime_ns) for f in files}


def test_the_child_is_given_no_label_of_the_test_split(bench: Bench) -> None:
    bench.run("original")
    tables = sorted((bench.settings.results / "work" / "inputs").rglob("test.parquet"))
    assert tables
    for table in tables:
        assert list(pd.read_parquet(table).columns) == ["id", "path"]


def test_a_killed_training_goes_on_with_the_same_bits(
    bench: Bench, plugins: Plugins, cache: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    method = f"bomb(marker='{marker}', step=6)"  # steps 1-2 are the head's, 3-4, 5-6, 7-8 the epochs after it
    marker.touch()
    assert bench.run(method) == Summary(failed=1)
    assert "SIGKILL" in bench.records()[method]["reason"]
    (log,) = bench.settings.results.rglob("work/checkpoints/*/log.jsonl")
    assert len(log.read_text().splitlines()) == 2  # the head's epoch and one more
    assert bench.run(method) == Summary(ok=1)
    assert not list(bench.settings.results.rglob("work/checkpoints/*/log.jsonl"))  # moved with the training
    resumed = [(e["stage"], e["epoch"]) for e in bench.events if e["event"] == "epoch"]
    assert resumed == [(1, 2), (1, 3)]  # the epochs before the kill are not trained again
    straight = Bench(plugins, cache, tmp_path / "straight")
    assert straight.run(method) == Summary(ok=1)
    assert straight.files(method) == bench.files(method)


def test_fork_server_and_fresh_interpreter_agree_to_the_bit(bench: Bench, plugins: Plugins, tmp_path: Path) -> None:
    bench.run("adv-conv5(warmup=1)")
    fresh = Bench(plugins, tmp_path / "other-cache", tmp_path / "fresh")
    fresh.run("adv-conv5(warmup=1)", start="spawn")
    assert fresh.files("adv-conv5(warmup=1)") == bench.files("adv-conv5(warmup=1)")


def test_failures_are_rows_and_stop_nobody(bench: Bench) -> None:
    methods = ("nan", "crash", "shuffler", "abstain", "blackout-segm", "original")
    summary = bench.run(*methods)
    assert summary == Summary(ok=1, failed=4, na=1), bench.records()
    found = bench.records()
    assert found["original"]["status"] == "ok"
    assert {m: found[m]["status"] for m in methods[:4]} == dict.fromkeys(methods[:4], "failed")
    assert "not finite" in found["nan"]["reason"]
    assert "ZeroDivisionError: a stranger's mistake" in found["crash"]["reason"]
    assert "names an example twice" in found["shuffler"]["reason"] or "twice" in found["shuffler"]["reason"]
    assert "not finite" in found["abstain"]["reason"]
    assert (found["blackout-segm"]["status"], found["blackout-segm"]["reason"]) == ("n/a", "n/a: needs masks:person")
    assert all(found[m]["values"] == {} for m in methods[:5])


def test_a_failed_init_fails_what_starts_from_it(bench: Bench) -> None:
    assert bench.run("crash+adv-conv5(warmup=1)") == Summary(failed=1)
    assert "which failed" in bench.records()["crash+adv-conv5(warmup=1)"]["reason"]


def test_adding_a_method_reshuffles_nobody(bench: Bench, plugins: Plugins, cache: Path, tmp_path: Path) -> None:
    bench.run("original")
    both = Bench(plugins, cache, tmp_path / "both")
    both.run("alpha-3", "original", "adv-conv5(warmup=1)")
    assert both.files("original") == bench.files("original")


def test_every_problem_of_a_plan_at_once(bench: Bench) -> None:
    with pytest.raises(UsageError) as caught:
        bench.plan("orignal", "alpha-1+adv(at='conv9')", "adv(weigth=2.0)", backbones=["tiny", "resnet5"])
    said = str(caught.value)
    assert all(part in said for part in ("Did you mean 'original'", "'conv9'", "weigth", "resnet5"))
    assert not (bench.settings.results).exists()


def test_two_heads_or_samplers_are_refused_while_planning(bench: Bench) -> None:
    with pytest.raises(UsageError, match="only one method may decide"):
        bench.plan("balance+balance")


def test_keys_change_with_every_input_and_with_nothing_else(bench: Bench) -> None:
    base = bench.plan("adv-conv5")[0]
    same = ["adv(at='conv5')", " adv-conv5 ", "adv-conv5(weight=2.0)", "original+adv-conv5"]
    assert {bench.plan(m)[0].key for m in same} == {base.key}
    changes: list[dict[str, Any]] = [
        {"seeds": (1,)}, {"precision": "bf16"}, {"backbones": ["tiny(width=4)"]},
        *({"overrides": TRAINING | {field: value}} for field, value in {
            "crop": 24, "short_side": 40, "stages.0.lr": 1e-2, "stages.0.epochs": 2, "stages.1.batch_size": 8,
            "stages.1.weight_decay": 0.0, "stages.1.norm": "batch", "stages.1.train": "all", "stages.1.max_steps": 1,
            "select": "best", "class_weights": False, "pixels": "native", "train_views": "fresh", "cache": False,
            "views": 2, "embeddings": True, "threads": 2, "channels_last": False, "micro_batch": 4, "eval_batch": 32,
            "limit": 12,
        }.items()),
    ]  # fmt: skip
    keys = [bench.plan("adv-conv5", **change)[0].key for change in changes]
    keys += [bench.plan(m)[0].key for m in ("adv-conv4", "adv-conv5(weight=0.6)", "adv-conv5+alpha-2", "original")]
    assert len({base.key, *keys}) == 1 + len(keys)
    assert len(keys) >= 25
    assert bench.plan("adv-conv5", protocol="wang2019")[0].key == base.key  # measuring never retrains


def test_an_adversary_never_pulls_on_a_frozen_layer(bench: Bench) -> None:
    assert bench.run("adv-conv4(warmup=1)", "adv-conv5(warmup=1)") == Summary(ok=2)
    found = bench.records()
    assert "trains from conv4" in found["adv-conv4(warmup=1)"]["flags"]
    assert not [f for f in found["adv-conv5(warmup=1)"]["flags"] if f.startswith("trains from")]
    weights = {}
    for method in found:
        manifest = bench.store.manifest(bench.store.run(found[method]["key"]))
        training = bench.store.training(manifest["spec"]["training_key"])
        weights[method] = load_tensors(training / "weights.safetensors")
    one, other = (weights[m] for m in ("adv-conv4(warmup=1)", "adv-conv5(warmup=1)"))
    moved = {n.split(".")[2] for n in one if n.startswith("backbone.") and not torch.equal(one[n], other[n])}
    assert moved == {"conv4", "conv5", "embedding"}  # conv3 is frozen in both


def test_an_intersection_is_an_attribute_like_any(bench: Bench) -> None:
    method = "adv-conv5(attribute='gender*gender', warmup=1)"
    assert bench.run(method, "original") == Summary(ok=2)
    manifest = bench.store.manifest(bench.store.run(bench.records()[method]["key"]))
    assert manifest["groups"]["gender*gender"] == ["man*man", "man*woman", "woman*man", "woman*woman"]
    with pytest.raises(DataError, match="no protected attribute 'age'"):
        bench.plan("adv-conv5(attribute='gender*age')")


def test_the_paper_profile_stores_five_views_and_moves_frozen_statistics(bench: Bench) -> None:
    few = {"stages.0.epochs": 1, "stages.1.epochs": 1, "threads": 1, "crop": 24, "short_side": 32}
    assert bench.run("original", profile="paper", overrides=few, weights="random") == Summary(ok=1)
    (record,) = bench.store.records()
    run = bench.store.run(record["key"])
    assert {p.name for p in (run / "predictions").iterdir()} == {
        "train", "val", "test", *(f"train@{v}" for v in range(5)),
    }  # fmt: skip
    assert record["values"]["lambda_m"]["n"] == 5
    assert record["protocol"] == "wang2019"


def test_two_runners_share_a_store(bench: Bench, cache: Path, tmp_path: Path) -> None:
    import json
    import os
    import subprocess
    import sys

    bench.run("original")  # data, pictures and activations are there
    command = [sys.executable, "-m", "biasbench", "run", "-d", "plain", "-b", "tiny", "--profile", "smoke", "--json"]
    for field, value in TRAINING.items():
        command += ["--set", f"recipe.{field}={value}"]
    for file in FILES:
        command += ["--plugin", str(file)]
    methods = ("adv-conv5(warmup=1)", "alpha-3", "alpha-2")
    for method in methods:
        command += ["-m", method]
    shared = tmp_path / "shared"
    environ = {**os.environ, "BIASBENCH_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    runners = [
        subprocess.Popen([*command, "--results", str(shared)], env=environ, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [json.loads(r.communicate(timeout=120)[0]) for r in runners]
    assert [r.returncode for r in runners] == [0, 0]
    assert [s["exit_code"] for s in said] == [0, 0]
    store = Store(shared)
    assert {r["method"]: r["status"] for r in store.records()} == dict.fromkeys(methods, "ok")
    assert len(store.runs()) == 3
    for key in store.runs():
        store.verify(store.run(key))
    trained = list((shared / "trainings").iterdir())
    assert len(trained) == 4  # three methods and the plain run that adv starts from
