"""Jobs as processes anywhere in a Ray cluster.

Ray decides on which machine a job runs, and notices when that machine is lost. On the
machine, a `Place` starts the same process that a local run would. Results and cache lie
on a file system that all machines share; claims and commits stay with the runner, so that
a job which was started twice cannot be stored twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from biasbench import __version__, io
from biasbench.errors import ClusterError, StoreError, UsageError, printable
from biasbench.executors.cluster import Cluster, Demand, demand_of, describe
from biasbench.executors.executor import ENDS
from biasbench.executors.head import Head
from biasbench.executors.limits import Limits
from biasbench.executors.place import Place
from biasbench.job import Job

RETRIES = 3
"""How often a job is started again that lost its machine; one that fails by itself is not."""
IDLE = 20.0
"""Seconds that a place is kept for the next job of its kind."""
PATIENCE = 300.0
"""Seconds that a job waits while no machine of the cluster could hold it."""
WAIT = 1.0
"""Seconds that a place waits for news before it answers."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # Ray sets the first by itself


@dataclass
class Seat:
    """A place in the cluster, the job that it runs, and how far the talk with it is.

    Attributes:
        actor: Ray's handle of the `Place`.
        demand: What it holds of its machine.
        since: When it was asked for, or its last job ended.
        name: The job; None when it is free.
        text: The job's description.
        node: Its machine; None until Ray has found one.
        number: Jobs that it was given.
        seen: The last event that arrived.
        acknowledged: Folders that were committed.
        reply: Ray's handle of the answer that is under way.
    """

    actor: Any
    demand: Demand
    since: float
    name: str | None = None
    text: str = ""
    node: str | None = None
    number: int = 0
    seen: int = 0
    acknowledged: int = 0
    reply: Any = None

    def give(self, name: str, text: str) -> None:
        """Let it run a job."""
        self.name, self.text, self.number = name, text, self.number + 1


@dataclass
class RayExecutor:
    """Runs jobs in the places of a cluster.

    Attributes:
        folder: Where job files and logs go.
        cluster: The cluster that this process is connected to.
        gpus: Of each training and prediction; 0.5 shares one between two. None: one for each of its processes.
        limits: What ends a job.
        shared: Folders that every machine must see.
        options: More for the local executor at each place.
        patience: Seconds that a job waits while no machine could hold it.
    """

    folder: Path
    cluster: Cluster
    gpus: float | None = 0.0
    limits: Limits | None = None
    shared: Sequence[Path] = ()
    options: dict[str, Any] = field(default_factory=dict)
    patience: float = PATIENCE

    def __post_init__(self) -> None:
        import ray

        self.ray, self.place = ray, ray.remote(Place)
        self.running: dict[str, Seat] = {}
        self.free: list[Seat] = []
        self.lost: dict[str, list[str]] = {}
        self.asked, self.possible = False, time.monotonic()
        self.head = Head(self.cluster.head)
        self.probes = {path.absolute() / f"seen-{uuid.uuid4().hex[:12]}": uuid.uuid4().hex for path in self.shared}
        kept = [name for name in os.environ if name.startswith("BIASBENCH_")]
        self.environ = {name: os.environ.get(name) for name in (*THREADS, *kept)}

    # ------------------------------------------------------------------ what a runner asks
    def submit(self, name: str, job: Job) -> None:
        """Start a job as soon as a machine has room for it."""
        self._seat(name, demand_of(job, self.gpus), job.model_dump_json())

    def events(self, timeout: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """What the jobs have said, until the timeout; a job whose machine is lost says `lost` and starts again.

        Raises:
            UsageError: When a machine is not set up as this one is.
            ClusterError: When the head is gone, or no machine is left that could hold a job.
        """
        if not self.head.check():  # until it answers again, or is gone, a call might never return
            time.sleep(timeout)
            return
        self._let_go()
        if self.asked:
            yield from self._withdraw()
        for seat in self.running.values():
            if seat.reply is None:
                seat.reply = seat.actor.step.remote(self._request(seat))
        replies = {seat.reply: seat for seat in self.running.values()}
        if not replies:
            time.sleep(timeout)
            return
        self.ray.wait(list(replies), timeout=timeout)
        ready, _ = self.ray.wait(list(replies), num_returns=len(replies), timeout=0)
        for reply in ready:
            yield from self._take(replies[reply])
        self._check_room()

    def acknowledge(self, name: str) -> None:
        """Tell a job that the folder it spoke of was committed."""
        self.running[name].acknowledged += 1

    def ask(self) -> None:
        """Ask every job to end: a training after its next step, with a checkpoint; any other at once."""
        self.asked = True

    def stop(self) -> None:
        """End every job at once; without a head, they end by themselves when this process has."""
        for seat in (*self.running.values(), *self.free) if self.head.silent is None else ():
            self._end(seat)
        self.running, self.free = {}, []

    def __enter__(self) -> Self:
        self.log = contextlib.ExitStack()
        self.log.enter_context(self.head)
        # Ray prints what it thinks of lost processes to standard output, where results go.
        file = self.log.enter_context(open(self.folder / "ray.log", "a", encoding="utf-8"))
        self.log.enter_context(contextlib.redirect_stdout(file))
        for path, text in self.probes.items():
            io.write_text(path, text)
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        for path in self.probes:
            path.unlink(missing_ok=True)
        self.log.close()

    # ------------------------------------------------------------------ places
    def _seat(self, name: str, demand: Demand, text: str) -> None:
        """Give a job to a free place of its kind, or to a new one."""
        seat = next((s for s in self.free if s.demand == demand), None)
        if seat is not None:
            self.free.remove(seat)
        else:
            options = {"limits": self.limits, **self.options}
            placed = self.place.options(num_cpus=demand.cpus, num_gpus=demand.gpus)
            seat = Seat(placed.remote(str(self.folder.absolute()), self.environ, options), demand, time.monotonic())
        seat.give(name, text)
        self.running[name] = seat

    def _let_go(self) -> None:
        """Give back places that nobody has needed for a while, and all of them when a job waits for their room."""
        waiting = [seat.demand for seat in self.running.values() if seat.node is None] if self.free else []
        full = not all(map(self.cluster.has_room, dict.fromkeys(waiting)))
        for seat in list(self.free):
            if full or time.monotonic() - seat.since > IDLE:
                self.free.remove(seat)
                self._end(seat)

    def _end(self, seat: Seat) -> None:
        self.ray.kill(seat.actor)

    def _withdraw(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """End jobs that have no machine yet."""
        for name, seat in list(self.running.items()):
            if seat.node is None:
                del self.running[name]
                self._end(seat)
                yield name, {"event": "stopped"}

    def _check_room(self) -> None:
        """See that what waits can still be placed: machines come back, but not always."""
        now = time.monotonic()
        demands = [seat.demand for seat in self.running.values() if seat.node is None]
        nodes = self.cluster.nodes() if demands else []
        short = next((d for d in demands if not any(node.holds(d) for node in nodes)), None)
        if short is None:
            self.possible = now
        elif now - self.possible > self.patience:
            raise ClusterError(
                f"for {self.patience:g} s no machine had {short} for a cell; the cluster has {describe(nodes)}",
                fix="Finished cells are kept: add a machine and run the same command again",
            )

    # ------------------------------------------------------------------ talking
    def _request(self, seat: Seat) -> str:
        job = {"number": seat.number, "name": seat.name, "text": seat.text}
        probe = {str(path): text for path, text in self.probes.items()} if seat.node is None else {}
        return json.dumps(
            {"job": job, "seen": seat.seen, "acknowledged": seat.acknowledged, "ask": self.asked, "wait": WAIT,
             "probe": probe}
        )  # fmt: skip

    def _take(self, seat: Seat) -> Iterator[tuple[str, dict[str, Any]]]:
        """Hand on what a place has answered; what is unanswered is asked again."""
        reply, seat.reply = seat.reply, None
        name = seat.name
        assert name is not None
        try:
            told = json.loads(self.ray.get(reply))
        except self.ray.exceptions.ActorUnavailableError:
            time.sleep(0.2)
            return
        except self.ray.exceptions.RayError as error:
            if seat.node is None and "creation task" in str(error):
                raise _unready(error) from error
            yield from self._again(name, seat, error)
            return
        if seat.node is None:
            seat.node = told["node"]
            self._check_node(told)
            yield name, {"event": "placed", "node": seat.node}
        for number, event in told["events"]:
            seat.seen = number
            if "ran" in event:
                event["ran"]["engine"]["lost"] = self.lost.get(name, [])
            if event["event"] in ENDS:
                del self.running[name]
                seat.name, seat.since = None, time.monotonic()
                self.free.append(seat)
            yield name, event

    def _check_node(self, told: dict[str, Any]) -> None:
        where = f"machine {printable(told['node'])}"
        if told["version"] != __version__:
            raise UsageError(
                f"has biasbench {printable(told['version'])}, this machine {__version__}",
                where=where,
                fix="Install the same version on every machine",
            )
        for path in told["unseen"]:
            raise StoreError(
                f"does not see the folder {printable(Path(path).parent)} of this machine",
                where=where,
                fix="Results and cache must lie on a file system that all machines share; see docs/clusters.md",
            )

    def _again(self, name: str, seat: Seat, error: Exception) -> Iterator[tuple[str, dict[str, Any]]]:
        """Start a job anew that lost its place, with the same seed: everything random hangs on its key."""
        del self.running[name]
        self._end(seat)
        known = self.lost.setdefault(name, [])
        known.append(f"{seat.node or 'no machine yet'}: {_why(error)}")
        if self.asked:
            yield name, {"event": "stopped"}
        elif len(known) > RETRIES:
            yield name, {"event": "died", "reason": f"its machine was lost {len(known)} times; {known[-1]}"}
        else:
            self._seat(name, seat.demand, seat.text)
            yield name, {"event": "lost", "reason": known[-1], "again": len(known)}


def _unready(error: Exception) -> UsageError:
    """A machine on which not even a place could be made: it would fail every job alike."""
    node = re.search(r"\bip=([\w.:]+)", str(error))
    return UsageError(
        f"cannot load biasbench: {_why(error)}",
        where=f"machine {node[1]}" if node else "a machine of the cluster",
        fix="Install the same version on every machine",
    )


def _why(error: Exception) -> str:
    """The telling line of one of Ray's errors."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("The actor") or "Error:" in line]
    return printable((told or lines or [type(error).__name__])[-1]).rstrip(".")
