"""`biasbench leaderboard --against`: the four formats of a comparison."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("biasbench_test_stored", Path(__file__).parent / "stored.py")
stored = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stored)


@pytest.fixture
def results(home):
    for seed, f1 in ((0, 53.0), (1, 54.0)):
        stored.commit(home / "results", "original", seed, f1, (9.0, 10.0), 70.0 + seed)
        stored.commit(home / "results", "adv-conv5", seed, f1 - 1, (4.0, 4.5), 65.0)
        stored.commit(home / "results", "mine", seed, 1.0)
    return home / "results"


def test_a_table_with_its_legend(cli, results):
    said = cli("leaderboard", "--against", "published")
    assert said.code == 0, said.err
    (line,) = [one for one in said.out.splitlines() if one.split()[:1] == ["original"] and "λ_M" in one]
    # 70.5 ± √½ over two seeds against 70.46 ± 0.36: √(½/2 + 0.36²/4) = 0.53
    for part in ("70.50 ± 0.71", "70.46 ± 0.36", "+0.04", "0.53", "+0.08", "Wang et al. 2019, Table 1, Table 4"):
        assert part in line
    for part in (
        "The paper trained each model once",
        "original on coco: data: images val 400, test 400 here, val 5,367, test 5,473 in the paper.",
        "method: adv-conv5 here, adv-conv5(weight=2.0, update='reversal', task_stream='balanced') in the table.",
        "Without a published figure: mine on coco.",
        "measured by no metric: train_men, train_women",
        "The release has no labels of COCO's training images",
    ):
        assert part in said.out
    assert ".." not in said.out


def test_json_csv_and_markdown_say_the_same(cli, results):
    document = json.loads(cli("leaderboard", "--against", "published", "--format", "json").out)
    assert document["schema"] == "biasbench/comparison"
    lines = list(csv.DictReader(io.StringIO(cli("leaderboard", "--against", "published", "--format", "csv").out)))
    assert len(lines) == len(document["lines"])
    for flat, line in zip(lines, document["lines"], strict=True):
        assert flat["column"] == line["column"]
        assert flat["difference"] == ("" if line["difference"] is None else str(line["difference"]))
    markdown = cli("leaderboard", "--against", "published", "--format", "md").out.splitlines()
    assert len([one for one in markdown if one.startswith("|")]) == len(lines) + 2


def test_a_file_and_a_mistyped_one(cli, results, home):
    (home / "t.toml").write_text(
        'name = "t"\ndatasets = ["coco"]\nprofile = "paper"\n[[rows]]\nmethod = "mine"\npublished = { f1 = 2.0 }\n'
    )
    said = json.loads(cli("leaderboard", "--against", "t.toml", "--format", "json").out)
    assert [(line["difference"], line["sources"]) for line in said["lines"]] == [(-1.0, ["t"])]
    wrong = cli("leaderboard", "--against", "publishd")
    assert wrong.code == 2
    assert "Traceback" not in wrong.err


def test_derived_columns_stand_on_the_board(cli, results):
    rows = {r["method"]: r for r in json.loads(cli("leaderboard", "--format", "json").out)["rows"]}
    assert rows["adv-conv5"]["f1_cost"]["mean"] == 1.0
    assert rows["adv-conv5"]["delta_reduction"]["mean"] == pytest.approx(100 * (9.5 - 4.25) / 9.5)
    assert rows["original"]["delta_reduction"]["mean"] is None
    out = cli("leaderboard").out
    assert "Δ reduction % ↑" in out
    assert "F1 cost % ↓" in out
