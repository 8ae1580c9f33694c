"""Matrices of methods by attributes as text: rich tables, Markdown, LaTeX and HTML."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from biasbench.cli.boards import SIGNS, UNDEFINED, WAYS, cell, escape, number
from biasbench.cli.matrix_remarks import NAMED, Shown, board, legend, remarks, sums
from biasbench.errors import printable
from biasbench.leaderboard import NOTHING
from biasbench.matrix import PLAIN, Entry, Matrix
from biasbench.metric import Column
from biasbench.pairs import Difference

if TYPE_CHECKING:
    from biasbench.cli.pages import Sheet

PERCENT = Column("unlearned", "unlearned", "none")


def title(matrix: Matrix) -> str:
    """What all rows of a matrix share."""
    made = f"{matrix.dataset}, {matrix.backbone}, profile {matrix.profile}, protocol {matrix.protocol}"
    return "; ".join([f"{made}, weights {matrix.weights}" if matrix.weights else made, *matrix.changes])


def table(matrix: Matrix, shown: Shown) -> tuple[list[str], list[list[str]], list[int]]:
    """Headings, cells, and the numbers of the rows that begin a part of their own."""
    column = shown.column
    head = ["method", "seeds", "", *(_heading(matrix, name) for name in matrix.attributes), "notes"]
    what = f"{column.title}{f' {column.unit}' if column.unit else ''}{WAYS[column.better]}"
    about = board(matrix)
    known = {*about.shared_flags, *matrix.changes, f"weights={matrix.weights}"}
    rows: list[list[str]] = []
    starts = []
    for line in matrix.lines:
        row, planned = line.row, len(line.row.planned)
        starts.append(len(rows))
        count = str(len(row.seeds)) if len(row.seeds) == planned else f"{len(row.seeds)}/{planned}"
        method = " ".join([row.method, *(SIGNS[mark] for mark in row.marks)])
        entries = [line.entries.get(name) for name in matrix.attributes]
        cells = [_figure(entry, column, planned) for entry in entries if entry is not None]
        if not line.entries:
            cells = [row.status, *[""] * (len(entries) - 1)]
        notes = "; ".join([*(f for f in row.flags if f not in known), *row.reasons])
        rows.append([method, count, what if line.entries else "", *cells, notes])
        if row.method == PLAIN or not line.entries or not matrix.plain:
            continue
        scored = [entry for entry in entries if entry is not None]
        rows.append(["", "", f"- {PLAIN}", *(_difference(e.difference, column.unit, planned) for e in scored), ""])
        if shown.guessed:
            gone = [cell(entry.unlearned or NOTHING, PERCENT, planned) for entry in scored]
            rows.append(["", "", "% unlearned", *gone, ""])
    if not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return head, rows, [starts[i] for i in about.rules]


def _heading(matrix: Matrix, name: str) -> str:
    chances = {line.entries[name].chance for line in matrix.lines if line.entries} - {None}
    return f"{name} (chance {chances.pop():.1f})" if len(chances) == 1 else name


def _figure(entry: Entry, column: Column, planned: int) -> str:
    text = cell(entry.figure, column, planned)
    if entry.stored is not None:
        text += f" {_ends(*(number(end, column.unit) for end in entry.stored))}"
    return f"{text} {NAMED}" if entry.named else text


def _difference(found: Difference | None, unit: str, planned: int) -> str:
    if found is None:
        return UNDEFINED
    text = _signed(found.mean, unit)
    if found.low is not None and found.high is not None:
        text += f" {_ends(_signed(found.low, unit), _signed(found.high, unit))}"
    return text if found.n >= planned else f"{text} ({found.n}/{planned})"


def _signed(value: float, unit: str) -> str:
    text = number(value, unit)
    return f"+{text}" if float(text) > 0 else text


def _ends(low: str, high: str) -> str:
    return f"[{low}, {high}]"


def rich_text(shown: Shown) -> str:
    """Tables for the terminal, each with its remarks; sums and legend once."""
    from biasbench.cli.output import grid, render

    parts = []
    for matrix in shown.matrices:
        head, rows, rules = table(matrix, shown)
        below = "".join(f"{line}\n" for line in remarks(matrix, shown))
        shown_as = grid([*map(printable, head)], rows, title=printable(title(matrix), 2000), rules=rules)
        parts.append(render(shown_as) + "\n\n" + below)
    parts += ["".join(f"{line}\n" for line in lines) for lines in (sums(shown), legend(shown))]
    return "\n".join(part for part in parts if part)


def markdown(shown: Shown) -> str:
    """Markdown tables, names escaped."""
    parts = []
    for matrix in shown.matrices:
        head, rows, rules = table(matrix, shown)
        parts.append(f"**{escape(title(matrix))}**\n")
        for start, end in itertools.pairwise([0, *rules, len(rows)]):
            cells = [[escape(c) for c in row] for row in (head, *rows[start:end])]
            cells.insert(1, ["---"] * len(head))
            parts.append("".join(f"| {' | '.join(row)} |\n" for row in cells))
        parts.append("".join(f"{escape(line)}  \n" for line in remarks(matrix, shown)))
    parts += ["".join(f"{escape(line)}  \n" for line in lines) for lines in (sums(shown), legend(shown))]
    return "\n".join(part for part in parts if part)


def sheets(shown: Shown) -> list[Sheet]:
    """The matrices for LaTeX and HTML; sums and legend stand below the last one by `closing`."""
    from biasbench.cli.pages import Sheet

    made = []
    for matrix in shown.matrices:
        head, rows, rules = table(matrix, shown)
        made.append(Sheet(head, rows, rules, title(matrix), list(remarks(matrix, shown))))
    return made


def closing(shown: Shown) -> list[str]:
    """Sums and legend."""
    return [*sums(shown), *legend(shown)]
