"""Measured figures beside a paper's: the difference, its standard error, and what was made differently."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from biasbench.benchmark import Benchmark, BenchmarkRow, PublishedFigure, load_benchmark, shipped
from biasbench.errors import DataError, printable
from biasbench.grammar import parse
from biasbench.leaderboard import Figure, Row, standard_error
from biasbench.recipe import load_recipe

SHIPPED = "published"
Examples = Callable[[Row], Mapping[str, int]]


@dataclass(frozen=True)
class Compared:
    """One figure, measured and published.

    Attributes:
        row: The measured row.
        column: The column's key.
        measured: Mean, spread and n; undefined where the row has no such figure.
        published: As printed.
        rounds: Attackers behind the published ±, or None.
        sources: Papers and tables that print this figure.
    """

    row: Row
    column: str
    measured: Figure
    published: PublishedFigure
    rounds: int | None
    sources: tuple[str, ...]

    @property
    def difference(self) -> float | None:
        """Measured minus published."""
        return None if self.measured.mean is None else self.measured.mean - self.published.mean

    @property
    def error(self) -> float | None:
        """Standard error of the difference, √(e² + p²); None where the measured figure has no spread.

        e is that of the measured mean over seeds, or over the attackers of the only seed; p is the
        published ± over √(rounds - 1), 0 where none is printed. The paper trained one model a row:
        how another training of it would differ is in neither, so that the true error is larger.
        """
        own = standard_error(self.measured)
        if own is None:
            return None
        std, rounds = self.published.std, self.rounds
        return math.hypot(own, std / math.sqrt(rounds - 1) if std is not None and rounds is not None else 0.0)

    @property
    def in_errors(self) -> float | None:
        """The difference in standard errors; None without an error above 0."""
        return None if self.difference is None or not self.error else self.difference / self.error


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        lines: Measured beside published, in the order of the rows and of the columns.
        remarks: Plain sentences by row: what was made differently, what the table notes of it.
        notes: What the tables note of all their rows.
        unmatched: Rows with a score for which no table has a figure.
        without_column: Published keys that no metric measures.
    """

    lines: tuple[Compared, ...]
    remarks: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    unmatched: tuple[Row, ...]
    without_column: tuple[str, ...]


def find_tables(what: str) -> list[Benchmark]:
    """The shipped tables for `"published"`, else the benchmark file of that path or name.

    Raises:
        UsageError: When the file cannot be read.
        DataError: When this installation has no tables.
    """
    if what != SHIPPED:
        return [load_benchmark(Path(what))]
    if tables := [table for file in shipped().values() if (table := load_benchmark(file)).paper is not None]:
        return tables
    raise DataError("this installation holds no published tables", fix="Give a benchmark file: --against FILE")


def compare(rows: Sequence[Row], tables: Sequence[Benchmark], columns: Sequence[str], examples: Examples) -> Comparison:
    """Put the rows of a board beside published figures.

    A row is matched by the names in its method and by the name of its data set; other options do
    not prevent a comparison and become remarks. Where two tables print one figure, it is one line.

    Args:
        rows: From `aggregate`; those without a score are left out.
        tables: From `find_tables`.
        columns: Keys that metrics declare.
        examples: Images of a row's run by split, as far as known.
    """
    lines: list[Compared] = []
    remarks: dict[str, tuple[str, ...]] = {}
    unmatched: list[Row] = []
    notes: dict[str, None] = {}
    foreign: dict[str, None] = {}
    for row in (r for r in rows if r.figures):
        found = [(table, entry) for table in tables for entry in _entries(row, table)]
        if not any(_given(row, table, entry) for table, entry in found):
            unmatched.append(row)
            continue
        lines += _lines(row, found, columns)
        images = examples(row)
        said = [s for table, entry in found for s in (*differences(row, table, entry), *_counts(images, table))]
        said += [f"{source(table)}: {entry.note.rstrip('.')}" for table, entry in found if entry.note]
        name = f"{row.method} on {row.dataset}"
        remarks[name] = tuple(dict.fromkeys((*remarks.get(name, ()), *said)))
        notes |= {f"{source(t)}: {t.paper.note.rstrip('.')}": None for t, _ in found if t.paper and t.paper.note}
        foreign |= {key: None for t, entry in found for key in _given(row, t, entry) if key not in columns}
    return Comparison(tuple(lines), remarks, tuple(notes), tuple(unmatched), tuple(foreign))


def source(table: Benchmark) -> str:
    """The paper and table that a file holds, or its name."""
    return table.paper.source if table.paper else table.name


def _names(text: str) -> tuple[str, ...]:
    return tuple(component.name for component in parse(text))


def _entries(row: Row, table: Benchmark) -> Iterator[BenchmarkRow]:
    if any(_same_data(row.dataset, dataset) for dataset in table.datasets):
        yield from (entry for entry in table.rows if _names(entry.method) == _names(row.method))


def _same_data(own: str, theirs: str) -> bool:
    """Whether a row's data set is a table's: of that name, with every option that the table sets."""
    (mine,), (wanted,) = parse(own), parse(theirs)
    return mine.name == wanted.name and all(mine.kwargs.get(k) == v for k, v in wanted.kwargs.items())


def _given(row: Row, table: Benchmark, entry: BenchmarkRow) -> dict[str, PublishedFigure]:
    """What a table prints for a row: what does not depend on the attribute once, beside the first."""
    first = not table.attributes or row.attribute == table.attributes[0]
    return (dict(entry.published) if first else {}) | entry.by_attribute.get(row.attribute, {})


def _lines(row: Row, found: Sequence[tuple[Benchmark, BenchmarkRow]], columns: Sequence[str]) -> list[Compared]:
    """One line for each column and published mean; of two tables with one mean, the ± that is printed."""
    lines: dict[tuple[str, float], Compared] = {}
    for table, entry in found:
        rounds = table.paper.rounds if table.paper else None
        for key, figure in _given(row, table, entry).items():
            if key not in columns:
                continue
            known = lines.get((key, figure.mean))
            printed, behind = (figure, rounds) if known is None or known.published.std is None else (
                known.published, known.rounds)  # fmt: skip
            sources = (*(known.sources if known else ()), source(table))
            measured = row.figures.get(key, Figure(None, None, 0, None, 0))
            lines[key, figure.mean] = Compared(row, key, measured, printed, behind, sources)
    return sorted(lines.values(), key=lambda line: columns.index(line.column))


def differences(row: Row, table: Benchmark, entry: BenchmarkRow) -> list[str]:
    """Plain sentences: in what a measured row was made differently from a published one."""
    protocol = table.protocol or load_recipe(table.profile).protocol
    pairs = (
        ("method", row.method, [entry.method]),
        ("data", row.dataset, table.datasets),
        ("backbone", row.backbone, table.backbones or [row.backbone]),
        ("recipe", row.profile, [table.profile]),
        ("protocol", row.protocol, [protocol]),
    )
    said = [
        f"{what}: {printable(own)} here, {printable(' or '.join(theirs))} in the table"
        for what, own, theirs in pairs
        if own not in theirs
    ]
    if row.weights == "random":
        said.append("weights: random here, ImageNet in the paper")
    said += [f"recipe: {printable(f.removeprefix('recipe: '))} here" for f in row.flags if f.startswith("recipe: ")]
    said += [f"data: {printable(f)} rows of each split here" for f in row.flags if f.startswith("limit=")]
    return said


def _counts(images: Mapping[str, int], table: Benchmark) -> Iterator[str]:
    """Where the number of images is not the published one."""
    published = table.paper.examples if table.paper else {}
    found = {split: n for split, n in images.items() if split in published}
    if any(n != published[split] for split, n in found.items()):
        own = ", ".join(f"{split} {n:,}" for split, n in found.items())
        theirs = ", ".join(f"{split} {published[split]:,}" for split in found)
        yield f"data: images {own} here, {theirs} in the paper"
