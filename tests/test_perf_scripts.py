"""The scripts of `benchmarks/perf` run at their smallest and print finite ratios; what they find is not judged here."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path
from runpy import run_path

import pytest
import torch
from click.testing import CliRunner

pytestmark = pytest.mark.torch
FOLDER = Path(__file__).parents[1] / "benchmarks" / "perf"
SMALL = ("bootstrap.py", "frozen_stage.py", "growth.py", "images.py", "shared.py", "training.py")
PARTS = {"cells.py", "sides.py"}  # of the others
NO_RATIO = {"full_matrix.py", "leaderboard.py", "startup.py"}  # counts and limits
LONG = {"attackers.py", "coco_size.py"}  # processes of their own for their memory


def finite_ratios(output: str) -> None:
    ratios = re.findall(r"^ratio[\w ]*: (\S+)", output, re.MULTILINE)
    assert ratios, output
    assert all(math.isfinite(float(ratio)) for ratio in ratios), output


def test_every_script_is_known() -> None:
    assert {file.name for file in FOLDER.glob("*.py")} == {*SMALL, *PARTS, *NO_RATIO, *LONG}


@pytest.mark.parametrize("name", SMALL)
def test_a_script_runs_and_prints_finite_ratios(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    threads = torch.get_num_threads()
    done = CliRunner().invoke(run_path(str(FOLDER / name))["main"], ["--small"])
    torch.set_num_threads(threads)
    assert done.exit_code == 0, done.output
    finite_ratios(done.output)


def test_reading_annotations(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "coco_size.py"), str(tmp_path), "--images", "40", "--turns", "1"]
    done = subprocess.run(command, text=True, capture_output=True, check=True)
    finite_ratios(done.stdout)
