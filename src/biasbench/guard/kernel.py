"""The same rules, kept by the kernel: what native code opens is seen by no audit hook.

Landlock (Linux 5.13 and later) takes rights away from a process and all it starts; nothing gives them back. It can only
grant, so everything beside the closed folders is granted, entry by entry, on the way down to them. A file that somebody
puts directly into one of those folders on the way later cannot be read by this process.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # system calls, the same on every architecture
_NO_NEW_PRIVS = 38
_READ_FILE = 1 << 2
_PATH_BENEATH = 1
_MOST = 50_000  # entries to grant one by one


class _Rules(ctypes.Structure):
    _fields_ = (("access", ctypes.c_uint64),)


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("folder", ctypes.c_int32))


def close(secret: Iterable[Path], readable: Iterable[Path]) -> bool:
    """Take from this process, for good, the right to read files in some folders.

    Args:
        secret: The folders.
        readable: Files and folders in them that stay readable; those that are not there are left out.

    Returns:
        Whether the kernel keeps it; False where it cannot, and then nothing has changed.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    rules = _Rules(_READ_FILE)
    ruleset = libc.syscall(_CREATE, ctypes.byref(rules), ctypes.sizeof(rules), 0)
    if ruleset < 0:
        return False
    try:
        closed = {os.path.realpath(p) for p in secret}
        granted = [*_beside(closed), *(os.path.realpath(p) for p in readable)]
        if len(granted) > _MOST:
            return False
        for path in granted:
            _grant(libc, ruleset, path)
        return bool(libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 and libc.syscall(_RESTRICT, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _grant(libc: ctypes.CDLL, ruleset: int, path: str) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rule = _Beneath(_READ_FILE, descriptor)
        libc.syscall(_ADD, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(descriptor)


def above(closed: Iterable[str]) -> set[str]:
    """Every folder above some folders.

    Example:
        >>> sorted(above(["/data/coco"]))
        ['/', '/data']
    """
    return {str(folder) for path in closed for folder in Path(path).parents}


def _beside(closed: set[str]) -> Iterator[str]:
    """What lies beside some folders and beside all those above them; links aside, their targets count."""
    ways = above(closed) - closed
    inside = {path for path in closed if set(map(str, Path(path).parents)) & closed}
    for folder in sorted(above(closed - inside)):
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            if not entry.is_symlink() and entry.path not in ways and entry.path not in closed:
                yield entry.path
