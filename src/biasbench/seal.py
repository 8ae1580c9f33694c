"""JSON documents that carry their own hash: whoever reads one notices a changed bit before using it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biasbench import io
from biasbench.errors import IntegrityError, printable

SEAL = "sha256"
LOG = logging.getLogger("biasbench")
"""Where it is said that something damaged was made again: standard error, and so a job's log."""


def write_sealed(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON object with the hash of its content, whole or not at all."""
    io.write_json(path, sealed(document))


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with the hash of its content."""
    return {**document, SEAL: _digest(document)}


def unsealed(found: object) -> dict[str, Any] | None:
    """What `sealed` took, without the hash; None for anything else.

    Example:
        >>> unsealed(sealed({"seed": 1})), unsealed({**sealed({"seed": 1}), "seed": 0})
        ({'seed': 1}, None)
    """
    if isinstance(found, dict):
        rest = {key: value for key, value in found.items() if key != SEAL}
        if found.get(SEAL) == _digest(rest):
            return rest
    return None


def read_sealed(path: Path, *, fix: str | None = None) -> dict[str, Any]:
    """Read a JSON object that `write_sealed` wrote; the hash itself is left out.

    Args:
        path: The file.
        fix: What the user can do about a damaged one.

    Raises:
        StoreError: When it is missing or no JSON.
        IntegrityError: When its content is not what was written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.json"
        >>> write_sealed(path, {"seed": 1})
        >>> read_sealed(path)
        {'seed': 1}
        >>> _ = path.write_text(path.read_text().replace("1", "0", 1))
        >>> read_sealed(path)  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        biasbench.errors.IntegrityError: …/a.json: the file is damaged: its content is not what was written
    """
    rest = unsealed(io.read_json(path))
    if rest is not None:
        return rest
    raise IntegrityError("the file is damaged: its content is not what was written", where=printable(path), fix=fix)


def _digest(document: Mapping[str, Any]) -> str | None:
    """None for what cannot be written, such as the NaN that a changed letter makes."""
    try:
        return io.hash_json(document)
    except (ValueError, RecursionError):
        return None
