"""Start of the command line: `biasbench --help` and `biasbench list`, against their limits and a bare interpreter.

Commands run by turns with `python -c pass`, each in a process of its own; the first round fills the page cache and
does not count. Figures mean something on an idle machine alone.

Limits: 0.25 s, and 0.6 s of CPU.
"""

from __future__ import annotations

import sys
from pathlib import Path
from runpy import run_path
from statistics import median

import click

used = run_path(str(Path(__file__).with_name("leaderboard.py")))["used"]
WALL, CPU = 0.25, 0.6
COMMANDS = {
    "biasbench --help": ["-m", "biasbench", "--help"],
    "biasbench list": ["-m", "biasbench", "list"],
    "python -c pass": ["-c", "pass"],
}


@click.command(help=__doc__)
@click.option("--times", type=click.IntRange(min=1), default=11, show_default=True, help="Starts of each command.")
def main(times: int) -> None:
    """See the text of this file."""
    found = {name: [] for name in COMMANDS}
    for turn in range(times + 1):
        for name, command in COMMANDS.items():
            took = used([sys.executable, *command])
            if turn:
                found[name].append(took)
    bare = median(u.wall for u in found["python -c pass"])
    for name, taken in found.items():
        walls = [u.wall for u in taken]
        wall, cpu = median(walls), median(u.cpu for u in taken)
        click.echo(
            f"{name}: {wall:.3f} s (spread {max(walls) - min(walls):.3f}; {wall / WALL:.2f} of the limit; "
            f"{wall / bare:.1f} x a bare interpreter), {cpu:.3f} s of CPU ({cpu / CPU:.2f} of the limit), "
            f"{max(u.megabytes for u in taken):.0f} MB"
        )


if __name__ == "__main__":
    main()
