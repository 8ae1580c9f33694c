"""`biasbench audit`: every measure of a model that somebody else trained, from a file of its outputs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from biasbench.cli.options import json_option, leakage_options

if TYPE_CHECKING:
    from biasbench.audit.file import AuditFile
    from biasbench.audit.report import AuditReport
    from biasbench.measures.figure import Figure

OUTPUTS = (".json", ".csv")


@click.command("audit")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option(
    "--attribute", "-a", "attributes", multiple=True, metavar="NAME",
    help="Protected attribute; a*b for an intersection. Repeatable.  [default: the file's only one]",
)  # fmt: skip
@leakage_options
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), metavar="FILE",
    help="Also write the figures there: .json as --json prints them, or .csv with a line for each.",
)  # fmt: skip
@json_option
@click.option("--quiet", "-q", is_flag=True, help="No progress; results and errors only.")
def audit_command(
    file: Path,
    attributes: tuple[str, ...],
    protocol: str,
    minimum: int | None,
    attackers: bool,
    nulls: int | None,
    no_noise: bool,
    seed: int,
    threads: int | None,
    device: str,
    output: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure a model from a file of its outputs.

    FILE (.npz, .parquet, .csv, .csv.gz) has a row for each example of train, val and test: id,
    split, logits or scores, targets and protected attributes. It is checked first: what is
    missing, not finite, out of range or stands twice is refused. docs/audit.md has an example.
    What attackers found is kept by content: the same command again is instant, and one that was
    interrupted goes on.
    """
    from biasbench.audit.read import read_audit_file
    from biasbench.config import load_settings
    from biasbench.measures.device import check_device
    from biasbench.measures.named import protocol_named

    check_output(output)
    settings = load_settings()
    protocol_named(protocol, single=False)  # a wrong name is told before the file is read
    check_device(device)
    read = read_audit_file(file)
    names = [read.attribute(name) for name in dict.fromkeys(attributes)] or [read.attribute()]

    from biasbench.audit.report import audit_file
    from biasbench.cli.leakage import attackers_text
    from biasbench.cli.output import emit, emit_json
    from biasbench.cli.progress import Counter
    from biasbench.measure import Memo
    from biasbench.measures.leakage import NOISES

    reports: list[AuditReport] = []
    tables: list[Mapping[str, Figure]] = []  # one a report; empty where it was not asked for, or is undefined
    for name in names:
        common: dict[str, Any] = {
            "seed": seed, "memo": Memo(settings.cache / "memo"), "threads": threads or os.cpu_count() or 1,
            "device": device,
        }  # fmt: skip
        with Counter(f"leakage of {name}", quiet=quiet) as progress:
            noises = () if no_noise else NOISES
            reports.append(
                audit_file(
                    read, name, protocol, noises=noises, nulls=nulls, minimum=minimum, progress=progress, **common
                )
            )
        each: Mapping[str, Figure] = {}
        if attackers and not reports[-1].leakage.details["undefined"]:
            from biasbench.measures.ablation import leakage_by_attacker

            with Counter("attackers", quiet=quiet) as progress:
                each = leakage_by_attacker(
                    read.samples(name), protocol, groups=read.groups(name), minimum=minimum, progress=progress,
                    **common,
                )  # fmt: skip
        tables.append(each)
    whole = document(reports, tables)
    if as_json:
        emit_json("audit", whole)
    else:
        emit("\n\n".join([*(text(report) for report in reports), *map(attackers_text, filter(None, tables))]))
    if output is not None:
        write(output, whole, reports)


def check_output(output: Path | None) -> None:
    """Refuse an ending that cannot be written before anything is measured.

    Raises:
        UsageError: Naming the endings.
    """
    from biasbench.errors import UsageError, printable

    if output is not None and output.suffix.lower() not in OUTPUTS:
        raise UsageError(f"cannot write {printable(output)!r}", fix=f"Let it end in {' or '.join(OUTPUTS)}")


def document(reports: Sequence[AuditReport], tables: Sequence[Mapping[str, Figure]]) -> Mapping[str, Any]:
    """The JSON of one report, or a list of several under `attributes`; leakage by attacker where it was asked for."""
    documents = [report.to_json() for report in reports]
    for found, table in zip(documents, tables, strict=True):
        if table:
            found["attackers"] = {name: figure.to_json() for name, figure in table.items()}
    return documents[0] if len(documents) == 1 else {"attributes": documents}


def write(output: Path, whole: Mapping[str, Any], reports: Sequence[AuditReport]) -> None:
    """Write the figures, whole or not at all."""
    import pandas as pd

    from biasbench import io
    from biasbench.cli.boards import harmless

    if output.suffix.lower() == ".json":
        io.write_json(output, {"schema": "biasbench/audit", "schema_version": 1, **whole})
    else:
        table = pd.concat([report.to_frame() for report in reports])
        for column in ("attribute", "note"):  # both may hold names from the file
            table[column] = table[column].map(harmless)
        io.write_text(output, table.to_csv(index=False, lineterminator="\n"))


def text(report: AuditReport) -> str:
    """A report for the terminal: figures, counts and what to know."""
    from biasbench.cli.leakage import facts
    from biasbench.cli.output import grid, render
    from biasbench.errors import printable

    ways = {"higher": "↑", "lower": "↓", "zero": "→0", "none": ""}
    file, leakage = report.file, report.leakage
    title = printable(
        f"{file.path}: {report.attribute} ({', '.join(leakage.groups)}), protocol {leakage.protocol}", 2000
    )
    headings = ("figure", "value", "better", "note")
    figures = [[line.title, line.shown, ways[line.better], line.note] for line in report.lines]
    groups = file.groups(report.attribute)
    counts = [
        [split, about["examples"], about["unknown"], *(about["groups"][g] for g in groups)]
        for split, about in report.counts().items()
    ]
    split_headings = ("split", "examples", "group unknown", *map(printable, groups))
    tables = [render(grid(headings, figures, title)), render(grid(split_headings, counts))]
    lines = [
        inferred(file),
        "± is the population standard deviation over rounds (ddof = 0).",
        *facts(leakage),
        *(f"! {printable(note)}" for note in report.notes),
    ]
    return "\n\n".join([*tables, "\n".join(lines)])


def inferred(file: AuditFile) -> str:
    """How the file was read, in a sentence.

    Example:
        >>> from biasbench.audit.file import AuditFile
        >>> inferred(AuditFile("f", "", "npz", "multilabel", {}, ("dog",), {}, "logits", 0.0, True, None, {}, (), ()))
        'Read as logits of 1 label, several an example; predicted from 0 on.'
    """
    k = len(file.label_names)
    task = "several an example" if file.task == "multilabel" else "one an example"
    if not file.decoded:
        decoded = "predictions are the file's labels"
    elif file.threshold is None:
        decoded = "the likeliest is predicted"
    else:
        decoded = f"predicted from {file.threshold:g} on"
    return f"Read as {file.score_kind} of {k} label{'s' if k > 1 else ''}, {task}; {decoded}."
