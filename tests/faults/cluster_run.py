"""Runs torch-free cells in a Ray cluster: `python cluster_run.py ADDRESS RESULTS COUNT JOBS GPUS MACHINES`."""

from __future__ import annotations

import itertools
import os
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import fake_cells

from biasbench.child import main
from biasbench.cli.engine import Engine
from biasbench.executors import ray
from biasbench.executors.cluster import connect
from biasbench.executors.ray import RayExecutor

VERSION = "FAKE_VERSION"  # of biasbench, as the driver has it
TOGETHER = "BIASBENCH_FAKE_TOGETHER"  # a file that is there once two trainings have a checkpoint


class Work(fake_cells.Work):
    """A training that goes on after its first checkpoint when another has one, too."""

    def train(self, store, stop):
        steps = itertools.count(1)

        def meet():
            if next(steps) > fake_cells.STEPS and TOGETHER in os.environ:
                met = Path(os.environ[TOGETHER])
                while not met.exists():
                    if len({saved.parent for saved in store.work("checkpoints").glob("*/[0-9]*")}) > 1:
                        met.touch()
                    time.sleep(0.02)
            return stop()

        return super().train(store, meet)


class Fake(fake_cells.Fake):
    """In place of training, prediction and the metrics."""

    def cell(self, job, send):
        return Work(job, send)


def target(path, connection, output):
    """A child's main function."""
    main(path, connection, output, Fake())


@dataclass(frozen=True)
class FakeEngine(Engine):
    """Places that run fake cells."""

    patience: float = 60.0

    def executor(self, limits, results, cache):
        return partial(
            RayExecutor, cluster=self.cluster, gpus=self.gpus, limits=limits, shared=(results / "work", cache),
            options={"target": target}, patience=self.patience,
        )  # fmt: skip


def run_cells(address, results, count=4, jobs=2, gpus=0.0, machines=1, patience=60.0):
    """What `biasbench run --engine ray` does with a checked plan; the exit code."""
    from biasbench.cli import run
    from biasbench.cli.progress import RunProgress
    from biasbench.config import Settings
    from biasbench.executors.limits import Limits

    if VERSION in os.environ:
        ray.__version__ = os.environ[VERSION]
    cluster = connect(address)
    while len(cluster.nodes()) < machines:
        time.sleep(0.1)
    engine = FakeEngine("cpu", gpus, cluster, patience)
    cells = fake_cells.cells(results, count)
    engine.fit(cells)
    settings = Settings((), Path(results), Path(results).parent / "cache")
    return run.carry_out(
        cells, settings, SimpleNamespace(files=()), RunProgress.choose(quiet=False), engine=engine, jobs=jobs,
        tensorboard=False, limits=Limits(),
    )  # fmt: skip


if __name__ == "__main__":
    import cluster_run  # by its name, so that machines find what is named in it
    import zygote

    kinds = (str, str, int, int, float, int, float)
    names = ("address", "results", "count", "jobs", "gpus", "machines", "patience")
    given = {name: kind(text) for name, kind, text in zip(names, kinds, sys.argv[1:], strict=False)}
    sys.exit(zygote.through_main(cluster_run.run_cells, given))
