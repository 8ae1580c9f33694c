"""`biasbench verify`: every file checked by its hash, every measurement made again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from biasbench.cli.options import json_option, plugin_option, results_option

if TYPE_CHECKING:
    from biasbench.store import Store
    from biasbench.verify import Fault


@click.command("verify")
@results_option
@click.option("--key", "keys", multiple=True, metavar="KEY", help="Only runs whose key starts so. Repeatable.")
@click.option("--files", "files_only", is_flag=True, help="Check files by their hashes; measure nothing again.")
@click.option(
    "--tolerance", type=click.FloatRange(min=0), default=0.0, metavar="POINTS",
    help="Largest difference between a figure and the same figure made again. On the same machine there is none.",
)  # fmt: skip
@plugin_option
@json_option
@click.option("--quiet", "-q", is_flag=True, help="No progress; findings and errors only.")
def verify_command(
    results: Path | None,
    keys: tuple[str, ...],
    files_only: bool,
    tolerance: float,
    plugin_files: tuple[Path, ...],
    as_json: bool,
    quiet: bool,
) -> int:
    """Check that a results folder says what was computed.

    Every file is checked by its hash, every key against what it is the hash of, and every
    measurement is made again from the stored predictions, without any cache. What is wrong is
    named, a line each, and the rest is checked all the same. What was withdrawn (failed and tried
    again, measured again, deleted, planned and never run) is counted from the journal. Ends with 6
    if a file is damaged or a figure comes out otherwise, with 1 if a figure cannot be made again,
    else with 0.
    """
    from biasbench import journal
    from biasbench.cli.measure import choose_runs
    from biasbench.cli.output import emit, emit_json
    from biasbench.config import load_settings
    from biasbench.errors import printable
    from biasbench.index import Index
    from biasbench.plugins import load_plugins
    from biasbench.store import Store

    plugins = load_plugins(plugin_files)
    store = Store(load_settings(results=results).results)
    chosen = choose_runs(store, keys) if keys else store.runs()
    found: list[Fault] = []

    def say(fault: Fault) -> None:
        found.append(fault)
        if not as_json:
            emit(str(fault))

    trainings = trainings_of(store, chosen) if keys else store.trainings()
    for fault in file_faults(store, chosen, trainings, documents=not keys):
        say(fault)
    remarks = [f"index.sqlite is wrong ({printable(name)}) and is made again" for name in Index(store).wrong()]
    told = withdrawn(store)
    if not files_only:
        sound = [key for key in chosen if f"runs/{key}" not in {fault.part for fault in found}]
        for fault in figure_faults(store, sound, plugins.files, tolerance, quiet=quiet):
            say(fault)
    counts = counted(found, chosen, trainings)
    code = exit_code(found)
    if as_json:
        document = {"results": str(store.root), "exit_code": code, "tolerance": tolerance, "measured": not files_only}
        faults = [vars(fault) for fault in found]
        emit_json("verify", {**document, "counts": counts, "faults": faults, "remarks": remarks, "withdrawn": told})
        return code
    for remark in remarks:
        emit(remark)
    if told:
        emit("journal: " + ", ".join(f"{count} {journal.KINDS[what]}" for what, count in told.items()))
    emit(" · ".join([*(f"{n} {what}" for what, n in counts.items() if n or what == "cells ok"), f"exit {code}"]))
    return code


def withdrawn(store: Store) -> dict[str, int]:
    """How much the journal tells of, by kind."""
    from biasbench import journal

    counts = Counter(str(entry["what"]) for entry in journal.read(store.root)[0])
    return {what: counts[what] for what in journal.KINDS if counts[what]}


def file_faults(store: Store, runs: Sequence[str], trainings: Collection[str], *, documents: bool) -> Iterator[Fault]:
    """Damaged files of runs, trainings and, if asked for, of everything beside them."""
    from biasbench.verify import document_faults, folder_faults

    if documents:
        yield from document_faults(store)
    for key in trainings:
        yield from folder_faults(store, "trainings", key)
    for key in runs:
        yield from folder_faults(store, "runs", key)


def trainings_of(store: Store, runs: Sequence[str]) -> list[str]:
    """Keys of the stored trainings that runs came from; a run whose manifest is damaged names none."""
    from biasbench.errors import BiasBenchError

    found = set()
    for key in runs:
        try:
            found.add(store.manifest(store.run(key))["spec"].get("training_key"))
        except BiasBenchError:
            continue
    return [key for key in store.trainings() if key in found]


def figure_faults(
    store: Store, keys: Sequence[str], plugin_files: Sequence[str], tolerance: float, *, quiet: bool
) -> Iterator[Fault]:
    """Measurements that come out otherwise when they are made again, and those that cannot be."""
    from tempfile import TemporaryDirectory

    from biasbench.cli.measure import carried_out
    from biasbench.cli.progress import RunProgress
    from biasbench.verify import Fault, differences, measure_jobs, measured

    with TemporaryDirectory(prefix="biasbench-verify-") as name, RunProgress.choose(quiet=quiet) as shown:
        empty = Path(name)
        jobs = [job for key in keys for job in measure_jobs(store, key, empty / "cache", plugin_files)]
        for job, cell, records, reason in carried_out(store, jobs, empty / "jobs", shown):
            part, faults = f"runs/{job.key}", []
            if records is None:
                faults.append(Fault("unverified", part, cell["label"], reason.partition(" (log: ")[0]))
            else:
                stored = [
                    r for r in measured(store, job.key)
                    if r["protocol"] == job.protocol and r["attribute"] in job.attributes and r["metric"] in job.metrics
                ]  # fmt: skip
                where, more = f"{cell['label']} ({job.key[:8]})", elsewhere(store, job.key)
                faults += [
                    Fault("differs", part, where, text + more) for text in differences(stored, records, tolerance)
                ]
            shown({**cell, "state": "failed" if faults else "done", "reason": faults[0].what if faults else None})
            yield from faults


def elsewhere(store: Store, key: str) -> str:
    """What to add to a difference if the run was made under other versions or on another machine."""
    from biasbench.environment import environment

    made = store.manifest(store.run(key)).get("environment", {}).get("hash")
    return "" if made == environment()["hash"] else " (it was made with other versions or on another machine)"


def counted(found: Sequence[Fault], runs: Sequence[str], trainings: Collection[str]) -> dict[str, int]:
    """Cells and trainings by what was found, in words."""
    kinds: dict[str, Any] = {}
    for fault in found:  # a cell counts once, by the worst
        if kinds.get(fault.part) != "damaged":
            kinds[fault.part] = fault.kind
    cells = Counter(kinds[part] for part in (f"runs/{key}" for key in runs) if part in kinds)
    bad = sum(f"trainings/{key}" in kinds for key in trainings)
    return {
        "cells ok": len(runs) - cells.total(),
        "damaged": cells["damaged"],
        "with other figures": cells["differs"],
        "unverified": cells["unverified"],
        "trainings ok": len(trainings) - bad,
        "trainings damaged": bad,
        "other files damaged": sum(not part.startswith(("runs/", "trainings/")) for part in kinds),
    }


def exit_code(found: Sequence[Fault]) -> int:
    """6 for anything wrong, 1 for what cannot be known, else 0."""
    from biasbench.errors import EXIT_CELLS_FAILED, EXIT_INTEGRITY, EXIT_OK

    kinds = {fault.kind for fault in found}
    if kinds - {"unverified"}:
        return EXIT_INTEGRITY
    return EXIT_CELLS_FAILED if kinds else EXIT_OK
