"""What the pictures of Alvi et al. 2018 show, as tables and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from biasbench.cli.boards import UNDEFINED
from biasbench.cli.data import plain
from biasbench.cli.output import grid, render
from biasbench.errors import printable

if TYPE_CHECKING:
    from biasbench.plots.distribution import Distribution
    from biasbench.plots.histogram import Histogram
    from biasbench.plots.training import Attribute, Training


def share(value: float) -> str:
    """A percentage for people.

    Example:
        >>> share(12.345), share(float("nan"))
        ('12.35', '–')
    """
    return f"{value:.2f}" if math.isfinite(value) else UNDEFINED


def histogram_text(found: Mapping[str, Histogram], title: str) -> str:
    """Counts by class, a column for each split and group."""
    first = next(iter(found.values()))
    head = ("examples with", *(f"{split} {group}" for split in found for group in first.groups))
    rows = [[name, *(f"{n:,}" for h in found.values() for n in h.counts[:, k])] for k, name in enumerate(first.classes)]
    rows.append(["all", *(f"{n:,}" for h in found.values() for n in h.sizes)])
    unknown = ", ".join(f"{split} {h.unknown:,}" for split, h in found.items())
    table = render(grid(head, rows, rules=(len(rows) - 1,)))
    return f"{printable(title, 1000)}\n\n{table}\n\nleft out, unknown: {unknown}"


def histogram_json(found: Histogram) -> dict[str, Any]:
    """One split as JSON; undefined figures are null."""
    return {
        "classes": list(found.classes), "groups": list(found.groups), "counts": found.counts.tolist(),
        "examples": found.sizes.tolist(), "unknown": found.unknown, "share": plain(found.share),
        "difference": plain(found.difference),
    }  # fmt: skip


def distribution_text(title: str, panels: Mapping[str, Distribution]) -> str:
    """Shares by class, a column for each group; a table for each method."""
    lines = [printable(title, 1000)]
    for method, found in panels.items():
        head = ("%", *found.groups, *(f"{name}, truth" for name in found.groups))
        rows = [
            [name, *(share(v) for v in found.mean[:, k]), *(share(v) for v in found.truth[:, k])]
            for k, name in enumerate(found.classes)
        ]
        truth = f"of the truth {found.truth_divergence:.3f}"
        lines += ["", f"{printable(method, 1000)}: {found.words}, {truth}; unknown {found.unknown:,}", ""]
        lines.append(render(grid(head, rows)))
    return "\n".join(lines)


def distribution_json(found: Distribution) -> dict[str, Any]:
    """One method as JSON; undefined figures are null."""
    return {
        "classes": list(found.classes), "groups": list(found.groups), "share": plain(found.mean),
        "truth": plain(found.truth), "divergence_by_seed": plain(found.divergence),
        "truth_divergence": plain(found.truth_divergence), "unknown": found.unknown,
    }  # fmt: skip


def training_text(title: str, found: Training) -> str:
    """Each line's first and last value, means over seeds."""
    baseline = f"{found.baseline.mean():.2f}" if len(found.baseline) else ""
    lines = [("task, F1", found.f1, baseline)]
    lines += [(f"{a.name} ({a.method}){_where(a)}, rescaled", found.accuracy[a.key], "") for a in found.attributes]
    rows = []
    for name, values, beside in lines:
        mean = values.mean(0)  # [E]
        first = next((value for value in mean if math.isfinite(value)), math.nan)
        rows.append([name, share(first), share(mean[-1]), beside])
    kept = ", ".join(map(str, found.kept))
    table = render(grid(("%", "first epoch", "last epoch", "plain model"), rows))
    return f"{printable(title, 1000)}; epoch kept {kept} of {found.epochs}\n\n{table}"


def _where(attribute: Attribute) -> str:
    return "" if attribute.classes is not None else ", in training"


def training_json(found: Training) -> dict[str, Any]:
    """All curves as JSON, by seed and epoch; undefined figures are null."""
    attributes = [
        {"key": a.key, "attribute": a.name, "method": a.method, "groups": a.classes,
         "rescaled": plain(found.accuracy[a.key])}
        for a in found.attributes
    ]  # fmt: skip
    return {
        "f1": plain(found.f1), "attributes": attributes, "kept": list(found.kept), "stage_starts": list(found.starts),
        "baseline": plain(found.baseline), "left_out": list(found.left_out),
    }  # fmt: skip
