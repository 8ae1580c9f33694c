"""Promises on runs that are killed, refused or filled up: run again, they end as if nothing had happened.

Each case disturbs a run of torch-free cells (`tests/faults/fake_cells.py`) in a fresh folder, runs it again, and
compares every result with an undisturbed run outside the store, by hash. `tests/faults` holds the control: a naive
store that the same kills break.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from promises import HERE, SRC, Kept, Parts, Promise

from biasbench import generator

FAKES = HERE.parents[1] / "tests" / "faults"
sys.path.insert(0, str(FAKES))
try:
    import trial
finally:
    sys.path.remove(str(FAKES))

CODE = (
    *(SRC / f"{n}.py" for n in ("io", "faults", "store", "runner", "claims", "commit", "child", "jobs", "stopping")),
    SRC / "executors", FAKES, HERE / "kill.py",
)  # fmt: skip
NO_STRACE = Kept(0, 0, "strace is not installed")
BROKEN_DISK = {
    "ENOSPC": ("write", "fsync", "mkdir", "openat"),
    "EIO": ("write", "fsync", "rename"),
    "EROFS": ("openat", "mkdir", "rename"),
    "EACCES": ("openat", "mkdir", "rename", "unlink"),
}
SIZES = (48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256)
"""kB of the small file systems; four cells need about 300."""


def promises() -> list[Promise]:
    """All of this file."""
    every = {
        "kill-points": points, "kill-syscalls": syscalls, "kill-random": at_random, "io-errors": refused,
        "full-disk": full_disk,
    }  # fmt: skip
    return [Promise(name, check, CODE) for name, check in every.items()]


class Bench:
    """A folder for trials, what starts them, and what an undisturbed run of `count` cells leaves."""

    def __init__(self, folder: Path, zygote: Any, count: int) -> None:
        self.folder, self.zygote, self.count = folder, zygote, count
        self.straight = self.trial("straight")
        trace, began = folder / "trace", time.monotonic()
        assert self.straight.run(f"trace:{trace}", 600.0) == 0, self.straight.text()
        self.seconds = time.monotonic() - began
        self.met = Counter(trace.read_text().splitlines())
        self.whole = self.straight.picture()

    def trial(self, name: str = "trial", **given: Any) -> Any:
        """A fresh folder of results."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return trial.Trial(self.zygote, self.folder / name, **{"count": self.count, **given})

    def counts(self) -> dict[str, int]:
        """How often a single process met each named place, at most."""
        most: dict[str, int] = {}
        for line, times in self.met.items():
            name = line.split()[1]
            most[name] = max(most.get(name, 0), times)
        return most

    def outcome(self, disturbed: Any, code: int, wrong: Iterable[str] = ()) -> dict[str, Any]:
        """How a disturbed run ended, and what is wrong: with it, and after another run."""
        return {"ended": code, "wrong": [*wrong, *disturbed.wrong(self.whole)]}


@contextmanager
def bench(count: int = 4) -> Iterator[Bench]:
    """A bench that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="biasbench-kill-") as folder:
        zygote = trial.Zygote()
        try:
            yield Bench(Path(folder), zygote, count)
        finally:
            zygote.close()


def told(parts: Parts, compute: Callable[..., dict[str, Any]], cases: Iterable[dict[str, Any]], text: str) -> Kept:
    """One part a case; the first that went wrong are listed."""
    ok, total, ends, bad = 0, 0, Counter[int](), []
    for case in cases:
        part = parts(compute, **case)
        total += 1
        ok += not part["wrong"]
        ends[part["ended"]] += 1
        if part["wrong"]:
            bad.append(f"{case}: ended with {part['ended']}; {'; '.join(part['wrong'][:3])}")
    ended = ", ".join(f"{code}: {n}" for code, n in sorted(ends.items()))
    return Kept(ok, total, "\n".join([f"{text}; exit codes {ended}", *bad[:10]]))


# -- kills -----------------------------------------------------------------------------------------
OTHER = ("raise", "enospc", "eio", "exit0", "stop:0.5")
PLACES = (
    "claim.after", "job.started", "train.step", "training.before", "folder.synced", "run.committed", "metrics.read",
    "predictions.written",
)  # fmt: skip


def points(parts: Parts) -> Kept:
    """Killed when it first, secondly and lastly meets each named place; five other faults at eight of them."""
    with bench() as at:
        most = at.counts()
        faults = [f"{name}:{nth}:kill" for name in sorted(most) for nth in sorted({1, min(2, most[name]), most[name]})]
        faults += [f"{name}:1:{action}" for name in PLACES for action in OTHER]

        def met(fault: str) -> dict[str, Any]:
            disturbed = at.trial()
            code = disturbed.run(fault)
            kind = fault.split(":")[2]
            late = fault.startswith("child.answered")  # that child had told all
            wrong = ["the fault was not met"] * (kind == "kill" and code not in (-9, 1) and not late)
            missing = set(at.whole) - set(disturbed.picture())
            silent = kind != "exit0" or fault.split(":")[0] in ("train.step", "predictions.written")
            wrong += ["exit 0 although results are missing"] * (code == 0 and bool(missing) and silent)
            return at.outcome(disturbed, code, wrong)

        return told(parts, met, ({"fault": f} for f in faults), f"{len(most)} named places of a run of 4 cells")


def syscalls(parts: Parts) -> Kept:
    """Killed at every system call by which the runner, or one of three children, changes a file of the store."""
    if trial.STRACE is None:
        return NO_STRACE
    with bench() as at:
        cases = [
            {"kind": kind, "nth": nth, "child": child}
            for child in (None, 1, 2, 3)  # of children: one that trains, one that measures, one that only predicts
            for kind, nth in at.trial().calls(child=child)
        ]

        def killed(kind: str, nth: int, child: int | None) -> dict[str, Any]:
            disturbed = at.trial()
            code, _ = disturbed.traced("-e", f"inject={kind}:signal=SIGKILL:when={nth}", child=child)
            wrong = ["nobody was killed"] * (code != (-9 if child is None else 1))
            return at.outcome(disturbed, code, wrong)

        kinds = Counter(case["kind"] for case in cases)
        return told(parts, killed, cases, ", ".join(f"{n} {kind}" for kind, n in kinds.most_common()))


def at_random(parts: Parts, times: int = 200) -> Kept:
    """The runner is killed at a random time."""
    with bench() as at:
        slow = {"BIASBENCH_FAKE_PAUSE": "0.02"}
        undisturbed = at.trial("timed")
        began = time.monotonic()
        undisturbed.run(**slow)
        seconds = time.monotonic() - began

        def killed(number: int) -> dict[str, Any]:
            disturbed = at.trial()
            pid = disturbed.start(**slow)
            time.sleep(float(generator("kill-random", number).uniform(0, seconds)))
            with_it(pid, signal.SIGKILL)
            return at.outcome(disturbed, at.zygote.wait(pid))

        return told(parts, killed, ({"number": n} for n in range(times)), "at random times of a run of 4 cells")


def with_it(pid: int, number: int) -> None:
    """Send a signal to a runner that the zygote has not yet reaped."""
    os.kill(pid, number)


# -- a disk that refuses ---------------------------------------------------------------------------
def refused(parts: Parts) -> Kept:
    """Each call that changes a file of the store fails once, with each error that suits it."""
    if trial.STRACE is None:
        return NO_STRACE
    with bench(1) as at:
        cases = [
            {"error": error, "kind": kind, "nth": nth, "child": child}
            for child in (None, 1)
            for error, kinds in BROKEN_DISK.items()
            for kind, nth in at.trial().calls(kinds, child=child)
        ]

        def failing(error: str, kind: str, nth: int, child: int | None) -> dict[str, Any]:
            disturbed = at.trial()
            code, _ = disturbed.traced("-e", f"inject={kind}:error={error}:when={nth}", child=child)
            text, missing = disturbed.text(), set(at.whole) - set(disturbed.picture())
            wrong = ["exit 0 although results are missing"] * (code == 0 and bool(missing))
            wrong += [f"said: {text.strip()[-200:]}"] * ("Traceback" in text or "This is a bug" in text)
            wrong += ["no word of why"] * (code != 0 and not text.strip())
            return at.outcome(disturbed, code, wrong)

        return told(parts, failing, cases, "each error at each call of a run of 1 cell that suits it")


def full_disk(parts: Parts) -> Kept:
    """A small file system fills up; with room again, the run goes on."""
    with bench() as at:
        if not _mounted(at.folder / "probe", 64):
            return Kept(0, 0, "no file system may be mounted here")
        _unmount(at.folder / "probe")

        def filled(size: int) -> dict[str, Any]:
            disturbed = at.trial("small")
            _mounted(disturbed.folder, size)
            try:
                disturbed.log = at.folder / f"log-{size}"
                disturbed.log.unlink(missing_ok=True)
                code = disturbed.run()
                wrong = ["it did not fill up"] * (code == 0)
                wrong += ["the reason is not told"] * ("the disk is full" not in disturbed.text())
                before = disturbed.picture()
                wrong += [
                    f"harmed: {name}" for name in before if name != "plan.json" and before[name] != at.whole[name]
                ]
                subprocess.run(["mount", "-o", "remount,size=64m", str(disturbed.folder)], check=True)  # noqa: S603,S607
                return at.outcome(disturbed, code, wrong)
            finally:
                _unmount(disturbed.folder)

        return told(parts, filled, ({"size": s} for s in SIZES), f"file systems of {SIZES[0]} to {SIZES[-1]} kB")


def _mounted(folder: Path, size: int) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)]
    return shutil.which("mount") is not None and subprocess.run(command, capture_output=True).returncode == 0  # noqa: S603


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", str(folder)], check=True)  # noqa: S603,S607
