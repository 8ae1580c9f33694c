"""Killed at any named place or system call, a run that is started again ends as if nothing had happened."""

from __future__ import annotations

import ast
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

import biasbench
from biasbench import faults

sys.path.insert(0, str(Path(__file__).parent))
try:
    import naive_store
    import trial
finally:
    sys.path.remove(str(Path(__file__).parent))

SRC = Path(biasbench.__file__).parent
TORCH = {"features.computed", "features.written"}  # the fake cell has no layers
FAILING = {"unscored.noted"}  # met by a cell that fails
LATE = {"child.answered", "measured.stored", "claim.released"}  # the one cell's results were complete
needs_strace = pytest.mark.skipif(trial.STRACE is None, reason="strace is not installed")


@pytest.fixture(scope="module")
def zygote():
    started = trial.Zygote()
    yield started
    started.close()


@pytest.fixture(scope="module")
def naive():
    started = trial.Zygote("naive_store")
    yield started
    started.close()


@pytest.fixture(scope="module")
def whole(zygote, tmp_path_factory):
    """An undisturbed run of a cell, outside every store that is tested: what it left, what it met."""
    folder = tmp_path_factory.mktemp("whole")
    straight = trial.Trial(zygote, folder, count=1)
    assert straight.run(f"trace:{folder / 'met.txt'}") == 0, straight.text()
    return straight, Counter(line.split()[1] for line in (folder / "met.txt").read_text().splitlines())


@pytest.fixture
def disturbed(zygote, tmp_path):
    return trial.Trial(zygote, tmp_path, count=1)


# -- the points ------------------------------------------------------------------------------------
def test_every_point_is_somewhere_and_named():
    found = Counter()
    for file in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "point":
                found[ast.literal_eval(node.args[0])] += 1
    assert set(found) == set(faults.POINTS)
    assert len(found) >= 24


def test_the_fake_cell_meets_them(whole):
    straight, met = whole
    assert set(met) == set(faults.POINTS) - TORCH - FAILING
    assert len(straight.picture()) > 15
    assert straight.clean() == 0
    assert straight.left() == []


@pytest.mark.parametrize("fault", ["file.writen:1:kill", "file.written:x:kill", "file.written:1:explode", "kill"])
def test_a_fault_that_cannot_be_met_is_an_error(monkeypatch, fault):
    monkeypatch.setenv(faults.VARIABLE, fault)
    with pytest.raises(biasbench.UsageError, match="BIASBENCH_FAULT: cannot read"):
        faults.point("file.opened")


@pytest.mark.parametrize("name", sorted(set(faults.POINTS) - TORCH - FAILING))
def test_killed_at_a_point(name, disturbed, whole):
    code = disturbed.run(f"{name}:1:kill")
    assert code in ((0,) if name == "child.answered" else (1, -9))  # that child had told all; else a cell or the runner
    assert disturbed.picture() != whole[0].picture() or name in LATE
    assert disturbed.wrong(whole[0].picture()) == []


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("folder.synced", "enospc"), ("folder.synced", "stop:0.3"), ("run.before", "raise"), ("run.before", "exit0"),
        ("predict.before_test", "eio"), ("predict.before_test", "exit0"),
    ],
)  # fmt: skip
def test_other_faults_at_a_point(name, action, disturbed, whole):
    ended = disturbed.run(f"{name}:1:{action}")
    missing = set(whole[0].picture()) - set(disturbed.picture())
    assert (ended == 0) == (not missing) or (action == "exit0" and name != "predict.before_test")
    assert "Traceback" not in disturbed.text() or action == "raise"
    assert disturbed.wrong(whole[0].picture()) == []


# -- system calls ----------------------------------------------------------------------------------
@needs_strace
@pytest.mark.parametrize("child", [None, 1])
def test_killed_at_system_calls(child, zygote, whole, tmp_path):
    calls = trial.Trial(zygote, tmp_path / "count", count=1).calls(child=child)
    assert {"write", "fsync", "rename"} <= {kind for kind, _ in calls}
    for kind, nth in calls[3 :: len(calls) // 4]:
        shutil.rmtree(tmp_path / "killed", ignore_errors=True)
        killed = trial.Trial(zygote, tmp_path / "killed", count=1)
        code, _ = killed.traced("-e", f"inject={kind}:signal=SIGKILL:when={nth}", child=child)
        assert code == (-9 if child is None else 1), (kind, nth)
        assert killed.wrong(whole[0].picture()) == [], (kind, nth)


@needs_strace
@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EROFS", "EACCES"])
def test_refused_by_the_system(error, zygote, whole, tmp_path):
    kinds = ("openat", "mkdir") if error in ("EROFS", "EACCES") else ("write", "fsync", "rename")
    calls = trial.Trial(zygote, tmp_path / "count", count=1).calls(kinds)
    for kind, nth in calls[5 :: len(calls) // 2]:
        shutil.rmtree(tmp_path / "refused", ignore_errors=True)
        refused = trial.Trial(zygote, tmp_path / "refused", count=1)
        code, _ = refused.traced("-e", f"inject={kind}:error={error}:when={nth}")
        missing = set(whole[0].picture()) - set(refused.picture())
        assert not missing or code != 0, (kind, nth)
        assert "Traceback" not in refused.text(), (kind, nth)
        assert "This is a bug" not in refused.text(), (kind, nth, refused.text())
        assert refused.wrong(whole[0].picture()) == [], (kind, nth)


# -- the control -----------------------------------------------------------------------------------
@needs_strace
@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_a_naive_store_does_not_survive_it(kind, naive, tmp_path):
    straight = trial.Trial(naive, tmp_path / "whole", f"run_{kind}")
    calls = straight.calls()
    assert naive_store.wrong(straight.results) == []
    broken = 0
    tried = calls[1 :: len(calls) // 8]
    for number, (call, nth) in enumerate(tried):
        killed = trial.Trial(naive, tmp_path / f"killed{number}", f"run_{kind}")
        code, _ = killed.traced("-e", f"inject={call}:signal=SIGKILL:when={nth}")
        assert code == -9
        again = killed.run()
        broken += again != 0 or bool(naive_store.wrong(killed.results))
    assert broken >= len(tried) // 3


# -- several runners -------------------------------------------------------------------------------
def test_two_runners_one_of_them_killed(zygote, tmp_path, whole):
    together = trial.Trial(zygote, tmp_path / "together", count=8)
    count = tmp_path / "count.txt"
    env = {"BIASBENCH_FAKE_COUNT": str(count), "BIASBENCH_FAKE_PAUSE": "0.01"}
    first, second = together.start(**env), together.start("run.committed:1:kill", **env)
    assert [zygote.wait(first), zygote.wait(second)] == [0, -9]
    alone = trial.Trial(zygote, tmp_path / "alone", count=8)
    assert alone.run() == 0
    computed = Counter(count.read_text().splitlines())
    assert {what.split()[0] for what in computed} == {"train", "predict", "measure"}
    assert max(computed.values()) <= 2
    assert sum(computed.values()) <= sum(1 for _ in computed) + 1  # what the killed one had in hand
    assert together.wrong(alone.picture()) == []


def test_two_runners_on_the_naive_store(naive, tmp_path):
    together = trial.Trial(naive, tmp_path, "run_jsonl", runners=2)
    both = [together.start(), together.start()]
    assert [naive.wait(pid) for pid in both] == [0, 0]
    assert naive_store.wrong(together.results) != []


def test_nothing_here_is_left_running(zygote):
    children = Path(f"/proc/{zygote.process.pid}/task/{zygote.process.pid}/children")
    if not children.exists():
        pytest.skip("/proc does not tell children")
    assert children.read_text().split() == []
    assert os.getpid() != zygote.process.pid
