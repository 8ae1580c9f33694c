"""Which files a cell's process may open: every opening that Python makes is looked at, by an audit hook.

A cell gets its pictures, the tables that its parent wrote for it, and cached pixels and activations. Whatever else
lies in the folders of the data, the results and the cache may hold test labels, and opening it voids the cell. A file
elsewhere that is neither code of this installation nor its own does not, but nothing in the run's key tells of it, so
that the row says so.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from biasbench.errors import IntegrityError, printable

_PATHS = {
    "os.rename": 2, "os.link": 2, "os.symlink": 2, "os.remove": 1, "os.rmdir": 1, "os.mkdir": 1, "os.truncate": 1,
    "os.chmod": 1, "os.chown": 1, "os.utime": 1,
}  # fmt: skip
"""Events that change what lies on disk, and how many paths they name."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_SHARED = "/dev/shm"  # noqa: S108
_MACHINE = ("/usr", "/lib", "/lib64", "/etc", "/proc", "/sys", "/dev", "/opt", "/nix")


class Files:
    """Judges what this process opens.

    Args:
        secret: Folders whose content is closed, but for the exceptions below.
        readable: Files and folders in them that may be read.
        writable: Files and folders in them that may be read and written, also by the beginning of their name.
        known: Files and folders elsewhere that may be read without a word.

    Attributes:
        broken: What was opened against the rules, in words.
        strange: Files read that nothing in the run's key tells of.
    """

    def __init__(
        self,
        secret: Iterable[Path],
        readable: Iterable[Path] = (),
        writable: Iterable[Path] = (),
        known: Iterable[Path] = (),
    ) -> None:
        self.secret = _real(secret)
        self.readable, self.writable = _real(readable), tuple(os.path.realpath(p) for p in writable)
        self.known = {*_real(known), *_installation()}
        self.broken: list[str] = []
        self.strange: dict[str, None] = {}
        self.own: set[str] = set()

    def watch(self) -> None:
        """Look at every opening from now on, until the process ends."""
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(path, str | bytes):
                self._judge(path, writing=bool(flags & _WRITING))
        elif event in _PATHS:
            for path in args[: _PATHS[event]]:
                if isinstance(path, str | bytes):
                    self._judge(path, writing=True)
        elif event == "sqlite3.connect" and isinstance(args[0], str | bytes):
            self._judge(args[0], writing=False)

    def _judge(self, path: str | bytes, *, writing: bool) -> None:
        try:
            real = os.path.realpath(os.fsdecode(path))
        except (OSError, ValueError):
            return  # it names nothing
        if real.startswith(self.writable):
            return
        if _within(real, self.secret):
            if writing or not _within(real, self.readable):
                self._refuse(real, "changes" if writing else "opens")
        elif real.startswith("/proc/") and real.endswith("/mem"):
            self._refuse(real, "opens")
        elif writing:
            self.own.add(real)
        elif real not in self.own and Path(real).is_file() and not self._is_known(real):
            self.strange[real] = None

    def _is_known(self, real: str) -> bool:
        return _within(real, self.known) or (real.startswith(_MACHINE) and not real.startswith(_SHARED))

    def _refuse(self, real: str, does: str) -> None:
        self.broken.append(f"{does} {printable(real)}")
        raise refusal(self.broken)


def refusal(broken: Iterable[str]) -> IntegrityError:
    """The error for files that were opened against the rules.

    Example:
        >>> print(refusal(["opens /data/labels.json"]))
        the cell is void: its process opens /data/labels.json. A method may use nothing but what it is handed: \
test labels and results lie there.
    """
    first, *more = dict.fromkeys(broken)
    others = f" and {len(more)} more" if more else ""
    return IntegrityError(
        f"the cell is void: its process {first}{others}",
        fix="A method may use nothing but what it is handed: test labels and results lie there",
    )


def _installation() -> set[str]:
    """Where this Python's code, its packages and the hubs' caches lie."""
    home = Path.home()
    code = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values()]
    return _real([*map(Path, code), *(Path(p) for p in sys.path if p), *hubs(home)]) - {"/"}


def hubs(home: Path) -> tuple[Path, ...]:
    """Folders in which torch and the Hugging Face hub keep weights."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return (
        Path(os.environ.get("HF_HOME") or cache / "huggingface"),
        Path(os.environ.get("TORCH_HOME") or cache / "torch"),
    )


def _real(paths: Iterable[Path]) -> set[str]:
    return {os.path.realpath(p) for p in paths}


def _within(real: str, folders: set[str]) -> bool:
    """Whether a resolved path is one of some paths, or lies below one."""
    if real in folders:
        return True
    at = len(real)
    while (at := real.rfind(os.sep, 0, at)) > 0:
        if real[:at] in folders:
            return True
    return os.sep in folders
