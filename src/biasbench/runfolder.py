"""What a run's folder tells beside its records: groups that were told apart, attributes that the method names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from biasbench.data import SPLITS, Split
from biasbench.errors import BiasBenchError, IntegrityError, UsageError, printable
from biasbench.grammar import Component, canonical, parse
from biasbench.locate import resolve
from biasbench.measures.checks import large_groups
from biasbench.measures.sample import Sample
from biasbench.plugins import Plugins
from biasbench.store import Store

TARGETS = ("attribute", "attributes", "data")
"""Options by which a method is told what to work on."""


class RunFolder:
    """One finished run, read as far as it is asked.

    Args:
        store: The store that holds it.
        key: Its key.
        plugins: Where the secondary data sets that its method names are looked up.
    """

    def __init__(self, store: Store, key: str, plugins: Plugins) -> None:
        self.store, self.key, self.plugins = store, key, plugins
        self._chances: dict[str, float | None] = {}

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The run's manifest."""
        return self.store.manifest(self.store.run(self.key))

    @property
    def method(self) -> str:
        """The method with every option, as its class resolved it in the plan."""
        spec = self.manifest["spec"]
        return str(spec.get("method_text", spec["method"]))

    @property
    def fingerprint(self) -> str:
        """Content of the data set that it was trained on."""
        return str(self.manifest["spec"].get("training", {}).get("fingerprint", ""))

    # ------------------------------------------------------------------ chance
    def chance(self, attribute: str) -> float | None:
        """What guessing scores on draws with equally many of every group, percent; None where no group is known.

        Groups that leakage leaves out as too small do not count.

        Args:
            attribute: As the records name it: `gender`, or `laofiw:ancestry` of another data set.

        Raises:
            IntegrityError: When the stored labels cannot be read.
        """
        if attribute not in self._chances:
            labels, name, groups = self._place(attribute)
            if len(groups) > 2:
                groups = _large(self.store, self.store.run(self.key), labels, name, groups)
            self._chances[attribute] = 100 / len(groups) if len(groups) > 1 else None
        return self._chances[attribute]

    def _place(self, attribute: str) -> tuple[Path, str, tuple[str, ...]]:
        """Folder of an attribute's labels, its name there, its groups."""
        run = self.store.run(self.key)
        for number, other in enumerate(self.manifest.get("beside", ())):
            name = attribute.removeprefix(f"{other['dataset']}:")
            if name != attribute:  # the folder is that of `truth.beside`, whose module needs torch
                return run / "secondary" / str(number) / "truth", name, tuple(other["groups"].get(name, ()))
        return run / "truth", attribute, tuple(self.manifest.get("groups", {}).get(attribute, ()))

    # ------------------------------------------------------------------ what the method was told
    @property
    def named(self) -> frozenset[str]:
        """Attributes that the method's options name, as the records name them, as far as they could be measured."""
        return frozenset(found for found in self._named.values() if found)

    @property
    def unresolved(self) -> tuple[str, ...]:
        """Secondary data sets that the method names without an attribute, and whose primary one is unknown here."""
        return tuple(text for text, found in self._named.items() if found is None)

    @cached_property
    def _named(self) -> dict[str, str | None]:
        """What each option says, to an attribute of the records; None: unknown; empty: not measured in this run."""
        found: dict[str, str | None] = {}
        for component in components(self.method):
            own, elsewhere = (list(_texts(component.kwargs.get(option))) for option in ("attributes", "data"))
            if not own and not elsewhere:
                own = list(_texts(component.kwargs.get("attribute")))
            found |= {name: name for name in own} | {text: self._elsewhere(text) for text in elsewhere}
        return found

    def _elsewhere(self, text: str) -> str | None:
        """`imdb:age`, or `laofiw` for its primary attribute, as the records name it."""
        data, colon, name = text.rpartition(":")
        if not colon or ")" in name:  # options of the data set may hold colons of their own
            data, name = text, ""
        typed = next((o["dataset"] for o in self.manifest.get("beside", ()) if same(o["dataset"], data)), None)
        if typed is None:
            return ""
        primary = name or primary_attribute(data, self.plugins)
        return None if primary is None else f"{typed}:{primary}"

    # ------------------------------------------------------------------ intervals
    def interval(self, attribute: str, protocol: str, column: str) -> tuple[float, float] | None:
        """The 95 % interval that the column's metric stored beside its figure, or None.

        Args:
            attribute: As the records name it.
            protocol: The measuring protocol.
            column: The column's key.

        Raises:
            IntegrityError: When the measurements were changed.
        """
        for record in self.store.metrics(self.key):
            if (record["attribute"], record["protocol"]) == (attribute, protocol) and column in record["values"]:
                return stored_interval(record["details"], column)
        return None


def stored_interval(details: Mapping[str, Any], column: str) -> tuple[float, float] | None:
    """The interval of a column among a metric's details: `intervals`, or `interval_95` of one of its `figures`.

    Example:
        >>> stored_interval({"figures": {"lambda_M": {"interval_95": [60.0, 64.0]}}}, "lambda_m")
        (60.0, 64.0)
        >>> stored_interval({"intervals": {"embedding": None}}, "embedding") is None
        True
    """
    given = dict(details.get("intervals") or {})
    given |= {name: figure.get("interval_95") for name, figure in (details.get("figures") or {}).items()}
    ends = next((ends for name, ends in given.items() if name.casefold() == column), None)
    if ends is None or len(ends) != 2 or any(end is None or not math.isfinite(end) for end in ends):
        return None
    return float(ends[0]), float(ends[1])


def components(text: str) -> tuple[Component, ...]:
    """Components of a stored text; none where it cannot be read, since a store is shown and not judged.

    Example:
        >>> [c.name for c in components("rba+jlu(weight=0.5)")], components("no[method]")
        (['rba', 'jlu'], ())
    """
    try:
        return parse(text)
    except UsageError:
        return ()


def same(one: str, other: str) -> bool:
    """Whether two texts name the same thing with the same options, spaces and quotes aside.

    Example:
        >>> same("imdb(task='age')", 'imdb( task="age" )'), same("imdb", "imdb(task='age')")
        (True, False)
    """
    first, second = ([(c.name, c.args, c.kwargs) for c in components(text)] for text in (one, other))
    return one == other or (first == second != [])


def primary_attribute(text: str, plugins: Plugins) -> str | None:
    """What a data set protects when not told otherwise; None where no plugin can say. Opens no file.

    Example:
        >>> from biasbench.plugins import load_plugins
        >>> primary_attribute("imdb(task='gender')", load_plugins()), primary_attribute("nobody", load_plugins())
        ('age', None)
    """
    try:
        cls, options, _ = resolve(text, plugins)
        return cls(Path("nowhere"), Path("nowhere"), **options).primary_attribute
    except Exception:  # a stranger's class may raise anything
        return None


def without_targets(method: str) -> str:
    """A method string without what it is told to work on: what two data sets' rows may have in common.

    Example:
        >>> without_targets("alpha(ratio=1.0, attribute='age')+jlu(data=('laofiw',), weight=0.1)")
        'alpha(ratio=1.0)+jlu(weight=0.1)'
    """
    kept = [(c, {k: v for k, v in c.kwargs.items() if k not in TARGETS}) for c in components(method)]
    return "+".join(c.text if c.args else canonical(c.name, options) for c, options in kept) or method


def _texts(value: Any) -> Iterator[str]:
    for item in value if isinstance(value, list | tuple) else (value,):
        if isinstance(item, str):
            yield item


def _large(store: Store, run: Path, labels: Path, name: str, groups: tuple[str, ...]) -> tuple[str, ...]:
    """The groups that leakage measures, by the labels that the run stored; all of them where it stored none."""
    files = {split: labels / f"{split}.parquet" for split in SPLITS}
    if not all(file.is_file() for file in files.values()):
        return groups
    column = f"attribute/{name}"
    samples: dict[Split, Sample] = {}
    for split, file in files.items():
        store.checked(run, file.relative_to(run).as_posix())
        try:
            codes = pd.read_parquet(file, columns=[column])[column].to_numpy(np.int64)
            samples[split] = Sample(np.zeros(len(codes), np.int64), codes)
        except (OSError, ValueError, KeyError, BiasBenchError) as error:
            raise IntegrityError(
                f"the labels of {printable(name)} cannot be read", where=printable(file),
                fix="Delete the run's folder and run again",
            ) from error  # fmt: skip
    return large_groups(samples, groups, None)[1]
