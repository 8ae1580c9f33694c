"""A running Ray cluster: how it is found, what it has, and what it cannot hold.

Ray is imported when a cluster is asked for, never before.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from biasbench.errors import UsageError, printable
from biasbench.job import CellJob, Job, MeasureJob
from biasbench.recipe import Recipe

# Ray reads these when it is imported or started; what the user has set stays.
SETTINGS = {
    "RAY_AUTH_MODE": "token",  # without it, whoever reaches a port of the cluster runs code there
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "error",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
START = "Start one with 'ray start --head', or use --address local; see docs/clusters.md"
COPY = "Copy ~/.ray/auth_token from the machine that runs 'ray start --head', or set RAY_AUTH_TOKEN"


@dataclass(frozen=True)
class Demand:
    """What a job's process needs of one machine; a GPU may be shared (0.5)."""

    cpus: int
    gpus: float = 0.0

    def __str__(self) -> str:
        return _amounts({"CPU": self.cpus, "GPU": self.gpus})


@dataclass(frozen=True)
class Node:
    """A machine of the cluster: its address, and what it has in all."""

    address: str
    cpus: float
    gpus: float

    def holds(self, demand: Demand) -> int:
        """How many jobs of a kind fit it at a time when nothing else runs there.

        Example:
            >>> Node("10.0.0.2", 4, 1).holds(Demand(1, 0.5)), Node("10.0.0.2", 4, 1).holds(Demand(1, 2))
            (2, 0)
        """
        cells = self.cpus / demand.cpus
        return math.floor(min(cells, self.gpus / demand.gpus) if demand.gpus else cells)

    def __str__(self) -> str:
        return f"{self.address} ({_amounts({'CPU': self.cpus, 'GPU': self.gpus})})"


def demand_of(job: Job, gpus: float | None) -> Demand:
    """What a job needs: a cell what its recipe and its GPUs say, everything else no GPU."""
    if isinstance(job, CellJob):
        return demand_for(job.recipe, gpus)
    return Demand(job.threads if isinstance(job, MeasureJob) else 1)


def demand_for(recipe: Recipe, gpus: float | None) -> Demand:
    """What a cell needs: a processor for each thread of each process, and GPUs; None for one for each process."""
    return Demand(recipe.threads * recipe.processes, recipe.processes if gpus is None else gpus)


class Cluster:
    """A cluster that this process is connected to."""

    @property
    def head(self) -> str:
        """HOST:PORT at which its head listens."""
        import ray

        return str(ray.get_runtime_context().gcs_address)

    def nodes(self) -> list[Node]:
        """The machines that are there now."""
        import ray

        found = [
            Node(n["NodeManagerAddress"], n["Resources"].get("CPU", 0.0), n["Resources"].get("GPU", 0.0))
            for n in ray.nodes()
            if n["Alive"]
        ]
        return sorted(found, key=str)

    def check(self, demands: Iterable[Demand]) -> None:
        """See that some machine could hold each of some jobs: Ray would wait for one without a word.

        Raises:
            UsageError: When none could, with what there is.
        """
        nodes = self.nodes()
        for demand in dict.fromkeys(demands):
            if not any(node.holds(demand) for node in nodes):
                raise UsageError(
                    f"a cell needs {demand} on one machine, and the cluster has {describe(nodes)}",
                    fix="Ask for less with --gpus or recipe.threads, or add a machine that has it",
                )

    def at_once(self, demand: Demand) -> int:
        """How many jobs of a kind the whole cluster could hold."""
        return sum(node.holds(demand) for node in self.nodes())

    def has_room(self, demand: Demand) -> bool:
        """Whether as much as a job needs is free, all machines together."""
        import ray

        free = ray.available_resources()
        return bool(free.get("CPU", 0.0) >= demand.cpus and free.get("GPU", 0.0) >= demand.gpus)


def describe(nodes: Iterable[Node]) -> str:
    """What some machines have.

    Example:
        >>> describe([Node("10.0.0.1", 4, 0), Node("10.0.0.2", 8, 2)])
        '10.0.0.1 (4 CPUs), 10.0.0.2 (8 CPUs and 2 GPUs)'
    """
    shown = [str(node) for node in nodes]
    more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return ", ".join(shown[:8]) + more or "no machine"


def _amounts(amounts: dict[str, float]) -> str:
    return " and ".join(f"{n:g} {kind}{'' if n == 1 else 's'}" for kind, n in amounts.items() if n) or "nothing"


def connect(address: str | None) -> Cluster:
    """Join a cluster as a driver.

    Args:
        address: HOST:PORT of its head; `auto` for the one that this machine belongs to; `local` to start one here that
            ends with this process. None: $RAY_ADDRESS, else `auto`.

    Raises:
        UsageError: When Ray is not installed, no cluster answers, or it does not accept us.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        missing = UsageError("--engine ray needs Ray, which is not installed", fix='Run: pip install "biasbench[ray]"')
        raise missing from error
    address = address or os.environ.get("RAY_ADDRESS") or "auto"
    where = f"--address {printable(address)}"
    if address not in ("auto", "local"):
        _reach(address, where)
    before = signal.getsignal(signal.SIGTERM)
    said = ""
    try:
        with _hushed() as noise:
            try:
                started = {"include_dashboard": False} if address == "local" else {}
                ray.init(address=address, log_to_driver=False, logging_level="CRITICAL", **started)
            finally:
                said = noise()
    except Exception as error:
        raise _refused(error, said, where) from error
    except SystemExit as error:
        raise UsageError("no Ray cluster answers", where=where, fix=START) from error
    finally:
        signal.signal(signal.SIGTERM, before)  # Ray's own would end us without a word
    return Cluster()


def _reach(address: str, where: str) -> None:
    """See that something listens there: Ray itself would try for two minutes."""
    if "://" in address:
        raise UsageError(
            "is an address of Ray Client, which cannot carry a run",
            where=where,
            fix="Start biasbench on a machine of the cluster, with the head's HOST:PORT",
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError("is not of the form HOST:PORT", where=where, fix="Use HOST:PORT, auto or local")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no answer"
        raise UsageError(f"no Ray cluster answers there ({reason})", where=where, fix=START) from error


def _refused(error: Exception, said: str, where: str) -> UsageError:
    """Why a cluster that was found could not be joined."""
    text = str(error)
    if "no authentication token was found" in text:
        return UsageError("the cluster asks for a token, and there is none here", where=where, fix=COPY)
    if "InvalidAuthToken" in said or "Unauthenticated" in said:
        return UsageError("the cluster does not accept our token", where=where, fix=COPY)
    if "ersion mismatch" in text:
        lines = [" ".join(line.split()) for line in text.splitlines() if "Ray:" in line or "Python:" in line]
        versions = f" ({'; '.join(lines)})" if lines else ""
        fix = "Use the same Python and the same Ray on every machine"
        return UsageError(f"the cluster runs other versions than this machine{versions}", where=where, fix=fix)
    if isinstance(error, ConnectionError):
        return UsageError(f"no Ray cluster to join: {_line(text)}", where=where, fix=START)
    fix = "The driver must run on a machine of the cluster; see docs/clusters.md"
    return UsageError(f"the cluster cannot be joined: {_line(text) or type(error).__name__}", where=where, fix=fix)


def _line(text: str) -> str:
    return printable(text.strip().partition("\n")[0]).rstrip(".")


@contextlib.contextmanager
def _hushed() -> Iterator[Any]:
    """Keep what Ray's own threads write to standard error while it connects; yields a function that reads it."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)

        def read() -> str:
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            return os.read(file.fileno(), 2**20).decode(errors="replace")

        try:
            yield read
        finally:
            os.dup2(kept, 2)
            os.close(kept)
