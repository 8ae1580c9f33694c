"""What a job prints: kept in a file of bounded size."""

from __future__ import annotations

import contextlib
import os
from multiprocessing.connection import Connection
from pathlib import Path

MOST = 10 * 2**20
"""Bytes of a job's output that are kept."""
CUT = b"\n[more was printed and is not kept]\n"


class Output:
    """Takes what a job prints from a pipe; nothing printed, no file.

    A file that cannot be written loses output, never the job: it is no result.

    Args:
        pipe: The reading end.
        path: Where to keep it.
    """

    def __init__(self, pipe: Connection, path: Path) -> None:
        self.pipe, self.path, self.kept = pipe, path, 0
        os.set_blocking(pipe.fileno(), False)
        path.unlink(missing_ok=True)

    def take(self) -> bool:
        """Keep what is there by now, at most 64 kB; whether more may come."""
        try:
            said = os.read(self.pipe.fileno(), 2**16)
        except BlockingIOError:
            return True
        except OSError:
            return False
        room = MOST - self.kept
        if said and room >= 0:
            self.kept += len(said)
            said = said if len(said) <= room else said[:room] + CUT
            with contextlib.suppress(OSError), open(self.path, "ab") as file:
                file.write(said)
        return bool(said)

    def close(self) -> None:
        """Keep what is left in the pipe."""
        for _ in range(32):  # a pipe holds 64 kB by default and 1 MB at most; what still prints shall not keep us
            if not self.take():
                break
        self.pipe.close()
