"""What the guard says of a training or run, in a file beside its others; needs no torch."""

from __future__ import annotations

from pathlib import Path

from biasbench import io

FLAGS = "flags.json"


def flags_of(folder: Path) -> list[str]:
    """What was said of a training or run; nothing where the file is not there.

    Example:
        >>> flags_of(Path("nowhere"))
        []
    """
    path = folder / FLAGS
    return [str(flag) for flag in io.read_json(path)] if path.exists() else []
