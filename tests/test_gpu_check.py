"""`make gpu-check` finds a difference where there is one, and none between a store and itself."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from biasbench.__main__ import main
from biasbench.store import Store

pytestmark = pytest.mark.torch
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def script() -> Any:
    from importlib import util

    spec = util.spec_from_file_location("biasbench_gpu_check", ROOT / "benchmarks" / "gpu_check.py")
    assert spec is not None
    assert spec.loader is not None
    import sys

    sys.modules[spec.name] = module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small cell, as the script would leave it."""
    folder = tmp_path_factory.mktemp("gpu-check")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CONFIG", "CACHE", "DATA"):
            patch.setenv(f"XDG_{name}_HOME", str(folder / name.lower()))
        command = ["run", "--method", "original", "--dataset", "scenes(train=48, val=24, test=32, size=32)",
                   "--profile", "smoke", "--backbone", "tiny", "--plugin",
                   str(Path(__file__).parent / "helpers" / "tiny.py"),
                   "--set", "recipe.crop=32", "--set", "recipe.short_side=32", "--device", "cpu", "--quiet",
                   "--metric", "accuracy", "--metric", "leakage", "--results", str(folder / "one")]  # fmt: skip
        assert main(command) == 0
    return folder / "one"


def scores(run: Path, _training: Path) -> None:
    path = run / "predictions" / "test" / "score-label.npy"
    x = np.load(path)
    np.save(path, x + 0.1 * np.ptp(x))


def labels(run: Path, _training: Path) -> None:
    path = run / "predictions" / "val" / "labels.npy"
    np.save(path, 1 - np.load(path))


def ids(run: Path, _training: Path) -> None:
    path = run / "predictions" / "train" / "ids.json"
    path.write_text(json.dumps(json.loads(path.read_text())[::-1]))


def losses(_run: Path, training: Path) -> None:
    path = training / "log.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[-1]["loss"] *= 1.05
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def an_epoch(_run: Path, training: Path) -> None:
    path = training / "log.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n")


PLANTED = {scores: "scores, test", labels: "labels, val", ids: "rows of train", losses: "losses", an_epoch: "losses"}


def test_a_store_agrees_with_itself(script: Any, results: Path) -> None:
    checks = list(script.compare(Store(results), Store(results), script.PLAIN))
    assert len(checks) == 8
    assert all(off == 0 for _, off, _ in checks)


@pytest.mark.parametrize("plant", PLANTED, ids=lambda p: p.__name__)
def test_a_difference_is_found_where_it_is(script: Any, results: Path, tmp_path: Path, plant: Any) -> None:
    other = tmp_path / "other"
    shutil.copytree(results, other)
    (run,), (training,) = (other / "runs").iterdir(), (other / "trainings").iterdir()
    plant(run, training)
    far = [name for name, off, most in script.compare(Store(results), Store(other), script.PLAIN) if off > most]
    assert far == [f"original: {PLANTED[plant]}"]


def test_another_figure_or_none_is_found(script: Any, results: Path) -> None:
    (run,) = (results / "runs").iterdir()
    records = list(Store(results).metrics(run.name))
    assert script._figures(records, records) == 0
    moved = json.loads(json.dumps(records))
    moved[0]["values"][next(iter(moved[0]["values"]))]["mean"] += 7
    assert script._figures(records, moved) == pytest.approx(7)
    assert script._figures(records, moved[:1]) == math.inf


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_and_does_not_pass(script: Any) -> None:
    said = CliRunner().invoke(script.main, [])
    assert said.exit_code == 2
    assert said.output == "there is no cuda device on this machine: nothing was checked\n"
