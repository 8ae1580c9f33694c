"""`biasbench plot`: the figures of Wang et al. 2019; those of Alvi et al. 2018 are in `plot_faces`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from biasbench.cli.lazy import LazyGroup
from biasbench.cli.options import HELP, data_root_option, json_option, plugin_option, results_option

if TYPE_CHECKING:
    from biasbench.plots.frontier import Point
    from biasbench.plots.labels import Changes
    from biasbench.plots.margin import Margin
    from biasbench.store import Store

F = TypeVar("F", bound=Callable[..., Any])


def output_option(name: str) -> Callable[[F], F]:
    """`--output FILE`, repeatable."""
    return click.option(
        "--output", "-o", "outputs", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
        default=(Path(f"{name}.svg"), Path(f"{name}.png")),
        help="Where to: .svg, .png or .pdf. Repeatable. Results that do not belong in one picture get several, "
        "numbered.",
    )  # fmt: skip


dataset_option = click.option("--dataset", "-d", metavar="DATASET", help="Only results on this data set, as typed.")


FACES = ("histogram", "embedding", "distribution", "training")
COMMANDS = {name: f"{__name__}:{name}_command" for name in ("frontier", "labels", "grid")}
COMMANDS |= {name: f"biasbench.cli.plot_faces:{name}_command" for name in FACES}


@click.group("plot", cls=LazyGroup, lazy=COMMANDS, context_settings=HELP)
def plot_command() -> None:
    """Draw results and labels: trade-offs, images, groups, embeddings, training.

    The same results give the same bytes. Needs the package matplotlib. Numbers of figures without a
    paper are those of Wang et al. 2019; their curve of dataset leakage (Figure 4) is drawn by
    'biasbench leakage --plot'.
    """


@click.command("frontier")
@results_option
@dataset_option
@click.option(
    "--plain", metavar="METHOD", default="original", show_default=True,
    help="The method whose rows METHOD+noise(sigma=...) are the randomisation curve.",
)  # fmt: skip
@output_option("frontier")
@json_option
def frontier_command(
    results: Path | None, dataset: str | None, plain: str, outputs: tuple[Path, ...], as_json: bool
) -> None:
    """F1 against bias amplification (Figure 5).

    The dashed curve joins the plain model and the rows noise(sigma=...); methods that differ in numbers
    only are joined too. Bars are the spread that the leaderboard shows. Prints how far each method lies
    from the curve: in Δ at its own F1, and in F1 at its own Δ.
    """
    from biasbench.cli.output import emit, emit_json, grid, render
    from biasbench.cli.pictures import blocks, points_of
    from biasbench.errors import StoreError, UsageError, printable
    from biasbench.plots.frontier import draw_frontier

    store = ready(results, outputs)
    found = [(title, points) for title, r in blocks(store, dataset) if (points := points_of(store, r, plain))]
    if not found:
        raise StoreError("has no row with both F1 and Δ", where=str(store.root), fix="See 'biasbench leaderboard'")
    if plain != "original" and all(point.name != plain for _, points in found for point in points):
        raise UsageError(f"no row {printable(plain)!r} with both F1 and Δ", fix="Write it as it was typed in the run")
    for number, (title, points) in enumerate(found, 1):
        for path in numbered(outputs, number, len(found)):
            draw_frontier(path, points, title, plain)
    if as_json:
        emit_json("frontier", {"pictures": [{"title": t, "points": [*map(point_json, p)]} for t, p in found]})
        return
    shown = [f"{title}\n\n{render(grid(POINT_HEAD, map(point_cells, points)))}" for title, points in found]
    emit("\n\n".join([*shown, FRONTIER_LEGEND]))


SIDES = ("{} - noise", "standard error", "95 % interval", "against noise")
POINT_HEAD = ("method", "F1", "Δ", *(side.format(name) for name in ("Δ", "F1") for side in SIDES))
FRONTIER_LEGEND = (
    "Δ - noise: at the method's own F1. F1 - noise: against the best F1 of noise with no more than the method's Δ.\n"
    "Both are taken within a seed; the plain model and its noise rows are joined by straight lines. The error is over\n"
    "seeds, or over the attackers' rounds (r) of the only seed, which says nothing of another training; the interval\n"
    "is Student's t."
)


def point_cells(point: Point) -> list[str]:
    """A line of the table of `frontier`."""
    cells = [point.name, f"{point.f1:.2f}", f"{point.delta:.2f}"]
    if point.margin is None or point.gain is None:
        return [*cells, "", "", "", "on the curve", "", "", "", ""]
    return [*cells, *margin_cells(point.margin), *margin_cells(point.gain)]


def margin_cells(found: Margin) -> list[str]:
    """Difference, standard error, interval and verdict."""
    from biasbench.cli.boards import UNDEFINED

    if found.over is None:
        return [UNDEFINED, "", "", f"undefined: {found.reason}"]
    if found.verdict == "unknown":
        return [f"{found.difference:+.2f}", UNDEFINED, "", f"unknown: {found.reason}"]
    mark = " (r)" if found.over == "rounds" else ""
    return [
        f"{found.difference:+.2f}", f"{found.error:.2f}{mark}", f"{found.low:+.2f} to {found.high:+.2f}", found.verdict
    ]  # fmt: skip


def point_json(point: Point) -> dict[str, Any]:
    """A point as JSON; undefined figures are null."""
    from dataclasses import asdict
    from math import isfinite

    found = asdict(point)
    for name, margin in (("margin", point.margin), ("gain", point.gain)):
        if margin is not None:
            finite = {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in found[name].items()}
            found[name] = {**finite, "verdict": margin.verdict}
    return found


@click.command("labels")
@results_option
@dataset_option
@click.option("--method", "-m", metavar="METHOD", required=True, help="As it was typed in the run.")
@click.option("--before", metavar="METHOD", default="original", help="What it is compared with.")
@output_option("labels")
@json_option
def labels_command(
    results: Path | None, dataset: str | None, method: str, before: str, outputs: tuple[Path, ...], as_json: bool
) -> None:
    """F1 of every label before and after a method (Figure 7).

    Labels whose change differs from the median change by more than the test split explains are
    named and printed.
    """
    from biasbench.cli.output import emit, emit_json
    from biasbench.cli.pictures import blocks, changes_of
    from biasbench.errors import UsageError, printable
    from biasbench.plots.labels import draw_labels

    store = ready(results, outputs)
    every = blocks(store, dataset, by_measurement=False)
    found = [(t, changes) for t, records in every if (changes := changes_of(store, records, before, method))]
    if not found:
        known = sorted({str(r["method"]) for _, records in every for r in records})
        raise UsageError(
            f"no seed has runs of both {printable(before)!r} and {printable(method)!r}",
            fix=f"Methods: {printable(', '.join(known) or 'none', 1000)}",
        )
    for number, (title, changes) in enumerate(found, 1):
        for path in numbered(outputs, number, len(found)):
            draw_labels(path, changes, title, before, method)
    if as_json:
        emit_json("labels", {"before": before, "after": method,
                             "pictures": [{"title": t, **changes_json(c)} for t, c in found]})  # fmt: skip
    else:
        emit("\n\n".join(labels_text(title, changes) for title, changes in found))


def labels_text(title: str, changes: Changes) -> str:
    """The labels that fall out, and how many there are."""
    from biasbench.cli.output import grid, render
    from biasbench.errors import printable

    out = changes.falls_out.nonzero()[0]
    rows = [
        [changes.names[i], str(changes.positives[i]), f"{changes.before[i]:.2f}", f"{changes.after[i]:.2f}",
         f"{changes.change[i]:+.2f}", f"{changes.error[i]:.2f}"]
        for i in sorted(out, key=lambda i: changes.change[i])
    ]  # fmt: skip
    empty = int((changes.positives == 0).sum())
    facts = (
        f"{len(changes.names)} labels, {empty} of them without an example in the test split; pairs of runs: "
        f"{changes.seeds}; median change of F1 {changes.shift:+.2f}.\n"
        f"{len(out)} labels fall out: their change differs from the median by more than chance in the choice of test "
        "images explains (5 % for all labels together)."
    )
    lines = [printable(title), facts]
    head = ("label", "test images", "F1 before", "F1 after", "change", "standard error")
    return "\n".join([*lines, "", render(grid(head, rows))] if rows else lines)


def changes_json(changes: Changes) -> dict[str, Any]:
    """All labels as JSON; undefined figures are null."""
    from math import isfinite

    columns = {"f1_before": changes.before, "f1_after": changes.after, "standard_error": changes.error}
    labels = [
        {"name": name, "test_images": int(changes.positives[i]), "falls_out": bool(changes.falls_out[i]),
         **{key: float(v[i]) if isfinite(v[i]) else None for key, v in columns.items()}}
        for i, name in enumerate(changes.names)
    ]  # fmt: skip
    return {"pairs": changes.seeds, "median_change": changes.shift, "labels": labels}


@click.command("grid")
@results_option
@data_root_option
@dataset_option
@click.option(
    "--method", "-m", "methods", multiple=True, metavar="METHOD", required=True,
    help="As it was typed in the run. Repeatable: side by side, in the order given.",
)  # fmt: skip
@click.option("--count", type=click.IntRange(1, 64), default=16, help="Images on the page.")
@click.option(
    "--columns", type=click.IntRange(1, 8), metavar="N", help="Originals in a row.  [default: as many as fit]"
)
@click.option("--seed", type=click.IntRange(min=0), metavar="INT", default=0, help="Of the choice of images.")
@output_option("grid")
@plugin_option
def grid_command(
    results: Path | None,
    data_roots: tuple[Path, ...],
    dataset: str | None,
    methods: tuple[str, ...],
    count: int,
    columns: int | None,
    seed: int,
    outputs: tuple[Path, ...],
    plugin_files: tuple[Path, ...],
) -> None:
    """Test images as methods leave them, beside the originals (Figure 6).

    For methods that edit pixels, as blackout-segm and blur-segm, and for adv-image: what the mask
    of the trained run leaves. Edits are made at the original size; shown is the centre crop that
    models see. As many images of each group as can be.
    """
    from biasbench.cli.images import images_of
    from biasbench.cli.output import note
    from biasbench.cli.pictures import blocks, runs_of
    from biasbench.config import load_settings
    from biasbench.errors import UsageError, printable
    from biasbench.plots.grid import draw_grid
    from biasbench.plugins import load_plugins

    store = ready(results, outputs)
    plugins, settings = load_plugins(plugin_files), load_settings(data=data_roots, results=results)
    every = blocks(store, dataset, by_measurement=False)
    runs = runs_of(every, methods)
    if not runs:
        known = sorted({str(r["method"]) for _, records in every for r in records})
        alike = " made alike" if len(methods) > 1 else ""
        raise UsageError(
            f"no run of {' and '.join(repr(printable(m)) for m in methods)}{alike}",
            fix=f"Methods: {printable(', '.join(known) or 'none', 1000)}",
        )
    for number, (name, records) in enumerate(runs.items(), 1):
        shown = images_of(store, records, plugins, settings, count, seed)
        title = f"{name}, test split; left to right: the image, {', '.join(methods)}"
        for path in numbered(outputs, number, len(runs)):
            draw_grid(path, *shown, title, columns or max(1, 8 // (1 + len(methods))))
        note(f"{len(shown[0])} images of {printable(name)}")


def ready(results: Path | None, outputs: Sequence[Path]) -> Store:
    """The store, once it is sure that pictures can be drawn.

    Raises:
        UsageError: For an unknown ending, or without matplotlib.
        StoreError: When the folder holds no results.
    """
    from biasbench.cli.leakage import check_plot
    from biasbench.config import load_settings
    from biasbench.store import Store

    for path in outputs:
        check_plot(path)
    return Store(load_settings(results=results).results)


def numbered(outputs: Sequence[Path], number: int, of: int) -> list[Path]:
    """The files of one picture: `x.svg`, or `x-2.svg` where there are several."""
    return [path if of == 1 else path.with_stem(f"{path.stem}-{number}") for path in outputs]
