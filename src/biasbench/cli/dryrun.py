"""The checked plan and what it would cost, for `biasbench run --dry-run`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from biasbench.planned import Cell
    from biasbench.store import Store


def show_plan(cells: Sequence[Cell], results: Path, *, as_json: bool) -> None:
    """Print each cell with its state, and the total cost of what is to be done."""
    from biasbench.cli.output import emit, emit_json, grid, render
    from biasbench.store import Store

    store = Store(results) if results.exists() else None
    rows = [_row(cell, store) for cell in cells]
    cost = total_cost(cells, store)
    if as_json:
        emit_json("plan", {"results": str(results), "cells": rows, "cost": cost})
        return
    heads = ("method", "dataset", "backbone", "seed", "profile", "weights", "state", "reason")
    emit(render(grid(heads, [[row[h] if row[h] is not None else "" for h in heads] for row in rows])))
    emit(
        f"{len(rows)} cells: {cost['finished']} finished, {cost['to_run']} to run, {cost['not_applicable']} n/a.\n"
        f"To do: {cost['trainings']} trainings, {cost['epochs']} epochs over {cost['training_rows']} training rows "
        f"in all, {cost['predicted_rows']} rows to predict. Nothing was run."
    )


def _row(cell: Cell, store: Store | None) -> dict[str, Any]:
    return {
        "key": cell.key,
        "method": cell.spec.method.typed,
        "method_text": cell.spec.method.text,
        "dataset": cell.data.typed,
        "backbone": cell.spec.backbone,
        "seed": cell.spec.seed,
        "profile": cell.spec.recipe.name,
        "weights": cell.weights.label,
        "state": _state(cell, store),
        "reason": cell.reason,
    }


def _state(cell: Cell, store: Store | None) -> str:
    if cell.reason is not None:
        return "n/a"
    return "finished" if store is not None and store.has_run(cell.key) else "to run"


def total_cost(cells: Sequence[Cell], store: Store | None) -> dict[str, int]:
    """Counts of what a run would do; rows are those before any resampling, an upper bound.

    A training that several cells share counts once, as does one that others start from.
    """
    to_run = [c for c in cells if _state(c, store) == "to run"]
    trainings: dict[str, tuple[int, int]] = {}
    for cell in to_run:
        for step in _chain(cell, store):
            rows, stages = len(step.data.tables["train"]), step.spec.recipe.stages
            from_init = step.spec.method.init is not None
            epochs = sum(s.epochs for s in stages if not (from_init and s.train == "head"))
            trainings[step.training_key] = (epochs, epochs * rows)
    predicted = sum(
        len(c.data.tables["train"]) * (1 + c.spec.recipe.views) + len(c.data.tables["val"]) + len(c.data.tables["test"])
        for c in to_run
    )
    return {
        "finished": sum(_state(c, store) == "finished" for c in cells),
        "to_run": len(to_run),
        "not_applicable": sum(c.reason is not None for c in cells),
        "trainings": len(trainings),
        "epochs": sum(epochs for epochs, _ in trainings.values()),
        "training_rows": sum(rows for _, rows in trainings.values()),
        "predicted_rows": predicted,
    }


def _chain(cell: Cell | None, store: Store | None) -> Iterator[Cell]:
    """The cell and those it starts from, as far as they are not trained yet."""
    while cell is not None and not (store is not None and store.has_training(cell.training_key)):
        yield cell
        cell = cell.init_cell()
