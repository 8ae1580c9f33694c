"""The guard's parts by themselves."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from biasbench.data import Outputs
from biasbench.errors import IntegrityError
from biasbench.guard.code import Code
from biasbench.guard.files import Files
from biasbench.plugins import load_plugins

pytestmark = pytest.mark.torch


def test_the_kernel_closes_folders_to_native_code(tmp_path: Path) -> None:
    from native import attempt

    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=attempt, args=(str(tmp_path), 3, there))
    process.start()
    said = here.recv()
    process.join()
    assert (said["before"], said["open"], said["beside"]) == (3, True, True)
    if not said["kept"]:
        pytest.skip("this kernel has no Landlock")
    assert said["refused"] == 3


@pytest.fixture
def files(tmp_path: Path) -> Files:
    for name in ("data/annotations.json", "data/1.jpg", "results/own/a", "results/runs/b", "elsewhere/c"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    secret = [tmp_path / "data", tmp_path / "results"]
    return Files(secret, [tmp_path / "data" / "1.jpg"], [tmp_path / "results" / "own"])


@pytest.mark.parametrize(
    "name", ["data/annotations.json", "data/../data/annotations.json", "link/annotations.json", "results/runs/b"]
)
def test_what_is_closed_is_refused_and_remembered(files: Files, tmp_path: Path, name: str) -> None:
    with pytest.raises(IntegrityError, match="opens"):
        files._hook("open", (str(tmp_path / name), "r", os.O_RDONLY))
    assert len(files.broken) == 1


@pytest.mark.parametrize(("event", "count"), [("os.remove", 1), ("os.rename", 2), ("os.truncate", 1)])
def test_what_is_open_to_read_may_not_be_changed(files: Files, tmp_path: Path, event: str, count: int) -> None:
    picture = str(tmp_path / "data" / "1.jpg")
    files._hook("open", (picture, "r", os.O_RDONLY))
    with pytest.raises(IntegrityError, match="changes"):
        files._hook(event, (*[picture] * count, -1, -1))
    with pytest.raises(IntegrityError, match="changes"):
        files._hook("open", (os.fsencode(picture), "r+", os.O_RDWR))


def test_what_is_its_own_and_what_is_installed_is_open(files: Files, tmp_path: Path) -> None:
    for path, flags in ((tmp_path / "results" / "own" / "a", os.O_RDWR), (Path(np.__file__), os.O_RDONLY),
                        (tmp_path / "elsewhere" / "new", os.O_CREAT | os.O_WRONLY)):  # fmt: skip
        files._hook("open", (str(path), None, flags))
    assert (files.broken, list(files.strange)) == ([], [])
    files._hook("open", (str(tmp_path / "elsewhere" / "new"), None, os.O_RDONLY))  # it wrote that itself
    assert not files.strange
    files._hook("open", (str(tmp_path / "elsewhere" / "c"), None, os.O_RDONLY))
    assert [Path(p).name for p in files.strange] == ["c"]


def test_a_replaced_function_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import biasbench.scoring
    from biasbench.builtin.metrics.accuracy import Accuracy

    code, plugins = Code(), load_plugins()
    code.check(plugins)
    with monkeypatch.context() as patched:
        patched.setattr(biasbench.scoring, "macro_f1", lambda *_: 1.0)
        with pytest.raises(IntegrityError, match=r"biasbench\.scoring\.macro_f1"):
            code.check(plugins)
    with monkeypatch.context() as patched:
        patched.setattr(Accuracy, "measure", lambda *_: {})
        with pytest.raises(IntegrityError, match=r"Accuracy\.measure"):
            code.check(plugins)
    code.check(plugins)


def test_scores_that_tell_nothing_are_degenerate() -> None:
    from biasbench.guard.again import degenerate

    def outputs(scores: np.ndarray) -> Outputs:
        return Outputs({"label": scores.astype(np.float32)}, scores > 0, [str(i) for i in range(len(scores))])

    same = np.tile([0.3, -2.0, 1e6], (5, 1))
    assert degenerate(outputs(same))
    assert degenerate(outputs(same * (1 + 1e-7 * np.arange(5)[:, None])))  # no more than rounding
    other = same.copy()
    other[3, 1] += 1e-3  # however large the others are
    assert not degenerate(outputs(other))
