"""Promises on whole sweeps: signals, several runners, hostile plugins, thousands of cells."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from kill import CODE, FAKES, Bench, bench, told
from promises import HERE, SRC, Kept, Parts, Promise

from biasbench import generator
from biasbench.errors import EXIT_INTERRUPTED, EXIT_REQUEUE, EXIT_TERMINATED

sys.path.insert(0, str(FAKES))
try:
    import hostile
    import trial
finally:
    sys.path.remove(str(FAKES))

EXIT = {"SIGTERM": EXIT_TERMINATED, "SIGINT": EXIT_INTERRUPTED, "SIGUSR1": EXIT_REQUEUE}
SLOW = {"BIASBENCH_FAKE_PAUSE": "0.02"}
GRACE = 30.0
"""Seconds within which a runner has to end after a signal."""
DAY = 86_400.0


def promises() -> list[Promise]:
    """All of this file."""
    code = (*CODE, SRC / "family.py", HERE / "sweeps.py")
    every = {"signals": signals, "runners": runners, "hostile-plugins": hostile_plugins, "soak": soak}
    return [Promise(name, check, code) for name, check in every.items()]


# -- signals ---------------------------------------------------------------------------------------
def signals(parts: Parts, times: int = 50) -> Kept:
    """SIGTERM, SIGINT and SIGUSR1 at random times: the right exit code, soon; the next run completes it."""
    with bench() as at:
        began = time.monotonic()
        at.trial("timed").run(**SLOW)
        seconds = time.monotonic() - began

        def signalled(name: str, number: int) -> dict[str, Any]:
            disturbed = at.trial()
            pid = disturbed.start(**SLOW)
            while not (disturbed.results / "plan.json").exists():  # before that, nothing has begun
                time.sleep(0.002)
            time.sleep(float(generator("signals", name, number).uniform(0, 0.8 * seconds)))
            try:
                os.kill(pid, signal.Signals[name])
            except ProcessLookupError:
                return at.outcome(disturbed, at.zygote.wait(pid))
            sent = time.monotonic()
            code = at.zygote.wait(pid)
            wrong = [f"it took {time.monotonic() - sent:.0f} s"] * (time.monotonic() - sent > GRACE)
            whole = all(disturbed.picture().get(file) == digest for file, digest in at.whole.items())
            wrong += [f"ended with {code}"] * (code != EXIT[name] and not (code == 0 and whole))
            wrong += [f"held: {left}" for left in disturbed.left() if left.startswith("held")]
            return at.outcome(disturbed, code, wrong)

        cases = [{"name": name, "number": k} for name in EXIT for k in range(times)]
        return told(parts, signalled, cases, f"{times} random times each")


# -- several runners -------------------------------------------------------------------------------
CELLS = 50


def runners(parts: Parts, rounds: int = 3) -> Kept:
    """2, 4 and 8 runners on one folder; one of them killed, stopped for a while, or with a clock a day ahead."""
    with bench(CELLS) as at:

        def shared(runners: int, what: str, number: int) -> dict[str, Any]:
            together = at.trial()
            count = at.folder / "count"
            count.unlink(missing_ok=True)
            env = {"BIASBENCH_FAKE_COUNT": str(count), "BIASBENCH_FAKE_PAUSE": "0.002"}
            off = {"BIASBENCH_FAKE_CLOCK": str(DAY)} if what == "clock" else {}
            pids = [together.start(**env, **off), *(together.start(**env) for _ in range(runners - 1))]
            if what in ("killed", "stopped"):
                time.sleep(float(generator("runners", runners, what, number).uniform(0.2, 0.5 * at.seconds)))
                _disturb(pids[0], what)
            codes = [at.zygote.wait(pid, 600) for pid in pids]
            wrong = [f"exit codes {codes}"] * (
                any(codes[1:]) or codes[0] not in ((0, -9) if what == "killed" else (0,))
            )
            done = Counter(count.read_text().splitlines())
            most = 1.02 * len(done)
            wrong += [f"computed {done.total()} times for {len(done)}"] * (done.total() > most)
            wrong += ["lost"] * (len(done) != CELLS // 2 + 2 * CELLS)
            return at.outcome(together, codes[0], wrong)

        cases = [
            {"runners": n, "what": what, "number": k}
            for n in (2, 4, 8)
            for what in ("undisturbed", "killed", "stopped", "clock")
            for k in range(rounds)
        ]
        return told(parts, shared, cases, f"{CELLS} cells, {rounds} rounds of each kind")


def _disturb(pid: int, what: str) -> None:
    try:
        os.kill(pid, signal.SIGKILL if what == "killed" else signal.SIGSTOP)
        if what == "stopped":
            time.sleep(3)
            os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return  # it had finished


# -- plugins ---------------------------------------------------------------------------------------
def hostile_plugins(parts: Parts) -> Kept:
    """Each behaviour fails its own cells within the limits, leaves no process, and the sweep goes on."""

    def sweep() -> dict[str, Any]:
        zygote = trial.Zygote("hostile")
        with bench() as at:
            started = at.folder / "started"
            swept = trial.Trial(zygote, at.folder / "swept", "run_hostile")
            try:
                code = swept.run(seconds=500, BIASBENCH_FAKE_STARTED=str(started))
            finally:
                zygote.close()
            alive = [pid for pid in started.read_text().split() if Path(f"/proc/{pid}").exists()]
            found = [hostile.record_of(swept.results, k) for k in range(len(hostile.BEHAVIOURS) + 1)]
            big = [p.name for p in (swept.results / "work" / "jobs").glob("*.log") if p.stat().st_size > 11 * 2**20]
            return {"code": code, "alive": alive, "big": big, "found": [[r["status"], r["reason"]] for r in found]}

    part = parts(sweep)
    *found, last = part["found"]
    text, ok = [], 0
    for behaviour, (status, reason) in zip(hostile.BEHAVIOURS, found, strict=True):
        ok += status == "failed" or (status == "ok" and behaviour.__name__ in hostile.HARMLESS)
        text.append(f"{behaviour.__name__}: {status}{f', {reason}' if reason else ''}")
    rest = {"the cell after them": last[0] == "ok", "processes left": not part["alive"], "exit code": part["code"] == 1,
            "logs of at most 10 MB": not part["big"]}  # fmt: skip
    return Kept(ok + sum(rest.values()), len(found) + len(rest), "\n".join([*text, str(rest)]))


# -- thousands of cells ----------------------------------------------------------------------------
def soak(parts: Parts, cells: int = 10_000) -> Kept:
    """Cell 10,000 costs what cell 10 cost: files open, memory and time of the runner."""

    def long() -> dict[str, Any]:
        with bench(2) as at:
            return watched(at, cells)

    found = parts(long)
    first, last = (np.array(found["seconds"][k]) for k in ("first", "last"))
    slope = found["rss_slope"]
    tests = {
        f"exit code {found['code']}": found["code"] == 0,
        f"open files {found['files'][0]} to {found['files'][1]}": found["files"][1] - found["files"][0] <= 4,
        f"memory grows {slope:.2f} kB a cell": slope < 1.0,
        f"s a cell {first:.3f} in the first tenth, {last:.3f} in the last": last <= 1.2 * first,
    }
    return Kept(sum(tests.values()), len(tests), "\n".join(tests))


def watched(at: Bench, cells: int) -> dict[str, Any]:
    """One long run, looked at every second: [cells done, files open, kB of its own] and when."""
    swept = at.trial("swept", count=cells)
    count = at.folder / "count"
    pid = swept.start(BIASBENCH_FAKE_COUNT=str(count))
    rows = []
    while (code := at.zygote.wait(pid, 1.0, kill=False)) is None:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        except OSError:
            continue
        rss = int(status.partition("RssAnon:")[2].split()[0])
        done = count.read_bytes().count(b"measure") if count.exists() else 0
        rows.append((time.monotonic(), done, files, rss))
    when, done, files, rss = np.array(rows).T
    tenth = cells // 10

    def pace(low: int, high: int) -> float:
        return float(np.interp(high, done, when) - np.interp(low, done, when)) / (high - low)

    late = done >= tenth
    return {
        "code": code,
        "files": [int(np.median(files[: len(files) // 10 or 1])), int(np.median(files[-(len(files) // 10 or 1) :]))],
        "rss_slope": float(np.polyfit(done[late], rss[late], 1)[0]),
        "seconds": {"first": pace(10, tenth), "last": pace(cells - tenth, cells - 10)},
    }
