"""A cluster's head that answers no more: the run ends in our words, even where Ray never returns."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOOK = """
import socket, time
from biasbench.errors import BiasBenchError
from biasbench.executors.head import Head

listener = socket.create_server(("127.0.0.1", 0))
with Head(f"127.0.0.1:{listener.getsockname()[1]}", every=0.05, patience=%s, stuck=0.4) as head:
    time.sleep(0.8)
    assert head.check() and head.silent is None
    listener.close()
    while head.check():
        time.sleep(0.01)
    %s
print("not reached")
"""
LOST = """
    try:
        while not head.check():
            time.sleep(0.01)
    except BiasBenchError as error:
        print(error, flush=True)
        raise SystemExit(7)  # whatever else ends the process, at its end stands the error's code
"""
STUCK = "time.sleep(60)"  # as in a call that never returns
BACK = """
    place = listener_address = head.place
    listener = socket.create_server(place)
    while not head.check():
        time.sleep(0.01)
    print(head.silent is None)
    raise SystemExit(0)
"""


@pytest.mark.parametrize(
    ("patience", "then", "code", "out", "err"),
    [
        (0.4, LOST, 1, "the head of the cluster has not answered for 0.4 s. Start the cluster and run the same", ""),
        (0.4, STUCK, 1, "", "biasbench: error[cluster]: 127.0.0.1:"),
        (300, BACK, 0, "True", ""),
    ],
    ids=["noticed", "while Ray never returns", "back in time"],
)
def test_a_head_that_is_gone(patience: float, then: str, code: int, out: str, err: str) -> None:
    run = [sys.executable, "-c", LOOK % (patience, then.strip("\n "))]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    assert "not reached" not in done.stdout
    assert out in done.stdout
    assert bool(err) is (err in done.stderr) if err else done.stderr == ""
