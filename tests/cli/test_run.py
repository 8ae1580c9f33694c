"""run, leaderboard and measure on a tiny data set: real processes, a real store."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch

TINY = Path(__file__).parent / "tiny.py"
FAULTY = '''
import biasbench

class Faulty(biasbench.Method):
    """Fails when it meets its first training row."""
    name = "faulty"
    def resample(self, table, rng):
        raise RuntimeError("cannot\\x1b[2J go on")

@biasbench.hookimpl
def biasbench_methods():
    return [Faulty]
'''
RECIPE = ("--profile", "smoke", "--set", "recipe.crop=32", "--set", "recipe.short_side=32")
METHODS = ("-m", "original", "-m", "adv-conv5", "-m", "blackout-segm", "-m", "faulty")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "faulty.py").write_text(FAULTY)
    return folder


def plugins(place):
    return ("--plugin", str(TINY), "--plugin", str(place / "faulty.py"))


def environment(place):
    dirs = {f"XDG_{n}_HOME": str(place / n.lower()) for n in ("CONFIG", "CACHE", "DATA")}
    return {**os.environ, **dirs, "OMP_NUM_THREADS": "1"}


def command(*arguments):
    return [sys.executable, "-m", "biasbench", *map(str, arguments)]


def biasbench(place, *arguments):
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, cwd=place, env=environment(place), check=False
    )


@pytest.fixture
def here(place, cli, monkeypatch):
    """The same command in this process, which has torch loaded already."""
    monkeypatch.chdir(place)
    for name, value in environment(place).items():
        if name.startswith("XDG_"):
            monkeypatch.setenv(name, value)
    return lambda *arguments: cli(*arguments, *plugins(place))


def load(said):
    """The JSON document, once it is sure that nothing went wrong on the way."""
    assert "Traceback" not in said.err
    return json.loads(said.out)


ASKED = ("run", *METHODS, "-d", "tiny", "--seed", 1, "--seed", 2, *RECIPE)


@pytest.fixture(scope="module")
def cut(place):
    """A run that Ctrl-C ended after its first cell: exit code and standard error."""
    with subprocess.Popen(
        command(*ASKED, *plugins(place)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=place, env=environment(place),
    ) as process:  # fmt: skip
        while "] done " not in (line := process.stderr.readline()):
            assert line, "the run ended before its first cell"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    return process.returncode, err


@pytest.fixture(scope="module")
def ran(place, cut):
    """The same command again, to its end."""
    return biasbench(place, *ASKED, *plugins(place))


def rows(here, results="results"):
    return {row["method"]: row for row in load(here("leaderboard", "--format", "json", "--results", results))["rows"]}


KEPT = re.compile(  # another cell may finish just then
    r"biasbench: interrupted; ([12]) ok · (?:1 failed · )?2 n/a · [345] unfinished; finished cells are kept in "
    "results, and the same command goes on from the last checkpoint"
)


def test_ctrl_c_keeps_what_is_done(cut):
    code, err = cut
    assert code == 130
    assert KEPT.fullmatch(err.splitlines()[-1]), err


def test_the_same_command_goes_on_and_ends_with_its_rows_and_a_count(cut, ran):
    assert ran.returncode == 1, ran.stderr
    last = ran.stderr.splitlines()[-1]
    kept = int(KEPT.fullmatch(cut[1].splitlines()[-1])[1])
    assert last == f"biasbench: {4 - kept} ok · {kept} from earlier runs · 2 failed · 2 n/a · exit 1"
    assert "n/a tiny/tinynet/blackout-segm/seed=1: needs masks:person" in ran.stderr
    for method in ("original", "adv-conv5", "blackout-segm", "faulty"):
        assert any(
            line.replace(" (p)", "").split()[:3] == [method, "tiny", "tinynet"] for line in ran.stdout.splitlines()
        )
    assert "weights random" in ran.stdout
    assert "\x1b" not in ran.stdout + ran.stderr


def test_the_leaderboard_has_every_planned_cell(here, ran):
    found = rows(here)
    assert list(found) == ["original", "adv-conv5", "faulty", "blackout-segm"]  # marked rows stand last
    first = found["original"]
    assert (first["dataset"], first["backbone"], first["seeds"]) == ("tiny", "tinynet", [1, 2])
    assert first["map"]["n"] == 2
    assert 0 <= first["map"]["mean"] <= 100
    assert first["map"]["spread"] == "seeds"
    assert found["blackout-segm"]["status"] == "n/a"
    assert found["faulty"]["status"] == "failed"
    assert "cannot\\x1b[2J go on" in found["faulty"]["reasons"][0]
    assert found["faulty"]["map"]["mean"] is None


def test_the_mean_is_that_of_the_stored_seeds(place, here, ran):
    """Worked out from the store's own files, without the leaderboard's code."""
    means = []
    for manifest in (place / "results" / "runs").glob("*/manifest.json"):
        if json.loads(manifest.read_bytes())["spec"]["method"] == "adv-conv5":
            records = json.loads((manifest.parent / "metrics.json").read_bytes())["records"]
            means += [r["values"]["map"]["mean"] for r in records if "map" in r["values"]]
    low, high = sorted(means)
    figure = rows(here)["adv-conv5"]["map"]
    assert figure["mean"] == pytest.approx((low + high) / 2)
    assert figure["std"] == pytest.approx((high - low) / 2**0.5)


def test_a_finished_cell_is_never_computed_twice(here, ran):
    done = here("run", "-m", "original", "-m", "adv-conv5", "-d", "tiny", "-s", 1, *RECIPE, "--json")
    said = load(done)
    assert done.code == 0
    assert said["schema"] == "biasbench/run"
    assert said["counts"] == {"done": 0, "cached": 2, "failed": 0, "n/a": 0, "unfinished": 0}
    assert [c["state"] for c in said["cells"]] == ["cached", "cached"]


def test_a_dry_run_tells_the_cost_and_does_nothing(place, here, ran):
    asked = ("run", "-m", "original", "-m", "adv-conv5", "-m", "blackout-segm", "-d", "tiny", "-s", 1, "-s", 3)
    said = load(here(*asked, *RECIPE, "--dry-run", "--json"))
    assert [c["state"] for c in said["cells"]] == ["finished", "to run", "finished", "to run", "n/a", "n/a"]
    # Seed 3: two stages of one epoch for the plain model, and the last of them once more with the adversary;
    # predictions of 48 training rows twice (one view), 20 of validation and 22 of test for each of two cells.
    # Decoded pictures and activations are those of the run before: centre and view of train, val, test at two taps.
    # An attacker's 6 outcomes belong to a model, 4 to the true labels, which both models of a seed share.
    assert said["cost"] == {
        "finished": 2, "to_run": 2, "to_measure": 0, "not_applicable": 2, "trainings": 2, "epochs": 3,
        "training_rows": 3 * 48, "decoded_images": 0, "feature_rows": 0, "predicted_rows": 2 * (2 * 48 + 20 + 22),
        "attackers": 2 * 6 + 4, "passed_images": said["cost"]["passed_images"],
    }  # fmt: skip
    assert said["cached"] == {"images": 3, "features": 8, "trainings": 0}
    assert said["estimate"] is None
    text = here(*asked, *RECIPE, "--dry-run", "--results", "elsewhere").out
    assert "6 cells: 0 finished, 4 to run, 2 n/a." in text
    assert "Run 'biasbench doctor --measure' for an estimate in hours." in text
    assert not (place / "elsewhere").exists()


def test_what_was_counted_is_what_was_done(place, here, ran):
    """The run's own files, against the plan counted for an empty results folder."""
    asked = ("run", "-m", "original", "-m", "adv-conv5", "-d", "tiny", "-s", "1..2", *RECIPE, "--dry-run", "--json")
    cost = load(here(*asked, "--results", "elsewhere"))["cost"]
    trained = [json.loads(f.read_bytes()) for f in (place / "results" / "trainings").glob("*/manifest.json")]
    assert cost["trainings"] == len(trained)
    assert cost["epochs"] == sum(t["epochs"] for t in trained)
    assert cost["training_rows"] == sum(t["epochs"] * t["rows"] for t in trained)
    cache = place / "cache" / "biasbench"
    kept = [json.loads(f.read_bytes()) for f in (cache / "memo").rglob("*.json")]
    # Models that say the same of every picture share what reads decoded labels, and true labels of their macro F1.
    runs = list((place / "results" / "runs").glob("*"))
    said = {
        (json.loads((run / "manifest.json").read_bytes())["spec"]["seed"],
         b"".join(f.read_bytes() for f in sorted(run.glob("predictions/*/labels.npy")))) for run in runs
    }  # fmt: skip
    alike = len(runs) - len(said)
    assert cost["attackers"] - 2 * alike == sum('"measure":"attacker' in k["key"] for k in kept)
    ids = [f for run in runs for f in run.glob("predictions/*/ids.json")]
    assert cost["predicted_rows"] == sum(len(json.loads(f.read_bytes())) for f in ids)


def test_an_estimate_needs_this_machine_s_costs(place, here, monkeypatch):
    from biasbench.costs.rates import Attacker, Cost, Machine, Network, Rates, save_rates

    second = Cost(value=1.0, spread=0, times=1)
    taps = dict.fromkeys(("conv1", "conv2", "conv3", "conv4", "conv5", "embedding"), second)
    network = Network(crop=32, batch=16, forward=taps, both=taps, base=2**30, peak=2**30)
    rates = Rates(
        decode=second, crop=second, crop_side=32, start=second, hash=second, write=second, cores=2,
        share=0.5,
        networks={"tinynet": network}, attackers={"smoke": Attacker(seconds=second, epochs=3, size=1e6)},
    )  # fmt: skip
    folder = place / "measured"
    machine = Machine.here("cpu", "fp32", 1)
    save_rates(folder, machine, rates)
    asked = ("run", "-m", "original", "-m", "adv-conv5", "-d", "tiny", "-s", 7, *RECIPE, "--dry-run", "--jobs", 1)
    monkeypatch.setenv("BIASBENCH_CACHE", str(folder))
    said, text = load(here(*asked, "--json"))["estimate"], here(*asked).out
    assert said["unmeasured"] == []
    assert said["seconds"]["at_least"] == said["seconds"]["at_most"] == said["seconds"]["one_after_the_other"]
    assert said["memory_bytes"] > 2**30
    assert "Estimate with --jobs 1: " in text
    assert "The machine was busy when it was measured" in text
    assert "Not counted: the own modules of adv." in text
    assert "Memory up to 1.0 GB" in text
    assert "for an estimate in hours" not in text


@pytest.mark.parametrize(
    ("seeds", "cells"), [(("0..999999999",), "2,000,000,000"), (("0..40000", "50000..99999"), "180,002")]
)
def test_a_plan_too_large_to_be_meant_is_counted_and_refused(place, here, seeds, cells):
    """Nothing is looked up before: the data set does not exist."""
    asked = [part for text in seeds for part in ("-s", text)]
    done = here("run", "-m", "original", "-m", "adv-conv5", "-d", "nowhere", *asked, *RECIPE)
    assert done.code == 2
    assert f"that is a plan of {cells} cells (2 methods x 1 data sets x 1 backbones x" in done.err
    assert "confirm it with --yes" in done.err
    assert "unknown dataset" in here("run", "-m", "original", "-d", "nowhere", "-s", "0..4").err


@pytest.mark.parametrize("text", ["x", "-1", "4..1", "0..", "1..2..3", "1.5", "9" * 30, "٣"])
def test_seeds_that_cannot_be_read(here, text):
    done = here("run", "-m", "original", "-d", "tiny", f"--seed={text}", "--dry-run")
    assert done.code == 2
    assert "--seed" in done.err
    assert "Traceback" not in done.err


def test_measuring_again_gives_the_same_figures_and_repairs_damage(place, here, ran):
    before = rows(here)["original"]
    copy = place / "copy"
    shutil.copytree(place / "results", copy)
    (copy / "index.sqlite").unlink()
    for file in copy.glob("runs/*/metrics.json"):
        file.write_text(file.read_text().replace('"mean": ', '"mean": 1', 1))
    done = here("leaderboard", "--results", "copy")
    assert done.code == 6
    assert "the measurements are damaged. Run 'biasbench measure'" in done.err
    done = here("measure", "--results", "copy", "--json")
    assert done.code == 0, done.err
    assert load(done)["counts"]["done"] == 4
    assert rows(here, results="copy")["original"]["map"] == before["map"]
    assert rows(here, results="copy")["original"]["delta"] == before["delta"]


def test_measuring_refuses_what_it_cannot_mean(here, ran):
    for arguments, expected in (
        (("--metric", "leekage"), "unknown metric 'leekage'. Did you mean 'leakage'?"),
        (("--key", "zzz"), "no run's key starts with 'zzz'"),
    ):
        done = here("measure", *arguments)
        assert done.code == 2
        assert expected in done.err
    done = here("measure", "--results", "nowhere")
    assert done.code == 5
    assert "nowhere" in done.err


def test_problems_are_listed_together_before_anything_runs(place, here):
    asked = ("run", "-m", "orignal", "-m", "adv-conv5(wieght=2.0)", "-d", "tiny", "-d", "nowhere")
    done = here(*asked, "--results", "none")
    assert done.code == 2
    (line,) = done.err.splitlines()
    for part in ("Did you mean 'original'?", "wieght", "unknown dataset 'nowhere'", "nothing was run"):
        assert part in line
    assert not (place / "none").exists()


def test_a_benchmark_file_and_options_beside_it(place, here):
    (place / "b.toml").write_text(
        'name = "b"\ndatasets = ["tiny"]\nseeds = [5, 6]\nprofile = "smoke"\n'
        '[recipe]\ncrop = 32\nshort_side = 32\n[[rows]]\nmethod = "original"\n[[rows]]\nmethod = "alpha-1"\n'
    )
    said = load(here("run", "b.toml", "--dry-run", "--json"))
    assert [(c["method"], c["seed"]) for c in said["cells"]] == [
        ("original", 5), ("original", 6), ("alpha-1", 5), ("alpha-1", 6),
    ]  # fmt: skip
    (place / "range.toml").write_text((place / "b.toml").read_text().replace("[5, 6]", '"5..6"'))
    assert load(here("run", "range.toml", "--dry-run", "--json"))["cells"] == said["cells"]
    said = load(here("run", "b.toml", "--seed", 9, "--dry-run", "--json"))
    assert [(c["method"], c["seed"]) for c in said["cells"]] == [("original", 9), ("alpha-1", 9)]


def test_a_device_that_is_not_there_is_refused(here):
    done = here("run", "-m", "original", "-d", "tiny", "--device", "mps")
    if sys.platform == "darwin":
        pytest.skip("this machine may have the device")
    assert done.code == 2
    assert "there is no device 'mps' here. Found: " in done.err
