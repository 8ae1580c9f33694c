from __future__ import annotations

import json
import os
import shutil
from importlib import metadata
from pathlib import Path

import pytest

from biasbench.cli import doctor

TINY = Path(__file__).parent / "tiny.py"
pytestmark = pytest.mark.torch


def test_the_report_is_whole(cli, home, tmp_path, monkeypatch):
    (tmp_path / "cache" / "biasbench").mkdir(parents=True)
    (tmp_path / "cache" / "biasbench" / "a").write_bytes(b"x" * 1500)
    monkeypatch.setenv("BIASBENCH_RESULTS", str(tmp_path / "elsewhere"))
    done = cli("doctor", "--json", "--plugin", TINY)
    said = json.loads(done.out)
    assert (said["schema"], done.code) == ("biasbench/doctor", 0), said["problems"]
    assert said["system"]["biasbench"] == metadata.version("biasbench")
    for name in ("torch", "torchvision", "timm", "pandas"):
        found = said["libraries"][name]
        assert found["version"].startswith(metadata.version(name))  # torch adds its build
        assert found["error"] is None
    assert said["devices"][0]["name"] == "cpu"
    folders = {f["use"]: f for f in said["folders"]}
    assert folders["cache"]["bytes"] == 1500
    assert folders["cache"]["free_bytes"] > 0
    assert (folders["results"]["path"], folders["results"]["set_by"]) == (
        str(tmp_path / "elsewhere"),
        "BIASBENCH_RESULTS",
    )
    assert folders["results"]["exists"] is False
    states = {d["name"]: d["state"] for d in said["datasets"]}
    assert states == {
        **dict.fromkeys(("coco", "imsitu", "imdb", "wiki", "laofiw", "fairface", "aflw", "utkface"), "not here"),
        **dict.fromkeys(("faces", "scenes", "tiny"), "made when needed"),
    }
    assert {p["name"] for p in said["plugins"]} >= {"builtin", "tiny.py"}


def test_broken_plugins_and_libraries_are_problems(cli, tmp_path, monkeypatch):
    """A torch that cannot be imported is reported by a process that does not import it."""
    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "torch.py").write_text("raise OSError('libcudart.so: cannot open\\x1b[2J shared object file')\n")
    monkeypatch.setenv("PYTHONPATH", str(fake))
    broken = tmp_path / "broken.py"
    broken.write_text(
        "from biasbench import Entry, hookimpl\n@hookimpl\ndef biasbench_datasets():\n"
        "    return [Entry('half', 'no_such_module:Half', '')]\n"
        "@hookimpl\ndef biasbench_methods():\n    raise RuntimeError('no luck')\n"
    )
    done = cli("doctor", "--plugin", broken)
    assert done.code == 1
    problems = [line for line in done.out.splitlines() if line.startswith("PROBLEM: ")]
    assert any(p.startswith("PROBLEM: torch: OSError: libcudart.so") for p in problems)
    assert any("plugin broken.py" in p and "no luck" in p for p in problems)
    assert any(p.startswith("PROBLEM: data set half: ") and "no_such_module" in p for p in problems)
    assert "\x1b" not in done.out


def test_an_interpreter_that_dies_is_an_answer():
    false = shutil.which("false")
    if false is None:
        pytest.skip("this system has no program that only fails")
    assert doctor.probe(false)["probe_error"] == ("the interpreter that imports the libraries failed: exit code 1")
    assert "No such file" in doctor.probe(str(Path(os.sep) / "no" / "python"))["probe_error"]


def test_a_probe_that_hangs_is_an_answer(monkeypatch):
    monkeypatch.setattr(doctor, "PROBE", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "PROBE_SECONDS", 1)
    assert doctor.probe()["probe_error"] == "importing the libraries took more than 1 s"


MEASURE = ("doctor", "--measure", "--plugin", TINY, "--dataset", "tiny", "--profile", "smoke", "--device", "cpu")


def test_what_a_machine_takes_is_measured_and_kept(cli, home):
    """Real figures of a small network: each above zero, with a spread, and found again by a plan."""
    done = cli(*MEASURE, "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert said["schema"] == "biasbench/costs"
    rates, network = said["rates"], said["rates"]["networks"]["tinynet"]
    figures = [rates[name] for name in ("decode", "crop", "start", "hash", "write")]
    figures += [*network["forward"].values(), *network["both"].values(), rates["attackers"]["smoke"]["seconds"]]
    assert all(f["value"] > 0 and f["spread"] >= 0 and f["times"] >= 3 for f in figures)
    assert list(network["both"]) == ["conv1", "conv2", "conv3", "conv4", "conv5", "embedding"]
    assert network["peak"] >= network["base"] > 2**20
    assert (said["machine"]["threads"], said["machine"]["device"], rates["crop_side"]) == (1, "cpu", 64)
    assert 0 < rates["share"] <= 1
    kept = json.loads(Path(said["file"]).read_bytes())
    assert kept["rates"] == rates
    plan = ("run", "-m", "original", "-d", "tiny", "--profile", "smoke", "--device", "cpu", "--plugin", TINY)
    recipe = ("--set", "recipe.crop=32", "--set", "recipe.short_side=32", "--dry-run")
    estimate = json.loads(cli(*plan, *recipe, "--json").out)["estimate"]
    assert estimate["unmeasured"] == []
    assert 0 < estimate["seconds"]["at_least"] <= estimate["seconds"]["at_most"]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (("--backbone", "tinynett"), "Did you mean 'tinynet'?"),
        (("--protocol", "quik"), "Did you mean 'quick'?"),
        (("--device", "cuda:99"), "there is no device 'cuda:99' here"),
        (("--backbone", "tinynet+tinynet"), "names several backbones"),
    ],
)
def test_measuring_refuses_names_it_does_not_know(cli, home, more, expected):
    done = cli(*MEASURE, *more)
    assert done.code == 2
    assert expected in done.err
    assert not list((home.parent / "cache").rglob("costs"))


def test_a_measuring_process_that_fails_is_one_line(cli, home, monkeypatch):
    from biasbench.cli import doctor_measure

    monkeypatch.setattr(doctor_measure.sys, "executable", shutil.which("false") or "false")
    done = cli(*MEASURE)
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert "the process that measures failed: exit code 1" in line
    assert not list((home.parent / "cache").rglob("costs"))
