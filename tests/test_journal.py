"""Nothing leaves the store without a trace: what was ever said is said still, or the journal has it."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import biasbench.index
import biasbench.leftovers
import biasbench.store
from biasbench import io, journal
from biasbench.errors import StoreError
from biasbench.leftovers import in_store
from biasbench.metric import Column
from biasbench.standings import standings
from biasbench.store import Store
from biasbench.verify import document_faults

COLUMN = Column("f1", "F1", "higher")
Step = tuple[str, int, int]


def cell(seed: int, **more: Any) -> dict[str, Any]:
    return {"key": f"k{seed}", "method": "adv", "dataset": "d", "backbone": "b", "profile": "p", "seed": seed,
            "weights": "random", "flags": [], "attribute": "gender", "protocol": "quick", "status": "missing",
            "reason": None, "values": {}, **more}  # fmt: skip


def commit(store: Store, seed: int) -> None:
    spec = {name: cell(seed)[name] for name in ("method", "dataset", "backbone", "profile", "seed", "weights")}
    spec["recipe"] = {"protocol": "quick"}
    store.commit_run(store.aside("run", f"k{seed}"), f"k{seed}", {"spec": spec, "flags": [], "attribute": "gender"})


def measurement(value: float, error: str | None = None) -> dict[str, Any]:
    values = {} if error else {"f1": {"mean": value, "std": None, "n": 1}}
    return {"metric": "m", "attribute": "gender", "protocol": "quick", "values": values, "rounds": {}, "details": {},
            "flags": [], "error": error}  # fmt: skip


def step(store: Store, what: str, seed: int, value: int) -> None:
    """One thing that a command, or the user, does to a results folder."""
    key = f"k{seed}"
    if what == "commit":
        commit(store, seed)
    elif what == "fail":
        store.note_unscored(cell(seed, status="failed", reason=f"reason {value}"))
    elif what == "measure" and store.has_run(key):
        store.write_metrics(key, [measurement(float(value), f"error {value}" if value == 0 else None)])
    elif what == "discard" and store.has_run(key):
        store.discard_metrics(key)
    elif what == "plan":
        store.write_plan([cell(s) for s in range(seed, 3)])
    elif what == "delete":
        shutil.rmtree(store.run(key), ignore_errors=True)
    elif what == "clear":
        for leftover in in_store(store, alone=True, trainings=True):
            leftover.delete()


def said(record: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """What a record, or a line of the journal, says."""
    yield ("cell", record["key"])
    if record.get("reason"):
        yield ("reason", record["key"], record["reason"])
    for name, value in {**record.get("values", {}), **(record.get("was") or {})}.items():
        yield ("figure", record["key"], name, value["mean"])


def lost(store: Store, steps: list[Step]) -> set[tuple[Any, ...]]:
    """What was said once, is not said any more, and is not in the journal."""
    ever: set[tuple[Any, ...]] = set()
    for what, seed, value in steps:
        step(store, what, seed, value)
        ever |= {
            s for record in store.records() for s in said(record) if s[-1] not in ("not run yet", "not measured yet")
        }
    now = {s for record in store.records() for s in said(record)}
    written = {s for entry in journal.read(store.root)[0] for s in said(entry)}
    discarded = {e["key"] for e in journal.read(store.root)[0] if e["what"] == "unreadable"}
    return {s for s in ever - now - written if s[1] not in discarded}  # what is damaged cannot be quoted


KINDS = st.sampled_from(["commit", "fail", "measure", "measure", "discard", "plan", "delete", "clear"])
HISTORIES = st.lists(st.tuples(KINDS, st.integers(0, 2), st.integers(0, 2)), max_size=12)
STORY: list[Step] = [
    ("plan", 0, 0), ("fail", 0, 1), ("fail", 0, 2), ("commit", 0, 0), ("measure", 0, 1), ("measure", 0, 2),
    ("commit", 1, 0), ("measure", 1, 1), ("delete", 1, 0), ("plan", 3, 0),
]  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=HISTORIES)
def test_nothing_is_lost(steps: list[Step], tmp_path_factory: pytest.TempPathFactory) -> None:
    store = Store(tmp_path_factory.mktemp("history") / "results", create=True)
    assert lost(store, steps) == set()
    assert journal.read(store.root)[1] == []


def test_a_story(tmp_path: Path) -> None:
    store = Store(tmp_path / "results", create=True)
    assert lost(store, STORY) == set()
    found = [(e["what"], e["key"], e.get("seed"), e.get("reason")) for e in journal.read(store.root)[0]]
    assert found == [
        ("retried", "k0", 0, "reason 1"), ("retried", "k0", 0, "reason 2"), ("remeasured", "k0", None, None),
        ("deleted", "k1", 1, None), ("unplanned", "k1", 1, None), ("unplanned", "k2", 2, None),
    ]  # fmt: skip
    assert journal.read(store.root)[0][2]["was"]["f1"]["mean"] == 1.0


def test_without_the_journal_it_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control."""
    for module in (biasbench.store, biasbench.index, biasbench.leftovers):
        monkeypatch.setattr(module, "withdraw", lambda *_: None)
    gone = lost(Store(tmp_path / "results", create=True), STORY)
    assert gone >= {
        ("reason", "k0", "reason 1"),
        ("figure", "k0", "f1", 1.0),
        ("figure", "k1", "f1", 1.0),
        ("cell", "k2"),
    }


def test_the_same_again_withdraws_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "results", create=True)
    for _ in range(2):
        store.write_plan([cell(s) for s in range(3)])
        store.note_unscored(cell(1, status="n/a", reason="needs boxes"))
        commit(store, 0)
        store.write_metrics("k0", [measurement(50.0)])
        store.records()
    assert not (store.root / journal.FILE).exists()


def test_a_row_tells_of_seeds_that_were_withdrawn(tmp_path: Path) -> None:
    store = Store(tmp_path / "results", create=True)
    store.write_plan([cell(s) for s in range(5)])
    for seed in range(3):
        commit(store, seed)
        store.write_metrics(f"k{seed}", [measurement(50.0 + seed)])
    assert standings(store, [COLUMN]).rows[0].flags == ()
    shutil.rmtree(store.run("k0"))  # the worst
    store.write_plan([cell(s) for s in (1, 2)])
    (row,) = standings(store, [COLUMN]).rows
    assert (row.seeds, row.planned, row.flags) == ((1, 2), (1, 2), ("withdrawn: seeds 0, 3, 4",))
    assert standings(store, [COLUMN], {"k1"}).rows[0].flags == ("withdrawn: seeds 0, 3, 4",)
    store.write_plan([cell(s) for s in range(5)])
    (row,) = standings(store, [COLUMN]).rows
    assert (row.status, row.flags) == ("partial", ())  # they are planned again, and missing
    store.write_plan([cell(s, flags=["limit=10"]) for s in (1, 2)])
    assert standings(store, [COLUMN]).rows[0].flags == ("withdrawn: seeds 0, 3, 4",)


def test_another_recipe_is_another_configuration(tmp_path: Path) -> None:
    store = Store(tmp_path / "results", create=True)
    store.write_plan([cell(s, flags=["limit=10"]) for s in range(5)])
    store.write_plan([])
    commit(store, 9)
    store.write_metrics("k9", [measurement(50.0)])
    assert standings(store, [COLUMN]).rows[0].flags == ()


def test_a_changed_line_is_damage_and_an_unfinished_one_is_none(tmp_path: Path) -> None:
    store = Store(tmp_path / "results", create=True)
    for number in range(3):
        journal.withdraw(store.root, "retried", [{"key": f"k{number}", "reason": "x" * 70_000}])
    path = store.root / journal.FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])  # killed while writing: what it tells of was not done
    entries, damaged = journal.read(store.root)
    assert ([e["key"] for e in entries], damaged, list(document_faults(store))) == (["k0", "k1"], [], [])
    journal.withdraw(store.root, "retried", [{"key": "k3"}])
    assert [e["key"] for e in journal.read(store.root)[0]] == ["k0", "k1", "k3"]
    path.write_bytes(whole.replace(b"k1", b"k5"))
    assert journal.read(store.root)[1] == [2]
    (fault,) = document_faults(store)
    assert str(fault) == "damaged  journal.jsonl, line 2: it is not what was written"


def test_a_journal_that_cannot_be_written_stops_what_it_would_tell_of(tmp_path: Path) -> None:
    store = Store(tmp_path / "results", create=True)
    commit(store, 0)
    store.write_metrics("k0", [measurement(50.0)])
    (store.root / journal.FILE).mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        store.write_metrics("k0", [measurement(60.0)])
    assert store.metrics("k0")[0]["values"]["f1"]["mean"] == 50.0


def _append(path: Path, name: str) -> None:
    for number in range(50):
        io.append_text(path, json.dumps([name, number, "y" * 5000]) + "\n")


def test_several_processes_append_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=_append, args=(path, name)) for name in ("a", "b", "c")]
    for process in started:
        process.start()
    for process in started:
        process.join()
    found = [tuple(json.loads(line)[:2]) for line in path.read_text().splitlines()]
    assert sorted(found) == [(name, number) for name in ("a", "b", "c") for number in range(50)]
