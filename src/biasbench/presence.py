"""Who works in a folder: a shared kernel lock while somebody does, all of it for who clears away.

The kernel frees a lock when its holder dies, so that there is nothing to expire and no clock to trust.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

FILE = "in-use.lock"


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Nobody clears `folder` away as long as the block lasts; waits while somebody does.

    A file system without locks does not stop the work: nobody can be alone there either.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(folder / FILE, "a+b"))
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[bool]:
    """Whether nobody works in `folder`; if so, who wants to begin waits until the block ends.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with working_in(folder), alone_in(folder) as alone:
        ...     alone
        False
        >>> with alone_in(folder) as alone:
        ...     alone
        True
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(folder / FILE, "a+b"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except OSError:
            alone = False
        yield alone
