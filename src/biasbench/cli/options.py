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


def leakage_options(command: F) -> F:
    """Everything that decides how leakage is measured, but what it is measured of.

    `--protocol`, `--minimum`, `--attackers`, `--nulls`, `--no-noise`, `--seed`, `--threads`, `--device`.
    """
    for option in reversed(_LEAKAGE):
        command = option(command)
    return command


_LEAKAGE = (
    click.option(
        "--protocol", metavar="NAME", default="wang2019",
        help="wang2019, certified, quick or smoke; constants in parentheses: 'wang2019(layers=4)'.",
    ),
    click.option(
        "--minimum", type=click.IntRange(min=1), metavar="N", help="Leave out groups with fewer rows in a split."
    ),
    click.option(
        "--attackers", is_flag=True, help="Also by weaker and stronger attackers (Table 2 of Wang et al. 2019)."
    ),
    click.option("--nulls", type=click.IntRange(min=0), metavar="N", help="Null draws; 99 or more give a p-value."),
    click.option("--no-noise", is_flag=True, help="Leave out leakage under 1, 5 and 10 % wrong attributes."),
    click.option("--seed", type=click.IntRange(min=0), metavar="INT", default=0, help="Of all random numbers."),
    click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Attackers trained side by side."),
    click.option("--device", metavar="DEVICE", default="cpu", help="Where attackers are trained: cpu, cuda, cuda:1."),
)  # fmt: skip


def json_option(command: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON with a schema version.")(command)
