"""verify: stores written by hand, and one that was really computed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from biasbench import io
from biasbench.store import Store

spec = importlib.util.spec_from_file_location("biasbench_test_stored", Path(__file__).parent / "stored.py")
stored = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stored)
TINY = Path(__file__).parent / "tiny.py"
RUN = ("run", "--plugin", str(TINY), "-d", "tiny", "-m", "original", "--profile", "smoke", "--quiet", "--device", "cpu",
       "--set", "recipe.crop=32", "--set", "recipe.short_side=32", "--results", "results")  # fmt: skip


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture
def results(home):
    for seed in range(3):
        stored.commit(home / "results", "original", seed=seed)
    return home / "results"


# -- files --------------------------------------------------------------------------------------
def test_a_sound_store_is_said_to_be_sound(cli, results):
    said = cli("verify", "--files")
    assert (said.code, said.out) == (0, "3 cells ok · exit 0\n")


def test_a_damaged_cell_is_named_and_the_others_are_checked(cli, results):
    one, other, _ = Store(results).runs()
    flip(results / "runs" / one / "predictions" / "test" / "labels.npy")
    (results / "runs" / other / "truth" / "val.parquet").unlink()
    said = cli("verify", "--files")
    lines = said.out.splitlines()
    assert said.code == 6
    assert lines[0].startswith(f"damaged  runs/{one}/predictions/test/labels.npy: the file is damaged: SHA-256")
    assert lines[1] == f"damaged  runs/{other}/truth/val.parquet: a file is missing"
    assert lines[2:] == ["1 cells ok · 2 damaged · exit 6"]


def test_only_some(cli, results):
    keys = Store(results).runs()
    flip(results / "runs" / keys[0] / "metrics.json")
    flip(results / "runs" / keys[1] / "manifest.json")
    assert cli("verify", "--files", "--key", keys[2][:6]).out == "1 cells ok · exit 0\n"
    said = cli("verify", "--files", "--key", keys[1])
    assert (said.code, said.out.splitlines()[-1]) == (6, "0 cells ok · 1 damaged · exit 6")
    assert cli("verify", "--files", "--key", "zz").code == 2


def test_as_json(cli, results):
    key = Store(results).runs()[0]
    flip(results / "runs" / key / "metrics.json")
    said = cli("verify", "--files", "--json")
    document = json.loads(said.out)
    assert (said.code, document["exit_code"], document["measured"]) == (6, 6, False)
    assert (document["counts"]["cells ok"], document["counts"]["damaged"]) == (2, 1)
    (fault,) = document["faults"]
    assert (fault["kind"], fault["part"], fault["where"]) == ("damaged", f"runs/{key}", f"runs/{key}/metrics.json")


def test_a_wrong_index_is_no_damage_and_is_said(cli, results):
    key = Store(results).runs()[0]
    run, stamp = results / "runs" / key, (results / "runs" / key).stat().st_mtime_ns - 10**10
    os.utime(run, ns=(stamp, stamp))
    assert cli("leaderboard", "--format", "json").code == 0
    (run / "metrics.json").unlink()
    os.utime(run, ns=(stamp, stamp))
    said = cli("verify", "--files")
    assert said.code == 0
    assert said.out.splitlines()[0] == f"index.sqlite is wrong (runs/{key}) and is made again"


def test_names_from_data_do_not_drive_the_terminal(cli, results):
    key = Store(results).runs()[0]
    io.write_text(results / "runs" / key / "truth" / "\x1b[2J", "")
    said = cli("verify", "--files")
    assert said.code == 6
    assert "\x1b" not in said.out


def test_no_store(cli, home):
    said = cli("verify")
    assert said.code == 5
    assert "holds no results" in said.err


# -- figures ------------------------------------------------------------------------------------
def run(place, *more):
    dirs = {f"XDG_{n}_HOME": str(place / n.lower()) for n in ("CONFIG", "CACHE", "DATA")}
    done = subprocess.run(
        [sys.executable, "-m", "biasbench", *RUN, *more], cwd=place, capture_output=True, text=True, check=False,
        env={**os.environ, **dirs, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "results"


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """A store with one cell that was really trained and measured."""
    return run(tmp_path_factory.mktemp("computed"))


@pytest.fixture
def real(computed, home):
    shutil.copytree(computed, home / "results")
    return home / "results"


def change_figure(results, change):
    """Measurements changed with a right hash: only measuring again can tell."""
    store = Store(results)
    (key,) = store.runs()
    records = store.metrics(key)
    change(records)
    (results / "runs" / key / "metrics.json").unlink()
    store.write_metrics(key, records)
    return key


@pytest.mark.torch
def test_every_figure_of_a_computed_cell_comes_out_again(cli, real):
    before = {p: p.read_bytes() for p in real.rglob("*") if p.is_file()}
    said = cli("verify", "--plugin", TINY)
    assert said.out.splitlines()[-1] == "1 cells ok · 1 trainings ok · exit 0", said.out + said.err
    assert said.code == 0
    after = {p: p.read_bytes() for p in real.rglob("*") if p.is_file()}
    assert after == before  # nothing is measured into the store, nothing is left there


@pytest.mark.torch
def test_a_figure_that_was_never_computed_is_named(cli, real):
    def change(records):
        for record in records:
            if "f1" in record["values"]:
                record["values"]["f1"]["mean"] += 0.25

    key = change_figure(real, change)
    said = cli("verify", "--plugin", TINY, "-q")
    (line, last) = said.out.splitlines()
    assert said.code == 6
    assert line.startswith("differs  tiny/tinynet/original/seed=0")
    assert key[:8] in line
    assert "f1 (gender, " in line
    assert "stored" in line
    assert "computed" in line
    assert last == "0 cells ok · 1 with other figures · 1 trainings ok · exit 6"
    assert cli("verify", "--plugin", TINY, "-q", "--tolerance", "0.25000001").code == 0


@pytest.mark.torch
def test_figures_that_cannot_be_made_again_are_not_said_to_be_right(cli, real):
    change_figure(real, lambda records: records[0].update(metric="nobody-offers-this"))
    said = cli("verify", "--plugin", TINY, "-q")
    assert said.code == 1
    assert said.out.startswith("unverified  tiny/tinynet/original/seed=0")
    assert "nobody-offers-this" in said.out
    assert said.out.splitlines()[-1] == "0 cells ok · 1 unverified · 1 trainings ok · exit 1"


@pytest.mark.torch
def test_a_flipped_bit_in_any_file_of_a_computed_cell_is_named(cli, real):
    every = [p for p in sorted(real.rglob("*")) if p.is_file() and p.suffix != ".lock"]
    files = [p for p in every if p.relative_to(real).parts[0] != "work"]
    rng = np.random.default_rng(0)
    assert len(files) >= 20
    for path in files:
        before = path.read_bytes()
        content = bytearray(before)
        bit = int(rng.integers(8 * len(before)))
        content[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(content)
        said = cli("verify", "--files")
        if path.name == "index.sqlite":
            assert said.code == 0
        else:
            assert said.code in (5, 6), path
            assert str(path.relative_to(real)) in said.out + said.err, path
            path.write_bytes(before)
    assert cli("verify", "--files").code == 0


@pytest.mark.torch
def test_damaged_caches_heal_and_the_next_cell_is_as_it_would_have_been(computed, tmp_path):
    place, clean = tmp_path / "damaged", tmp_path / "clean"
    for target in (place, clean):
        shutil.copytree(computed.parent, target)
    inputs, cache = place / "results" / "work" / "inputs", place / "cache" / "biasbench"
    files = [*inputs.rglob("*.parquet"), *cache.glob("features/*/data.npy"), *cache.glob("images/*/pixels.bin")]
    assert {path.suffix for path in files} == {".parquet", ".npy", ".bin"}
    for path in files:
        flip(path)
    keys = set(Store(computed).runs())
    healed, expected = Store(run(place, "--seed", "1")), Store(run(clean, "--seed", "1"))
    (key,) = set(healed.runs()) - keys
    assert healed.verify(healed.run(key))["files"] == expected.verify(expected.run(key))["files"]
    assert healed.metrics(key) == expected.metrics(key)
    assert io.checksums(place / "cache" / "biasbench" / "images") == io.checksums(clean / "cache/biasbench/images")
