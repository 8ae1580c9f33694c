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
