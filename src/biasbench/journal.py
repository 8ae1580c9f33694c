"""What was withdrawn from a results folder, a line each in `journal.jsonl`: nothing leaves it without a trace.

A line is written before what it tells of is done. A process that is killed between the two leaves a line too many,
never one too few.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from biasbench import io
from biasbench.seal import sealed, unsealed

FILE = "journal.jsonl"
KINDS = {
    "retried": "failed and tried again",
    "remeasured": "measured again with other figures",
    "unreadable": "damaged and replaced",
    "unplanned": "planned, never run and no longer planned",
    "deleted": "deleted by hand",
    "cleared": "trainings cleared away",
}
"""What a line may tell, in words."""
CELL = ("method", "dataset", "backbone", "profile", "seed", "weights", "attribute", "protocol", "flags")


def withdraw(root: Path, what: str, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write down what is about to be withdrawn.

    Args:
        root: The results folder.
        what: One of `KINDS`.
        entries: What is known of each: its `key`, the fields of `CELL`, the `reason` or the figures (`was`).

    Raises:
        StoreError: When the disk is full or the folder cannot be written.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> withdraw(root, "retried", [{"key": "k1", "seed": 3, "reason": "NaN"}])
        >>> (entry,), damaged = read(root)
        >>> entry["what"], entry["seed"], damaged
        ('retried', 3, [])
    """
    assert what in KINDS
    head = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "what": what}
    text = "".join(io.canonical_json(sealed({**head, **entry})) + "\n" for entry in entries)
    if text:
        io.append_text(root / FILE, text)


def read(root: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """What was withdrawn, oldest first, and the numbers of damaged lines.

    A last line that was not finished tells of nothing that was done.
    """
    path = root / FILE
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    found = [_entry(line) for line in lines]
    return [e for e in found if e is not None], [i for i, e in enumerate(found, 1) if e is None]


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        return unsealed(json.loads(line))
    except (ValueError, RecursionError):
        return None


def cell_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a line says of a cell, from its record on the leaderboard."""
    return {name: record[name] for name in ("key", *CELL) if name in record}
