"""What may be cleared away: all that killed processes leave, no result, nothing that a live runner holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from biasbench import io, journal
from biasbench.leftovers import claimed, in_cache, in_store
from biasbench.memo import Memo
from biasbench.presence import alone_in, working_in
from biasbench.store import Store

CELL = {"method": "original", "dataset": "d", "backbone": "b", "profile": "p", "seed": 0, "weights": "random",
        "attribute": "gender", "protocol": "quick", "values": {}, "flags": []}  # fmt: skip
HOLD = """
import sys
from contextlib import ExitStack
from pathlib import Path
from biasbench.presence import working_in
from biasbench.store import Store
store = Store(Path(sys.argv[1]))
with ExitStack() as held:
    if sys.argv[2] == "working":
        held.enter_context(working_in(store.root))
    for key in sys.argv[3:]:
        held.enter_context(store.claim(key))
    print("ready", flush=True)
    sys.stdin.read()
"""


def commit(store: Store, key: str, training: str = "t1") -> None:
    if not store.has_training(training):
        aside = store.aside("training", training)
        io.write_bytes(aside / "weights.safetensors", bytes(10))
        store.commit_training(aside, training, {"key": training})
    aside = store.aside("run", key)
    io.write_text(aside / "predictions" / "ids.json", "[]")
    store.commit_run(aside, key, {"spec": {**CELL, "training_key": training, "recipe": {}}, "flags": []})
    store.write_metrics(key, [{**CELL, "metric": "m", "error": None}])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One finished cell, and something of every kind that a killed process leaves."""
    store = Store(tmp_path / "results", create=True)
    commit(store, "k1")
    store.write_plan([{**CELL, "key": key, "status": "missing", "reason": None} for key in ("k1", "k2")])
    store.note_unscored({**CELL, "key": "k3", "status": "failed", "reason": "NaN"})
    io.write_bytes(store.aside("run", "k2") / "predictions" / "half.npy", bytes(1000))
    io.write_bytes(store.aside("training", "t2") / "weights.safetensors", bytes(1000))
    for path in (
        "runs/k1/.aside-metrics.json-12345678", ".aside-plan.json-12345678", "runs/.aside-k9-1/x",
        "work/inputs/abc/train.parquet",
        "work/jobs/cell-k1.json", "work/jobs/cell-k1.log", "work/jobs/cell-k2.log", "work/jobs/cell-k3.log",
        "work/jobs/measure-k1.log", "work/checkpoints/t1/000001/state.json", "work/checkpoints/t2/000001/state.json",
        "work/checkpoints/t2/.aside-000002-1/state.json", "unscored/k1.json",
    ):  # fmt: skip
        (store.root / path).parent.mkdir(parents=True, exist_ok=True)
        (store.root / path).write_text("x" * 7)
    with store.claim("t1"), store.claim("run-k1"):
        pass
    return store


KEPT = {
    "store.json", "plan.json", "unscored/k3.json", "runs/k1/manifest.json", "runs/k1/metrics.json",
    "runs/k1/predictions/ids.json", "trainings/t1/manifest.json", "trainings/t1/weights.safetensors",
    "work/jobs/cell-k2.log", "work/jobs/cell-k3.log",  # they may tell why there is no score
    "work/checkpoints/t2/000001/state.json",  # a training goes on from it
    "journal.jsonl",
}  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != "in-use.lock"
    }


def clear(store: Store, *, alone: bool = True, trainings: bool = False) -> set[str]:
    """Delete what may go; what it was."""
    gone = set()
    for leftover in in_store(store, alone=alone, trainings=trainings):
        with claimed(store, leftover.claims) as ours:
            if ours:
                assert leftover.delete()
                gone.add(leftover.path.relative_to(store.root).as_posix())
    return gone


@contextmanager
def another(store: Store, *what: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that works in the store or holds claims, until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store.root), *what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_everything_but_results_goes(store: Store) -> None:
    before = files(store.root)
    clear(store)
    after = files(store.root)
    assert after.keys() == KEPT
    assert all(after[name] == before[name] for name in KEPT if name != "journal.jsonl")
    (entry,) = (e for e in journal.read(store.root)[0] if e["what"] == "retried")
    assert entry["key"] == "k1"  # why it had failed before it finished
    assert clear(store) == set()
    assert [r["status"] for r in store.records()] == ["ok", "missing", "failed"]


def test_nothing_is_listed_twice(store: Store) -> None:
    paths = [left.path for left in in_store(store, alone=True)]
    assert len(set(paths)) == len(paths)
    assert not any(other in path.parents for path in paths for other in paths)


def test_beside_a_runner_only_what_it_cannot_be_working_on_goes(store: Store) -> None:
    with another(store, "working", "run-k2"):
        with alone_in(store.root) as alone:
            assert not alone
        gone = clear(store, alone=False)
    assert {path.rpartition("-")[0] if "aside" in path else path for path in gone} == {
        "work/checkpoints/t1", "work/aside/training-t2",
    }  # fmt: skip
    with alone_in(store.root) as alone:  # it was killed: the kernel gave its locks back
        assert alone
    clear(store)
    assert files(store.root).keys() == KEPT


def test_a_claim_outlives_its_runner(store: Store) -> None:
    with another(store, "claiming", "run-k2", "t2"):  # no runner is there, but somebody holds these
        with alone_in(store.root) as alone:
            assert alone
        gone = clear(store)
        assert not any(path.startswith(("work/aside", "work/checkpoints/t2")) for path in gone)
        assert "work/claims/t2.lock" not in gone
        assert "work/inputs/abc" in gone
    clear(store)
    assert files(store.root).keys() == KEPT


def test_who_begins_while_it_is_cleared_waits(store: Store) -> None:
    begun = threading.Event()

    def begin() -> None:
        with working_in(store.root):
            begun.set()

    with alone_in(store.root) as alone:
        assert alone
        thread = threading.Thread(target=begin)
        thread.start()
        assert not begun.wait(0.5)
    assert begun.wait(60)
    thread.join()


def test_trainings_go_only_when_asked_and_when_no_cell_is_left(store: Store) -> None:
    commit(store, "k2", "t2")
    shutil.rmtree(store.run("k2"))
    assert "trainings/t2" not in clear(store)
    assert "trainings/t2" not in clear(store, trainings=True)  # k2 is planned and may start from it
    store.write_plan([{**CELL, "key": "k1", "status": "missing", "reason": None}])
    assert clear(store, trainings=True) == {"trainings/t2"}
    assert store.has_training("t1")


def test_a_deletion_that_is_killed_leaves_no_half_training(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_plan([])
    commit(store, "k2", "t2")
    shutil.rmtree(store.run("k2"))

    def killed(_path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("biasbench.leftovers.shutil.rmtree", killed)
        for leftover in in_store(store, alone=True, trainings=True):
            if leftover.path == store.training("t2"):
                with pytest.raises(KeyboardInterrupt):
                    leftover.delete()
    assert not store.has_training("t2")
    clear(store, trainings=True)
    assert [p.name for p in (store.root / "trainings").iterdir()] == ["t1"]


def test_one_process_may_work_beside_another(tmp_path: Path) -> None:
    with working_in(tmp_path), working_in(tmp_path), alone_in(tmp_path) as alone:
        assert not alone
    with alone_in(tmp_path) as alone, alone_in(tmp_path) as too:
        assert (alone, too) == (True, False)


# -- the cache ---------------------------------------------------------------------------------
DAYS = 24 * 3600


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    cache = tmp_path / "cache"
    for name in ("whole", "broken"):
        folder = cache / "features" / name
        io.write_bytes(folder / "data.npy", b"12345678")
        io.write_json(folder / "meta.json", {"sha256": io.hash_file(folder / "data.npy")})
    (cache / "features" / "broken" / "data.npy").write_bytes(b"12345679")
    (cache / "features" / "abc.lock").touch()
    (cache / "features" / ".aside-x-1").mkdir()
    io.write_bytes(cache / "images" / "broken" / "pixels.bin", b"1")
    memo = Memo(cache / "memo")
    for key in ("whole", "broken"):
        memo(key, lambda: 1.5)
    path = next(p for p in memo.folder.iterdir() if '"broken"' in p.read_text())
    path.write_text(path.read_text().replace("1.5", "2.5"))
    io.write_text(cache / "data" / "scenes" / "x.png", "no cache of ours to judge")
    return cache


def going(cache: Path, days: float = 30, later: float = 0) -> set[str]:
    now = (cache / "features").stat().st_mtime + later * DAYS
    return {f"{left.path.relative_to(cache).parts[0]} {left.why}" for left in in_cache(cache, now, days)}


def test_damaged_entries_go_and_whole_ones_stay(cache: Path) -> None:
    assert going(cache) == {
        "features a lock", "features a file half written", "features features, damaged", "images images, damaged",
        "memo memo, damaged",
    }  # fmt: skip
    assert len(list(in_cache(cache, 0, 30))) == 5


def test_what_nobody_used_for_long_goes(cache: Path) -> None:
    assert {"features features, not used for 30 days", "memo memo, not used for 30 days"} <= going(cache, later=31)
    os.utime(cache / "features" / "whole" / "meta.json", (2**33, 2**33))
    assert "features features, not used for 30 days" not in going(cache, later=31)


def test_use_is_noticed(tmp_path: Path) -> None:
    memo = Memo(tmp_path)
    memo("a", lambda: 1)
    (entry,) = tmp_path.iterdir()
    os.utime(entry, (0, 0))
    assert memo.get("a") == 1
    assert entry.stat().st_mtime > 0


@pytest.mark.parametrize("name", ["features", "images", "memo"])
def test_an_absent_cache_is_empty(tmp_path: Path, name: str) -> None:
    assert list(in_cache(tmp_path, 0, 30)) == []
    (tmp_path / name).mkdir()
    assert list(in_cache(tmp_path, 0, 30)) == []
