"""What a child has written aside becomes a training or a run of the store."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biasbench.environment import environment
from biasbench.faults import point
from biasbench.guard.flags import flags_of
from biasbench.planned import Cell
from biasbench.store import Store


def commit_training(
    store: Store, cell: Cell, folder: Path, manifest: Mapping[str, Any], ran: Mapping[str, Any] | None = None
) -> None:
    """Store a training; its checkpoints are no longer needed.

    Args:
        store: Where to.
        cell: The cell that it is of.
        folder: What the child wrote.
        manifest: What the child says of it.
        ran: Where it was computed, if elsewhere: `environment` and `engine`.
    """
    described = {**manifest, "training": cell.spec.training_payload(), "environment": environment(), **(ran or {})}
    point("training.before")
    store.commit_training(folder, cell.training_key, described)
    point("training.committed")
    shutil.rmtree(store.work("checkpoints", cell.training_key), ignore_errors=True)


def commit_run(store: Store, cell: Cell, folder: Path, seconds: float, ran: Mapping[str, Any] | None = None) -> None:
    """Join predictions with the truth and store them as a run.

    Args:
        store: Where to.
        cell: The cell.
        folder: What the child wrote.
        seconds: How long it took.
        ran: Where it was computed, if elsewhere: `environment` and `engine`.

    Raises:
        IntegrityError: When the predictions do not fit the data.
    """
    from biasbench.truth import beside, write_truth

    dataset = cell.data.dataset
    for data in (cell.data, *cell.secondary.values()):
        data.check()
    write_truth(folder, cell.data.tables)
    for number, name in enumerate(cell.spec.beside):
        write_truth(beside(folder, number), cell.secondary[name].tables, own=False)
    point("truth.written")
    manifest = {
        "key": cell.key,
        "identity": cell.spec.payload(),
        "spec": cell.spec.describe() | {"dataset": cell.data.typed, "backbone": cell.typed_backbone},
        "task": dataset.task,
        "label_names": list(dataset.label_names),
        "groups": {n: list(g) for n, g in cell.data.groups.items()},
        "beside": [
            {"dataset": name, "groups": {n: list(g) for n, g in cell.secondary[name].groups.items()}}
            for name in cell.spec.beside
        ],
        "attribute": cell.attributes[0],
        "flags": [*cell.flags, *flags_of(folder)],
        "environment": environment(),
        "seconds": round(seconds, 1),
        **(ran or {}),
    }
    point("run.before")
    store.commit_run(folder, cell.key, manifest)
    point("run.committed")
