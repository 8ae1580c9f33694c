"""`biasbench leaderboard`: the store's records as a table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from biasbench.cli.lazy import Choice
from biasbench.cli.options import plugin_option, results_option

if TYPE_CHECKING:
    from biasbench.cli.boards import Board
    from biasbench.leaderboard import Row
    from biasbench.metric import Column
    from biasbench.plugins import Plugins
    from biasbench.store import Store

FORMATS = ("rich", "md", "tex", "html", "csv", "json")
TOP = 50


@click.command("leaderboard")
@results_option
@click.option("--format", "form", type=Choice(FORMATS), default="rich", help="How to print it.")
@click.option("--sort", metavar="COLUMN", help="Best first by this column; a leading '-' turns the order round.")
@click.option(
    "--against", metavar="WHAT",
    help="Measured beside published figures: 'published' for the tables of Wang et al. 2019, or a benchmark file.",
)  # fmt: skip
@click.option(
    "--top", type=click.IntRange(min=1), metavar="N",
    help=f"Only the first N rows.  [default: {TOP} in the table for the terminal, all in other formats]",
)  # fmt: skip
@click.option("--strict", is_flag=True, help="End with 1 unless every planned seed of every row has a score.")
@plugin_option
def leaderboard_command(
    results: Path | None,
    form: str,
    sort: str | None,
    against: str | None,
    top: int | None,
    strict: bool,
    plugin_files: tuple[Path, ...],
) -> None:
    """Show the results: means over seeds with their spread.

    Cells that failed or cannot run are rows too, with the reason. Rows stand in the order of
    the plan: no ranks are printed, since the noise may not support them. With --against, each
    published figure has a line: measured, published, the difference in standard errors, and below
    what was made differently from the paper.
    """
    from biasbench.cli.output import note
    from biasbench.config import load_settings
    from biasbench.errors import EXIT_CELLS_FAILED
    from biasbench.plugins import load_plugins

    folder, plugins = load_settings(results=results).results, load_plugins(plugin_files)
    board = load_board(folder, plugins, sort)
    if against is None:
        print_board(board, form, top)
    else:
        print_against(board, folder, against, form)
    if strict and (lacking := incomplete(board.rows)):
        note(f"{len(lacking)} of {len(board.rows)} rows are incomplete: {', '.join(lacking[:5])}")
        click.get_current_context().exit(EXIT_CELLS_FAILED)


def incomplete(rows: Sequence[Row]) -> list[str]:
    """Methods of the rows of which a planned seed has no score; what cannot run at all is not incomplete."""
    return [f"{row.method} ({len(row.seeds)}/{len(row.planned)})" for row in rows if row.status not in ("ok", "n/a")]


def load_board(results: Path, plugins: Plugins, sort: str | None = None, keys: Collection[str] | None = None) -> Board:
    """The board of a results folder.

    Args:
        results: The folder.
        plugins: Whose metrics declare the columns.
        sort: As for `sort_rows`; None keeps the order of the plan.
        keys: Only these cells.

    Raises:
        StoreError: When the folder holds no results.
        UsageError: When `sort` names no column.
    """
    from biasbench.cli.boards import Board
    from biasbench.derived import derived_columns
    from biasbench.leaderboard import find_column, sort_rows
    from biasbench.standings import standings
    from biasbench.store import Store

    columns = declared_columns(plugins)
    columns += derived_columns(columns)
    found = standings(Store(results), columns, keys)
    if sort is None:
        return Board(found.rows, columns, None, found.unknown)
    by = find_column(columns, sort.removeprefix("-"))
    return Board(sort_rows(found.rows, columns, sort), columns, by, found.unknown)


def declared_columns(plugins: Plugins) -> list[Column]:
    """The columns of every metric that can be loaded, each class once.

    A metric that cannot be loaded is named on standard error; the others are shown.

    Raises:
        PluginError: When two metrics declare one column.
    """
    from biasbench.cli.output import note
    from biasbench.errors import PluginError

    found: dict[str, tuple[Column, type]] = {}
    for offer in plugins.metrics:
        try:
            cls = offer.load()
        except PluginError as error:
            note(f"left out: {error}")
            continue
        for column in cls.columns:
            known = found.setdefault(column.key, (column, cls))
            if known[1] is not cls:
                raise PluginError(
                    f"two metrics declare the column {column.key!r}: {known[1].__name__} and {cls.__name__}",
                    fix="Uninstall one of them, or leave out one --plugin",
                )
    return [column for column, _ in found.values()]


def print_board(board: Board, form: str, top: int | None = None) -> None:
    """Print a board, or its first rows, in one of `FORMATS`; for the terminal never more rows than can be read."""
    from dataclasses import replace

    from biasbench.cli import boards, pages
    from biasbench.cli.output import emit, emit_json

    board = replace(board, top=top or (TOP if form == "rich" else None))
    if form == "json":
        emit_json("leaderboard", boards.document(board))
    elif form in ("tex", "html"):
        emit((pages.latex if form == "tex" else pages.page)(boards.sheets(board)))
    else:
        emit({"rich": boards.rich_text, "md": boards.markdown, "csv": boards.csv_text}[form](board))


def print_against(board: Board, results: Path, what: str, form: str) -> None:
    """Print a board beside published figures, in one of `FORMATS`.

    Raises:
        UsageError: When `what` is neither `published` nor a benchmark file.
        DataError: When this installation has no tables.
    """
    from biasbench.cli import against, pages
    from biasbench.cli.output import emit, emit_json
    from biasbench.published import compare, find_tables
    from biasbench.store import Store

    tables, store = find_tables(what), Store(results)
    records = list(store.records())
    found = compare(board.rows, tables, [c.key for c in board.columns], lambda row: examples_of(store, records, row))
    beside = against.Beside(found, board.columns)
    if form == "json":
        emit_json("comparison", against.document(beside))
    elif form in ("tex", "html"):
        emit((pages.latex if form == "tex" else pages.page)(against.sheets(beside)))
    else:
        emit({"rich": against.rich_text, "md": against.markdown, "csv": against.csv_text}[form](beside))


def examples_of(store: Store, records: Sequence[Mapping[str, Any]], row: Row) -> dict[str, int]:
    """Images in validation and test of a row's runs, from the stored truth; training rows may be a selection."""
    import pyarrow.parquet as parquet

    from biasbench.leaderboard import GROUP

    wanted = [getattr(row, name) for name in GROUP]
    for record in records:
        if record["status"] == "ok" and [str(record[name]) for name in GROUP] == wanted:
            files = {split: store.run(record["key"]) / "truth" / f"{split}.parquet" for split in ("val", "test")}
            return {split: parquet.read_metadata(f).num_rows for split, f in files.items() if f.exists()}
    return {}
