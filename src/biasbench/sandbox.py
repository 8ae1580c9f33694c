"""Reading a file that may be anything in a process of its own: a native parser that dies of it takes nobody along.

The parent names a reader and a file. The child reads it under limits on memory, time and the size of what it writes,
and answers with files in a folder that it was given; nothing is unpickled on the way back. The limits keep mistakes
and damaged files from harm; they are no defence against a file made to take over the reader.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from biasbench.errors import BiasBenchError, DataError, IntegrityError, StoreError, UsageError, printable

MEMORY = 3 << 30  # bytes, beside eight times the file
SECONDS = 30  # of computing, beside one for each MB of the file
_WRITTEN = 64 << 30  # bytes of one file that it writes
_AT, _ANSWER, _SAID = "at.txt", "answer.json", "said.txt"
_AGAIN = "Get the file again, or check the disk. Nothing but its reader's own process was lost"
_KINDS = {kind.__name__: kind for kind in (DataError, IntegrityError, StoreError, UsageError)}
_START = "import sys; from biasbench.sandbox import main; main(sys.argv[1])"


@contextlib.contextmanager
def read_apart(
    reader: str,
    path: Path,
    options: Mapping[str, Any] | None = None,
    *,
    memory: int = MEMORY,
    seconds: int = SECONDS,
    scratch: Path | None = None,
) -> Iterator[Path]:
    """The folder into which a reader, in a process of its own, has written what is in a file.

    Args:
        reader: `"module:function"`; it is called with (path, folder, **options), and writes into the folder.
        path: The file, or the folder of files.
        options: JSON values.
        memory: Bytes that it may hold, beside eight times the file's size.
        seconds: Of computing, beside one for each MB of the file.
        scratch: Where the folder is made; None for the system's place for temporary files.

    Yields:
        The folder, which is gone afterwards.

    Raises:
        DataError: When the reader refuses the file, dies of it, or takes more than it may: names the file.
        StoreError: When there is no room for what it writes.

    Example:
        >>> with read_apart("shutil:copy", Path(__file__)) as folder:
        ...     (folder / "sandbox.py").read_text()[3:12]
        'Reading a'
    """
    size = _size(path)
    request: dict[str, Any] = {"reader": reader, "path": str(path.absolute()), "options": dict(options or {})}
    request |= {"memory": memory + 8 * size, "seconds": seconds + (size >> 20)}
    try:
        made = tempfile.TemporaryDirectory(prefix="biasbench-", dir=scratch)
    except OSError as error:
        where = printable(error.filename or scratch or tempfile.gettempdir())
        raise StoreError(f"no folder can be made: {error.strerror}", where=where, fix="Make room there") from error
    with made as name:
        folder = Path(name)
        _check(_run(request, folder), request, folder, path)
        yield folder


def at(folder: Path, path: Path) -> None:
    """Remember which of several files a reader is at, for the message in case it dies there."""
    (folder / _AT).write_text(str(path), errors="surrogatepass")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # the reader says what is wrong with it


def _run(request: Mapping[str, Any], folder: Path) -> int | None:
    """The child's return code; None if it had to be ended."""
    text = json.dumps({**request, "folder": str(folder)})
    one = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}  # threads' stacks count as memory
    with open(folder / _SAID, "wb") as said:
        try:
            child = subprocess.Popen(  # noqa: S603  # our own interpreter; -P: nothing in the working folder is a module
                [sys.executable, "-P", "-c", _START, text], stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                env={**os.environ, **one, "CUDA_VISIBLE_DEVICES": ""},
            )  # fmt: skip
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise DataError(f"its reader could not be started: {reason}", where=printable(request["path"])) from error
    try:
        return child.wait(timeout=60 + 3 * request["seconds"])  # a busy machine computes slowly
    except subprocess.TimeoutExpired:
        return None
    finally:
        child.kill()
        child.wait()


def _check(code: int | None, request: Mapping[str, Any], folder: Path, path: Path) -> None:
    """Raise what the child answered, or what became of it."""
    answer = _answer(folder)
    if code == 0 and answer == {}:
        return
    if code == 0 and answer is not None:
        raise _KINDS.get(answer.pop("kind"), DataError)(answer.pop("what"), **answer)
    where = _file_at(folder) or printable(path)
    raise DataError(_death(code, request, folder), where=where, fix=_AGAIN)


def _answer(folder: Path) -> dict[str, Any] | None:
    try:
        with open(folder / _ANSWER, "rb") as file:
            answer = json.loads(file.read(100_000))
    except (OSError, ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _file_at(folder: Path) -> str:
    try:
        with open(folder / _AT, "rb") as file:
            return printable(file.read(5000).decode(errors="replace"))
    except OSError:
        return ""


def _death(code: int | None, request: Mapping[str, Any], folder: Path) -> str:
    if code in (None, -getattr(signal, "SIGXCPU", 0), -signal.SIGKILL):
        return f"its reader took more than {request['seconds']} s or was killed"
    if code is not None and code < 0:
        return f"its reader crashed on it ({signal.Signals(-code).name})"
    said = (folder / _SAID).read_bytes()[-2000:].decode(errors="replace").strip().splitlines()
    return f"its reader ended with code {code} ({printable(said[-1] if said else 'without a word', 120)})"


# -- the child's side ---------------------------------------------------------------------------
def main(text: str) -> None:
    """Read what a request names, and answer."""
    request = json.loads(text)
    folder = Path(request["folder"])
    _limit(request["memory"], request["seconds"])
    answer: dict[str, Any] = {}
    try:
        module, _, name = request["reader"].partition(":")
        getattr(importlib.import_module(module), name)(Path(request["path"]), folder, **request["options"])
    except BiasBenchError as error:
        answer = {"kind": type(error).__name__, "what": error.what, "where": error.where, "fix": error.fix}
    except MemoryError:
        answer = _refusal(f"its reader needs more than {request['memory'] >> 20} MB", request, folder)
    except Exception as error:  # parsers of hostile bytes raise anything
        lines = str(error).strip().splitlines() or [""]
        answer = _refusal(
            f"its reader failed: {printable(f'{type(error).__name__}: {lines[0]}', 120)}", request, folder
        )
    (folder / _ANSWER).write_text(json.dumps(answer))


def _refusal(what: str, request: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    return {"kind": "DataError", "what": what, "where": _file_at(folder) or printable(request["path"]), "fix": _AGAIN}


def _limit(memory: int, seconds: int) -> None:
    """Bound what this process may take, as far as the system knows how."""
    try:
        import resource
    except ImportError:  # no POSIX
        return
    limits = {"RLIMIT_DATA": memory, "RLIMIT_CPU": seconds, "RLIMIT_FSIZE": _WRITTEN, "RLIMIT_CORE": 0}
    for name, value in limits.items():
        with contextlib.suppress(AttributeError, ValueError, OSError):
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (bound, bound))
