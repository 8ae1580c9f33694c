"""The leaderboard as text: rich table, Markdown, LaTeX, HTML, CSV and JSON."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from biasbench.errors import printable
from biasbench.leaderboard import MARKS, NOTHING, Figure, Row, distinct, rank

if TYPE_CHECKING:
    from biasbench.cli.pages import Sheet
    from biasbench.metric import Column

UNDEFINED = "–"  # noqa: RUF001
WAYS = {"higher": " ↑", "lower": " ↓", "zero": " →0", "none": ""}
CONTEXT = ("profile", "protocol", "attribute", "weights")
SIGNS = {"transductive": "(t)", "privileged": "(p)", "degenerate": "(d)"}
IDENTITY = ("method", "dataset", "backbone", "profile", "attribute", "protocol", "weights", "status")


@dataclass(frozen=True)
class Board:
    """Rows with what is needed to show them.

    Attributes:
        rows: In the order to show.
        columns: Every declared column.
        sorted_by: The column the rows are sorted by, or None.
        unknown: Stored figures that no loaded metric declares.
        top: How many rows are shown; None for all.
    """

    rows: Sequence[Row]
    columns: Sequence[Column]
    sorted_by: Column | None = None
    unknown: Sequence[str] = ()
    top: int | None = None

    @property
    def listed(self) -> Sequence[Row]:
        """The rows that are shown; what is said of all rows is said of those too that are not."""
        return self.rows[: self.top]

    @property
    def shown(self) -> list[Column]:
        """Columns of the text formats: those for the board that some row has, and the sorted one."""
        board = [c for c in self.columns if c.board]
        used = [c for c in board if any(r.figures.get(c.key, NOTHING).n for r in self.listed)] or board
        return used if self.sorted_by is None or self.sorted_by in used else [*used, self.sorted_by]

    @property
    def context(self) -> dict[str, str]:
        """What all rows have in common, and so stands below the table and not in it."""
        return {name: values.pop() for name in CONTEXT if len(values := self._values(name)) == 1}

    @property
    def varying(self) -> list[str]:
        """What differs between rows and needs a column."""
        return [name for name in CONTEXT if len(self._values(name)) > 1]

    @property
    def shared_flags(self) -> tuple[str, ...]:
        """Flags that all rows carry; they stand below the table once, unless it has one row only."""
        first, *others = [_flags(row) for row in self.rows] or [()]
        return tuple(f for f in first if others and all(f in flags for flags in others))

    @property
    def rules(self) -> list[int]:
        """Numbers of the rows that begin a part of their own: rows are compared with those of equal rank."""
        pairs = itertools.pairwise(map(rank, self.listed))
        return [i for i, (above, below) in enumerate(pairs, 1) if above != below and below]

    def _values(self, name: str) -> set[str]:
        rows = [r for r in self.rows if r.figures] or self.rows  # a row without a score has no weights to tell
        return {getattr(row, name) for row in (rows if name == "weights" else self.rows)}


def _flags(row: Row) -> tuple[str, ...]:
    """Flags worth words: the weights stand in a column or below the table already."""
    return tuple(f for f in row.flags if f != f"weights={row.weights}")


def number(value: float, unit: str) -> str:
    """One decimal for percent; for other units up to three decimals, none for whole numbers.

    Example:
        >>> number(72.25, "%"), number(1200.0, ""), number(0.12345, "")
        ('72.2', '1200', '0.123')
    """
    if unit == "%":
        return f"{round(value, 1) + 0.0:.1f}"
    return f"{value:.0f}" if value == int(value) else f"{value:.3f}"


def cell(figure: Figure, column: Column, planned: int) -> str:
    """`mean ± std`, `(r)` if the spread is over rounds, `(4/5)` if seeds are missing."""
    if figure.mean is None:
        return UNDEFINED
    text = number(figure.mean, column.unit)
    if figure.std is not None:
        text += f" ± {number(figure.std, column.unit)}" + (" (r)" if figure.spread == "rounds" else "")
    return text if figure.seeds >= planned else f"{text} ({figure.seeds}/{planned})"


def table(board: Board) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the text formats."""
    head = ["method", "dataset", "backbone", *board.varying, "seeds"]
    head += [f"{c.title}{f' {c.unit}' if c.unit else ''}{WAYS[c.better]}" for c in board.shown]
    lines, above = [], None
    for row in board.listed:
        count = len(row.seeds) if len(row.seeds) == len(row.planned) else f"{len(row.seeds)}/{len(row.planned)}"
        figures = [cell(row.figures.get(c.key, NOTHING), c, len(row.planned)) for c in board.shown]
        if not row.figures:
            figures = [row.status, *[""] * (len(board.shown) - 1)] if board.shown else []
        elif (by := board.sorted_by) is not None:
            at = board.shown.index(by)
            if above is not None and rank(above) == rank(row):
                near = not distinct(above.figures.get(by.key), row.figures.get(by.key))
                figures[at] = f"≈ {figures[at]}" if near else figures[at]
        named = [" ".join([row.method, *(SIGNS[mark] for mark in row.marks)])]
        named += [getattr(row, name) for name in ("dataset", "backbone", *board.varying)]
        notes = [*(f for f in _flags(row) if f not in board.shared_flags), *row.reasons]
        lines.append([*named, str(count), *figures, "; ".join(notes)])
        above = row
    if any(line[-1] for line in lines):
        return [*head, "notes"], lines
    return head, [line[:-1] for line in lines]


def about_spread(figures: Iterable[Figure]) -> Iterator[str]:
    """What ± says of some figures, and its absence."""
    shown = list(figures)
    spreads = {f.spread for f in shown}
    if "seeds" in spreads:
        yield "± is the sample standard deviation over seeds (ddof = 1)."
    if "rounds" in spreads:
        yield "± … (r) is the standard deviation over the rounds of the only seed (ddof = 0)."
    if any(f.mean is not None and f.std is None for f in shown):
        yield "A figure without ± comes from one seed and one round: nothing is known of its spread."


def legend(board: Board) -> Iterator[str]:
    """What the reader needs to know about the signs in the table; nothing about those that do not occur."""
    if hidden := len(board.rows) - len(board.listed):
        yield (
            f"The first {len(board.listed)} of {len(board.rows)} rows, {hidden} are left out: "
            f"'biasbench leaderboard --top {len(board.rows)}' shows all, so do --format csv and json."
        )
    if board.context:
        yield "All rows: " + ", ".join(f"{k} {printable(v)}" for k, v in board.context.items() if v) + "."
    if board.shared_flags:
        yield f"Flags of all rows: {'; '.join(printable(f) for f in board.shared_flags)}."
    figures = [r.figures.get(c.key, NOTHING) for r in board.listed if r.figures for c in board.shown]
    yield from about_spread(figures)
    if any(f.mean is not None and f.seeds < len(r.planned) for r in board.listed for f in r.figures.values()):
        yield "(k/n): only k of n planned seeds have this figure."
    if any(f.mean is None for f in figures):
        yield f"{UNDEFINED} is undefined or not measured."
    marks = {mark for row in board.listed for mark in row.marks}
    yield from (f"{SIGNS[mark]} {mark}: {said}." for mark, said in MARKS.items() if mark in marks)
    if board.rules:
        yield "Marked rows stand apart, by kind: they are to be compared with each other only."
    if board.sorted_by is not None:
        yield (
            f"Sorted by {board.sorted_by.title}; ≈: not apart from the row above "
            "by more than the combined ±, so their order means nothing."
        )
    elif board.listed:
        yield "Rows stand in the order of the plan, not of merit."
    if board.unknown:
        names = ", ".join(printable(k) for k in board.unknown)
        yield f"Not shown, since no loaded metric declares them: {names}. Load their plugin with --plugin."


def rich_text(board: Board) -> str:
    """A table for the terminal, with its legend."""
    from biasbench.cli.output import grid, render

    head, lines = table(board)
    return render(grid(head, lines, rules=board.rules)) + "\n\n" + "".join(f"{line}\n" for line in legend(board))


def markdown(board: Board) -> str:
    """A Markdown table for each part of the board, names escaped."""
    head, lines = table(board)
    ends = [0, *board.rules, len(lines)]
    parts = [
        [head, ["---"] * len(head), *([escape(c) for c in line] for line in lines[start:end])]
        for start, end in itertools.pairwise(ends)
    ]
    text = "\n".join("".join(f"| {' | '.join(row)} |\n" for row in part) for part in parts)
    return text + "\n" + "".join(f"{escape(line)}  \n" for line in legend(board))


def sheets(board: Board) -> list[Sheet]:
    """The board for LaTeX and HTML."""
    from biasbench.cli.pages import Sheet

    head, lines = table(board)
    return [Sheet(head, lines, board.rules, below=list(legend(board)))]


def escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>|&~$#])", r"\\\1", printable(text, 2000))


def csv_text(board: Board) -> str:
    """Full precision, one line a row; three columns a figure."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    figures = [f"{c.key}_{part}" for c in board.columns for part in ("mean", "std", "n")]
    writer.writerow([*IDENTITY, "seeds", "planned", "reasons", "flags", "marks", *figures])
    for row in board.listed:
        lists = (row.seeds, row.planned, row.reasons, row.flags, row.marks)
        texts = [getattr(row, name) for name in IDENTITY]
        texts += ["; ".join(map(str, values)) for values in lists]
        numbers: list[Any] = []
        for column in board.columns:
            f = row.figures.get(column.key, NOTHING)
            numbers += ["" if f.mean is None else f.mean, "" if f.std is None else f.std, f.n]
        writer.writerow([*(harmless(t) for t in texts), *numbers])
    return out.getvalue()


def harmless(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    shown = printable(text, 2000)
    return f"'{shown}" if shown.lstrip()[:1] in ("=", "+", "-", "@") or text[:1] in ("\t", "\r", "\n") else shown


def document(board: Board) -> Mapping[str, Any]:
    """For JSON: declared columns, and rows that carry each column as mean, std, n, spread, seeds."""
    rows = []
    for row in board.listed:
        fields = {k: v for k, v in asdict(row).items() if k not in ("figures", "order")}
        rows.append({**fields, **{c.key: asdict(row.figures.get(c.key, NOTHING)) for c in board.columns}})
    return {
        "columns": [asdict(c) for c in board.columns],
        "sorted_by": board.sorted_by.key if board.sorted_by else None,
        "unknown_columns": list(board.unknown),
        "rows": rows,
    }
