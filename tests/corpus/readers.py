"""Readers that misbehave, for the process of its own that reads files."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

from biasbench import DataError, sandbox


def misbehave(path: Path, folder: Path, how: str) -> Any:
    """Do what a parser does on a file that breaks it."""
    sandbox.at(folder, path.with_name("second.mat"))
    if how == "segfault":
        return ctypes.string_at(0)
    if how == "endless":
        while True:
            pass
    if how == "memory":
        return [bytes(50 << 20) for _ in range(1000)]
    if how == "exit":
        os._exit(0)
    if how == "leave":
        sys.exit(3)
    if how == "abort":
        os.abort()
    if how == "print":
        print("x" * 1_000_000, flush=True)  # noqa: T201
        return (folder / "made.txt").write_text("fine")
    if how == "refuse":
        raise DataError("no good", where="here", fix="Mend it")
    if how == "raise":
        raise ZeroDivisionError("a parser's mistake\nsecond line")
    if how == "lie":
        (folder / "answer.json").write_text('{"kind": "SystemExit", "what": "gone", "where": null, "fix": null}')
        os._exit(0)
    raise AssertionError(how)
