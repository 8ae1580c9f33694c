"""The `biasbench` command group."""

from __future__ import annotations

from dataclasses import dataclass

import click

from biasbench import __version__
from biasbench.cli.lazy import LazyGroup
from biasbench.cli.options import HELP

NAMES = (
    "run", "leaderboard", "matrix", "measure", "verify", "gc", "leakage", "audit", "plot", "list", "describe", "doctor",
    "data",
)  # fmt: skip
COMMANDS = {name: f"biasbench.cli.{name}:{name}_command" for name in NAMES}
COMMANDS["import-weights"] = "biasbench.cli.importweights:importweights_command"

EXIT_CODES = """\b
Exit codes:
  0    everything asked for was done
  1    some cells failed (the others are kept), or doctor found a problem
  2    wrong usage: option, name or benchmark file
  3    a bug in biasbench; the traceback is in a log file
  4    data missing, damaged or refused
  5    the results folder cannot be written, read or trusted
  6    integrity: bytes changed behind the harness's back
  75   asked to end and to be started again (SIGUSR1)
  130  interrupted (Ctrl-C)
  143  terminated (SIGTERM)
"""


@dataclass
class State:
    """What the group's own options set, for `main` to read when a command fails."""

    debug: bool = False


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings=HELP, epilog=EXIT_CODES)
@click.version_option(__version__, "--version", prog_name="biasbench")
@click.option("--debug", is_flag=True, help="Print the traceback of every error (also: BIASBENCH_DEBUG=1).")
@click.pass_context
def app(ctx: click.Context, debug: bool) -> None:
    """Measure and mitigate protected-attribute bias in image classifiers."""
    ctx.ensure_object(State).debug |= debug
