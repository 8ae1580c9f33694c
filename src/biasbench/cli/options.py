"""Options that several commands share, so that they read and behave the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

HELP = {"help_option_names": ["-h", "--help"], "show_default": True}


def results_option(command: F) -> F:
    """`--results DIR`."""
    return click.option(
        "--results",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Folder of results.  [default: $BIASBENCH_RESULTS, the configuration file, or ./results]",
    )(command)


def data_root_option(command: F) -> F:
    """`--data-root DIR`, repeatable."""
    return click.option(
        "--data-root",
        "data_roots",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Folder in which data sets are looked for, as DIR/<name> or DIR itself. Repeatable.  "
        "[default: $BIASBENCH_DATA, the configuration file, or the user's data folder]",
    )(command)


def plugin_option(command: F) -> F:
    """`--plugin FILE`, repeatable."""
    return click.option(
        "--plugin",
        "plugin_files",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Python file with hooks to use beside the installed plugins. Repeatable.",
    )(command)


def json_option(command: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON with a schema version.")(command)
