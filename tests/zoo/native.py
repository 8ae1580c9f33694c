"""Reading a file as native code does, where no audit hook sees it."""

from __future__ import annotations

import ctypes
import os
from multiprocessing.connection import Connection
from pathlib import Path

from biasbench.guard import kernel


def reads(path: Path) -> bool:
    """Whether the C library can open a file for reading."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.open(os.fsencode(path), os.O_RDONLY)
    if descriptor >= 0:
        os.close(descriptor)
    return bool(descriptor >= 0)


def attempt(folder: str, tries: int, to: Connection) -> None:
    """Try to read a file below a folder, close the folder but for one file, and try again; tells how often it could.

    Args:
        folder: An empty folder.
        tries: How often.
        to: Is sent `before`, `refused`, `kept`, and whether what stays open could be read (`open`, `beside`).
    """
    root = Path(folder) / "data"
    (root / "annotations").mkdir(parents=True)
    secret, picture, beside = root / "annotations" / "labels.json", root / "1.jpg", Path(folder) / "other.txt"
    for path in (secret, picture, beside):
        path.write_text("{}")
    before = sum(reads(secret) for _ in range(tries))
    kept = kernel.close([root], [picture])
    told = {"before": before, "refused": sum(not reads(secret) for _ in range(tries)), "kept": kept}
    to.send({**told, "open": reads(picture), "beside": reads(beside)})
