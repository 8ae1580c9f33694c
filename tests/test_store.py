"""The store: whole or absent, rebuilt from files, never silently wrong."""

from __future__ import annotations

import errno
import fcntl
import json
from pathlib import Path
from typing import Any

import pytest

from biasbench import io
from biasbench.claims import Claims
from biasbench.errors import IntegrityError, StoreError
from biasbench.store import Store

SPEC = {
    "method": "original", "dataset": "scenes", "backbone": "tiny", "profile": "smoke", "seed": 0, "weights": "random",
    "recipe": {"protocol": "quick"},
}  # fmt: skip


def commit(store: Store, key: str, **spec: Any) -> None:
    folder = store.aside("run", key)
    (folder / "predictions").mkdir()
    (folder / "predictions" / "x.npy").write_bytes(b"12345678")
    store.commit_run(folder, key, {"spec": SPEC | spec, "flags": ["weights=random"], "attribute": "gender"})


def measured(value: float, protocol: str = "quick") -> dict[str, Any]:
    values = {"map": {"mean": value, "std": None, "n": 1}}
    return {"metric": "accuracy", "attribute": "gender", "protocol": protocol, "values": values, "rounds": {},
            "details": {}, "flags": [], "error": None}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results", create=True)


def test_a_missing_store_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no results"):
        Store(tmp_path / "nowhere")


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match="neither empty nor a results folder"):
        Store(tmp_path, create=True)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_another_runner_is_making_a_store_is_no_foreign_folder(tmp_path: Path) -> None:
    (tmp_path / f"{io.ASIDE}store.json-12345678").write_text("{}")
    assert Store(tmp_path, create=True).records() == []


def test_a_newer_store_is_refused(store: Store) -> None:
    io.write_json(store.root / "store.json", {"schema": 9999})
    with pytest.raises(StoreError, match="schema 9999"):
        Store(store.root)


def test_a_committed_run_is_whole_and_listed(store: Store) -> None:
    commit(store, "aaa")
    assert store.has_run("aaa")
    assert store.verify(store.run("aaa"))["files"].keys() == {"predictions/x.npy"}
    store.write_metrics("aaa", [measured(61.5)])
    (record,) = store.records()
    assert (record["status"], record["values"]["map"]["mean"]) == ("ok", 61.5)


def test_a_committed_run_is_never_overwritten(store: Store) -> None:
    commit(store, "aaa", seed=0)
    commit(store, "aaa", seed=1)
    assert store.manifest(store.run("aaa"))["spec"]["seed"] == 0


def test_a_flipped_bit_in_a_prediction_is_noticed(store: Store) -> None:
    commit(store, "aaa")
    (store.run("aaa") / "predictions" / "x.npy").write_bytes(b"12345679")
    with pytest.raises(IntegrityError, match="damaged"):
        store.verify(store.run("aaa"))


def test_a_lost_prediction_is_noticed(store: Store) -> None:
    commit(store, "aaa")
    (store.run("aaa") / "predictions" / "x.npy").unlink()
    with pytest.raises(IntegrityError, match="missing"):
        store.verify(store.run("aaa"))


def test_changed_measurements_are_noticed(store: Store) -> None:
    commit(store, "aaa")
    store.write_metrics("aaa", [measured(61.5)])
    path = store.run("aaa") / "metrics.json"
    path.write_text(path.read_text().replace("61.5", "91.5"))
    with pytest.raises(IntegrityError, match="measurements are damaged"):
        store.records()


def test_measuring_by_another_protocol_keeps_the_first(store: Store) -> None:
    commit(store, "aaa")
    store.write_metrics("aaa", [measured(61.5)])
    store.write_metrics("aaa", [measured(62.5, "wang2019")])
    store.write_metrics("aaa", [measured(60.0)])
    found = {r["protocol"]: r["values"]["map"]["mean"] for r in store.records()}
    assert found == {"quick": 60.0, "wang2019": 62.5}


def test_every_planned_cell_is_a_record(store: Store) -> None:
    base = {**{k: SPEC[k] for k in SPEC if k != "recipe"}, "attribute": "gender", "protocol": "quick", "values": {},
            "flags": []}  # fmt: skip
    store.write_plan([{**base, "key": k, "status": "missing", "reason": None} for k in ("ccc", "bbb", "aaa")])
    store.note_unscored({**base, "key": "bbb", "status": "failed", "reason": "NaN"})
    commit(store, "aaa")
    store.write_metrics("aaa", [measured(61.5)])
    assert [(r["key"], r["status"]) for r in store.records()] == [("ccc", "missing"), ("bbb", "failed"), ("aaa", "ok")]


def test_success_clears_an_earlier_failure(store: Store) -> None:
    store.note_unscored({"key": "aaa", "status": "failed", "attribute": "gender", "protocol": "quick"})
    commit(store, "aaa")
    assert [r["status"] for r in store.records()] == ["missing"]  # predicted, not measured yet


def test_the_index_is_rebuilt_from_the_files(store: Store) -> None:
    commit(store, "aaa")
    store.write_metrics("aaa", [measured(61.5)])
    before = store.records()
    (store.root / "index.sqlite").unlink()
    assert store.records() == before
    (store.root / "index.sqlite").write_bytes(b"not a database, but long enough to be looked at" * 40)
    assert store.records() == before
    assert store.records() == before


def test_the_index_forgets_what_was_deleted(store: Store) -> None:
    import shutil

    for key in ("aaa", "bbb"):
        commit(store, key)
    assert len(store.records()) == 2
    shutil.rmtree(store.run("bbb"))
    assert [r["key"] for r in store.records()] == ["aaa"]


def test_manifests_are_json_with_a_schema(store: Store) -> None:
    commit(store, "aaa")
    assert json.loads((store.run("aaa") / "manifest.json").read_bytes())["schema"] == 2


def test_a_file_system_without_locks_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A marker file in their place would outlive a killed runner."""
    taken = Claims(store)
    assert taken.take("a", ["k1"])
    taken.release_all()

    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", missing)
    with pytest.raises(StoreError, match=r"its file system has no locks.*another file system"):
        Claims(store).take("a", ["k2"])
