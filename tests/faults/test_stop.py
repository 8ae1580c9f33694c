"""What is asked to end ends soon and well; what does not end by itself is ended."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from biasbench.claims import Claims
from biasbench.executors.limits import Clock, Limits, own_memory
from biasbench.executors.output import CUT, MOST, Output
from biasbench.family import descendants, end
from biasbench.stopping import Asked, Requeued
from biasbench.store import Store

sys.path.insert(0, str(Path(__file__).parent))
try:
    import hostile
    import trial
finally:
    sys.path.remove(str(Path(__file__).parent))

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")


# -- signals ---------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def zygote():
    started = trial.Zygote("hostile")
    yield started
    started.close()


def test_a_signal_leaves_a_checkpoint_and_the_next_run_goes_on_from_it(zygote, tmp_path):
    straight = trial.Trial(zygote, tmp_path / "straight", count=1)
    assert straight.run() == 0
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 75)):
        asked = trial.Trial(zygote, tmp_path / number.name, count=1)
        pid = asked.start(BIASBENCH_FAKE_PAUSE="0.3")
        places = asked.results / "work" / "checkpoints"
        while not list(places.glob("*/[0-9]*")):
            time.sleep(0.005)
        os.kill(pid, number)
        assert zygote.wait(pid, 30) == code
        (latest,) = [max(p.iterdir()) for p in places.iterdir()]
        assert '"done": ' in (latest / "state.json").read_text()
        assert not list((asked.results / "unscored").glob(f"{latest.parent.name}*"))
        assert [left for left in asked.left() if left.startswith("held")] == []
        assert asked.wrong(straight.picture()) == []


def test_the_first_signal_is_noted_and_the_second_obeyed():
    with Asked() as asked:
        signal.raise_signal(signal.SIGUSR1)
        assert asked.by == signal.SIGUSR1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    with Asked() as asked:
        signal.raise_signal(signal.SIGUSR1)
    with pytest.raises(Requeued):
        asked.obey()
    Asked().obey()  # nobody asked


def test_what_was_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Asked() as asked:
            signal.raise_signal(signal.SIGINT)
            assert not asked
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_elsewhere_than_in_the_main_thread_nothing_is_noted():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with Asked():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


# -- misbehaviour ----------------------------------------------------------------------------------
SAID = {
    6.0: {"deaf": "no progress", "orphan": "no progress", "closes": "no progress"},
    15.0: {"segfaults": "SIGSEGV", "exits_zero": "without a result", "babbles": "killed", "system_exit": "SystemExit"},
}
"""What is said of each, by the seconds without progress: who ends by himself has time for it on a busy machine."""


@linux
@pytest.mark.parametrize("stall", SAID)
def test_hostile_cells_end_and_the_sweep_goes_on(zygote, tmp_path, stall):
    numbers = [i for i, b in enumerate(hostile.BEHAVIOURS) if b.__name__ in SAID[stall]]
    last = len(hostile.BEHAVIOURS)
    swept = trial.Trial(zygote, tmp_path / "swept", "run_hostile", only=[*numbers, last], stall=stall)
    started = tmp_path / "started"
    started.touch()
    assert swept.run(seconds=120, BIASBENCH_FAKE_STARTED=str(started)) == 1
    records = {hostile.BEHAVIOURS[number].__name__: hostile.record_of(swept.results, number) for number in numbers}
    assert {name: record["status"] for name, record in records.items()} == dict.fromkeys(SAID[stall], "failed")
    assert {name: r["reason"] for name, r in records.items() if SAID[stall][name] not in r["reason"]} == {}
    assert hostile.record_of(swept.results, last)["status"] == "ok"
    assert [pid for pid in started.read_text().split() if Path(f"/proc/{pid}").exists()] == []


@pytest.mark.parametrize(
    ("limits", "age", "silence", "why"),
    [
        (Limits(), 1e6, 6 * 3600.0, None),
        (Limits(), 1e6, 6 * 3600.1, "no progress for 21600 s"),
        (Limits(seconds=10), 10.1, 0.0, "longer than its limit of 10 s"),
        (Limits(seconds=10, stall=None), 10.0, 1e9, None),
    ],
)
def test_limits(limits, age, silence, why):
    found = limits.broken(age, silence, 0)
    assert found is None if why is None else why in found


@linux
def test_memory_of_a_group_counts_what_it_holds_alone():
    code = "import sys; kept = bytearray(b'x') * 2**27; print('there', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True
    ) as process:
        assert process.stdout.readline() == "there\n"
        assert 2**27 < sum(own_memory(process.pid)) < 2**28
        assert "0.1 GB" in Limits(gigabytes=0.1).broken(0, 0, process.pid)
        assert Limits(gigabytes=0.3).broken(0, 0, process.pid) is None
        process.stdin.close()


def test_a_clock_does_not_count_what_it_slept_through(monkeypatch):
    times = iter([100.0, 101.0, 5000.0, 5002.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    clock = Clock(most=5.0)
    assert [clock.turn() for _ in range(3)] == [1.0, 6.0, 8.0]


def test_output_is_kept_up_to_a_size_and_nothing_makes_no_file(tmp_path):
    quiet, loud = (multiprocessing.Pipe(duplex=False) for _ in range(2))
    output = Output(quiet[0], tmp_path / "quiet.log")
    quiet[1].close()
    output.close()
    assert not (tmp_path / "quiet.log").exists()
    output = Output(loud[0], tmp_path / "loud.log")
    for _ in range(MOST // 2**15 + 10):
        os.write(loud[1].fileno(), b"x" * 2**15)
        assert output.take()
    loud[1].close()
    assert not output.take()
    output.close()
    kept = (tmp_path / "loud.log").read_bytes()
    assert kept == b"x" * MOST + CUT


@linux
def test_who_left_the_group_is_found_below_and_ended():
    with subprocess.Popen(["/bin/sh", "-c", "sleep 1000 & setsid sleep 1000 & wait"], start_new_session=True) as parent:
        while len(descendants(parent.pid)) < 2:
            time.sleep(0.01)
        below = descendants(parent.pid)
        end(parent.pid, [parent.pid, *below])
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() and trial.state(pid) != "Z" for pid in below):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@linux
def test_who_ends_while_looked_at_has_none_below():
    for _ in range(60):
        with subprocess.Popen(["/bin/true"]) as child:
            while Path(f"/proc/{child.pid}").exists():
                assert descendants(child.pid) == []
                child.poll()
        assert descendants(child.pid) == []  # nor when it is gone


# -- claims ----------------------------------------------------------------------------------------
def test_a_claim_is_of_all_keys_or_none_and_of_one_runner(tmp_path):
    store = Store(tmp_path / "results", create=True)
    one, other = Claims(store), Claims(store)
    assert one.take("a", ["x", "y"])
    assert not other.take("b", ["z", "y"])
    assert other.take("c", ["z"])  # what could be had of b was given back
    one.release_all()
    assert other.take("b", ["y"])
    assert one.take("nothing", [])


def test_a_claim_ends_with_its_runner(tmp_path):
    store = Store(tmp_path / "results", create=True)
    code = (
        "import sys; from pathlib import Path; from biasbench.claims import Claims; from biasbench.store import Store\n"
        "claims = Claims(Store(Path(sys.argv[1]))); print(claims.take('a', ['x']), flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(store.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout.readline() == "True\n"
        assert not Claims(store).take("a", ["x"])
        runner.kill()
        runner.stdin.close()
        runner.wait()
        assert Claims(store).take("a", ["x"])
