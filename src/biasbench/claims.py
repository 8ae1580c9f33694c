"""Who works on what: locks of the kernel, held by runners and never by the processes of cells.

A lock is free as soon as its runner is gone, however it ended; a plugin's stray process
cannot keep it. No clock decides anything. A runner that stands still keeps its claims:
end it, and the others take over.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

from filelock import FileLock, Timeout

from biasbench import io
from biasbench.errors import StoreError, printable
from biasbench.faults import point
from biasbench.store import Store

NO_LOCKS = "Choose a folder on another file system: runners could not tell what another works on"


class Claims:
    """The claims of one runner, by what it claimed them for.

    Args:
        store: The results folder that runners share.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._held: dict[str, list[FileLock]] = {}

    def take(self, name: str, keys: Iterable[str]) -> bool:
        """Claim all of some keys, or none: whether nobody else works on any of them.

        Raises:
            StoreError: When a claim cannot be written.
        """
        point("claim.before")
        held = self._held.setdefault(name, [])
        for key in keys:
            lock = self.store.claim(key)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                self.release(name)
                return False
            except OSError as error:
                self.release(name)
                if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                    where = printable(self.store.root)
                    raise StoreError("its file system has no locks", where=where, fix=NO_LOCKS) from error
                raise io.unwritable(self.store.work("claims", f"{key}.lock"), error) from error
            held.append(lock)
        point("claim.after")
        return True

    def release(self, name: str) -> None:
        """Give back what was claimed for `name`."""
        for lock in self._held.pop(name, []):
            lock.release()
        point("claim.released")

    def release_all(self) -> None:
        """Give back everything."""
        for name in list(self._held):
            self.release(name)
