from __future__ import annotations

import io
import sys

import pytest

from biasbench.cli import progress
from biasbench.cli.progress import Bars, Counter, Lines, RunProgress

EVENTS = [
    {"event": "plan", "cells": 5},
    {"event": "cell", "key": "k1", "label": "scenes/original/seed=1", "state": "cached"},
    {"event": "cell", "key": "k2", "label": "scenes/blackout", "state": "n/a", "reason": "n/a: needs masks:person"},
    {"event": "job", "name": "images abc", "state": "start"},
    {"event": "job", "name": "images abc", "state": "done"},
    {"event": "job", "name": "cell scenes/adv", "state": "start"},
    {"event": "cell", "key": "k3", "label": "scenes/adv[red]\x1b[2J", "state": "start"},
    {"event": "progress", "key": "k3", "name": "features train", "done": 5, "total": 10},
    {"event": "epoch", "key": "k3", "stage": 0, "epoch": 1, "epochs": 4, "loss": 0.5, "val_f1": 0.25},
    {"event": "epoch", "key": "k3", "stage": 0, "epoch": 2, "epochs": 4, "loss": 0.25, "val_f1": 0.5},
    {"event": "epoch", "key": "elsewhere", "label": "train x", "epoch": 1, "epochs": 4},
    {"event": "something new", "field": 1},
    {"event": "cell", "key": "k3", "label": "scenes/adv[red]\x1b[2J", "state": "done"},
    {"event": "cell", "key": "k4", "label": "scenes/crf", "state": "start"},
    {"event": "cell", "key": "k4", "label": "scenes/crf", "state": "failed", "reason": "NaN at epoch 3"},
]


def test_counts_and_summary():
    shown = RunProgress(None)
    for event in EVENTS:
        shown(event)
    assert shown.counts() == {"done": 1, "cached": 1, "failed": 1, "n/a": 1, "unfinished": 1}
    assert shown.summary() == "1 ok · 1 from earlier runs · 1 failed · 1 n/a · 1 unfinished"
    assert [c["state"] for c in shown.document()["cells"]] == ["cached", "n/a", "done", "failed"]
    assert shown.document()["cells"][3]["reason"] == "NaN at epoch 3"
    assert RunProgress(None).summary() == "no cells"


def test_a_log_gets_few_plain_lines(capsys):
    now = iter(range(0, 1000, 20))
    with RunProgress(Lines(clock=lambda: next(now))) as shown:
        for event in EVENTS:
            shown(event)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "5 cells planned",
        "[1/5] cached scenes/original/seed=1",
        "[2/5] n/a scenes/blackout: needs masks:person",
        "start images abc",
        "[2/5] start scenes/adv[red]\\x1b[2J",
        # 20 s after the start: too soon; 40 s after: said; the next one 20 s later: too soon
        "scenes/adv[red]\\x1b[2J: stage 0 epoch 1/4, loss 0.5000, F1 25.0",
        "[3/5] done scenes/adv[red]\\x1b[2J (100 s)",
        "[3/5] start scenes/crf",
        "[4/5] failed scenes/crf (20 s): NaN at epoch 3",
    ]


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Left:
    """Half a minute less at every event."""

    def __init__(self):
        self.seen = 0

    def see(self, event):
        self.seen += 1

    @property
    def seconds(self):
        return 600.0 - 30 * self.seen


def test_time_left_stands_in_the_log(capsys):
    with RunProgress(Lines(clock=lambda: 0.0), Left()) as shown:
        for event in EVENTS:
            shown(event)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "5 cells planned, about 10 min left"
    assert "[3/5] done scenes/adv[red]\\x1b[2J (0 s), about 4 min left" in lines  # after the thirteenth event
    assert not any("left" in line for line in lines if "failed" in line or "start" in line)


def test_time_left_stands_beside_the_plan_s_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with RunProgress(Bars(), Left()) as shown:
        for event in EVENTS[:4]:
            shown(event)
        assert shown.view.bars.tasks[0].fields["left"] == 480
        shown.view.bars.refresh()
    assert "8 min" in stream.getvalue()


def test_bars_take_every_event_and_leave_nothing_running(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    with RunProgress(Bars()) as shown:
        for event in EVENTS:
            shown(event)
        bars = shown.view.bars
        assert bars.tasks[0].completed == 4
        assert bars.tasks[0].total == 5
        assert [t.description for t in bars.tasks] == ["cells", "train x"]
    assert not bars.live.is_started
    err = capsys.readouterr().err
    assert "failed  scenes/crf: NaN at epoch 3" in err
    assert "n/a  scenes/blackout: needs masks:person" in err
    assert "\x1b[2J" not in err


@pytest.mark.parametrize("no_color", [True, False])
def test_colour_is_a_wish_of_the_terminal(monkeypatch, no_color):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with RunProgress.choose(quiet=False) as shown:
        assert isinstance(shown.view, Bars)
        for event in EVENTS[:8]:
            shown(event)
    coloured = any(f"\x1b[{code}" in stream.getvalue() for code in ("3", "9", "38"))
    assert coloured is not no_color


def test_what_is_chosen(monkeypatch, capsys):
    assert RunProgress.choose(quiet=True).view is None
    assert isinstance(RunProgress.choose(quiet=False).view, Lines)
    assert progress.SPARSE == 30


def test_counters_are_silent_without_a_terminal(capsys, monkeypatch):
    with Counter("scenes") as report:
        report(1, 2)
    assert capsys.readouterr() == ("", "")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with Counter("[red]scenes") as report:
        report(1, 2)
        report(2, 0)
    assert "[red]scenes" in stream.getvalue()
    stream.truncate(0)
    with Counter("scenes", quiet=True) as report:
        report(1, 2)
    assert stream.getvalue() == ""
