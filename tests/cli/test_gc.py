"""gc: what it says and deletes, and that a run beside it ends as if it had not been there."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from biasbench.presence import working_in
from biasbench.store import Store

spec = importlib.util.spec_from_file_location("biasbench_test_stored", Path(__file__).parent / "stored.py")
stored = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stored)
FOLDER = Path(__file__).parents[2] / "benchmarks" / "campaign"
sys.path.insert(0, str(FOLDER))
try:
    import clearing
finally:
    sys.path.remove(str(FOLDER))


@pytest.fixture
def results(home):
    """A run, and a result that was never finished."""
    stored.commit(home / "results", "original")
    store = Store(home / "results")
    (store.aside("run", "k2") / "half.npy").write_bytes(bytes(3000))
    (store.work("inputs") / "abc").mkdir(parents=True)
    (store.work("inputs") / "abc" / "train.parquet").write_bytes(bytes(1000))
    return home / "results"


def test_what_goes_is_said_and_nothing_else_goes(cli, results):
    runs = {p: p.read_bytes() for p in (results / "runs").rglob("*") if p.is_file()}
    dry = cli("gc", "--dry-run")
    assert dry.code == 0
    lines = dry.out.splitlines()
    assert lines[0].split()[:-1] == ["2.9", "kB", "a", "result", "that", "was", "never", "finished:"]
    assert lines[1].split() == ["1000", "B", "data", "handed", "to", "a", "cell:", "work/inputs/abc"]
    assert lines[-1] == "2 leftovers, 3.9 kB could be freed"
    assert (results / "work" / "inputs" / "abc" / "train.parquet").exists()
    done = cli("gc")
    assert done.out.splitlines()[:-1] == lines[:-1]
    assert done.out.splitlines()[-1] == "2 leftovers, 3.9 kB freed"
    assert {p: p.read_bytes() for p in (results / "runs").rglob("*") if p.is_file()} == runs
    assert cli("gc").out == "0 leftovers, 0 B freed\n"


def test_as_json(cli, results):
    document = json.loads(cli("gc", "--json").out)
    assert (document["dry_run"], document["bytes"], document["notes"]) == (False, 4000, [])
    assert [row["bytes"] for row in document["gone"]] == [3000, 1000]


def test_beside_a_run_it_says_what_stays(cli, results):
    with working_in(results):
        said = cli("gc")
    lines = said.out.splitlines()
    assert said.code == 0
    assert "a result that was never finished" in lines[0]  # its claim was free: nobody works on it
    assert lines[1:] == [
        "a run is at work in the results folder: what it may be using stays", "1 leftovers, 2.9 kB freed",
    ]  # fmt: skip
    assert (results / "work" / "inputs" / "abc" / "train.parquet").exists()


def test_the_cache_only_when_asked(cli, results, tmp_path):
    broken = tmp_path / "cache" / "biasbench" / "features" / "broken"
    broken.mkdir(parents=True)
    cli("gc")
    assert broken.exists()
    with working_in(tmp_path / "cache" / "biasbench"):
        assert "a run is using the cache: it stays as it is" in cli("gc", "--cache").out
    assert broken.exists()
    assert "features, damaged" in cli("gc", "--cache").out
    assert not broken.exists()


def test_no_store(cli, home):
    assert cli("gc").code == 5


@pytest.mark.torch
def test_a_run_beside_it_ends_as_if_it_had_not_been_there():
    kept = clearing.gc_beside(lambda compute, **inputs: compute(**inputs), rounds=1)
    assert (kept.ok, kept.total) == (1, 1), kept.text
