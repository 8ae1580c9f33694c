"""Methods by protected attributes: what each leaves of every attribute, and what it took from the plain model.

Mitigate one attribute, measure them all (Alvi et al. 2018, section 6.3 and Table 1). Differences to the plain
model are made seed by seed, between runs that agree in everything but the method.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from biasbench.derived import configuration
from biasbench.leaderboard import Figure, Record, Row, aggregate, rank
from biasbench.measures.unlearning import near_chance, unlearned
from biasbench.metric import Column
from biasbench.pairs import PREFIX, Difference, Run, difference, merge, once_per_seed
from biasbench.runfolder import RunFolder, components, without_targets

PLAIN = "original"
GUESSES = ("lambda_m", "lambda_m_decoded", "embedding")
"""Columns that are an attacker's accuracy on draws with equally many of every group: chance is 100 / groups."""
NO_FIGURE = "the figure is undefined or not measured"
NO_PAIR = "no one run of original to pair with"
NO_CHANCE = "the number of groups is not known, or not that of original"
AT_CHANCE = "original is at chance or below"

Folders = Callable[[str], RunFolder]


@dataclass(frozen=True)
class Entry:
    """One method and one attribute.

    Attributes:
        figure: Mean and spread, as on the leaderboard.
        named: Whether the method's options name the attribute.
        chance: Percent; None where the number of groups is unknown, differs between seeds, or means nothing.
        stored: With one seed, the 95 % interval that the metric stored with the figure.
        difference: To the plain model; None without a pair.
        unlearned: Percent unlearned over pairs; None for the plain model and for columns that have no chance.
        undefined: Seeds without a difference, or with one and without percent unlearned, by reason.
    """

    figure: Figure
    named: bool = False
    chance: float | None = None
    stored: tuple[float, float] | None = None
    difference: Difference | None = None
    unlearned: Figure | None = None
    undefined: Mapping[str, int] = field(default_factory=dict)

    @property
    def near(self) -> bool | None:
        """Whether the mean is at most 5 points above chance; None where either is unknown."""
        if self.figure.mean is None or self.chance is None:
            return None
        return near_chance(self.figure.mean, self.chance)


@dataclass(frozen=True)
class Near:
    """How many attributes are within 5 points of chance.

    Attributes:
        near: Those that are.
        known: Those with a figure and a known chance.
        unknown: The others.

    Example:
        >>> Near(2, 3) + Near(1, 3, 1)
        Near(near=3, known=6, unknown=1)
    """

    near: int = 0
    known: int = 0
    unknown: int = 0

    def __add__(self, other: Near) -> Near:
        return Near(self.near + other.near, self.known + other.known, self.unknown + other.unknown)


@dataclass(frozen=True)
class Line:
    """One method.

    Attributes:
        row: Its seeds, reasons, flags and marks, as on the leaderboard.
        kind: The method with its options but without the attributes it is told; empty without a score.
        entries: By attribute; empty without a score.
        unresolved: Secondary data sets that it names, of which the attribute is unknown.
    """

    row: Row
    kind: str = ""
    entries: Mapping[str, Entry] = field(default_factory=dict)
    unresolved: tuple[str, ...] = ()

    def near(self, *, named: bool) -> Near:
        """Of all attributes, or of those that the method names."""
        found = [entry.near for entry in self.entries.values() if entry.named or not named]
        return Near(found.count(True), len(found) - found.count(None), found.count(None))


@dataclass(frozen=True)
class Matrix:
    """Runs that agree in everything but method, seed and attribute.

    Attributes:
        changes: Flags that tell its recipe or arithmetic from the profile's.
        attributes: Columns: the data set's own, then those of others (`laofiw:ancestry`), each by name.
        lines: The plain model first; methods in the order of the plan, marked ones last.
    """

    dataset: str
    backbone: str
    profile: str
    protocol: str
    weights: str
    changes: tuple[str, ...]
    attributes: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def plain(self) -> bool:
        """Whether the plain model has a score here."""
        return any(line.row.method == PLAIN and line.entries for line in self.lines)

    @property
    def made(self) -> tuple[str, ...]:
        """What it shares with another data set's that was made alike."""
        return (self.backbone, self.profile, self.protocol, self.weights, *self.changes)


@dataclass(frozen=True)
class Total:
    """One method's lines of several matrices that were made alike.

    Attributes:
        method: Names of its components; with options where two would have one name.
        made: See `Matrix.made`.
        datasets: Data sets.
        lines: Lines counted.
        every: Over all attributes.
        named: Over those that each line names.
    """

    method: str
    made: tuple[str, ...]
    datasets: tuple[str, ...]
    lines: int
    every: Near
    named: Near


def matrices(records: Iterable[Record], column: Column, folders: Folders) -> list[Matrix]:
    """One matrix for every data set, backbone, profile, protocol, starting weights and changed recipe.

    Args:
        records: As for `biasbench.leaderboard.aggregate`.
        column: The figure to show.
        folders: A finished run's folder by its key.

    Returns:
        In the order of the plan.

    Example:
        >>> matrices([], Column("embedding", "emb.", "lower"), lambda key: None)
        []
    """
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(configuration({**record, "attribute": ""}), []).append(record)
    first: dict[tuple[str, ...], int] = {}  # of a data set, and of a backbone on it
    for made, mine in groups.items():
        order = min(int(record["order"]) for record in mine)
        for block in (made[:1], made[:2]):
            first[block] = min(first.get(block, order), order)
    ordered = sorted(groups, key=lambda made: (first[made[:1]], made[0], first[made[:2]], made))
    return [_matrix(made, groups[made], column, folders) for made in ordered]


def _matrix(made: tuple[str, ...], records: Sequence[Record], column: Column, folders: Folders) -> Matrix:
    dataset, backbone, profile, _, protocol, weights, *changes = made
    attributes = sorted({str(r["attribute"]) for r in records}, key=lambda name: (":" in name, name))
    columns = [Column(PREFIX + name, name, column.better, column.unit) for name in attributes]
    by_key: dict[str, list[Record]] = {}
    for record in records:
        by_key.setdefault(str(record["key"]), []).append(record)
    methods: dict[str, list[Run]] = {}
    for run in (merge(mine, column.key) for mine in by_key.values()):
        methods.setdefault(str(run.record["method"]), []).append(run)
    plain = [run for run in methods.get(PLAIN, ()) if run.scored]
    lines = []
    for runs, flags in (part for mine in methods.values() for part in _rows(mine)):
        (row,) = aggregate([run.record for run in runs], columns)
        row = replace(row, flags=(*row.flags, *flags))
        lines.append(_line(row, [run for run in runs if run.scored], plain, attributes, column, folders))
    lines.sort(key=lambda line: (rank(line.row), line.row.method != PLAIN, line.row.order, line.row.method))
    return Matrix(dataset, backbone, profile, protocol, weights, tuple(changes), tuple(attributes), tuple(lines))


def _rows(runs: Sequence[Run]) -> Iterator[tuple[list[Run], tuple[str, ...]]]:
    """A method's runs by row, with the flags to add: where a seed was scored twice, variants, as on the leaderboard."""
    variants = once_per_seed([run for run in runs if run.scored])
    rest = [run for run in runs if not run.scored]
    if len(variants) < 2:
        yield [*(variants[0] if variants else ()), *rest], ()
        return
    for number, variant in enumerate(variants, 1):
        yield variant, (f"variant {number} of {len(variants)}",)
    if rest:
        yield rest, ()


def _line(
    row: Row, runs: Sequence[Run], plain: Sequence[Run], attributes: Sequence[str], column: Column, folders: Folders
) -> Line:
    if not runs:
        return Line(row)
    told = [folders(run.key) for run in runs]
    named = {name for folder in told for name in folder.named}
    unresolved = tuple(dict.fromkeys(text for folder in told for text in folder.unresolved))
    entries = {name: _entry(row, runs, plain, name, name in named, column, folders) for name in attributes}
    return Line(row, without_targets(told[0].method), entries, unresolved)


def _entry(
    row: Row,
    runs: Sequence[Run],
    plain: Sequence[Run],
    name: str,
    named: bool,
    column: Column,
    folders: Folders,
) -> Entry:
    figure = row.figures[PREFIX + name]
    own = [run for run in runs if name in run.figures]
    guessed = column.key in GUESSES
    chances = {run.key: folders(run.key).chance(name) for run in (*own, *plain) if guessed and name in run.figures}
    mine = {chances.get(run.key) for run in own}
    chance = mine.pop() if len(mine) == 1 else None
    stored = folders(own[0].key).interval(name, row.protocol, column.key) if len(own) == 1 else None
    if row.method == PLAIN:
        return Entry(figure, named, chance, stored)
    missing = Counter({NO_FIGURE: len(runs) - len(own)})
    differences, gone = [], []
    for run in own:
        partners = [other for other in plain if name in other.figures and _alike(run, other, folders)]
        if len({other.figures[name] for other in partners}) != 1:
            missing[NO_PAIR] += 1
            continue
        value, before = run.figures[name], partners[0].figures[name]
        differences.append(value - before)
        if not guessed:
            continue
        at = chances[run.key]
        if at is None or any(chances.get(other.key) != at for other in partners):
            missing[NO_CHANCE] += 1
        elif math.isnan(share := unlearned(before, value, at)):
            missing[AT_CHANCE] += 1
        else:
            gone.append(share)
    percent = _over_seeds(gone) if guessed else None
    return Entry(figure, named, chance, stored, difference(differences), percent, dict(+missing))


def _alike(run: Run, other: Run, folders: Folders) -> bool:
    """Whether two runs of a matrix are of one seed and of the same images and labels."""
    return run.seed == other.seed and folders(run.key).fingerprint == folders(other.key).fingerprint


def _over_seeds(values: Sequence[float]) -> Figure:
    if len(values) < 2:
        return Figure(values[0], None, 1, None, 1) if values else Figure(None, None, 0, None, 0)
    return Figure(statistics.fmean(values), statistics.stdev(values), len(values), "seeds", len(values))


def totals(found: Sequence[Matrix]) -> list[Total]:
    """Counts of attributes near chance over the lines of one method, where there are several.

    Lines are counted together when their methods differ only in the attributes they are told, and their matrices
    only in the data set.

    Example:
        >>> totals([])
        []
    """
    groups: dict[tuple[str, tuple[str, ...]], list[tuple[str, Line]]] = {}
    for matrix in found:
        for line in matrix.lines:
            if line.entries:
                groups.setdefault((line.kind, matrix.made), []).append((matrix.dataset, line))
    short = {kind: "+".join(c.name for c in components(kind)) or kind for kind, _ in groups}
    shared = Counter(short.values())
    return [
        Total(
            kind if shared[short[kind]] > 1 else short[kind],
            made,
            tuple(dict.fromkeys(dataset for dataset, _ in mine)),
            len(mine),
            sum((line.near(named=False) for _, line in mine), Near()),
            sum((line.near(named=True) for _, line in mine), Near()),
        )
        for (kind, made), mine in groups.items()
        if len(mine) > 1
    ]
