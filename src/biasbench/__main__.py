"""The command `biasbench`: runs a command and turns whatever happens into one line and an exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Any

import click

from biasbench.cli.app import State, app
from biasbench.cli.output import hush, note, visible
from biasbench.errors import (
    EXIT_BUG,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_REQUEUE,
    EXIT_TERMINATED,
    EXIT_USAGE,
    BiasBenchError,
    printable,
)
from biasbench.stopping import Requeued


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived; unwinds like Ctrl-C, so that what cleans up after one cleans up after both."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Without the program's name; those of the process by default.

    Returns:
        The exit code (see `biasbench --help`).

    Example:
        >>> main(["--version"])  # doctest: +ELLIPSIS
        biasbench, version ...
        0
    """
    _open_streams()
    state = State(debug=os.environ.get("BIASBENCH_DEBUG", "") not in ("", "0"))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal without '±' gets '?'
    with _terminable():
        try:
            return _invoke(arguments, state)
        except BrokenPipeError:
            hush()
            return EXIT_OK  # whoever read our output has seen enough
        except click.ClickException as error:
            told = StringIO()
            error.show(told)
            sys.stderr.write(visible(told.getvalue()))  # it repeats what was typed, or what a shell put there
            return error.exit_code
        except BiasBenchError as error:
            _traceback_if(state.debug)
            note(f"error[{error.code}]: {error}")
            return error.exit_code
        except Terminated as error:
            note(f"terminated{_kept(error)}")
            return EXIT_TERMINATED
        except Requeued as error:
            note(f"asked to end by SIGUSR1{_kept(error)}")
            return EXIT_REQUEUE
        except KeyboardInterrupt as error:
            note(f"interrupted{_kept(error)}")
            return EXIT_INTERRUPTED
        except Exception as error:
            _traceback_if(state.debug)
            if isinstance(error, FileNotFoundError) and _nowhere():
                note("error[usage]: the working folder is gone. Change to one that is there and run it again.")
                return EXIT_USAGE
            note(f"error[bug]: {_first_line(error)}. This is a bug in biasbench{_logged()}")
            return EXIT_BUG


def _open_streams() -> None:
    """Give the process the streams that it was started without: a file opened next would take their place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115  # for good


def _nowhere() -> bool:
    """Whether the working folder was deleted under the process."""
    try:
        Path.cwd()
    except OSError:
        return True
    return False


def _invoke(arguments: Sequence[str] | None, state: State) -> int:
    try:
        code = app.main(arguments, prog_name="biasbench", standalone_mode=False, obj=state)
    except click.Abort as error:  # click's wrapping of Ctrl-C and of a prompt's end of input
        raise error.__cause__ if isinstance(error.__cause__, KeyboardInterrupt) else KeyboardInterrupt() from None
    sys.stdout.flush()
    return code if isinstance(code, int) else EXIT_OK


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    def stop(number: int, _frame: FrameType | None) -> None:
        raise Terminated if number == signal.SIGTERM else Requeued

    before: dict[int, Any] = {}
    try:
        with contextlib.suppress(ValueError):  # not the main thread: whoever runs us handles signals
            for name in (signal.SIGTERM, signal.SIGUSR1):
                before[name] = signal.signal(name, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _kept(error: KeyboardInterrupt) -> str:
    """What a command says it has kept, if it says so."""
    return f"; {error}" if str(error) else ""


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return printable(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__).rstrip(".")


def _traceback_if(debug: bool) -> None:
    if debug:
        traceback.print_exc()


def _logged() -> str:
    """Write the current traceback to a log file; says where, or prints it where none can be written."""
    from datetime import UTC, datetime

    from biasbench import __version__, io

    text = f"biasbench {__version__}\npython {sys.version}\narguments {sys.argv[1:]!r}\n\n{traceback.format_exc()}"
    path = _log_folder() / f"bug-{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}.txt"
    try:
        io.write_text(path, text)
    except BiasBenchError:
        traceback.print_exc()
        return "; please report it with the traceback above"
    return f"; please report it with the traceback in {printable(path)}"


def _log_folder() -> Path:
    from biasbench.config import load_settings

    try:
        return load_settings().cache / "logs"
    except (BiasBenchError, OSError):  # a broken configuration file must not hide the bug
        import tempfile

        return Path(tempfile.gettempdir()) / "biasbench-logs"


if __name__ == "__main__":
    sys.exit(main())
