"""The far side of a cluster: a process that Ray has put on a machine, and that runs jobs there one after another.

What crosses the network is text. Every message may be lost and sent again: jobs and events
are numbered, and what the other side has not seen stays.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from biasbench import __version__
from biasbench.environment import environment
from biasbench.errors import BiasBenchError
from biasbench.executors.local import LocalExecutor
from biasbench.job import Job


class Place:
    """Runs jobs with a local executor, on whatever machine this is.

    Args:
        folder: Where job files and logs go; the same on every machine.
        environ: Variables that decide results or steer biasbench, as the runner has them; None where it has none.
        options: Of `LocalExecutor`.
    """

    def __init__(self, folder: str, environ: Mapping[str, str | None], options: Mapping[str, Any]) -> None:
        for name, value in environ.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        # A job's process would import the main file of the process that starts it, which is Ray's.
        vars(sys.modules["__main__"]).pop("__file__", None)
        self.executor = LocalExecutor(Path(folder), **options)
        self.number = self.count = self.acknowledged = 0
        self.name, self.asked = "", False
        self.told: list[tuple[int, dict[str, Any]]] = []

    def step(self, request: str) -> str:
        """Take a request and wait a while for what the job says.

        Args:
            request: JSON: `job` (`number`, `name`, `text`) or null; `seen`, the number of the last event that
                arrived; `acknowledged`, how many folders were committed; `ask`, whether the job shall end; `wait`,
                seconds; `probe`, files and what they should hold.

        Returns:
            JSON: `events` with their numbers, and `node`, `version`, `unseen` (files that are not the same here).
        """
        asked = json.loads(request)
        self.told = [(n, event) for n, event in self.told if n > asked["seen"]]
        if asked["job"] is not None and asked["job"]["number"] > self.number:
            self._start(**asked["job"])
        while self.acknowledged < asked["acknowledged"]:
            self.acknowledged += 1
            if self.name in self.executor.running:
                self.executor.acknowledge(self.name)
        if asked["ask"] and not self.asked:
            self.asked = True
            self.executor.ask()
        if self.executor.running and not self.told:
            for _, event in self.executor.events(asked["wait"]):
                self._tell(event)
        unseen = [path for path, text in asked["probe"].items() if not _holds(Path(path), text)]
        return json.dumps({"events": self.told, "node": _node(), "version": __version__, "unseen": unseen})

    def _start(self, number: int, name: str, text: str) -> None:
        self.number, self.name, self.asked = number, name, False
        try:
            job: Job = TypeAdapter(Job).validate_json(text)
            self.executor.submit(name, job)
        except BiasBenchError as error:
            self._tell({"event": "error", "message": str(error), "exit_code": error.exit_code, "bug": False})

    def _tell(self, event: dict[str, Any]) -> None:
        if event["event"] in ("trained", "predicted"):
            engine = {"name": "ray", "node": _node(), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}
            event["ran"] = {"environment": environment(), "engine": engine}
        self.count += 1
        self.told.append((self.count, event))


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text() == text
    except (OSError, ValueError):
        return False


def _node() -> str:
    """This machine's address as the cluster knows it."""
    try:
        from ray.util import get_node_ip_address
    except ImportError:
        return socket.gethostname()
    return str(get_node_ip_address())
