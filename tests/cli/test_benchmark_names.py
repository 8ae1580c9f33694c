"""`biasbench run NAME` for the tables that come with biasbench."""

from __future__ import annotations

import json
from pathlib import Path
from runpy import run_path

import pytest

pytestmark = pytest.mark.torch
HELPERS = Path(__file__).parents[1] / "helpers"


def test_a_table_plans_by_its_name(cli, tmp_path):
    run_path(str(HELPERS / "coco_files.py"))["small_coco"]().write(tmp_path / "data" / "coco")
    said = cli("run", "wang2019-table3", "--dry-run", "--json", "--weights", "random", "--data-root", tmp_path / "data")
    assert said.code == 0, said.err
    rows = json.loads(said.out)["cells"]
    assert [(r["method"], r["state"]) for r in rows] == [
        ("crf", "to run"), ("crf+rba", "to run"), ("crf+adv-conv5", "to run"),
    ]  # fmt: skip
    assert {r["profile"] for r in rows} == {"paper"}


def test_a_misspelt_table_is_one_line(cli):
    said = cli("run", "wang2019-tabel3")
    assert (said.code, said.out) == (2, "")
    (line,) = said.err.splitlines()
    assert "Did you mean 'wang2019-table3'?" in line
