"""Whether the head of a cluster is still there.

A process that has joined a cluster cannot do without its head: after a minute Ray ends it from within, in its own
words. We notice before that, and end in ours.
"""

from __future__ import annotations

import atexit
import os
import socket
import sys
import threading
import time
from typing import Self

from biasbench.errors import ClusterError, printable

EVERY = 2.0
"""Seconds between two looks, and that an answer may take."""
PATIENCE = 20.0
"""Seconds without an answer after which the head is gone; Ray's own are 60."""
STUCK = 15.0
"""Seconds more that the main thread has to end the run: a call of Ray's may never return."""
AGAIN = "Start the cluster and run the same command again: it goes on, nothing finished is lost"


class Head:
    """Looks after the head in a thread of its own.

    Args:
        address: HOST:PORT that it listens at.
        every: Seconds between two looks.
        patience: Seconds without an answer after which it is gone.
        stuck: Seconds more until the process is ended from the thread.

    Attributes:
        silent: Since when it has not answered; None while it does. No call to the cluster should be made meanwhile.
    """

    def __init__(self, address: str, every: float = EVERY, patience: float = PATIENCE, stuck: float = STUCK) -> None:
        host, _, port = address.rpartition(":")
        self.address, self.place = address, (host.strip("[]"), int(port))
        self.every, self.patience, self.stuck = every, patience, stuck
        self.silent: float | None = None
        self._over = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()

    def check(self) -> bool:
        """Whether it answered when it was last looked at.

        Raises:
            ClusterError: When it has not for so long that it is gone. This process then ends without what Ray does at
                the end of one, which would wait for the head.
        """
        silent = self.silent
        if silent is not None and time.monotonic() - silent > self.patience:
            self._over.set()
            atexit.register(_leave, ClusterError.exit_code)
            raise self._gone()
        return silent is None

    def _gone(self) -> ClusterError:
        return ClusterError(
            f"the head of the cluster has not answered for {self.patience:g} s",
            where=printable(self.address),
            fix=AGAIN,
        )

    def _watch(self) -> None:
        while not self._over.wait(self.every):
            now = time.monotonic()
            try:
                socket.create_connection(self.place, timeout=self.every).close()
                self.silent = None
            except OSError:
                self.silent = self.silent or now
                if time.monotonic() - self.silent > self.patience + self.stuck:
                    sys.stderr.write(f"biasbench: error[{ClusterError.code}]: {self._gone()}\n")
                    _leave(ClusterError.exit_code)


def _leave(code: int) -> None:
    """End this process at once, with what it has said."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
