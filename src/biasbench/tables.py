"""The tables of a store's index: what its cells say, by group, and the rows that were made of them.

Nothing is used that is not what was written: the list of cells and every row of the board carry a CRC-32, which no
single flipped bit passes, and the list has a digest of every record. What is missing is noticed too.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec

from biasbench.leaderboard import group_of

Record = dict[str, Any]
HERE = Path(__file__).parent
READERS = ("tables.py", "index.py", "store.py")
"""Code that makes records of files: those of other code are made again."""
WHOLE = -1
"""In place of a group's number: the whole board."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS contents (id INTEGER PRIMARY KEY, made_by TEXT, state TEXT, content BLOB, crc INTEGER);
CREATE TABLE IF NOT EXISTS record (cell TEXT, part INTEGER, content TEXT);
CREATE INDEX IF NOT EXISTS record_cell ON record (cell);
CREATE INDEX IF NOT EXISTS record_part ON record (part);
CREATE TABLE IF NOT EXISTS planned (key TEXT PRIMARY KEY, content TEXT);
CREATE TABLE IF NOT EXISTS board (part INTEGER PRIMARY KEY, made_of TEXT, content BLOB, crc INTEGER);
"""


class Cell(msgspec.Struct, array_like=True, gc=False):
    """One cell as it was read.

    Attributes:
        stamp: Modification time of its file or folder, ns.
        records: Of each record, the number of its group and its digest.
    """

    stamp: int
    records: list[tuple[int, int]]


class Contents(msgspec.Struct, array_like=True):
    """The list of what the tables hold.

    Attributes:
        groups: By number, the values that records of a group share.
        cells: By `runs/<key>` or `unscored/<key>.json`.
        plan: SHA-256 of the plan's file; empty without one.
        planned: By key, in the order of the plan: number of the group and digest.
    """

    groups: list[tuple[str, ...]] = []
    cells: dict[str, Cell] = {}
    plan: str = ""
    planned: dict[str, tuple[int, int]] = {}


Member = tuple[int, str, str | None, int]
"""What one cell contributes to a group: its place in the plan, its key, its name in the tables (None for one that was
planned and never run), and the digest of its record. A plain tuple: there are as many as cells."""


class Tables:
    """An open index; changes last once `save` was called.

    Args:
        database: The connection.

    Raises:
        sqlite3.Error: When it is damaged, or made by other code than this; so do all methods.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database
        self.state = ""
        """Of the files that all this was read from; empty where some of them may have changed unseen."""
        database.executescript(SCHEMA)
        for maker, self.state in database.execute("SELECT made_by, state FROM contents"):
            if maker != digest_of(READERS):
                raise sqlite3.DatabaseError("another version made it")
        self._saved = self.state
        self._changed = False
        database.execute("BEGIN IMMEDIATE")

    @cached_property
    def contents(self) -> Contents:
        """The list of what is there: for 100,000 cells worth a sixth of a second, which an unchanged board saves."""
        for content, crc in self.database.execute("SELECT content, crc FROM contents"):
            if zlib.crc32(_bytes(content)) != crc:
                raise sqlite3.DatabaseError("the list of cells is damaged")
            return msgspec.msgpack.decode(content, type=Contents)
        return Contents()

    @cached_property
    def _numbers(self) -> dict[tuple[str, ...], int]:
        return {group: number for number, group in enumerate(self.contents.groups)}

    def save(self) -> None:
        """Keep what was changed."""
        if self._changed or self.state != self._saved:
            content = msgspec.msgpack.encode(self.contents)
            row = (0, digest_of(READERS), self.state, content, zlib.crc32(content))
            self.database.execute("INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?, ?)", row)
        self.database.execute("COMMIT")

    # ------------------------------------------------------------------ what is written
    def put(self, name: str, stamp: int, records: Sequence[Mapping[str, Any]]) -> None:
        """Take a cell's records in place of earlier ones."""
        self.drop(name)
        texts = [json.dumps(record) for record in records]
        numbers = [self._number(record) for record in records]
        rows = zip([name] * len(texts), numbers, texts, strict=True)
        self.database.executemany("INSERT INTO record VALUES (?, ?, ?)", rows)
        self._changed = True
        self.contents.cells[name] = Cell(stamp, list(zip(numbers, map(_digest, texts), strict=True)))

    def drop(self, name: str) -> None:
        """Forget a cell."""
        if self.contents.cells.pop(name, None) is not None:
            self.database.execute("DELETE FROM record WHERE cell = ?", (name,))
            self._changed = True

    def put_plan(self, sha256: str, cells: Iterable[Mapping[str, Any]]) -> None:
        """Take a plan in place of the earlier one."""
        found = {cell["key"]: (self._number(cell), json.dumps(cell)) for cell in cells}
        self.database.execute("DELETE FROM planned")
        rows = ((key, text) for key, (_, text) in found.items())
        self.database.executemany("INSERT INTO planned VALUES (?, ?)", rows)
        self.contents.plan, self._changed = sha256, True
        self.contents.planned = {key: (number, _digest(text)) for key, (number, text) in found.items()}

    def put_board(self, number: int, made_of: str, content: bytes) -> None:
        """Keep the rows that were made of a group, or, as `WHOLE`, those of all."""
        row = (number, made_of, content, _crc(number, made_of, content))
        self.database.execute("INSERT OR REPLACE INTO board VALUES (?, ?, ?, ?)", row)

    def _number(self, record: Mapping[str, Any]) -> int:
        group = group_of(record)
        if group not in self._numbers:
            self._numbers[group] = len(self.contents.groups)
            self.contents.groups.append(group)
        return self._numbers[group]

    # ------------------------------------------------------------------ what is read
    def number(self, group: tuple[str, ...]) -> int | None:
        """The number of a group; None where nothing was ever in it."""
        return self._numbers.get(group)

    def members(self) -> dict[int, list[Member]]:
        """What is in each group, planned cells that were never run among it, in the order of plan and key."""
        contents = self.contents
        order = dict(zip(contents.planned, range(len(contents.planned)), strict=True))
        found: list[list[Member]] = [[] for _ in contents.groups]
        unseen, last = dict(contents.planned), len(order)
        for name, cell in contents.cells.items():
            key = name[5:] if name.startswith("runs/") else name.partition("/")[2].removesuffix(".json")
            place = order.get(key, last)
            for number, digest in cell.records:
                found[number].append((place, key, name, digest))
                unseen.pop(key, None)
        for key, (number, digest) in unseen.items():
            found[number].append((order[key], key, None, digest))
        for members in found:
            members.sort(key=itemgetter(0, 1))
        return dict(enumerate(found))

    def group(self, number: int, members: Iterable[Member]) -> list[Record]:
        """Records of the members of a group, in their order."""
        members = list(members)
        rows = self.database.execute("SELECT cell, content FROM record WHERE part = ?", (number,))
        texts = {(name, _digest(text)): text for name, text in rows}
        for member in members:
            if member[2] is None:
                sql = "SELECT content FROM planned WHERE key = ?"
                texts |= {(None, _digest(text)): text for (text,) in self.database.execute(sql, (member[1],))}
        try:
            return [msgspec.json.decode(texts[name, digest]) for _, _, name, digest in members]
        except KeyError:
            raise sqlite3.DatabaseError("a record is damaged or missing") from None

    def cell(self, name: str) -> list[Record]:
        """One cell's records."""
        texts = [text for (text,) in self.database.execute("SELECT content FROM record WHERE cell = ?", (name,))]
        if Counter(map(_digest, texts)) != Counter(digest for _, digest in self.contents.cells[name].records):
            raise sqlite3.DatabaseError("a record is damaged or missing")
        return [msgspec.json.decode(text) for text in texts]

    def has(self, key: str) -> bool:
        """Whether a cell has a result, a reason for having none, or a place in the plan."""
        cells = self.contents.cells
        return f"runs/{key}" in cells or f"unscored/{key}.json" in cells or key in self.contents.planned

    def cells(self) -> Iterator[tuple[str, list[Record]]]:
        """Every cell with its records."""
        decode = msgspec.json.Decoder(Record).decode
        texts: dict[str, list[tuple[int, str]]] = {name: [] for name in self.contents.cells}
        for name, number, text in self.database.execute("SELECT cell, part, content FROM record ORDER BY rowid"):
            texts.get(name, []).append((number, text))
        for name, cell in self.contents.cells.items():
            mine = texts.pop(name)
            if Counter((number, _digest(text)) for number, text in mine) != Counter(cell.records):
                raise sqlite3.DatabaseError("a record is damaged or missing")
            yield name, [decode(text) for _, text in mine]

    def board(self, number: int, made_of: str) -> bytes | None:
        """The rows that were made of a group, or of all; None unless they were made of this."""
        rows = self.database.execute("SELECT made_of, content, crc FROM board WHERE part = ?", (number,))
        for made, content, crc in rows:
            if _crc(number, made, content) != crc:
                raise sqlite3.DatabaseError("a row of the board is damaged")
            if made == made_of:
                return _bytes(content)
        return None


def digest_of(files: Iterable[str]) -> str:
    """A digest of some of our own source files, by name."""
    found = hashlib.sha256()
    for name in files:
        found.update((HERE / name).read_bytes())
    return found.hexdigest()[:20]


def _digest(text: object) -> int:
    return int.from_bytes(hashlib.blake2b(str(text).encode(), digest_size=8).digest())


def _crc(number: int, made_of: str, content: object) -> int:
    return zlib.crc32(_bytes(content), zlib.crc32(f"{number} {made_of} ".encode()))


def _bytes(content: object) -> bytes:
    """What a damaged database may have turned into something else."""
    return content if isinstance(content, bytes) else b""
