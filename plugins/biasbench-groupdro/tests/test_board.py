"""Installed with pip, the method is listed, runs, and stands on the leaderboard."""

from __future__ import annotations

import json
from importlib import metadata

import pytest

from biasbench.__main__ import main

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    try:
        metadata.distribution("biasbench-groupdro")
    except metadata.PackageNotFoundError:
        pytest.skip("biasbench-groupdro is not installed: pip install -e plugins/biasbench-groupdro")
    monkeypatch.chdir(tmp_path)
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))


def test_listed_with_its_distribution(capfd):
    assert main(["list", "methods", "--json"]) == 0
    (found,) = [m for m in json.loads(capfd.readouterr().out)["methods"] if m["name"] == "groupdro"]
    assert found["distribution"].startswith("biasbench-groupdro ")


def test_runs_and_stands_on_the_board(capfd):
    scenes = "scenes(train=60, val=30, test=30, size=48)"
    base = ["run", "--dataset", scenes, "--backbone", "resnet18", "--weights", "random", "--profile", "smoke"]
    base += ["--set", "recipe.crop=40", "--set", "recipe.short_side=48", "--device", "cpu", "--results", "out", "-q"]
    assert main([*base, "--method", "original", "--method", "groupdro(eta=0.1)"]) == 0
    capfd.readouterr()
    assert main(["leaderboard", "--results", "out", "--format", "json"]) == 0
    rows = {row["method"]: row for row in json.loads(capfd.readouterr().out)["rows"]}
    assert rows["groupdro(eta=0.1)"]["status"] == "ok"
    assert 0 <= rows["groupdro(eta=0.1)"]["map"]["mean"] <= 100
