"""Runs that are disturbed, and what they leave, seen with nothing of the store's own."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
VOLATILE = ("seconds", "sha256", "seal", "engine")  # of a manifest: how long, where, and hashes of the manifest itself
STRACE = shutil.which("strace")
PERSISTENT = (
    "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2", "unlink", "unlinkat", "ftruncate",
    "mkdir", "mkdirat", "rmdir", "link", "linkat",
)  # fmt: skip


class Zygote:
    """Starts runners; see `zygote.py`."""

    def __init__(self, module="fake_cells"):
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "zygote.py"), module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=env,
        )  # fmt: skip

    def _ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, call, given, env=None, log=os.devnull, *, stopped=False):
        return self._ask(do="start", call=call, env=env or {}, log=str(log), stop=stopped, **{"with": given})

    def wait(self, pid, seconds=600.0, *, kill=True):
        """The exit code; None after the seconds if it shall not be killed then.

        Raises:
            TimeoutError: After the seconds; the process is killed.
        """
        code = self._ask(do="wait", pid=pid, seconds=seconds)
        if code is None and kill:
            os.killpg(pid, signal.SIGKILL)
            self._ask(do="wait", pid=pid, seconds=5)
            raise TimeoutError(f"still there after {seconds} s")
        return code

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class Trial:
    """One results folder and the runs on it."""

    def __init__(self, zygote, folder, call="run_cells", **given):
        self.zygote, self.folder, self.call = zygote, folder, call
        folder.mkdir(parents=True, exist_ok=True)
        self.results, self.log = folder / "results", folder / "log.txt"
        self.given = {"results": str(self.results), **given}

    def start(self, fault=None, *, stopped=False, **env):
        if fault is not None:
            env["BIASBENCH_FAULT"] = fault
        return self.zygote.start(self.call, self.given, env, self.log, stopped=stopped)

    def run(self, fault=None, seconds=600.0, **env):
        """The exit code of a run to its end, or until the fault."""
        return self.zygote.wait(self.start(fault, **env), seconds)

    def traced(self, *options, child=None, seconds=600.0, **env):
        """A run with strace's options on the runner, or on its nth child: its exit code, and what strace wrote."""
        if child is None:
            runner = pid = self.start(stopped=True, **env)
        else:
            runner = self.start(BIASBENCH_FAKE_HOLD=str(child), **env)
        while child is not None and not (pid := _stopped_child(runner)):
            time.sleep(0.002)
        while state(pid) != "T":
            time.sleep(0.002)
        trace = self.folder / "strace.txt"
        command = [STRACE, "-y", "-o", str(trace), *options, "-p", str(pid)]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while "attached" not in (line := tracer.stderr.readline()):
            assert line, "strace ended"
        os.kill(pid, signal.SIGCONT)
        code = self.zygote.wait(runner, seconds)
        try:
            tracer.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.communicate()
        tracer.stderr.close()
        return code, trace.read_text(errors="replace")

    def calls(self, kinds=PERSISTENT, child=None):
        """Which calls of an undisturbed run change files of the store: [kind, the how manieth of its kind]."""
        code, trace = self.traced("-e", f"trace={','.join(kinds)}", child=child)
        assert code == 0, self.text()
        counts, found = Counter(), []
        for kind, rest in re.findall(r"^(\w+)\((.*)", trace, re.MULTILINE):
            counts[kind] += 1
            if str(self.results) in rest and (kind != "openat" or "O_CREAT" in rest):
                found.append((kind, counts[kind]))
        return found

    def clean(self):
        """What `biasbench gc` does."""
        return self.zygote.wait(self.zygote.start("clear_away", {"results": str(self.results)}, {}, self.log))

    def wrong(self, expected):
        """What a rerun does not put right: lines, none where the store is what an undisturbed run makes."""
        code = self.run()
        found = [] if code == 0 else [f"the rerun ended with {code}: {self.text()[-300:]}"]
        now = self.picture()
        found += [
            f"differs: {name}" for name in sorted(set(expected) | set(now)) if expected.get(name) != now.get(name)
        ]
        self.clean()
        return found + [f"left: {name}" for name in self.left()]

    def picture(self):
        return picture(self.results)

    def left(self):
        return left(self.results)

    def text(self):
        return self.log.read_text() if self.log.exists() else ""


def _stopped_child(runner):
    found = Path(f"/proc/{runner}/task/{runner}/children").read_text().split()
    return next((int(pid) for pid in found if state(pid) == "T"), None)


def state(pid):
    """A process's state, as /proc tells it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def picture(results):
    """Hashes of every file that is a result; a manifest's without what differs from run to run."""
    found = {}
    for part in ("runs", "trainings", "unscored", "plan.json", "store.json"):
        place = results / part
        for file in sorted(place.rglob("*")) if place.is_dir() else [place] * place.exists():
            if file.is_file() and not file.name.startswith(".aside-"):  # `left` looks for these
                content = file.read_bytes()
                if file.name == "manifest.json":
                    known = {k: v for k, v in json.loads(content).items() if k not in VOLATILE}
                    content = json.dumps(known, sort_keys=True).encode()
                found[file.relative_to(results).as_posix()] = hashlib.sha256(content).hexdigest()
    return found


def left(results):
    """What a killed run may leave and a clean folder does not have: files aside, checkpoints, inputs, claims held."""
    work = results / "work"
    found = [p.relative_to(results).as_posix() for p in results.rglob("*") if p.name.startswith(".aside-")]
    for part in ("aside", "checkpoints", "jobs"):
        place = work / part
        found += [p.relative_to(results).as_posix() for p in place.iterdir()] if place.is_dir() else []
    for lock in (work / "claims").glob("*") if (work / "claims").is_dir() else []:
        with open(lock, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                found.append(f"held: {lock.name}")
    return found
