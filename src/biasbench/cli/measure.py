"""`biasbench measure`: metrics again from stored predictions; nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from biasbench.cli.options import json_option, plugin_option, results_option

if TYPE_CHECKING:
    from biasbench.job import MeasureJob
    from biasbench.plugins import Plugins
    from biasbench.store import Store


@click.command("measure")
@results_option
@click.option("--key", "keys", multiple=True, metavar="KEY", help="Only runs whose key starts so. Repeatable.")
@click.option("--metric", "metrics", multiple=True, metavar="METRIC", help="Repeatable.  [default: all]")
@click.option(
    "--attribute", "attributes", multiple=True, metavar="NAME",
    help="Protected attribute; a*b for an intersection. Repeatable.  [default: those measured before]",
)  # fmt: skip
@click.option("--protocol", metavar="NAME", help="Measuring protocol.  [default: those measured before]")
@plugin_option
@json_option
@click.option("--quiet", "-q", is_flag=True, help="No progress; results and errors only.")
def measure_command(
    results: Path | None,
    keys: tuple[str, ...],
    metrics: tuple[str, ...],
    attributes: tuple[str, ...],
    protocol: str | None,
    plugin_files: tuple[Path, ...],
    as_json: bool,
    quiet: bool,
) -> int:
    """Compute metrics again from stored predictions.

    With --metric, --attribute or --protocol, other measurements of the run are kept. Damaged
    measurements are replaced. Stored predictions are checked against their hashes first.
    """
    from biasbench.cli.leaderboard import load_board, print_board
    from biasbench.cli.output import emit_json, note
    from biasbench.cli.progress import RunProgress
    from biasbench.config import load_settings
    from biasbench.plugins import load_plugins
    from biasbench.store import Store

    plugins = load_plugins(plugin_files)
    settings = load_settings(results=results)
    store = Store(settings.results)
    chosen = choose_runs(store, keys)
    check_metrics(metrics, plugins)
    jobs = [
        job
        for key in chosen
        for job in jobs_of(store, key, metrics, attributes, protocol, settings.cache, plugins)
    ]  # fmt: skip
    with RunProgress.choose(quiet=quiet) as shown:
        measure_all(store, jobs, shown)
    code = 1 if shown.counts()["failed"] else 0
    if as_json:
        emit_json("measure", {"results": str(settings.results), "exit_code": code, **shown.document()})
    else:
        print_board(load_board(settings.results, plugins, keys=set(chosen)), "rich")
    if not quiet:
        note(f"{shown.summary()} · exit {code}")
    return code


def choose_runs(store: Store, prefixes: Sequence[str]) -> list[str]:
    """Keys of the finished runs that start with one of the prefixes; all without any.

    Raises:
        UsageError: When a prefix fits no run, or there is no run at all.
    """
    from biasbench.errors import StoreError, UsageError, printable

    known = store.runs()
    if not known:
        raise StoreError("has no finished run to measure", where=printable(store.root), fix="See 'biasbench run'")
    for prefix in prefixes:
        if not any(key.startswith(prefix) for key in known):
            raise UsageError(f"no run's key starts with {printable(prefix)!r}", fix=f"Keys: {', '.join(known[:5])}, …")
    return [key for key in known if not prefixes or key.startswith(tuple(prefixes))]


def check_metrics(metrics: Sequence[str], plugins: Plugins) -> None:
    """Refuse unknown metrics before anything is measured."""
    from biasbench.grammar import parse

    for text in metrics:
        for component in parse(text):
            plugins.metrics.find(component.name)


def jobs_of(
    store: Store,
    key: str,
    metrics: Sequence[str],
    attributes: Sequence[str],
    protocol: str | None,
    cache: Path,
    plugins: Plugins,
) -> Iterator[MeasureJob]:
    """One job for each protocol of a run: the one asked for, those measured before, or the recipe's."""
    from biasbench.job import MeasureJob
    from biasbench.plugins import default_metrics

    manifest = store.manifest(store.run(key))
    recipe = manifest["spec"]["recipe"]
    before = _measured_before(store, key)
    protocols = [protocol] if protocol else list(dict.fromkeys(r["protocol"] for r in before)) or [recipe["protocol"]]
    for name in protocols:
        seen = dict.fromkeys(r["attribute"] for r in before if r["protocol"] == name)
        yield MeasureJob(
            key=key,
            metrics=tuple(metrics) or default_metrics(plugins),
            attributes=tuple(attributes) or tuple(seen) or (manifest["attribute"],),
            protocol=name,
            results=store.root.absolute(),
            cache=cache.absolute(),
            threads=recipe["threads"],
            plugins=tuple(plugins.files),
        )


def _measured_before(store: Store, key: str) -> list[dict[str, Any]]:
    """Earlier measurements; damaged ones are deleted, since they are about to be replaced."""
    from biasbench.errors import IntegrityError, StoreError

    path = store.run(key) / "metrics.json"
    try:
        return store.metrics(key) if path.exists() else []
    except (IntegrityError, StoreError):
        store.discard_metrics(key)
        return []


def measure_all(store: Store, jobs: Sequence[MeasureJob], shown: Any) -> None:
    """Run each job and store what it measured; a failed one stops no other."""
    from biasbench.presence import working_in

    with working_in(store.root):
        for job, cell, records, reason in carried_out(store, jobs, store.work("jobs"), shown):
            if records is not None:
                store.write_metrics(job.key, records)
                reason = "; ".join(r["error"] for r in records if r["error"])
            shown({**cell, "state": "failed" if reason else "done", "reason": reason or None})


Measured = tuple["MeasureJob", dict[str, Any], list[dict[str, Any]] | None, str]


def carried_out(store: Store, jobs: Sequence[MeasureJob], folder: Path, shown: Any) -> Iterator[Measured]:
    """Run each job in a process of its own, one after the other.

    Args:
        store: Of the runs.
        jobs: What to measure.
        folder: For the jobs' files and logs.
        shown: Told of the plan and of each start; how a job ended is the caller's to say.

    Yields:
        The job, the event that names its cell, its records, or None and why there are none.
    """
    from biasbench.executors.local import LocalExecutor, describe_death

    shown({"event": "plan", "cells": len(jobs)})
    folder.mkdir(parents=True, exist_ok=True)
    with LocalExecutor(folder) as executor:
        for job in jobs:
            spec = store.manifest(store.run(job.key))["spec"]
            name = f"remeasure-{job.key}-{job.protocol}"
            label = f"{spec['dataset']}/{spec['backbone']}/{spec['method']}/seed={spec['seed']}, {job.protocol}"
            cell = {"event": "cell", "key": name, "label": label}
            shown({**cell, "state": "start"})
            executor.submit(name, job)
            records, reason = None, "it said nothing"
            while executor.running:
                for _, event in executor.events(timeout=1.0):
                    if event["event"] == "measured":
                        records = event["records"]
                    elif event["event"] == "error":
                        reason = event["message"]
                    elif event["event"] == "died":
                        why = event.get("reason") or describe_death(event["exit"])
                        reason = f"{why} (log: {event['log']})"
            yield job, cell, records, reason
