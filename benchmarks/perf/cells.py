"""Cells of generated scenes, planned as `biasbench run` plans them, whose work is done in this process, one by one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from sides import Took, between, now

from biasbench.cell import Cell, prepare_images
from biasbench.commit import commit_training
from biasbench.config import Settings
from biasbench.job import CellJob
from biasbench.jobs import Jobs, images_job
from biasbench.plan import Request, make_plan
from biasbench.planned import Cell as Planned
from biasbench.plugins import load_plugins
from biasbench.store import Store

TINY = Path(__file__).parents[2] / "tests" / "helpers" / "tiny.py"


def scenes(train: int, val: int = 64, size: int = 128) -> str:
    """The data set's text."""
    return f"scenes(train={train}, val={val}, test=64, size={size})"


def plan(
    folder: Path, methods: Sequence[str], dataset: str, backbone: str, recipe: Mapping[str, Any], *,
    results: str = "results", cache: str = "cache", seeds: Sequence[int] = (0,), device: str = "cpu",
    precision: str = "fp32",
) -> tuple[list[Planned], Jobs]:  # fmt: skip
    """Cells of the short profile from random weights; data, caches and results lie in `folder`.

    Cells that cannot run are left out.
    """
    plugins = load_plugins([TINY])
    settings = Settings((), folder / results, folder / "data")
    request = Request(
        methods, [dataset], [backbone], seeds, "short", dict(recipe), weights="random", precision=precision,
        metrics=["accuracy"],
    )  # fmt: skip
    cells = [cell for cell in make_plan([request], plugins, settings, device=device) if cell.reason is None]
    return cells, Jobs(Store(settings.results, create=True), folder / cache, device, plugins.files)


def decoded(cell: Planned, jobs: Jobs) -> CellJob:
    """The job of a cell's training; its pictures are decoded if they are not yet."""
    job = jobs.training(cell)
    prepare_images(images_job(job.data, job.recipe.short_side, None), lambda _event: None)
    return job


def train(cell: Planned, jobs: Jobs) -> None:
    """Train a cell, and before it what it starts from, unless that is in the store already."""
    init = cell.init_cell()
    if init is not None:
        train(init, jobs)
    if jobs.store.has_training(cell.training_key):
        return
    job = decoded(cell, jobs)
    with warnings.catch_warnings(action="ignore"):
        own = Cell(job, lambda _event: None)
        folder = own.train(jobs.store)
    commit_training(jobs.store, cell, folder, own.manifest)


def epochs(job: CellJob) -> list[Took]:
    """Train a cell from its start: what its stored activations took, then each epoch, validation and checkpoint in."""
    stamps = []

    def told(event: Mapping[str, Any]) -> None:
        if event["event"] in ("features", "epoch"):
            stamps.append(now())

    with warnings.catch_warnings(action="ignore"):
        cell = Cell(job, told)
        stamps.append(now())
        cell.train(Store(job.results))
    return [between(a, b) for a, b in pairwise(stamps)]
