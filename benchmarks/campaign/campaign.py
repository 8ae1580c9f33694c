"""The long checks of what biasbench promises: `python benchmarks/campaign/campaign.py`.

Prints a line a promise, such as `leakage-bayes: 8/8 ok`, with what was found below it, and ends with
0 when none is broken, else with 1. Every finished part is kept in the results folder: the same command
goes on where it was stopped. A promise that cannot be tried here says why and breaks nothing.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import cheats
import clearing
import click
import inputs
import integrity
import kill
import leakage
import leakage_imsitu
import machines
import promises
import resume
import sweeps

from biasbench import BiasBenchError, UsageError

PARTS = (leakage, integrity, clearing, kill, resume, sweeps, machines, cheats, inputs)


@click.command(help=__doc__)
@click.option("--shard", default="1/1", metavar="I/N", help="The I-th of N parts of the promises.")
@click.option("--only", multiple=True, metavar="NAME", help="This promise alone. Repeatable.")
@click.option("--results", type=click.Path(path_type=Path), default=Path("campaign-results"), show_default=True)
@click.option(
    "--real", type=click.Path(path_type=Path), envvar="BIASBENCH_REAL", metavar="FOLDER",
    help="Of the released imSitu lists, or of their folder wang2019.  [default: $BIASBENCH_REAL]",
)  # fmt: skip
@click.option(
    "--imsitu-protocol", default=leakage_imsitu.PROTOCOL, show_default=True, metavar="NAME",
    help="Another leakage protocol for leakage-imsitu: a short one tries the commands, not the figures.",
)  # fmt: skip
def main(shard: str, only: tuple[str, ...], results: Path, real: Path | None, imsitu_protocol: str) -> None:
    """See the text of this file."""
    every = [promise for part in PARTS for promise in part.promises()]
    every.append(leakage_imsitu.promise(real, imsitu_protocol))
    try:
        whole = promises.run(promises.chosen(every, only, shard_of(shard)), results, click.echo)
    except BiasBenchError as error:
        click.echo(f"campaign: {error}", err=True)
        sys.exit(error.exit_code)
    sys.exit(0 if whole else 1)


def shard_of(text: str) -> tuple[int, int]:
    """The numbers of a text such as 2/3.

    Raises:
        UsageError: When it has another form.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None:
        raise UsageError(f"--shard {text!r} is not of the form I/N", fix="Write for example 2/3")
    return int(found[1]), int(found[2])


if __name__ == "__main__":
    main()
