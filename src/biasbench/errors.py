"""What the user is told when something is wrong: one line, never a traceback.

Everything biasbench raises on purpose derives from `BiasBenchError`; the command line
prints it as one line and ends with the class's exit code. Any other exception is a bug
of ours, keeps its traceback and ends with `EXIT_BUG`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_OK = 0
EXIT_CELLS_FAILED = 1
EXIT_USAGE = 2
EXIT_BUG = 3
EXIT_DATA = 4
EXIT_STORE = 5
EXIT_INTEGRITY = 6
EXIT_REQUEUE = 75  # sysexits.h: "temporary failure; the user is invited to retry"
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class BiasBenchError(Exception):
    """A problem the user can act on.

    Args:
        what: What was wrong, without a final full stop.
        where: File, row or key it was found at.
        fix: What to do next.

    Example:
        >>> print(BiasBenchError("no such split", where="table.csv", fix="Use train, val or test"))
        table.csv: no such split. Use train, val or test.
    """

    exit_code = EXIT_CELLS_FAILED
    code = "cell"
    """Printed as `error[cell]`; as stable as the exit codes."""

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        place = f"{where}: " if where else ""
        after = f". {fix}" if fix else ""
        if fix and fix[-1] not in ".?!":
            after += "."
        super().__init__(f"{place}{what}{after}")


class UsageError(BiasBenchError):
    """An option, name or benchmark file that cannot be meant as written."""

    exit_code = EXIT_USAGE
    code = "usage"


class PluginError(UsageError):
    """A plugin that is broken, collides with another or misuses a hook."""

    code = "plugin"


class DataError(BiasBenchError):
    """A data set that is missing, damaged or not what it claims to be."""

    exit_code = EXIT_DATA
    code = "data"


class StoreError(BiasBenchError):
    """The results folder cannot be written, read or trusted as a store."""

    exit_code = EXIT_STORE
    code = "store"


class IntegrityError(BiasBenchError):
    """Bytes or objects changed behind the harness's back."""

    exit_code = EXIT_INTEGRITY
    code = "integrity"


class CellError(BiasBenchError):
    """One cell cannot yield a score; the others go on."""


class ClusterError(BiasBenchError):
    """A cluster that was lost in the middle of a run, or has no machine left for a cell; what is finished is kept."""

    code = "cluster"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence naming the nearest of `known`, or the empty string.

    Example:
        >>> did_you_mean("leekage", ["leakage", "accuracy"])
        "Did you mean 'leakage'?"
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else ""


def printable(text: object, limit: int = 300) -> str:
    r"""`text` with control characters made visible: names from data never drive the terminal.

    Example:
        >>> printable("a\x1b[2Jb")
        'a\\x1b[2Jb'
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
