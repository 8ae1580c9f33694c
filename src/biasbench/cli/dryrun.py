"""The checked plan and what it would cost, for `biasbench run --dry-run`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from biasbench.config import Settings
    from biasbench.costs.counts import Work
    from biasbench.costs.estimate import Estimate
    from biasbench.planned import Cell
    from biasbench.plugins import Plugins

SHOWN = 50
HEADS = ("method", "dataset", "backbone", "seed", "profile", "weights", "state", "reason")


def show_plan(
    cells: Sequence[Cell], settings: Settings, plugins: Plugins, *, device: str, jobs: int, as_json: bool
) -> None:
    """Print each cell with its state, the total of what is to be done, and how long it would take.

    Args:
        cells: The plan.
        settings: Where results and caches are.
        plugins: Where backbones are looked up.
        device: Where it would run.
        jobs: Cells at a time.
        as_json: Whether to print JSON.
    """
    from biasbench.cli.estimates import estimate_of, measurable, work_of
    from biasbench.cli.output import emit, emit_json, grid, render

    work = work_of(cells, settings, plugins)
    estimate = estimate_of(cells, settings, plugins, device, jobs, work)
    rows = [_row(cell, work) for cell in cells]
    if as_json:
        told = {"cost": work.totals(), "cached": dict(work.cached), "uncounted": list(work.uncounted)}
        emit_json(
            "plan",
            {"results": str(settings.results), "cells": rows, **told, "estimate": estimate and _figures(estimate)},
        )
        return
    shown = [[row[h] if row[h] is not None else "" for h in HEADS] for row in rows[:SHOWN]]
    emit(render(grid(HEADS, shown)))
    if len(rows) > SHOWN:
        emit(f"… and {len(rows) - SHOWN} more; --json has them all.\n")
    emit(
        "\n".join([*_counts(work, len(rows)), *_times(estimate, work, measured=measurable(cells)), "Nothing was run."])
    )


def _row(cell: Cell, work: Work) -> dict[str, Any]:
    return {
        "key": cell.key,
        "method": cell.spec.method.typed,
        "method_text": cell.spec.method.text,
        "dataset": cell.data.typed,
        "backbone": cell.typed_backbone,
        "backbone_text": cell.spec.backbone,
        "seed": cell.spec.seed,
        "profile": cell.spec.recipe.name,
        "weights": cell.weights.label,
        "state": work.states[cell.key],
        "reason": cell.reason,
    }


def _counts(work: Work, cells: int) -> list[str]:
    cost, there = work.totals(), work.cached
    measuring = f"{cost['to_measure']} to measure, " if cost["to_measure"] else ""
    lines = [
        f"{cells} cells: {cost['finished']} finished, {cost['to_run']} to run, {measuring}{cost['not_applicable']} n/a."
    ]
    if any(there.values()):
        lines.append(
            f"There already: {there['trainings']} trainings, {there['features']} files of activations, "
            f"{there['images']} sets of decoded images."
        )
    if work.jobs:
        lines.append(
            f"To do: {cost['decoded_images']:,} images to decode, {cost['feature_rows']:,} through frozen layers, "
            f"{cost['trainings']} trainings of {cost['epochs']:,} epochs over {cost['training_rows']:,} rows in all, "
            f"{cost['predicted_rows']:,} rows to predict, {cost['attackers']:,} attackers."
        )
    return lines


def _times(estimate: Estimate | None, work: Work, *, measured: bool) -> list[str]:
    from biasbench.cli.estimates import span
    from biasbench.cli.output import size

    if not work.jobs:
        return []
    if estimate is None:
        if not measured:
            return ["No estimate in hours: what several processes or compiled code take is not measured."]
        return ["Run 'biasbench doctor --measure' for an estimate in hours."]
    low, high = estimate.wall
    parts = sorted(estimate.by_part().items(), key=lambda item: -item[1])
    spent = ", ".join(f"{name} {span(seconds)}" for name, seconds in parts if seconds >= 0.01 * estimate.total)
    disk = estimate.disk
    at_once, alone = " to ".join(dict.fromkeys((span(low), span(high)))), span(estimate.total)
    results, scratch = size(disk["results"]), size(disk["scratch"])
    lines = [
        f"Estimate with --jobs {estimate.jobs}: {at_once}; one after the other {alone} ({spent}).",
        f"Memory up to {size(estimate.memory)}.",
        f"Disk: {size(disk['cache'])} of cache, {results} of results, {scratch} of checkpoints while it runs.",
    ]
    if estimate.rates.busy:
        lines.append("The machine was busy when it was measured, so that it is all too long: measure again.")
    if estimate.unmeasured:
        lines.append(
            f"Left out of it, since they were not measured: {', '.join(estimate.unmeasured)} "
            "(options of 'biasbench doctor --measure')."
        )
    if work.uncounted:
        lines.append(f"Not counted: {'; '.join(work.uncounted)}.")
    return lines


def _figures(estimate: Estimate) -> dict[str, Any]:
    low, high = estimate.wall
    return {
        "jobs": estimate.jobs,
        "seconds": {"at_least": low, "at_most": high, "one_after_the_other": estimate.total, **estimate.by_part()},
        "memory_bytes": estimate.memory,
        "disk_bytes": estimate.disk,
        "unmeasured": estimate.unmeasured,
    }
