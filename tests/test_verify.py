"""What `verify` finds: every kind of damage in a folder, keys that lie, figures that come out otherwise."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biasbench import io
from biasbench.index import Index
from biasbench.seal import write_sealed
from biasbench.store import Store
from biasbench.verify import differences, document_faults, folder_faults, measure_jobs

PAYLOAD = {"training": "t", "method": "original", "views": 1}
KEY = io.hash_json(PAYLOAD)[:20]
CELL = {"method": "original", "dataset": "d", "backbone": "b", "profile": "p", "seed": 0, "weights": "random",
        "attribute": "gender", "protocol": "quick", "values": {}, "flags": []}  # fmt: skip
FAILED = {**CELL, "key": "f1", "status": "failed", "reason": "NaN"}


def record(metric: str = "accuracy", attribute: str = "gender", protocol: str = "quick", **more: Any) -> dict[str, Any]:
    values = {"f1": {"mean": 51.25, "std": 0.5, "n": 2}}
    return {"metric": metric, "attribute": attribute, "protocol": protocol, "values": values, "details": {},
            "rounds": {"f1": [50.75, 51.75]}, "flags": [], "error": None, **more}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One training, one measured run, one failed cell, a plan."""
    store = Store(tmp_path / "results", create=True)
    aside = store.aside("training", KEY)
    io.write_bytes(aside / "weights.safetensors", bytes(100))
    store.commit_training(aside, KEY, {"key": KEY, "training": PAYLOAD})
    aside = store.aside("run", KEY)
    io.write_text(aside / "predictions" / "test" / "ids.json", "[]")
    spec = {**CELL, "recipe": {"protocol": "quick", "threads": 1}, "training": PAYLOAD, "training_key": KEY}
    store.commit_run(aside, KEY, {"key": KEY, "identity": PAYLOAD, "spec": spec, "flags": [], "attribute": "gender"})
    store.write_metrics(KEY, [record()])
    store.note_unscored(FAILED)
    store.write_plan([{**CELL, "key": KEY, "status": "missing", "reason": None}])
    return store


def faults(store: Store) -> list[str]:
    runs = [f for key in store.runs() for f in folder_faults(store, "runs", key)]
    trainings = [f for key in store.trainings() for f in folder_faults(store, "trainings", key)]
    return [str(fault) for fault in (*document_faults(store), *trainings, *runs)]


def test_a_store_as_it_was_written_has_no_fault(store: Store) -> None:
    assert faults(store) == []


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def relabelled(store: Store) -> None:
    """The folder of one run under another's name: every hash inside is right."""
    shutil.copytree(store.run(KEY), store.run("0" * 20))


def forged(field: str) -> Callable[[Store], None]:
    """A manifest that was written anew with one field changed, its own hash being right."""

    def damage(store: Store) -> None:
        folder = store.training(KEY) if field == "training" else store.run(KEY)
        manifest = store.manifest(folder)
        part = manifest if field in ("identity", "training") else manifest["spec"]
        part[field.removeprefix("spec ")] = {**PAYLOAD, "views": 2}
        write_sealed(folder / "manifest.json", manifest)

    return damage


DAMAGE: dict[str, tuple[Callable[[Store], object], str, str]] = {
    "a changed bit": (lambda s: change(s.run(KEY) / "predictions/test/ids.json"), "ids.json", "SHA-256"),
    "a lost file": (lambda s: (s.run(KEY) / "predictions/test/ids.json").unlink(), "ids.json", "a file is missing"),
    "a file too many": (
        lambda s: io.write_text(s.run(KEY) / "truth" / "new.parquet", ""), "new.parquet", "none of the folder's own"
    ),
    "changed weights": (lambda s: change(s.training(KEY) / "weights.safetensors"), "weights.safetensors", "SHA-256"),
    "a changed manifest": (lambda s: change(s.run(KEY) / "manifest.json"), "manifest.json", "damaged"),
    "no manifest": (lambda s: (s.run(KEY) / "manifest.json").unlink(), "manifest.json", "cannot be read"),
    "changed measurements": (
        lambda s: (p := s.run(KEY) / "metrics.json").write_text(p.read_text().replace("51.25", "91.25")),
        "metrics.json", "the measurements are damaged",
    ),
    "a changed failure": (lambda s: change(s.root / "unscored" / "f1.json"), "unscored/f1.json", ""),
    "a renamed failure": (
        lambda s: (s.root / "unscored" / "f1.json").rename(s.root / "unscored" / "f2.json"), "f2.json", "about f1"
    ),
    "a changed plan": (lambda s: change(s.root / "plan.json"), "plan.json", ""),
    "another's name": (relabelled, "0" * 20, "the key in it gives"),
    "another identity": (forged("identity"), "manifest.json", "the identity in it gives"),
    "another training": (forged("training"), "manifest.json", "the identity in it gives"),
    "another training's word": (forged("spec training"), "manifest.json", "the training's identity in it gives"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named(store: Store, damage: str) -> None:
    make, *words = DAMAGE[damage]
    make(store)
    found = faults(store)
    assert found
    assert all(text.startswith("damaged  ") for text in found)
    assert any(all(word in text for word in words) for text in found), found


def test_one_bad_file_hides_no_other(store: Store) -> None:
    change(store.run(KEY) / "predictions/test/ids.json")
    change(store.run(KEY) / "metrics.json")
    change(store.training(KEY) / "weights.safetensors")
    assert len(faults(store)) == 3


def test_a_file_being_written_is_no_fault(store: Store) -> None:
    io.write_text(store.run(KEY) / f"{io.ASIDE}metrics.json-1234", "{")
    assert faults(store) == []


def test_a_manifest_cannot_point_outside(store: Store, tmp_path: Path) -> None:
    io.write_text(tmp_path / "results" / "secret", "x")
    manifest = store.manifest(store.run(KEY))
    manifest["files"]["../../secret"] = io.hash_file(tmp_path / "results" / "secret")
    write_sealed(store.run(KEY) / "manifest.json", manifest)
    assert any("refused the file name" in text for text in faults(store))


def test_an_index_that_says_otherwise_is_made_again(store: Store) -> None:
    run, stamp = store.run(KEY), store.run(KEY).stat().st_mtime_ns - 10**10
    os.utime(run, ns=(stamp, stamp))
    before = store.records()
    assert Index(store).wrong() == []
    assert Index(store).path.exists()
    store.write_metrics(KEY, [record(values={"f1": {"mean": 99.0, "std": None, "n": 1}})])
    os.utime(run, ns=(stamp, stamp))  # the index does not notice: nothing but its own stamp could tell it
    assert store.records() == before
    assert Index(store).wrong() == [f"runs/{KEY}"]
    assert store.records()[0]["values"]["f1"]["mean"] == 99.0


# -- measurements ------------------------------------------------------------------------------
def test_jobs_make_what_was_stored_and_no_more(store: Store, tmp_path: Path) -> None:
    store.write_metrics(KEY, [
        record("accuracy"), record("leakage"), record("accuracy", "age"), record("leakage", "age"),
        record("accuracy", "skin"), record("leakage", protocol="wang2019"), record("lost", error="it failed"),
    ])  # fmt: skip
    jobs = list(measure_jobs(store, KEY, tmp_path))
    assert [(j.protocol, j.metrics, j.attributes) for j in jobs] == [
        ("quick", ("accuracy", "leakage"), ("gender", "age")),
        ("quick", ("accuracy",), ("skin",)),
        ("wang2019", ("leakage",), ("gender",)),
    ]


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    other = copy.deepcopy(record())
    place: Any = other
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return other


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (("values", "f1", "mean"), 51.250000000000007, "f1 (gender, quick): stored 51.25, computed 51.25000000000001"),
        (("values", "f1", "mean"), None, "f1 (gender, quick): stored 51.25, computed undefined"),
        (("values", "f1", "std"), None, "spread of f1 (gender, quick): stored 0.5, computed undefined"),
        (("values", "f1", "n"), 3, "rounds of f1 (gender, quick): stored 2, computed 3"),
        (("rounds", "f1"), [50.75, 51.5], "f1, round 2 (gender, quick): stored 51.75, computed 51.5"),
        (("rounds", "f1"), [50.75], "f1, round 2 (gender, quick): stored 51.75, computed undefined"),
        (("values",), {}, "f1 (gender, quick): stored 51.25, computed undefined"),
        (("metric",), "other", "accuracy (gender, quick): stored, but not computed"),
    ],
)
def test_every_figure_is_compared(path: tuple[Any, ...], value: Any, text: str) -> None:
    assert text in list(differences([record()], [changed(path, value)]))
    assert list(differences([record()], [copy.deepcopy(record())])) == []


@given(st.floats(-100, 100), st.floats(-100, 100), st.floats(0, 10) | st.just(float("nan")))
def test_a_tolerance_lets_pass_what_is_within_it(one: float, other: float, tolerance: float) -> None:
    stored, found = ({**record(), "rounds": {}, "values": {"f1": {"mean": v}}} for v in (one, other))
    same = not list(differences([stored], [found], tolerance))
    assert same == (one == other or abs(one - other) <= tolerance)
