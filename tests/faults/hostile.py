"""Cells that misbehave while they train, and what they are called."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from fake_cells import Fake, FakeExecutor, Work, cells, close_others, run_cells

from biasbench.child import main

STARTED = "BIASBENCH_FAKE_STARTED"  # a file in which they note what they started


def note_pid(pid):
    with open(os.environ[STARTED], "a") as file:
        file.write(f"{pid}\n")


def spin():
    while True:
        pass


def sleep():
    time.sleep(1e6)


def deaf():
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sleep()


def deadlock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def threads():
    for _ in range(1000):
        threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()
    sleep()


def prints():
    line = "x" * 999 + "\n"
    for _ in range(1_000_000):
        sys.stdout.write(line)


def leaks():
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1)) * 2**24)


def segfaults():
    ctypes.string_at(0)


def exits_zero():
    os._exit(0)


def system_exit():
    sys.exit(0)


def interrupt():
    raise KeyboardInterrupt


def recursion():
    def deeper():
        return deeper() + 1

    deeper()


def forks():
    for _ in range(30):
        pid = os.fork()
        if not pid:
            time.sleep(1e6)
        note_pid(pid)
    sleep()


def orphan():
    """A grandchild whose parent is gone, in a session of its own; then a crash."""
    if not os.fork():
        os.setsid()
        if not os.fork():
            note_pid(os.getpid())
            time.sleep(1e6)
        os._exit(0)
    time.sleep(0.5)
    sleep()


def popen():
    note_pid(subprocess.Popen(["/bin/sleep", "1000000"], start_new_session=True).pid)
    raise ValueError("and then a crash")


def kills_its_group():
    os.killpg(0, signal.SIGKILL)


def stops():
    os.kill(os.getpid(), signal.SIGSTOP)


def closes():
    os.closerange(3, 64)
    sleep()


def babbles():
    for fd in range(3, 32):
        try:
            os.write(fd, b"\x00\x00\x00\x05hello")
        except OSError:
            continue
    sleep()


def chdir():
    """Harmless to others only because it has a process of its own."""
    os.chdir("/")
    os.environ.clear()
    os.umask(0o777)
    sys.path.clear()


BEHAVIOURS = (
    spin, sleep, deaf, deadlock, threads, prints, leaks, segfaults, exits_zero, system_exit, interrupt, recursion,
    forks, orphan, popen, kills_its_group, stops, closes, babbles, chdir,
)  # fmt: skip
HARMLESS = {"prints", "chdir"}
"""They waste, and get their score."""


class HostileWork(Work):
    def train(self, store, stop):
        number = int(self.job.training_method.partition("=")[2].rstrip(")"))
        if number < len(BEHAVIOURS):
            BEHAVIOURS[number]()
        return super().train(store, stop)


class Hostile(Fake):
    def cell(self, job, send):
        return HostileWork(job, send)


def target(path, connection, output):
    close_others(connection, output)
    main(path, connection, output, Hostile())


class HostileExecutor(FakeExecutor):
    def __init__(self, folder, *, limits=None):
        super().__init__(folder, limits=limits, target=target)


def run_hostile(results, only=None, stall=2.0, gigabytes=1.0, jobs=2, **_):
    """Two cells of each behaviour, or of some; the number after the last behaves."""
    from biasbench.executors.limits import Limits

    numbers = range(len(BEHAVIOURS) + 1) if only is None else only
    return run_cells(results, 0, jobs, Limits(20.0, stall, gigabytes), HostileExecutor, numbers)


def record_of(results, number):
    """What the store says of a behaviour's cell."""
    from biasbench.store import Store

    key = cells(results, 0, [number])[0].key
    return next(r for r in Store(Path(results)).records() if r["key"] == key)
