"""Ending early on purpose: a signal asks, what runs ends at its next safe place, and the same command goes on later."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Stopped(Exception):  # noqa: N818  # nothing is wrong
    """A training that was asked to end has written a checkpoint."""


class Requeued(KeyboardInterrupt):
    """SIGUSR1 arrived, as a batch system sends it ahead of a time limit; a run has written its checkpoints."""


class Asked:
    """Notes the first signal that asks to end, in place of what it would have done; a second one acts at once.

    Outside the main thread nothing is noted, and signals do what they did.

    Example:
        >>> with Asked() as asked:
        ...     signal.raise_signal(signal.SIGTERM)
        ...     asked.by == signal.SIGTERM, bool(asked)
        (True, True)
    """

    def __init__(self) -> None:
        self.by: int | None = None
        self._before: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return self.by is not None

    def __enter__(self) -> Self:
        try:
            for number in SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:  # as a shell's background job ignores Ctrl-C
                    self._before[number] = signal.signal(number, self._note)
        except ValueError:  # not the main thread
            self._before = {}
        return self

    def __exit__(self, *exc: object) -> None:
        self.restore()

    def restore(self) -> None:
        """Let signals do again what they did."""
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before = {}

    def obey(self) -> None:
        """Do what the noted signal asks for: nothing if there was none.

        Raises:
            Requeued: After SIGUSR1.
            KeyboardInterrupt: After SIGINT, and after any other for which a handler raises one.
        """
        self.restore()
        if self.by == signal.SIGUSR1:
            raise Requeued
        if self.by is not None:
            signal.raise_signal(self.by)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.by is None:
            self.by = number
        else:
            self.by = number
            self.obey()
