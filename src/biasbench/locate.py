"""Finding a data set on this machine, from what the user typed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biasbench.config import Settings
from biasbench.errors import DataError, UsageError, printable
from biasbench.faces import split_option
from biasbench.grammar import bind, canonical, parse
from biasbench.plugins import Plugins

if TYPE_CHECKING:
    from biasbench.data import Dataset, Progress

SUPPLIED = ("root", "cache")  # parameters of a data set that the harness fills in


def resolve(text: str, plugins: Plugins) -> tuple[type[Dataset], dict[str, Any], str]:
    """The class, options and canonical text behind a data set's string; touches no file.

    Raises:
        UsageError: For an unknown name, a wrong option or more than one component.
    """
    components = parse(text)
    if len(components) != 1:
        raise UsageError(
            f"{printable(text)!r} names {len(components)} data sets joined with '+'",
            fix="Give one --dataset for each",
        )
    offer = plugins.datasets.find(components[0].name)
    cls: type[Dataset] = offer.load()
    component, _ = split_option(components[0], cls)  # every data set has `faces`: the harness reads it, see Data.faces
    options = bind(cls, component, offer.entry.options, skip=SUPPLIED)
    return cls, options, canonical(cls.name, options)


def candidates(cls: type[Dataset], settings: Settings) -> Iterator[Path]:
    """Folders that may hold the data set: `<root>/<name>` for every root, then the roots themselves."""
    for root in settings.data_roots:
        yield root / cls.name
    yield from settings.data_roots


def find_root(cls: type[Dataset], options: Mapping[str, Any], settings: Settings) -> Path | None:
    """Where the data set lies, or makes itself; None if it is nowhere.

    Raises:
        DataError: When a folder cannot be looked into.
    """
    home = cls.home(settings.cache, options)
    if home is not None:
        return home
    for folder in candidates(cls, settings):
        try:
            if folder.is_dir() and cls.recognises(folder):
                return folder
        except OSError as error:
            raise DataError(
                f"cannot be looked into: {error.strerror or type(error).__name__}",
                where=printable(folder),
                fix="Make it readable, or name another folder with --data-root",
            ) from error
    return None


def open_dataset(
    text: str,
    plugins: Plugins,
    settings: Settings,
    *,
    prepare: bool = True,
    progress: Progress | None = None,
) -> tuple[Dataset, str]:
    """The data set that a string names, ready to hand out tables.

    Args:
        text: Such as `"coco"` or `"scenes(bias=0.5)"`.
        plugins: Where names are looked up.
        settings: Where data is looked for.
        prepare: Whether to generate files or build the index now. A data set that is not
            prepared may be unable to give a table.
        progress: Called by `Dataset.prepare` with (done, total).

    Returns:
        The data set, and the canonical text that identifies it in a run's key.

    Raises:
        UsageError: When the text cannot be meant as written.
        DataError: When the data set is nowhere: says where it was looked for and how to
            get it. Never falls back to other data.
    """
    cls, options, identity = resolve(text, plugins)
    root = find_root(cls, options, settings)
    if root is None:
        raise missing(cls, settings)
    dataset = cls(root, settings.cache, **options)
    if prepare:
        dataset.prepare(progress)
    return dataset, identity


def missing(cls: type[Dataset], settings: Settings) -> DataError:
    """The error for a data set that is nowhere."""
    places = ", ".join(dict.fromkeys(printable(p) for p in candidates(cls, settings)))
    origin = settings.origins.get("data", "")
    told = f" (data roots from: {origin})" if origin else ""
    ways = [printable(line) for line in cls.obtain] or ["Name the folder that holds it with --data-root"]
    return DataError(
        f"the data set {cls.name!r} was not found. Looked in: {places}{told}",
        fix="To get it: " + "; ".join(ways),
    )
