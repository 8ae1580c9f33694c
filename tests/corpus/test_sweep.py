"""Plugins whose answers no cell can use, in one sweep with one that can: each fails by its name, and nobody else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.said import calm
from tests.helpers.commands import Said

pytestmark = pytest.mark.torch
HERE = Path(__file__).parent
Cli = Callable[..., Said]

FAILED = {
    "narrow": "scores of shape", "short": "", "words": "", "lazy": "", "interrupts": "KeyboardInterrupt", "leaves": "",
    "segfault": "SIGSEGV",
}  # fmt: skip
FINE = ("view", "subclass", "original")


def test_each_fails_by_its_name_and_nobody_else(cli: Cli, home: Path) -> None:
    plugins = (HERE.parent / "helpers" / "tiny.py", HERE.parent / "helpers" / "trouble.py", HERE / "bad_methods.py")
    arguments: list[Any] = [word for file in plugins for word in ("--plugin", file)]
    arguments += [word for name in (*FAILED, *FINE) for word in ("-m", name)]
    said = cli(
        "run", "-d", "plain", "-b", "tiny", "--profile", "smoke", "--device", "cpu", "--jobs", 2, "--quiet",
        "--metric", "accuracy", *arguments,
    )  # fmt: skip
    assert said.code == 1, said.text
    calm(said)
    board = cli("leaderboard", "--results", "results", "--format", "json", "--plugin", plugins[2])
    rows = {row["method"]: row for row in json.loads(board.out)["rows"]}
    assert {name: rows[name]["status"] for name in (*FAILED, *FINE)} == {
        **dict.fromkeys(FAILED, "failed"), **dict.fromkeys(FINE, "ok")
    }, {name: rows[name]["reasons"] for name in rows}  # fmt: skip
    for name, why in FAILED.items():
        assert why in rows[name]["reasons"][0]
        assert rows[name]["reasons"][0]
