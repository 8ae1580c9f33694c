"""What the pictures of Alvi et al. 2018 show, collected from a data set's labels or from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from biasbench.cli.pictures import blocks, by_seed
from biasbench.errors import CellError, DataError, UsageError, did_you_mean, printable
from biasbench.leaderboard import Record
from biasbench.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pandas import DataFrame

    from biasbench.planned import Data
    from biasbench.plots.histogram import Histogram

    Codes = NDArray[np.int64]

LABEL = "label"  # how options name the task's own classes
Runs = Mapping[str, Mapping[int, Record]]  # method, then seed


@dataclass(frozen=True, eq=False)
class Evaluated:
    """One run's test split.

    Attributes:
        manifest: Of the run.
        table: Truth: ids, labels, attributes.
        labels: [N] predicted classes, or [N, K] predicted labels.
        embedding: [N, D], or None where none was kept.
    """

    manifest: Mapping[str, Any]
    table: DataFrame
    labels: NDArray[Any]
    embedding: NDArray[np.float32] | None

    def codes(self, name: str | None) -> tuple[str, Codes, tuple[str, ...]]:
        """An attribute's name, codes and groups; None is the one that was measured first, `label` the task.

        Raises:
            UsageError: When the attribute is unknown, or an image has several labels.
        """
        from biasbench.data import attribute

        groups: Mapping[str, Sequence[str]] = self.manifest["groups"]
        name = str(self.manifest["attribute"]) if name is None else name
        if name == LABEL:
            return name, self.classes(), tuple(self.manifest["label_names"])
        if name not in groups:
            raise unknown_attribute(name, groups)
        return name, attribute(self.table, name), tuple(groups[name])

    def classes(self) -> Codes:
        """[N] true classes.

        Raises:
            UsageError: When an image has several labels.
        """
        from biasbench.data import targets

        if self.manifest["task"] != "multiclass":
            raise UsageError(
                f"{printable(self.manifest['spec']['dataset'])} has several labels an image: there is no class to show",
                fix="Use a data set with one label an image, or 'biasbench plot labels'",
            )
        return targets(self.table)


def unknown_attribute(name: str, groups: Mapping[str, Any]) -> UsageError:
    """The error for an attribute that is not there."""
    known = (*groups, LABEL)
    hint = did_you_mean(name, known) or f"Known: {printable(', '.join(known), 1000)}"
    return UsageError(f"no attribute {printable(name)!r} here", fix=hint)


# -- runs --------------------------------------------------------------------------------------
def runs_alike(
    store: Store, dataset: str | None, methods: Sequence[str], seed: int | None, optional: str | None = None
) -> list[tuple[str, Runs]]:
    """Runs that belong in one picture, each lot with its title: every method, over the seeds that all have.

    Args:
        store: Where the runs are.
        dataset: Only on this data set, as typed.
        methods: As typed in the runs, each of which a lot must have.
        seed: Only this one.
        optional: A method that is added where the lot has it for those seeds.

    Raises:
        UsageError: When there is no such lot: says which method has no run, and why.
    """
    found: list[tuple[str, Runs]] = []
    for title, records in blocks(store, dataset, by_measurement=False):
        wanted = [r for r in records if r["method"] in (*methods, optional) and seed in (None, r["seed"])]
        runs = by_seed(wanted)
        if not all(method in runs for method in methods):
            continue
        seeds = sorted(set.intersection(*(set(runs[method]) for method in methods)))
        if seeds:
            more = (optional,) if optional in runs and set(seeds) & set(runs[optional]) else ()
            chosen = dict.fromkeys((*methods, *more))
            found.append((title, {m: {s: runs[m][s] for s in seeds if s in runs[m]} for m in chosen}))
    if not found:
        raise absent(store, dataset, methods, seed)
    return found


def absent(store: Store, dataset: str | None, methods: Sequence[str], seed: int | None) -> UsageError:
    """Why some methods are in no picture together."""
    every = [r for r in store.records() if dataset in (None, r["dataset"])]
    known = list(dict.fromkeys(str(r["method"]) for r in every))
    for method in methods:
        mine = [r for r in every if r["method"] == method]
        if not mine:
            hint = did_you_mean(method, known) or f"Methods: {printable(', '.join(known) or 'none', 1000)}"
            return UsageError(f"no run of {printable(method)!r}", fix=hint)
        if not any(r["status"] == "ok" for r in mine):
            reason = next((str(r["reason"]) for r in mine if r["reason"]), str(mine[0]["status"]))
            return UsageError(
                f"{printable(method)!r} has no result to draw: {printable(reason)}",
                fix="'biasbench leaderboard' shows all rows",
            )
    seeds = sorted({int(r["seed"]) for r in every if r["method"] in methods and r["status"] == "ok"})
    at = "of one seed" if seed is None else f"with seed {seed}"
    return UsageError(
        f"no runs {at} of {' and '.join(repr(printable(m)) for m in methods)} that were made alike",
        fix=f"Seeds: {', '.join(map(str, seeds))}; the recipe has to be the same too",
    )


def seeds_of(runs: Mapping[int, Record]) -> str:
    """The seeds of a picture, for its title.

    Example:
        >>> seeds_of({0: {}, 1: {}})
        'seeds 0, 1'
    """
    return f"seed{'s' if len(runs) > 1 else ''} {', '.join(map(str, runs))}"


def evaluated(store: Store, runs: Runs) -> dict[str, dict[int, Evaluated]]:
    """The test splits of some runs, whose files were all checked.

    Raises:
        IntegrityError: When something stored was changed.
        CellError: When the runs are of other test examples.
    """
    found = {m: {seed: _evaluated(store, str(r["key"])) for seed, r in seeds.items()} for m, seeds in runs.items()}
    every = [(f"{m}, seed {seed}", t) for m, seeds in found.items() for seed, t in seeds.items()]
    for name, one in every[1:]:
        if not one.table.equals(every[0][1].table):
            raise CellError("the runs were tested on other examples", where=printable(name))
    return found


def _evaluated(store: Store, key: str) -> Evaluated:
    import pandas as pd

    from biasbench.predict import read_outputs

    run = store.run(key)
    manifest = store.verify(run)
    outputs, table = read_outputs(run / "predictions" / "test"), pd.read_parquet(run / "truth" / "test.parquet")
    if list(outputs.ids) != table["id"].tolist():
        raise CellError("predictions and truth name different examples", where=printable(run))
    return Evaluated(manifest, table, outputs.labels, next(iter(outputs.embeddings.values()), None))


def two_groups(codes: Codes, groups: Sequence[str], what: str) -> None:
    """Refuse an attribute of which fewer than two groups have examples.

    Raises:
        UsageError: Naming the group.
    """
    there = [name for g, name in enumerate(groups) if (codes == g).any()]
    if len(there) < 2:
        seen = f"only the group {printable(there[0])!r} has" if there else "no group has"
        raise UsageError(f"{printable(what)}: {seen} examples: there is nothing to compare", fix="Name another one")


# -- a data set's labels -----------------------------------------------------------------------
def histograms(data: Data, of: str, by: str | None) -> tuple[dict[str, Histogram], str]:
    """Histograms by split, and the attribute whose groups they compare.

    Args:
        data: The data set.
        of: Attribute that is counted, or `label`.
        by: Attribute whose groups are compared, or `label`; None is the primary one.

    Raises:
        UsageError: When one is unknown, both are the same, or fewer than two groups or classes have examples.
    """
    import numpy as np

    from biasbench.data import attribute, targets
    from biasbench.plots.histogram import histogram

    by = data.dataset.primary_attribute if by is None else by
    if of == by:
        raise UsageError(f"--of and --by are both {printable(of)!r}", fix="Name two different attributes")
    for name in (of, by):
        try:
            data.derive(name)
        except DataError:
            raise unknown_attribute(name, data.groups) from None
        if name not in (*data.groups, LABEL):
            raise unknown_attribute(name, data.groups)
    if by == LABEL and data.dataset.task != "multiclass":
        raise UsageError(f"{printable(data.typed)} has several labels an image, which are no groups", fix="Use --of")
    names = {**data.groups, LABEL: tuple(data.dataset.label_names)}
    found = {}
    for split, table in data.tables.items():
        values, codes = (targets(table) if name == LABEL else attribute(table, name) for name in (of, by))
        found[str(split)] = histogram(values, codes.astype(np.int64), names[of], names[by])
    sizes = np.sum([h.sizes for h in found.values()], 0)
    two_groups(np.repeat(np.arange(len(sizes)), np.minimum(sizes, 1)), names[by], by)
    counts = np.sum([h.counts.sum(0) for h in found.values()], 0)
    two_groups(np.repeat(np.arange(len(counts)), np.minimum(counts, 1)), names[of], of)
    return found, by
