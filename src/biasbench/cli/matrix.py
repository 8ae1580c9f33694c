"""`biasbench matrix`: methods by protected attributes, each against the plain model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from biasbench.cli.lazy import Choice
from biasbench.cli.options import plugin_option, results_option

if TYPE_CHECKING:
    from biasbench.cli.matrix_remarks import Shown
    from biasbench.metric import Column
    from biasbench.plugins import Plugins

FORMATS = ("text", "md", "tex", "html", "csv", "json")
PREFERRED, FALLBACK = "embedding", "lambda_m"


@click.command("matrix")
@results_option
@click.option(
    "--column", metavar="COLUMN",
    help="The figure to show, as the leaderboard calls it.  [default: embedding where it was measured, else lambda_m]",
)  # fmt: skip
@click.option("--format", "form", type=Choice(FORMATS), default="text", help="How to print it.")
@plugin_option
def matrix_command(results: Path | None, column: str | None, form: str, plugin_files: tuple[Path, ...]) -> None:
    """Show what each method leaves of every protected attribute, before and after.

    One table for each data set, backbone, profile and protocol: a row for each method, original first, a
    column for each attribute measured, those of secondary data sets included. Below each figure: the
    difference to original, paired by seed, with its 95 % interval, and the percent unlearned. Attributes that the
    method was told to work on are marked.
    """
    from biasbench.cli import matrix_data, matrix_text, pages
    from biasbench.cli.output import emit, emit_json
    from biasbench.config import load_settings
    from biasbench.plugins import load_plugins

    shown = load_matrices(load_settings(results=results).results, load_plugins(plugin_files), column)
    if form == "json":
        emit_json("matrix", matrix_data.document(shown))
    elif form in ("tex", "html"):
        write = pages.latex if form == "tex" else pages.page
        emit(write(matrix_text.sheets(shown), matrix_text.closing(shown)))
    else:
        emit({"text": matrix_text.rich_text, "md": matrix_text.markdown, "csv": matrix_data.csv_text}[form](shown))


def load_matrices(results: Path, plugins: Plugins, name: str | None) -> Shown:
    """The matrices of a results folder.

    Args:
        results: The folder.
        plugins: Whose metrics declare the columns, and whose data sets methods may name.
        name: Key or title of a column; None for the default.

    Raises:
        StoreError: When the folder holds no results.
        UsageError: When no column has this name.
    """
    from functools import cache

    from biasbench.cli.leaderboard import declared_columns
    from biasbench.cli.matrix_remarks import Shown
    from biasbench.errors import StoreError, printable
    from biasbench.leaderboard import find_column
    from biasbench.matrix import matrices
    from biasbench.runfolder import RunFolder
    from biasbench.store import Store

    store = Store(results)
    columns = declared_columns(plugins)
    records = store.records()
    column = find_column(columns, default_column(records) if name is None else name)
    if not records:
        raise StoreError("holds no results", where=printable(results), fix="Run something first: see 'biasbench run'")
    found = matrices(records, column, cache(lambda key: RunFolder(store, key, plugins)))
    return Shown(tuple(found), column, others(records, columns, column))


def default_column(records: Iterable[Mapping[str, Any]]) -> str:
    """`embedding` where some run has it, else `lambda_m`.

    Example:
        >>> default_column([{"values": {"embedding": {"mean": None}}}])
        'lambda_m'
    """
    figures = (record["values"].get(PREFERRED) or {} for record in records)
    return PREFERRED if any(figure.get("mean") is not None for figure in figures) else FALLBACK


def others(records: Sequence[Mapping[str, Any]], columns: Sequence[Column], column: Column) -> tuple[str, ...]:
    """Where nothing has the column's figure: the columns of which something has one."""
    there = {k for record in records for k, v in record["values"].items() if v and v.get("mean") is not None}
    return () if column.key in there else tuple(c.key for c in columns if c.key in there)
