"""Writes docs/cli.md from the commands themselves; `--check` only tells whether it is up to date."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from biasbench.cli.app import app

FILE = Path(__file__).parents[1] / "docs" / "cli.md"
WIDTH = 100

INTRODUCTION = """\
# The command line

This page is made by `python scripts/cli_docs.py` from the commands themselves; a test compares the two.

Data goes to standard output; progress, notes and errors go to standard error. Progress is drawn as bars
on a terminal, as a few lines in a log, and not at all with `--quiet`. `NO_COLOR` is respected.
Commands with `--json` print one document with `schema` and `schema_version`; a change that breaks readers
raises the version.

## Exit codes

| exit code | printed as | meaning | what is safe |
|---|---|---|---|
| 0 | | everything asked for was done | everything |
| 1 | `error[cell]`, `error[cluster]` | cells failed, a cluster was lost, `doctor` found a problem | all other cells |
| 2 | `error[usage]`, `error[plugin]` | an option, name, benchmark file or plugin cannot be used | nothing was begun |
| 3 | `error[bug]` | a bug in biasbench; the traceback is in a log file below the cache folder | finished cells |
| 4 | `error[data]` | data are missing, damaged or refused, at the named place | the data, unchanged; finished cells |
| 5 | `error[store]` | the results folder cannot be written, read or trusted | what is in it was not changed |
| 6 | `error[integrity]` | bytes changed behind its back | all that it does not name; nothing damaged was used |
| 75 | | asked to end and to be started again (SIGUSR1) | finished cells; trainings go on from a checkpoint |
| 130, 143 | | interrupted (Ctrl-C), terminated (SIGTERM) | the same |

What is wrong is told in one line: `biasbench: error[CODE]: PLACE: what was found and expected. What to do next.`
Codes do not change between versions; the words may.
`biasbench --debug COMMAND`, or `BIASBENCH_DEBUG=1`, prints the traceback of every error.

## Configuration

Three folders can be set. For each, the first of these that speaks wins: the option, the environment
variable, `./biasbench.toml`, `$XDG_CONFIG_HOME/biasbench/config.toml`, the default.
`biasbench doctor` prints each folder and who set it.

| key | option | variable | default |
|---|---|---|---|
| `data` | `--data-root` | `BIASBENCH_DATA` | `$XDG_DATA_HOME/biasbench` |
| `results` | `--results` | `BIASBENCH_RESULTS` | `./results` |
| `cache` | none | `BIASBENCH_CACHE` | `$XDG_CACHE_HOME/biasbench` |

There may be several data roots: repeat the option, join them in the variable with `:` (`;` on Windows),
or write a list in the file. A data set is looked for as `ROOT/NAME` in each root, then in the roots
themselves. Relative paths in a configuration file count from that file's folder.

```toml
data = ["/data", "more-data"]
results = "results"
cache = "/scratch/me/biasbench"
```

## The leaderboard

A row is a method on a data set with a backbone, profile, protected attribute and measuring protocol, over seeds.

* `72.3 ± 0.4`: mean and sample standard deviation (ddof = 1) of the seeds' means.
* `64.1 ± 1.2 (r)`: one seed only; ± is the standard deviation (ddof = 0) over that seed's rounds.
* `72.3 ± 0.4 (4/5)`: one of five planned seeds has no such figure.
* An en dash: undefined, or not measured; never counted as 0.
* `n/a`, `failed` or `missing` in the first column of figures: no seed has a score; the notes say why.
* With `--sort`, `≈` marks a figure that is not apart from the row above by more than the combined ±.
* `(t)`, transductive: what is said of one picture depends on the others of its split, as with `crf+rba`.
  `(p)`, privileged: predictions rest on what nobody knows of a new picture, such as regions that people
  annotated (`blackout-segm`, not `blackout-face` with a detector's boxes). Such rows stand apart, below a
  line, and are sorted among themselves.
* `withdrawn: seeds 3, 4` in the notes: these were planned or scored once and are no more; see `journal.jsonl`
  in the results folder.

The table for the terminal has the first 50 rows; `--top N` shows more or fewer, in every format.

JSON rows carry `method`, `dataset`, `backbone`, `profile`, `attribute`, `protocol`, `weights`, `status`,
`seeds` (those with a score), `planned`, `reasons`, `flags`, `marks`, `notes` (what methods reported of their
predictions, by seed, split and name, such as `1.rba/violated_after`), and each column's key with `mean`, `std`, `n`,
`spread` (`seeds` or `rounds`, what `n` counts) and `seeds` (how many have the figure). CSV has the same at
full precision; text that a spreadsheet would take for a formula starts with an apostrophe.

## Commands
"""


def pages(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    """Each command's full name and help text, depth first."""
    context = click.Context(
        command, parent, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH, **command.context_settings
    )
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from pages(found, child, context)


def generate() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for name, text in pages(app, "biasbench"):
        level = "#" * (2 + len(name.split()))
        parts.append(f"{level} {name}\n\n```text\n{text.rstrip()}\n```\n")
    return "\n".join(parts)


def main() -> int:
    """Write the page, or with `--check` return 1 if it is out of date."""
    if "--check" in sys.argv[1:]:
        return 0 if FILE.is_file() and FILE.read_text(encoding="utf-8") == generate() else 1
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(generate(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
