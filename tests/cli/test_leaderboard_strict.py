"""`biasbench leaderboard --strict`: a board for machines, complete or not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from biasbench.store import Store

spec = importlib.util.spec_from_file_location("biasbench_test_stored", Path(__file__).parent / "stored.py")
stored = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stored)


def test_a_seed_that_is_missing_ends_with_1(cli, home):
    results = home / "results"
    for seed in range(5):
        stored.commit(results, "original", seed, 53.0)
    for seed in range(4):
        stored.commit(results, "adv-conv5", seed, 99.0)
    assert cli("leaderboard", "--strict").code == 0
    record = {
        "key": "f" * 20, "status": "failed", "reason": "a loss is not finite", "method": "adv-conv5", "seed": 4,
        "dataset": "coco", "backbone": "resnet50", "profile": "paper", "weights": "timm:a", "flags": [],
        "attribute": "gender", "protocol": "wang2019", "values": {},
    }  # fmt: skip
    Store(results).note_unscored(record)
    plain, strict = cli("leaderboard", "--sort", "f1"), cli("leaderboard", "--strict", "--sort", "f1")
    assert (plain.code, strict.code) == (0, 1)
    assert strict.out == plain.out
    assert "1 of 2 rows are incomplete: adv-conv5 (4/5)" in strict.err
    assert strict.out.index("original") < strict.out.index("adv-conv5")  # 99 stands below 53: a seed is missing
    assert "4/5" in strict.out


def test_what_cannot_run_is_not_incomplete(cli, home):
    stored.commit(home / "results", "original")
    record = {
        "key": "e" * 20, "status": "n/a", "reason": "n/a: needs masks:person", "method": "blackout-segm", "seed": 0,
        "dataset": "coco", "backbone": "resnet50", "profile": "paper", "weights": "", "flags": [],
        "attribute": "gender", "protocol": "wang2019", "values": {},
    }  # fmt: skip
    Store(home / "results").note_unscored(record)
    assert cli("leaderboard", "--strict").code == 0


def test_the_first_rows_alone(cli, home):
    for number in range(60):
        stored.commit(home / "results", f"alpha-{number}", f1=50.0 + number)
    by_default = cli("leaderboard", "--sort", "f1").out
    assert "alpha-59 " in by_default
    assert "alpha-9 " not in by_default  # the 51st
    hint = "The first 50 of 60 rows, 10 are left out: 'biasbench leaderboard --top 60' shows all"
    assert hint in by_default
    assert "left out" not in cli("leaderboard", "--top", "60").out
    first = cli("leaderboard", "--top", "2", "--sort", "f1").out
    assert ("alpha-58 " in first, "alpha-57 " in first) == (True, False)
    for form, rows in (("csv", 61), ("md", None), ("json", None)):
        said = cli("leaderboard", "--format", form).out
        assert all(f"alpha-{number}" in said for number in range(60)), form
        assert rows is None or len(said.splitlines()) == rows
    assert len(cli("leaderboard", "--format", "csv", "--top", "2").out.splitlines()) == 3
    assert cli("leaderboard", "--top", "0").code == 2
