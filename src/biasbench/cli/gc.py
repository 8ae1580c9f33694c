"""`biasbench gc`: clear away what killed runs left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from biasbench.cli.options import json_option, results_option

if TYPE_CHECKING:
    from biasbench.leftovers import Leftover
    from biasbench.store import Store


@click.command("gc")
@results_option
@click.option("--dry-run", is_flag=True, help="Say what would go; delete nothing.")
@click.option("--trainings", is_flag=True, help="Also trainings that no stored run came from, once the plan is done.")
@click.option("--cache", "with_cache", is_flag=True, help="Also what is damaged or unused in the cache.")
@click.option(
    "--days", type=click.FloatRange(min=0), default=30.0, metavar="N",
    help="What of the cache was used in the last N days stays.",
)  # fmt: skip
@json_option
def gc_command(
    results: Path | None, dry_run: bool, trainings: bool, with_cache: bool, days: float, as_json: bool
) -> None:
    """Delete what killed runs left behind: never a result, nothing that a run is using.

    That is: files half written, copies of data for cells, descriptions and logs of jobs that ended
    well, checkpoints of finished trainings. While a run is at work in the folder, only that goes which
    it cannot be working on.
    """
    from biasbench.cli.output import emit, emit_json, size
    from biasbench.config import load_settings
    from biasbench.leftovers import claimed
    from biasbench.presence import alone_in
    from biasbench.store import Store

    settings = load_settings(results=results)
    store = Store(settings.results)
    gone: list[tuple[Leftover, int]] = []
    notes: list[str] = []
    with ExitStack() as held:
        alone = held.enter_context(alone_in(store.root))
        with_cache &= settings.cache.is_dir()
        cache_free = with_cache and held.enter_context(alone_in(settings.cache))
        if not alone:
            notes.append("a run is at work in the results folder: what it may be using stays")
        if with_cache and not cache_free:
            notes.append("a run is using the cache: it stays as it is")
        for leftover in chosen(store, settings.cache if cache_free else None, days, alone=alone, trainings=trainings):
            with claimed(store, leftover.claims) as ours:
                if not ours:
                    continue
                count = leftover.bytes
                if dry_run or leftover.delete():
                    gone.append((leftover, count))
                else:
                    notes.append(f"cannot be deleted: {shown(leftover.path, store.root)}")
    freed = sum(count for _, count in gone)
    if as_json:
        rows = [{"path": str(left.path), "why": left.why, "bytes": count} for left, count in gone]
        emit_json("gc", {"dry_run": dry_run, "bytes": freed, "gone": rows, "notes": notes})
        return
    for left, count in gone:
        emit(f"{size(count):>9}  {left.why}: {shown(left.path, store.root)}")
    for text in notes:
        emit(text)
    emit(f"{len(gone)} leftovers, {size(freed)} {'could be freed' if dry_run else 'freed'}")


def chosen(store: Store, cache: Path | None, days: float, *, alone: bool, trainings: bool) -> Iterator[Leftover]:
    """What may go, from the cache too where one is named."""
    import time

    from biasbench.leftovers import in_cache, in_store

    yield from in_store(store, alone=alone, trainings=trainings)
    if cache is not None:
        yield from in_cache(cache, time.time(), days)


def shown(path: Path, root: Path) -> str:
    """A path as the user knows it: relative to the results folder where it lies in there."""
    from biasbench.errors import printable

    return printable(path.relative_to(root) if path.is_relative_to(root) else path)
