"""Where cells run: processes here, or machines of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from biasbench.cli.lazy import Choice
from biasbench.errors import UsageError, printable

if TYPE_CHECKING:
    from biasbench.executors.cluster import Cluster, Demand
    from biasbench.executors.executor import Executor
    from biasbench.executors.limits import Limits
    from biasbench.planned import Cell

F = TypeVar("F", bound=Callable[..., Any])
ENGINES = ("local", "ray")


def engine_options(command: F) -> F:
    """`--engine`, `--address` and `--gpus`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS = (
    click.option(
        "--engine", type=Choice(ENGINES), default="local", show_default=True,
        help="Where cells run: processes here, or machines of a Ray cluster (extra biasbench[ray]).",
    ),
    click.option(
        "--address", metavar="ADDRESS",
        help="Of the Ray cluster: HOST:PORT, auto for the one this machine is in, local to start one here.  "
        "[default: $RAY_ADDRESS, or auto]",
    ),
    click.option(
        "--gpus", type=click.FloatRange(min=0), metavar="N",
        help="GPUs of each cell in the cluster; 0.5 shares one between two.  "
        "[default: one for each of its processes, if there are any]",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Engine:
    """Where the cells of a plan run.

    Attributes:
        device: Torch device of the cells.
        gpus: Of each cell, in a cluster; None for one for each of its processes.
        cluster: The cluster; None for this machine alone.
    """

    device: str
    gpus: float | None = 0.0
    cluster: Cluster | None = None

    def fit(self, cells: Sequence[Cell]) -> int | None:
        """See that the cluster could hold every cell, and how many at a time; None for this machine alone.

        Raises:
            UsageError: When no machine of the cluster could hold one, or there is no GPU for each process of a cell.
        """
        processes = max((c.spec.recipe.processes for c in cells if c.reason is None), default=1)
        if self.cluster is None:
            from biasbench.model import check_processes

            check_processes(self.device, processes)
            return None
        if self.gpus and 1 < processes != self.gpus:
            self.cluster.check(demands_of(cells, None))
            raise UsageError(
                f"{processes} processes of a cell need a GPU each, not {self.gpus:g} together",
                fix=f"Use --gpus {processes}, or leave it out",
            )
        demands = demands_of(cells, self.gpus)
        self.cluster.check(demands)
        return min((self.cluster.at_once(demand) for demand in demands), default=1)

    def executor(self, limits: Limits, results: Path, cache: Path) -> Callable[[Path], Executor]:
        """What makes the runner's executor."""
        if self.cluster is None:
            from biasbench.executors.local import LocalExecutor

            return partial(LocalExecutor, limits=limits)
        from biasbench.executors.ray import RayExecutor

        shared = (results / "work", cache)
        return partial(RayExecutor, cluster=self.cluster, gpus=self.gpus, limits=limits, shared=shared)


def choose_engine(engine: str, address: str | None, gpus: float | None, device: str) -> Engine:
    """The engine that the options name, joined to its cluster.

    Raises:
        UsageError: When they do not go together, or no cluster can be joined.
    """
    if engine == "local":
        from biasbench.model import choose_device

        if address is not None or gpus is not None:
            given = "--address" if address is not None else "--gpus"
            raise UsageError(f"{given} is for a cluster", fix="Add --engine ray, or leave it out")
        return Engine(choose_device(device))
    check_gpus(gpus, device)
    from biasbench.executors.cluster import connect

    cluster = connect(address)
    if gpus is None:
        there = device == "cuda" or (device == "auto" and any(n.gpus for n in cluster.nodes()))
        return Engine("cuda", None, cluster) if there else Engine("cpu", 0.0, cluster)
    return Engine("cuda" if gpus else "cpu", gpus, cluster)


def check_gpus(gpus: float | None, device: str) -> None:
    """See that a number of GPUs exists, and that the device is of that kind.

    Raises:
        UsageError: When not.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f"--device {printable(device)} is no choice with --engine ray",
            fix="Use auto, cpu or cuda: Ray chooses which GPU",
        )
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        raise UsageError(f"--gpus {gpus:g} cannot be had", fix="Use a fraction below 1, or a whole number")
    if gpus is not None and (gpus > 0, device) in ((True, "cpu"), (False, "cuda")):
        raise UsageError(f"--gpus {gpus:g} and --device {device} contradict each other", fix="Leave one of them out")


def demands_of(cells: Sequence[Cell], gpus: float | None) -> list[Demand]:
    """What the cells of a plan need of one machine, each kind once."""
    from biasbench.executors.cluster import demand_for

    found = {demand_for(cell.spec.recipe, gpus) for cell in cells if cell.reason is None}
    return sorted(found, key=lambda demand: (demand.cpus, demand.gpus))
