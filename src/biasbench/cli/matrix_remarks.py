"""What stands below matrices of methods by attributes: counts near chance, remarks, the legend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from biasbench.cli.boards import SIGNS, UNDEFINED, Board, about_spread
from biasbench.errors import printable
from biasbench.leaderboard import MARKS
from biasbench.matrix import GUESSES, PLAIN, Entry, Line, Matrix, Near, totals
from biasbench.measures.unlearning import NEAR_CHANCE
from biasbench.metric import Column

NAMED = "*"


@dataclass(frozen=True)
class Shown:
    """Matrices with what is needed to show them.

    Attributes:
        matrices: In the order to show.
        column: The figure that they hold.
        others: Columns with figures, where this one has none at all.
    """

    matrices: tuple[Matrix, ...]
    column: Column
    others: tuple[str, ...] = ()

    @property
    def guessed(self) -> bool:
        """Whether the figure is a share of right guesses, so that there is a chance to compare it with."""
        return self.column.key in GUESSES

    @property
    def entries(self) -> list[Entry]:
        """All of them."""
        return [entry for matrix in self.matrices for line in matrix.lines for entry in line.entries.values()]


def board(matrix: Matrix) -> Board:
    """Its rows as a leaderboard, for the flags they share and the rules between kinds of rows."""
    return Board([line.row for line in matrix.lines], ())


def counts(matrix: Matrix) -> Iterator[str]:
    """How many attributes each row leaves near chance."""
    for line in matrix.lines:
        if line.entries:
            named = any(entry.named for entry in line.entries.values())
            yield f"{printable(line.row.method, 2000)}: " + _near(line.near(named=False), line.near(named=True), named)


def sums(shown: Shown) -> Iterator[str]:
    """The same over the rows of several tables that were made alike."""
    if shown.guessed:
        for total in totals(shown.matrices):
            sets = len(total.datasets)
            where = f"{total.lines} rows on {sets} data set{'s' if sets > 1 else ''}"
            made = f" ({', '.join(printable(text) for text in total.made if text)})"
            named = bool(total.named.known or total.named.unknown)
            yield f"{printable(total.method, 2000)}, {where}{made}: " + _near(total.every, total.named, named)


def _near(every: Near, named: Near, marked: bool) -> str:
    text = f"{_count(every, ' attributes')} within {NEAR_CHANCE:g} points of chance"
    return f"{text}; of those marked {NAMED}, {_count(named)}." if marked else f"{text}."


def _count(near: Near, what: str = "") -> str:
    left = f" ({near.unknown} more without a figure or a known chance)" if near.unknown else ""
    return f"{near.near} of {near.known}{what}{left}"


def remarks(matrix: Matrix, shown: Shown) -> Iterator[str]:
    """What concerns one table: flags, what is not there and why, and how many attributes are near chance."""
    flags = [f for f in board(matrix).shared_flags if f not in matrix.changes]
    if flags:
        yield f"Flags of all rows: {'; '.join(map(printable, flags))}."
    scored = [line for line in matrix.lines if line.entries]
    if scored and not matrix.plain:
        yield f"No difference is shown: no run of {PLAIN} was made alike."
    missing: Counter[str] = Counter()
    for line in scored:
        for entry in line.entries.values():
            missing.update(entry.undefined)
    if missing:
        reasons = (f"{reason}, {n} seed{'s' if n > 1 else ''}" for reason, n in missing.items())
        without = "a difference or % unlearned" if shown.guessed else "a difference"
        yield f"Without {without}, over methods, attributes and seeds: {'; '.join(reasons)}."
    for line in scored:
        for text in line.unresolved:
            yield (
                f"{printable(line.row.method, 2000)}: no attribute of {printable(text)} is marked, since its primary "
                "one is not known here. Load its plugin with --plugin."
            )
    if shown.guessed:
        yield from counts(matrix)


def legend(shown: Shown) -> Iterator[str]:
    """What the reader needs to know about the signs; nothing about those that do not occur."""
    column, entries = shown.column, shown.entries
    lines = [line for matrix in shown.matrices for line in matrix.lines]
    figures = [entry.figure for entry in entries]
    yield f"Figure: {', '.join(printable(text) for text in (column.title, column.help) if text)}."
    yield from about_spread(figures)
    if any(entry.stored for entry in entries):
        yield (
            "[ ] behind a figure of one seed: the 95 % interval that its metric stored; of attackers, over test images "
            "with this one model."
        )
    pairs = [entry.difference for entry in entries if entry.difference]
    if pairs:
        yield (
            f"- {PLAIN}: the method's figure less {PLAIN}'s, paired by seed; [ ]: the 95 % interval of its mean by "
            "Student's t over the pairs, each for one attribute alone: of twenty, one misses by chance."
        )
    if any(pair.n == 1 for pair in pairs):
        yield "A difference without [ ] rests on one pair of seeds: it has no interval."
    if any(entry.unlearned for entry in entries):
        yield (
            f"% unlearned: ({PLAIN} - method) / ({PLAIN} - chance) of each pair (Table 1 of Alvi et al. 2018), mean ± "
            "sample standard deviation over pairs; above 100 where a method's figure is below chance."
        )
    if shown.guessed:
        yield (
            f"chance: 100 / groups that were measured. Within {NEAR_CHANCE:g} points of it: the mean over seeds is at "
            "most so far above."
        )
    elif entries:
        yield f"{column.title} is no share of right guesses: it has no chance and no % unlearned."
    if any(entry.named for entry in entries):
        yield f"{NAMED}: the method was told to work on this attribute (its options attribute, attributes or data)."
    if any(_short(line) for line in lines):
        yield "(k/n): only k of n planned seeds have this figure."
    if any(f.mean is None for f in figures) or any(e.undefined for e in entries):
        yield f"{UNDEFINED} is undefined or not measured."
    marks = {mark for line in lines for mark in line.row.marks}
    yield from (f"{SIGNS[mark]} {mark}: {said}." for mark, said in MARKS.items() if mark in marks)
    if any(board(matrix).rules for matrix in shown.matrices):
        yield "Marked rows stand apart, by kind: they are to be compared with each other only."
    yield "Rows stand in the order of the plan, not of merit."
    if shown.others:
        yield f"Nothing here has {column.title}. There are: {', '.join(map(printable, shown.others))}."


def _short(line: Line) -> bool:
    """Whether some figure of a row lacks a planned seed."""
    counts = [n for e in line.entries.values() for n in (e.figure.seeds, e.difference.n if e.difference else 0,
              e.unlearned.seeds if e.unlearned else 0)]  # fmt: skip
    return any(0 < n < len(line.row.planned) for n in counts)
