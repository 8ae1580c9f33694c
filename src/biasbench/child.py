"""The child's side: one process, one job, events to the parent, results in files.

A child is handed no label of the test split. It writes into folders that the parent gave
it and tells the parent when a folder is complete; the parent checks and commits.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from biasbench.errors import EXIT_BUG, BiasBenchError
from biasbench.job import CellJob, FacesJob, ImagesJob, Job, MeasureJob
from biasbench.plugins import describe_exception


class Channel:
    """JSON messages to and from the parent, length-checked by the pipe, never pickled."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def send(self, event: Mapping[str, Any]) -> None:
        """Tell the parent; if it is gone, there is nobody to work for."""
        try:
            self.connection.send_bytes(json.dumps(event, allow_nan=False).encode())
        except (BrokenPipeError, ConnectionError):
            os._exit(1)

    def wait(self) -> None:
        """Until the parent has committed what it was told of."""
        try:
            self.connection.recv_bytes(1024)
        except (EOFError, ConnectionError):
            os._exit(1)


def main(path: str, connection: Connection, log: str) -> None:
    """Run the job described in a file.

    Args:
        path: JSON of a `Job`.
        connection: To the parent.
        log: File that everything printed goes to.
    """
    os.setpgid(0, 0)  # the parent ends the whole group, what plugins started included
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    channel = Channel(connection)
    try:
        job: Job = TypeAdapter(Job).validate_json(Path(path).read_bytes())
        _run(job, channel)
        channel.send({"event": "done"})
    except BiasBenchError as error:
        channel.send({"event": "error", "message": str(error), "exit_code": error.exit_code, "bug": False})
    except BaseException as error:  # a plugin may raise anything; the cell has failed, not the sweep
        traceback.print_exc()
        channel.send({"event": "error", "message": explain(error), "exit_code": EXIT_BUG, "bug": True, "log": log})
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()


def _run(job: Job, channel: Channel) -> None:
    if isinstance(job, ImagesJob):
        from biasbench.cell import prepare_images

        prepare_images(job, channel.send)
    elif isinstance(job, FacesJob):
        from biasbench.faces.search import search

        search(job.folders, job.data.tables, job.data.root, channel.send)
    elif isinstance(job, CellJob):
        from biasbench.cell import run_cell

        run_cell(job, channel)
    elif isinstance(job, MeasureJob):
        from biasbench.measure import measure_run

        channel.send({"event": "measured", "records": measure_run(job)})


def explain(error: BaseException) -> str:
    """Class, first line and innermost place of an unexpected exception."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return describe_exception(error) + place
