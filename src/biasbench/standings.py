"""Rows of the leaderboard from a store: those whose cells did not change are kept in its index, packed.

Whatever is kept was made by `biasbench.leaderboard` from the records of one group and of the plain model's, and is
found again by the digests of these records.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import msgspec

from biasbench import io
from biasbench.derived import CHANGES, derive
from biasbench.index import Index
from biasbench.journal import CELL, FILE, read
from biasbench.leaderboard import (
    GROUP,
    MISSING,
    Figure,
    Record,
    Row,
    check_columns,
    group_of,
    group_rows,
    in_order,
    with_columns,
)
from biasbench.tables import WHOLE, Member, Tables, digest_of

if TYPE_CHECKING:
    from biasbench.metric import Column
    from biasbench.store import Store

MAKERS = ("standings.py", "leaderboard.py", "derived.py")
"""Code that makes rows of records: those of other code are made again."""
WITHDRAWN = ("unplanned", "deleted")
"""What the journal tells of seeds that are missing since."""
FIELDS = tuple(f.name for f in fields(Row) if f.name != "figures")


@dataclass(frozen=True)
class Standings:
    """What a store says, as rows.

    Attributes:
        rows: In the order to show them.
        unknown: Stored figures that no column was asked for.
    """

    rows: list[Row]
    unknown: list[str]


def standings(store: Store, columns: Sequence[Column], keys: Collection[str] | None = None) -> Standings:
    """The rows of a store: those that `aggregate(derive(store.records()), columns)` makes.

    A row says which seeds of its configuration the journal knows as withdrawn.

    Args:
        store: The store.
        columns: Of every metric, in the order to show them.
        keys: Only these cells; figures against the plain model may be from others.

    Raises:
        IntegrityError: When a result is damaged that the index does not hold.
        PluginError: When a column's key is the name of a field of the row.
    """
    check_columns(columns)
    made = Index(store).use(lambda tables: _whole(store, tables) if keys is None else _read(store, tables, keys))
    if made is None:
        records = store.records()
        there = {record["key"] for record in records}
        made = _together(_made(records, keys), [e for e in withdrawn(store) if e["key"] not in there])
    rows, names = made
    return Standings([with_columns(row, columns) for row in rows], sorted({*names} - {c.key for c in columns}))


Made = tuple[list[Row], list[str]]
"""Rows, and the names of all figures of their records."""


def _whole(store: Store, tables: Tables) -> Made:
    """All rows: as they were kept, where nothing has changed since."""
    file = store.root / FILE
    made_of = _digest([digest_of(MAKERS), tables.state, io.hash_file(file) if file.exists() else ""])
    content = tables.board(WHOLE, made_of) if tables.state else None
    if content is not None:
        return _unpacked(content)
    made = _read(store, tables, None)
    if tables.state:
        tables.put_board(WHOLE, made_of, _packed(made))
    return made


def _read(store: Store, tables: Tables, keys: Collection[str] | None) -> Made:
    return _together(_kept(tables, keys), [e for e in withdrawn(store) if not tables.has(str(e["key"]))])


def _together(found: Iterable[Made], gone: Sequence[Record]) -> Made:
    every = list(found)
    rows = in_order([_told(row, gone) for some, _ in every for row in some])
    return rows, sorted({name for _, names in every for name in names})


def withdrawn(store: Store) -> list[dict[str, Any]]:
    """What the journal tells of seeds that were planned or scored once."""
    return [entry for entry in read(store.root)[0] if entry["what"] in WITHDRAWN and set(CELL) <= entry.keys()]


def _told(row: Row, gone: Sequence[Record]) -> Row:
    """The row, flagged with the seeds that were planned or scored once and are no more."""
    if not gone:
        return row
    configuration = (*(getattr(row, name) for name in (*GROUP, "weights")), _changes(row.flags))
    seeds = {
        int(e["seed"]) for e in gone
        if (*(str(e[name]) for name in (*GROUP, "weights")), _changes(e["flags"])) == configuration
    } - {*row.planned}  # fmt: skip
    flag = f"withdrawn: seed{'s' * (len(seeds) > 1)} {', '.join(map(str, sorted(seeds)))}"
    return replace(row, flags=(*row.flags, flag)) if seeds else row


def _changes(flags: Iterable[str]) -> set[str]:
    return {str(flag) for flag in flags if str(flag).startswith(CHANGES)}


def _made(records: Iterable[Record], keys: Collection[str] | None) -> Iterator[Made]:
    """From the records alone."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in derive(records):
        if keys is None or record["key"] in keys:
            groups.setdefault(group_of(record), []).append(record)
    return (_make(group) for group in groups.values())


def _make(group: Sequence[Record]) -> Made:
    return group_rows(group), sorted({name for record in group for name in record["values"]})


def _kept(tables: Tables, keys: Collection[str] | None) -> Iterator[Made]:
    """From the index; what it lacks is made and kept there."""
    members, makers = tables.members(), digest_of(MAKERS)
    plain: tuple[int, str, list[Record] | None] = (-1, "", None)
    pairs = [(-1 if (other := _plain_of(tables, number)) is None else other, number) for number in members]
    for other, number in sorted(pairs):  # so that the plain model's records are read once
        every = members[number]
        own = every if keys is None else [member for member in every if member[1] in keys]
        if not own:
            continue
        partners = members[other] if other >= 0 else []
        if plain[0] != other:
            plain = other, _digest([(key, digest) for _, key, _, digest in partners]), None
        orders = sorted({place for place, _, _, _ in own})
        ranks = dict(zip(orders, range(len(orders)), strict=True))
        made_of = _digest([makers, plain[1], [(ranks[place], key, digest) for place, key, _, digest in own]])
        content = tables.board(number, made_of)
        if content is None:
            if plain[2] is None:
                plain = *plain[:2], _records(tables, other, partners)
            records = _records(tables, number, own)
            content = _packed(_make(derive([*records, *(plain[2] or ())])[: len(records)]))
            if len(own) == len(every):
                tables.put_board(number, made_of, content)
        rows, names = _unpacked(content)
        yield [replace(row, order=orders[row.order]) for row in rows], names


def _plain_of(tables: Tables, number: int) -> int | None:
    """The group of the plain model that a method's is compared with."""
    method, *rest = tables.contents.groups[number]
    return tables.number(("original", *rest)) if method != "original" else None


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:32]


def _records(tables: Tables, number: int, members: Sequence[Member]) -> list[Record]:
    """Records of a group, their order counted within the group: rows do not change with their place in the plan."""
    ranks = {place: rank for rank, place in enumerate(sorted({member[0] for member in members}))}
    found = tables.group(number, members)
    return [
        {**record, **(MISSING if name is None else {}), "order": ranks[place]}
        for record, (place, _, name, _) in zip(found, members, strict=True)
    ]


def _packed(made: Made) -> bytes:
    rows, names = made
    figures = [{name: (f.mean, f.std, f.n, f.spread, f.seeds) for name, f in row.figures.items()} for row in rows]
    values = [[getattr(row, name) for name in FIELDS] for row in rows]
    return msgspec.msgpack.encode((list(zip(values, figures, strict=True)), names))


def _unpacked(content: bytes) -> Made:
    rows, names = msgspec.msgpack.decode(content)
    found = []
    for values, figures in rows:
        known: dict[str, Any] = dict(zip(FIELDS, values, strict=True))
        known |= {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
        found.append(Row(**known, figures={name: Figure(*figure) for name, figure in figures.items()}))
    return found, names
