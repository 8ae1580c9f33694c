"""Promises that take too long for the tests: run, kept part by part, and reported one a line."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import biasbench
from biasbench import BiasBenchError, UsageError, did_you_mean, io, printable
from biasbench.measure import Memo

SRC = Path(biasbench.__file__).parent
HERE = Path(__file__).parent


class Kept(NamedTuple):
    """How far a promise is kept.

    Attributes:
        ok: Cases in which it held.
        total: Cases tried; 0 where it could not be tried here.
        text: What was found, a line a case, or why it could not be tried.
        needed: Cases in which it has to hold; None for all.
    """

    ok: int
    total: int
    text: str
    needed: int | None = None

    @property
    def broken(self) -> bool:
        """Whether it was tried and did not hold."""
        return self.ok < (self.total if self.needed is None else self.needed)

    def line(self, name: str) -> str:
        """What is printed."""
        if not self.total:
            return f"{name}: n/a ({self.text})"
        wanted = "" if self.needed is None else f", {self.needed} needed"
        found = "".join(f"\n  {row}" for row in self.text.splitlines())
        return f"{name}: {self.ok}/{self.total} {'FAILED' if self.broken else 'ok'}{wanted}{found}"


@dataclass(frozen=True)
class Promise:
    """Something that holds, and how it is checked.

    Attributes:
        name: What `--only` names.
        check: Tries it, in parts that are kept.
        code: Files and folders of Python files that it is about: a change there makes its parts again.
    """

    name: str
    check: Callable[[Parts], Kept]
    code: tuple[Path, ...]


class Parts:
    """Finished parts of one promise, found again by all that decides them: inputs, code and versions."""

    def __init__(self, promise: Promise, results: Path) -> None:
        self.promise, self.results = promise, results
        self._memo = Memo(results / "parts")

    def __call__(self, compute: Callable[..., Any], **inputs: Any) -> Any:
        """What `compute(**inputs)` returned before, or returns now.

        Args:
            compute: Gives JSON values, not None.
            inputs: JSON values: everything that the part depends on.
        """
        versions = {package: version(package) for package in ("numpy", "scikit-learn", "torch")}
        what = {"promise": self.promise.name, "inputs": inputs, "code": self.code, "versions": versions}
        key = io.canonical_json(what)
        known = self._memo.get(key) is not None
        value = self._memo(key, lambda: compute(**inputs))
        given = ", ".join(f"{name} {printable(value, 100)}" for name, value in inputs.items())
        sys.stderr.write(f"{self.promise.name}: {given}: {'known' if known else 'done'}\n")
        return value

    @cached_property
    def code(self) -> str:
        """SHA-256 of the code that the promise is about."""
        files = [file for path in self.promise.code for file in ([path] if path.is_file() else path.rglob("*.py"))]
        return io.hash_json(sorted(io.hash_file(file) for file in files))


def chosen(promises: Sequence[Promise], only: Iterable[str] = (), shard: tuple[int, int] = (1, 1)) -> list[Promise]:
    """Promises to run here: those named, or all; of them, by name, every n-th from the i-th on.

    Args:
        promises: All there are.
        only: Names; none for all.
        shard: (i, n): the shards 1/n to n/n have each promise once.

    Raises:
        UsageError: For an unknown name, or an i outside 1..n.
    """
    known, (i, n) = {p.name: p for p in promises}, shard
    for name in only:
        if name not in known:
            fix = did_you_mean(name, known) or f"Known: {', '.join(sorted(known))}"
            raise UsageError(f"no promise {printable(name)!r}", fix=fix)
    if not 1 <= i <= n:
        raise UsageError(f"there is no shard {i}/{n}", fix="Write I/N with I from 1 to N")
    return [known[name] for name in sorted(set(only) or known)[i - 1 :: n]]


def run(promises: Iterable[Promise], results: Path, say: Callable[[str], None]) -> bool:
    """Check promises one after the other; one that cannot be checked to its end is broken and hides no other.

    Args:
        promises: What to check.
        results: Where finished parts are kept.
        say: Called with a promise's line as soon as it is known.

    Returns:
        Whether none is broken.
    """
    whole = True
    for promise in promises:
        try:
            kept = promise.check(Parts(promise, results))
        except BiasBenchError as error:
            kept = None
            say(f"{promise.name}: FAILED ({printable(error)})")
        except Exception:  # a bug; the promises after it may still be checked
            kept = None
            traceback.print_exc()
            say(f"{promise.name}: FAILED (a bug; its traceback is on standard error)")
        if kept is not None:
            say(kept.line(promise.name))
        whole &= kept is not None and not kept.broken
    return whole
