"""What `biasbench plot training` shows, from the logs in the store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from biasbench import io
from biasbench.cli.plot_faces_runs import Runs
from biasbench.errors import CellError, IntegrityError, StoreError, printable
from biasbench.store import Store

if TYPE_CHECKING:
    from biasbench.plots.training import Training


def training_of(store: Store, runs: Runs, method: str, before: str) -> Training:
    """The logs of a method's trainings, over seeds, beside the plain model's kept F1.

    Raises:
        StoreError: When a training is gone.
        IntegrityError: When a log was changed.
        CellError: When trainings have different numbers of epochs.
    """
    import numpy as np

    from biasbench.grammar import parse
    from biasbench.plots.training import Training, curve, diagnosed

    manifests = [store.manifest(store.run(str(r["key"]))) for r in runs[method].values()]
    trained = [_training(store, manifest) for manifest in manifests]
    logs = [log for _, log in trained]
    if len({len(log) for log in logs}) > 1:
        raise CellError("the seeds have different numbers of epochs", where=printable(method), fix="Choose one: --seed")
    groups = {name: len(of) for name, of in manifests[0]["groups"].items()}
    components = [(c.name, c.kwargs.get("attribute")) for c in parse(manifests[0]["spec"]["training"]["method"])]
    names = list(dict.fromkeys(name for log in logs for record in log for name in record))
    attributes, left_out = diagnosed(names, components, groups)
    places = [(r["stage"], i) for i, r in enumerate(logs[0], 1)]
    starts = tuple(i for (stage, i), (last, _) in zip(places[1:], places, strict=False) if stage != last)
    plain = (
        [] if before == method else [store.manifest(store.run(str(r["key"]))) for r in runs.get(before, {}).values()]
    )
    return Training(
        np.array([curve(log, "val_f1") for log in logs]),
        attributes,
        {a.key: np.array([curve(log, a.key, a.classes) for log in logs]) for a in attributes},
        tuple(_kept(selected, log) for selected, log in trained),
        starts,
        np.array([100 * _training(store, manifest)[0]["val_f1"] for manifest in plain]),
        left_out,
    )


def _training(store: Store, manifest: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """What was kept of a training, and its log."""
    folder = store.training(str(manifest["spec"]["training_key"]))
    made = store.manifest(folder)
    path = folder / "log.jsonl"
    if not path.is_file():
        raise IntegrityError("a file is missing", where=printable(path), fix="Restore it or delete its folder")
    io.check_file(path, made["files"]["log.jsonl"])
    try:
        return made["selected"], [json.loads(line) for line in path.read_bytes().splitlines()]
    except (ValueError, RecursionError) as error:
        raise StoreError("cannot be read: it is damaged", where=printable(path)) from error


def _kept(selected: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> int:
    """The kept epoch's place in the log, 1..E; 0 when it is none of them."""
    place = (selected["stage"], selected["epoch"])
    return next((i for i, r in enumerate(log, 1) if (r["stage"], r["epoch"]) == place), 0)
