"""Rows kept in the index are those that the records alone make, whatever happened to the store in between."""

from __future__ import annotations

import os
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import biasbench.standings
from biasbench.derived import derive
from biasbench.index import Index
from biasbench.leaderboard import Row, aggregate
from biasbench.metric import Column
from biasbench.standings import standings
from biasbench.store import Store

COLUMNS = tuple(Column(name, name, "higher") for name in ("f1", "delta", "delta_reduction", "f1_cost", "absent"))
METHODS = ("original", "adv", "crf")


def commit(store: Store, method: str, seed: int, weights: str = "random") -> str:
    spec = {"method": method, "dataset": "d", "backbone": "b", "profile": "p", "seed": seed, "weights": weights}
    key = f"{method}-{weights}-{seed}"
    manifest = {"spec": {**spec, "recipe": {"protocol": "quick"}}, "flags": [f"weights={weights}"]}
    store.commit_run(store.aside("run", key), key, {**manifest, "attribute": "gender"})
    return key


def measure(store: Store, key: str, f1: float, **more: float) -> None:
    values = {name: {"mean": value, "std": None, "n": 1} for name, value in {"f1": f1, **more}.items()}
    store.write_metrics(key, [{"metric": "m", "attribute": "gender", "protocol": "quick", "values": values,
                               "rounds": {}, "details": {}, "flags": [], "error": None}])  # fmt: skip


def planned(method: str, seed: int) -> dict[str, Any]:
    return {"key": f"{method}-random-{seed}", "method": method, "dataset": "d", "backbone": "b", "profile": "p",
            "seed": seed, "weights": "random", "flags": [], "attribute": "gender", "protocol": "quick",
            "status": "missing", "reason": None, "values": {}}  # fmt: skip


def from_records(store: Store, keys: set[str] | None = None) -> list[Row]:
    return aggregate([r for r in derive(store.records()) if keys is None or r["key"] in keys], COLUMNS)


def age(store: Store) -> None:
    """Files as old as those of any finished run: their time stamps are trusted."""
    for file in [*(store.root / "runs").glob("*"), *(store.root / "unscored").glob("*")]:
        stamp = file.stat().st_mtime_ns - 10**10
        os.utime(file, ns=(stamp, stamp))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "results", create=True)
    for number, (method, seed) in enumerate((m, s) for m in METHODS for s in range(3)):
        measure(made, commit(made, method, seed), 50 + 1.1 * number, delta=3.0 + number)
    made.write_plan([planned(m, s) for m in METHODS for s in range(4)])  # a seed each was never run
    age(made)
    return made


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Methods of the groups that rows are made of anew."""
    found: list[set[str]] = []
    real = biasbench.standings.group_rows
    monkeypatch.setattr(
        biasbench.standings, "group_rows", lambda group: found.append({r["method"] for r in group}) or real(group)
    )
    return found


def test_by_hand(store: Store) -> None:
    row = next(r for r in standings(store, COLUMNS).rows if r.method == "adv")
    assert (row.seeds, row.planned, row.status) == ((0, 1, 2), (0, 1, 2, 3), "partial")
    assert row.reasons == ("missing: not run yet",)
    assert row.figures["f1"].mean == pytest.approx(50 + 1.1 * 4)
    assert row.figures["f1_cost"].mean == pytest.approx(-3.3)
    # delta: 6, 7, 8 against the plain model's 3, 4, 5
    assert row.figures["delta_reduction"].mean == pytest.approx(-100 * (3 / 3 + 3 / 4 + 3 / 5) / 3)
    assert row.figures["absent"].n == 0


def test_nothing_is_made_twice(store: Store, made: list[set[str]]) -> None:
    first = standings(store, COLUMNS)
    assert sorted(map(sorted, made)) == [["adv"], ["crf"], ["original"]]
    made.clear()
    assert standings(store, COLUMNS) == first
    assert standings(store, COLUMNS[:1]).unknown == ["delta", "delta_reduction", "f1_cost"]  # columns are no reason
    store.write_plan([planned(m, s) for m in ("new", *METHODS) for s in range(4)])
    assert [r.order for r in standings(store, COLUMNS).rows] == [4, 0, 8, 12]  # nor is the place in the plan
    assert made == [{"new"}]


def test_only_what_a_change_concerns_is_made_again(store: Store, made: list[set[str]]) -> None:
    standings(store, COLUMNS)
    made.clear()
    measure(store, "crf-random-1", 99.0)
    assert standings(store, COLUMNS).rows == from_records(store)
    assert made == [{"crf"}]
    made.clear()
    measure(store, "original-random-1", 12.0)  # others are compared with it
    assert standings(store, COLUMNS).rows == from_records(store)
    assert {m for group in made for m in group} == set(METHODS)


def test_some_cells_alone(store: Store) -> None:
    whole, keys = standings(store, COLUMNS).rows, {"crf-random-1", "crf-random-3", "original-random-2"}
    assert standings(store, COLUMNS, keys).rows == from_records(store, keys)
    assert [r.planned for r in standings(store, COLUMNS, keys).rows] == [(2,), (1, 3)]
    assert standings(store, COLUMNS).rows == whole  # it did not take their place


def test_a_folder_that_cannot_be_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = standings(store, COLUMNS)
    monkeypatch.setattr(Index, "use", lambda *_: None)
    assert standings(store, COLUMNS) == expected


def test_a_second_change_within_a_tick_of_the_clock_is_seen(store: Store) -> None:
    """Controls: the same with an old stamp is not seen, and nobody could; so stamps are trusted only when old."""
    run = store.run("adv-random-0")
    for old, seen in ((0, True), (10**10, False)):
        measure(store, run.name, 1.0)
        stamp = run.stat().st_mtime_ns - old
        os.utime(run, ns=(stamp, stamp))
        standings(store, COLUMNS)
        measure(store, run.name, 2.0)
        os.utime(run, ns=(stamp, stamp))
        assert (standings(store, COLUMNS).rows == from_records(Store(store.root))) is True
        (record,) = [r for r in store.records() if r["key"] == run.name]
        assert record["values"]["f1"]["mean"] == (2.0 if seen else 1.0)


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE board SET content = replace(content, x'a4', x'a5')", "UPDATE board SET made_of = 'x' || made_of",
        "UPDATE record SET content = replace(content, 'crf', 'cr2')", "DELETE FROM record WHERE cell LIKE '%crf%'",
        "UPDATE record SET part = 1 - part WHERE part < 2", "UPDATE contents SET crc = crc + 1",
        "UPDATE planned SET content = replace(content, 'crf', 'cr2')", "UPDATE record SET content = 5",
        "UPDATE contents SET made_by = 'another version'", "UPDATE board SET content = NULL",
    ],
)  # fmt: skip
def test_what_is_damaged_is_not_used(store: Store, harm: str) -> None:
    expected = standings(store, COLUMNS)
    database = sqlite3.connect(store.root / "index.sqlite")
    database.execute(harm)
    database.commit()
    assert database.total_changes > 0
    database.close()
    assert standings(store, COLUMNS) == expected
    measure(store, "crf-random-1", 99.0)  # now records are needed too
    assert standings(store, COLUMNS).rows == from_records(store)
    assert Index(store).wrong() == []


STEPS = st.sampled_from(["commit", "measure", "fail", "delete", "plan", "board", "index"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(STEPS, st.integers(0, 2), st.integers(0, 2), st.floats(0, 99)), max_size=12))
def test_any_history(steps: list[tuple[str, int, int, float]], tmp_path_factory: pytest.TempPathFactory) -> None:
    store = Store(tmp_path_factory.mktemp("history") / "results", create=True)
    for what, method, seed, value in steps:
        key = f"{METHODS[method]}-random-{seed}"
        if what == "commit":
            commit(store, METHODS[method], seed, "random" if value < 50 else "file")
        elif what == "measure" and store.has_run(key):
            measure(store, key, value, delta=value / 7)
        elif what == "fail":
            store.note_unscored({**planned(METHODS[method], seed), "status": "failed", "reason": f"{value}"})
        elif what == "delete":
            shutil.rmtree(store.run(key), ignore_errors=True)
        elif what == "plan":
            store.write_plan([planned(m, s) for m in METHODS[method:] for s in range(seed)])
        elif what == "index":
            (store.root / "index.sqlite").unlink(missing_ok=True)
        else:
            age(store)
        found = standings(store, COLUMNS).rows
        assert [replace(r, flags=[f for f in r.flags if "withdrawn" not in f]) for r in found] == [
            replace(r, flags=list(r.flags)) for r in from_records(store)
        ]
    age(store)
    kept = standings(store, COLUMNS)
    (store.root / "index.sqlite").unlink(missing_ok=True)
    assert kept == standings(store, COLUMNS)
