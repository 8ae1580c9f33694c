"""Progress of a run: bars on a terminal, a few lines in a log, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from biasbench.cli.estimates import span
from biasbench.errors import printable

if TYPE_CHECKING:
    from rich.progress import TaskID

    from biasbench.costs.left import TimeLeft

Event = Mapping[str, Any]
FINAL = ("done", "cached", "failed", "n/a")
WORDS = {"done": "ok", "cached": "from earlier runs", "failed": "failed", "n/a": "n/a"}
SPARSE = 30.0  # seconds between two lines about one cell's epochs in a log


class View(Protocol):
    """How events are shown."""

    def show(self, event: Event, finished: int, cells: int, left: float | None) -> None:
        """React to one event, after the counts were brought up to date; `left` is in seconds, None if not known."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class RunProgress:
    """Takes the runner's events, shows them, and keeps what the summary needs.

    Events (dicts): `plan` (cells), `cell` (key, label, state: start, done, failed, cached or
    n/a, reason), `epoch` (key, stage, epoch, epochs, loss, val_f1), `job` (name, state), `lost` (label, reason).
    Unknown events and fields are passed over, so that the runner may say more.

    Args:
        view: How to show them; None shows nothing.
        left: Works out the time left; None where this machine's costs are not known.

    Example:
        >>> progress = RunProgress(None)
        >>> progress({"event": "plan", "cells": 2})
        >>> progress({"event": "cell", "key": "k1", "label": "a", "state": "done"})
        >>> progress({"event": "cell", "key": "k2", "label": "b", "state": "failed", "reason": "NaN"})
        >>> progress.summary()
        '1 ok · 1 failed'
    """

    def __init__(self, view: View | None, left: TimeLeft | None = None) -> None:
        self.view, self.left, self.planned = view, left, 0
        self.cells: dict[str, dict[str, Any]] = {}

    @classmethod
    def choose(cls, *, quiet: bool, left: TimeLeft | None = None) -> RunProgress:
        """Bars if standard error is a terminal, else lines; nothing if `quiet`."""
        if quiet:
            return cls(None)
        return cls(Bars() if sys.stderr.isatty() else Lines(), left)

    def __call__(self, event: Event) -> None:
        if event.get("event") == "plan":
            self.planned = int(event["cells"])
        if event.get("event") == "cell":
            fields = {k: event.get(k) for k in ("key", "label", "state", "reason")}
            self.cells[str(event["key"])] = fields
        if self.left is not None:
            self.left.see(event)
        if self.view is not None:
            self.view.show(event, self.finished, self.planned, None if self.left is None else self.left.seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.view is not None:
            self.view.close()

    @property
    def finished(self) -> int:
        """Cells that need no more work."""
        return sum(c["state"] in FINAL for c in self.cells.values())

    def counts(self) -> dict[str, int]:
        """Cells by final state; `unfinished` are those that were planned and did not end."""
        counts = {state: sum(c["state"] == state for c in self.cells.values()) for state in FINAL}
        return {**counts, "unfinished": max(0, self.planned - self.finished)}

    def summary(self) -> str:
        """The last line of a run; states that did not occur are left out."""
        counts = self.counts()
        parts = [f"{counts[state]} {word}" for state, word in {**WORDS, "unfinished": "unfinished"}.items()]
        return " · ".join(p for p in parts if not p.startswith("0 ")) or "no cells"

    def document(self) -> dict[str, Any]:
        """For `--json`: counts, and each cell with key, label, state and reason."""
        return {"counts": self.counts(), "cells": list(self.cells.values())}


def _scores(event: Event) -> str:
    """Loss and validation F1 of an epoch, as far as the event tells them."""
    loss, f1 = event.get("loss"), event.get("val_f1")
    parts = [f"loss {loss:.4f}" if isinstance(loss, float) else "", f"F1 {100 * f1:.1f}" if f1 is not None else ""]
    return ", ".join(p for p in parts if p)


def _why(event: Event) -> str:
    """The reason, without the state that stands beside it anyway."""
    return str(event.get("reason") or "").removeprefix(f"{event['state']}: ")


def _is_cell(event: Event) -> bool:
    """Whether a job is a cell's own, whose start and end `cell` events tell already."""
    return str(event["name"]).startswith("cell ")


def _loss(event: Event) -> str:
    return f"lost {event['label']} ({event['reason']}); it starts again"


class Lines:
    """A few plain lines on standard error, for logs and pipes.

    Args:
        clock: Seconds; for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.labels: dict[str, str] = {}
        self.began: dict[str, float] = {}
        self.said: dict[str, float] = {}

    def show(self, event: Event, finished: int, cells: int, left: float | None) -> None:
        kind = event.get("event")
        rest = "" if left is None else f", about {span(left)} left"
        if kind == "plan":
            self._say(f"{cells} cells planned{rest}")
        elif kind == "cell":
            self._cell(event, f"[{finished}/{cells}]", rest if event["state"] == "done" and finished < cells else "")
        elif kind == "epoch":
            scores = _scores(event)
            at = f"stage {event.get('stage', 0)} epoch {event.get('epoch')}/{event.get('epochs')}"
            self._now_and_then(event, f"{at}{f', {scores}' if scores else ''}")
        elif kind == "progress":
            self._now_and_then(event, f"{event['name']} {event['done']}/{event['total']}")
        elif kind == "lost":
            self._say(_loss(event))
        elif kind == "job" and event["state"] != "done" and not _is_cell(event):
            self._say(f"{event['state']} {event['name']}")

    def _cell(self, event: Event, where: str, rest: str) -> None:
        key, state = str(event["key"]), str(event["state"])
        self.labels[key] = str(event.get("label") or key)
        now = self.clock()
        if state == "start":
            self.began[key] = self.said[key] = now
        took = f" ({now - self.began[key]:.0f} s)" if state in ("done", "failed") and key in self.began else ""
        reason = f": {_why(event)}" if event.get("reason") else ""
        self._say(f"{where} {state} {self.labels[key]}{took}{rest}{reason}")

    def _now_and_then(self, event: Event, text: str) -> None:
        key, now = str(event.get("key", "")), self.clock()
        if now - self.said.setdefault(key, now) >= SPARSE:
            self.said[key] = now
            self._say(f"{self.labels.get(key) or event.get('label') or key}: {text}")

    def _say(self, text: str) -> None:
        sys.stderr.write(printable(text, limit=2000) + "\n")
        sys.stderr.flush()

    def close(self) -> None:
        """Nothing to undo."""


class Bars:
    """rich bars on standard error: the plan, and each running cell's epochs, with time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
        from rich.text import Text

        class Left(TimeRemainingColumn):
            """The plan's time left by what its cells cost, not by their number."""

            def render(self, task: Task) -> Text:
                left = task.fields.get("left")
                return super().render(task) if left is None else Text(span(left), style="progress.remaining")

        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            Left(),
            TextColumn("{task.fields[note]}", markup=False, style="dim"),
            console=Console(stderr=True, highlight=False),
            speed_estimate_period=7 * 24 * 3600,  # a cell may take hours: forget no sample
        )
        self.plan: TaskID = self.bars.add_task("cells", total=None, note="")
        self.tasks: dict[str, TaskID] = {}
        self.labels: dict[str, str] = {}
        self.bars.start()

    def show(self, event: Event, finished: int, cells: int, left: float | None) -> None:
        kind = event.get("event")
        self.bars.update(self.plan, left=left)
        if kind == "plan":
            self.bars.update(self.plan, total=cells)
        elif kind == "cell":
            self._cell(event)
            self.bars.update(self.plan, total=cells, completed=finished)
        elif kind == "epoch":
            note = f"stage {event.get('stage', 0)}  {_scores(event)}"
            self.bars.update(self._task(event), total=event.get("epochs"), completed=event.get("epoch"), note=note)
        elif kind == "progress":
            note = printable(event["name"])
            self.bars.update(self._task(event), total=event["total"], completed=event["done"], note=note)
        elif kind == "lost":
            from rich.text import Text

            self.bars.console.print(Text(printable(_loss(event), 2000)))
        elif kind == "job":
            running = "" if _is_cell(event) or event["state"] == "done" else f"{event['state']} {event['name']}"
            self.bars.update(self.plan, note=printable(running))

    def _cell(self, event: Event) -> None:
        key, state = str(event["key"]), str(event["state"])
        self.labels[key] = printable(event.get("label") or key)
        if state == "start":
            self._task(event)
            return
        if key in self.tasks:
            self.bars.remove_task(self.tasks.pop(key))
        if state in ("failed", "n/a"):
            from rich.text import Text

            self.bars.console.print(Text(printable(f"{state}  {self.labels[key]}: {_why(event)}", 2000)))

    def _task(self, event: Event) -> TaskID:
        key = str(event.get("key", ""))
        if key not in self.tasks:
            label = self.labels.get(key) or printable(event.get("label") or key)
            self.tasks[key] = self.bars.add_task(label, total=None, note="")
        return self.tasks[key]

    def close(self) -> None:
        for task in self.tasks.values():
            self.bars.remove_task(task)
        self.tasks.clear()
        self.bars.stop()


class Counter:
    """One bar for a job that reports (done, total); in a log, a line now and then.

    `with Counter("scenes") as progress: dataset.prepare(progress)`
    """

    def __init__(self, label: str, *, quiet: bool = False) -> None:
        self.label, self.quiet = printable(label), quiet
        self.bars: Any = None
        self.said = time.monotonic()

    def __enter__(self) -> Callable[[int, int], None]:
        if sys.stderr.isatty() and not self.quiet:
            from rich.console import Console
            from rich.markup import escape
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bars = Progress(*columns, console=Console(stderr=True), transient=True)
            self.bars.start()
            self.task = self.bars.add_task(escape(self.label), total=None)
        return self._update

    def _update(self, done: int, total: int) -> None:
        if self.bars is not None:
            self.bars.update(self.task, completed=done, total=total or None)
        elif not self.quiet and time.monotonic() - self.said >= SPARSE:
            self.said = time.monotonic()
            sys.stderr.write(f"{self.label}: {done}/{total or '?'}\n")
            sys.stderr.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bars is not None:
            self.bars.stop()


class Transfers:
    """A bar for each file that is fetched or unpacked; silent without a terminal."""

    def __init__(self) -> None:
        self.bars: Any = None
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Callable[[str, int, int], None]:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

            name = TextColumn("{task.description}", markup=False)
            self.bars = Progress(
                name, BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=Console(stderr=True)
            )
            self.bars.start()
        return self._update

    def _update(self, name: str, done: int, total: int) -> None:
        if self.bars is not None:
            if name not in self.tasks:
                self.tasks[name] = self.bars.add_task(printable(name), total=None)
            self.bars.update(self.tasks[name], completed=done, total=total or None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bars is not None:
            self.bars.stop()
