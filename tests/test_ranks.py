"""Cells of several processes, end to end: rows whole and in order; a process that dies or hangs ends its cell alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biasbench.__main__ import main

pytestmark = pytest.mark.torch
HELPERS = Path(__file__).parent / "helpers"
TROUBLE = '''
import os
import signal

import torch
import torch.distributed as dist

from biasbench import CellError, Method, hookimpl


class Second(Method):
    """At its third step the second process does something else; or the first is gone."""

    name = "second"

    def __init__(self, *, does: str = "nothing"):
        super().__init__()
        self.does, self.seen = does, 0

    def weight(self, losses, batch):
        self.seen += 1
        if self.seen == 3 and dist.is_initialized() and dist.get_rank() == (self.does != "first"):
            if self.does in ("die", "first"):
                os.kill(os.getpid(), signal.SIGKILL)
            elif self.does == "leave":
                os._exit(0)
            elif self.does == "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            elif self.does == "raise":
                raise ZeroDivisionError("a mistake in one place")
            elif self.does == "refuse":
                raise CellError("only here is something wrong")
            elif self.does == "change":
                return 2 * torch.ones_like(losses)
        return torch.ones_like(losses)


@hookimpl
def biasbench_methods():
    return [Second]
'''
SAID = {
    "first": "its process was killed (SIGKILL)", "die": "process 2 of the cell's 2 was killed (SIGKILL)",
    "leave": "process 2 of the cell's 2 ended without a result", "change": "have drifted apart: loss differs",
    "raise": "ZeroDivisionError: a mistake in one place", "refuse": "only here is something wrong",
    "stop": "it made no progress for 30 s",
}  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the user's is read or written."""
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    return tmp_path


def run(results: Path, *more: str, rows: str = "train=37, val=21, test=67, size=32") -> int:
    return main(
        ["run", "--dataset", f"scenes({rows})", "--backbone", "tiny", "--plugin", str(HELPERS / "tiny.py"), "--profile",
         "smoke", "--set", "recipe.crop=32", "--set", "recipe.short_side=32", "--set", "recipe.eval_batch=8",
         "--set", "recipe.select=last", "--device", "cpu", "--jobs", "1", "--metric", "accuracy", "--quiet",
         "--results", str(results), *more]
    )  # fmt: skip


def said(results: Path) -> dict[str, Any]:
    """What the one run in a store says of every split, and its epochs."""
    (folder,) = (results / "runs").iterdir()
    found: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        place = folder / "predictions" / split
        found[split] = json.loads((place / "ids.json").read_bytes()), np.load(place / "score-label.npy")
    key = json.loads((folder / "manifest.json").read_bytes())["spec"]["training_key"]
    log = results / "trainings" / key / "log.jsonl"
    return found | {"log": [json.loads(line) for line in log.read_text().splitlines()], "key": folder.name}


def test_two_processes_and_one_say_the_same_of_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = {}
    for number in ("1", "2"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache-{number}"))
        assert run(tmp_path / number, "--method", "original", "--processes", number) == 0
        metas = (tmp_path / f"cache-{number}").rglob("features/*/meta.json")
        stored[number] = {path.parent.name: json.loads(path.read_bytes())["sha256"] for path in metas}
    one, two = said(tmp_path / "1"), said(tmp_path / "2")
    assert one["key"] != two["key"]
    assert stored["1"] == stored["2"]  # activations to the bit
    assert len(stored["1"]) == 8  # conv4 and the embedding; train in two views, val, test
    for split, count in (("train", 37), ("val", 21), ("test", 67)):
        assert len(set(two[split][0])) == count
        assert one[split][0] == two[split][0]
        assert two[split][1] == pytest.approx(one[split][1], abs=1e-4)
    for a, b in zip(one["log"], two["log"], strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)
    assert list((tmp_path / "2" / "work" / "aside").iterdir()) == []


def test_a_process_that_fails_ends_its_cell_with_a_line_and_no_other(tmp_path: Path) -> None:
    plugin = tmp_path / "second.py"
    plugin.write_text(TROUBLE)
    methods = [f"second(does='{does}')" for does in ("nothing", *SAID)]
    chosen = [word for method in methods for word in ("--method", method)]
    results = tmp_path / "results"
    assert run(results, *chosen, "--plugin", str(plugin), "--processes", "2", "--stall-limit", "0.5") == 1
    unscored = [json.loads(path.read_bytes()) for path in (results / "unscored").iterdir()]
    reasons = {record["method"]: record["reason"] for record in unscored}
    assert set(reasons) == set(methods) - {methods[0]}
    for does, words in SAID.items():
        assert words in reasons[f"second(does='{does}')"], does
    assert len(list((results / "runs").iterdir())) == 1  # the control


@pytest.mark.parametrize("method", ["adv-image"])
def test_methods_that_change_batches_inside_the_network_are_refused(
    tmp_path: Path, method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "results", "--method", method, "--processes", "2", "--dry-run") == 2
    assert "several processes see in part only" in capfd.readouterr().err
    assert run(tmp_path / "results", "--method", method, "--processes", "1", "--dry-run") == 0
