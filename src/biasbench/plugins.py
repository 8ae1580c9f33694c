"""Discovery: who offers which name, and what to say when something is wrong with it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Literal, NoReturn

import pluggy

from biasbench import hookspecs
from biasbench.errors import PluginError, UsageError, did_you_mean, printable
from biasbench.hookspecs import PROJECT, Entry

Kind = Literal["datasets", "backbones", "methods", "metrics"]
KINDS: tuple[Kind, ...] = ("datasets", "backbones", "methods", "metrics")
_HOOKS = tuple(f"biasbench_{kind}" for kind in KINDS)
_NUMBER = r"(?P<value>\d+(?:\.\d+)?)"


@dataclass(frozen=True)
class Origin:
    """Where a plugin comes from.

    Attributes:
        plugin: Entry-point name, or the file's name.
        distribution: Installed distribution and version, or the file's path.
        module: Module that answered the hooks.
    """

    plugin: str
    distribution: str
    module: str


@dataclass(frozen=True)
class Offer:
    """An entry with its origin."""

    entry: Entry
    origin: Origin

    @property
    def name(self) -> str:
        """What the user types."""
        return self.entry.name

    def load(self) -> type[Any]:
        """Import the class.

        Raises:
            PluginError: When the module cannot be imported or has no such class.
        """
        module_name, _, attribute = self.entry.target.partition(":")
        try:
            with _staying():
                found = getattr(importlib.import_module(module_name), attribute)
            if not isinstance(found, type):
                raise TypeError(f"{attribute} is not a class")
        except (Exception, SystemExit) as error:  # a stranger's import may raise anything
            raise PluginError(
                f"{self.name!r} cannot be loaded from {self.entry.target}: {describe_exception(error)}",
                where=f"plugin {self.origin.plugin} ({self.origin.distribution})",
                fix="Repair or uninstall the plugin",
            ) from error
        return found


@dataclass(frozen=True)
class Broken:
    """A plugin that could not be used, remembered for when its names are asked for."""

    plugin: str
    distribution: str
    reason: str


@dataclass
class Registry:
    """The names of one kind.

    Raises:
        PluginError: When two plugins offer one name.
    """

    kind: Kind
    broken: Sequence[Broken] = ()
    offers: dict[str, Offer] = field(default_factory=dict)

    def add(self, offer: Offer) -> None:
        """Take an offer; one name, one class."""
        known = self.offers.get(offer.name)
        if known is not None:
            both = " and ".join(
                f"{o.entry.target} ({o.origin.distribution}, plugin {o.origin.plugin})" for o in (known, offer)
            )
            raise PluginError(
                f"two plugins offer the {self.kind[:-1]} {offer.name!r}: {both}",
                fix="Uninstall one of them, or leave out one --plugin",
            )
        self.offers[offer.name] = offer

    def __iter__(self) -> Iterator[Offer]:
        return iter(self.offers.values())

    def find(self, name: str) -> Offer:
        """The offer behind a name the user typed, its presets filled in.

        Raises:
            UsageError: When nobody offers the name; says which is nearest and which
                plugins are broken.
        """
        if name in self.offers and "{" not in name:
            return self.offers[name]
        for offer in self:
            if match := _template(offer.name).fullmatch(name):
                option = offer.name[offer.name.index("{") + 1 : offer.name.index("}")]
                value = float(match["value"])
                options = {**offer.entry.options, option: value}
                return replace(offer, entry=replace(offer.entry, name=name, options=options))
        for offer in self:
            if offer.entry.any_name and offer.load().accepts(name):
                return replace(offer, entry=replace(offer.entry, name=name))
        raise self.unknown(name)

    def unknown(self, name: str) -> UsageError:
        """The error for a name that nobody offers."""
        names = [n for n in self.offers if "{" not in n]
        for offer in self:
            if offer.entry.any_name:
                names += offer.load().known_names()
        hint = did_you_mean(name, names) or f"Known: {', '.join(sorted(self.offers)) or 'none'}"
        damaged = "".join(f" Plugin {b.plugin} ({b.distribution}) failed to load: {b.reason}." for b in self.broken)
        end = "" if hint.endswith("?") else "."
        fix = f"{hint}{end} See 'biasbench list {self.kind}'.{damaged}"
        return UsageError(f"unknown {self.kind[:-1]} {printable(name)!r}", fix=fix)


def _template(name: str) -> re.Pattern[str]:
    if "{" not in name:
        return re.compile(r"(?!)")  # never matches
    before, _, rest = name.partition("{")
    return re.compile(re.escape(before) + _NUMBER + re.escape(rest.partition("}")[2]))


@dataclass(frozen=True)
class Plugins:
    """Everything that was discovered: four registries, the plugins that are broken, and the origins of the others."""

    datasets: Registry
    backbones: Registry
    methods: Registry
    metrics: Registry
    broken: Sequence[Broken]
    origins: Sequence[Origin]
    files: Sequence[str] = ()

    def registry(self, kind: Kind) -> Registry:
        """The registry of a kind."""
        found: Registry = getattr(self, kind)
        return found


def load_plugins(files: Iterable[str | Path] = (), *, entry_points: bool = True) -> Plugins:
    """Find every plugin: installed ones through entry points, then single files.

    A plugin that cannot be imported is remembered in `Plugins.broken`; it does not stop
    the others.

    Args:
        files: Python files given with `--plugin`.
        entry_points: Whether to look at installed distributions, our own included.

    Raises:
        PluginError: For a hook that is misspelt or misused, two offers of one name, or a
            file that cannot be loaded.

    Example:
        >>> load_plugins(entry_points=False).methods.offers
        {}
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    broken: list[Broken] = []
    origins: dict[str, Origin] = {}
    paths = [str(Path(f).resolve()) for f in files]
    for entry_point in _entry_points() if entry_points else ():
        name, dist = entry_point.name, _distribution(entry_point)
        try:
            with _staying():
                module = entry_point.load()
        except (Exception, SystemExit) as error:  # a stranger's import may raise anything
            broken.append(Broken(name, dist, describe_exception(error)))
            continue
        _register(manager, module, Origin(name, dist, getattr(module, "__name__", str(module))), origins)
    for path in paths:
        module = _load_file(Path(path))
        _register(manager, module, Origin(Path(path).name, path, module.__name__), origins)
    registries = {kind: Registry(kind, broken) for kind in KINDS}  # the list still grows below
    for kind, hook in zip(KINDS, _HOOKS, strict=True):
        for origin, answer in _answers(manager, hook, origins, broken):
            for item in answer:
                registries[kind].add(Offer(_entry(item, hook, origin), origin))
    damaged = {(b.plugin, b.distribution) for b in broken}
    whole = tuple(o for o in origins.values() if (o.plugin, o.distribution) not in damaged)
    return Plugins(**registries, broken=tuple(broken), origins=whole, files=tuple(paths))


@contextlib.contextmanager
def _staying() -> Iterator[None]:
    """A plugin's code that calls `os._exit` is told no: it would end the run with an exit code of its choice."""

    def refuse(status: int) -> NoReturn:
        raise SystemExit(f"os._exit({status})")

    leave = os._exit
    os._exit = refuse
    try:
        yield
    finally:
        os._exit = leave


def _entry_points() -> list[metadata.EntryPoint]:
    """Installed plugins, our own first, then by name, so that messages do not depend on the path order."""
    found = metadata.entry_points(group=PROJECT)
    unique = {(e.name, e.value, _distribution(e)): e for e in found}
    return sorted(unique.values(), key=lambda e: (not e.value.startswith("biasbench."), e.name))


def _distribution(entry_point: metadata.EntryPoint) -> str:
    try:
        return f"{entry_point.dist.name} {entry_point.dist.version}" if entry_point.dist else "?"
    except Exception:  # half uninstalled: the metadata are gone, the entry points are not
        return "?"


class _Source(SourceFileLoader):
    """Runs what stands in the file now, as keys say it does.

    Python's own loader takes the bytecode that it kept of a file of the same second and size.
    """

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise PluginError("no such plugin file", where=printable(path), fix="Give --plugin the path of a .py file")
    if path.suffix != ".py":
        raise PluginError("not a Python file", where=printable(path), fix="Give --plugin the path of a .py file")
    name = f"biasbench_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    loader = _Source(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _staying():
            loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise PluginError(
            f"the plugin cannot be imported: {describe_exception(error)}", where=printable(path), fix="Repair it"
        ) from error
    return module


def _register(manager: pluggy.PluginManager, module: Any, origin: Origin, origins: dict[str, Origin]) -> None:
    where = f"plugin {origin.plugin} ({origin.distribution})"
    for name in vars(module) if isinstance(module, ModuleType) else ():
        function = vars(module)[name]
        marked = inspect.isroutine(function) and hasattr(function, f"{PROJECT}_impl")
        if marked and name not in _HOOKS:
            hint = did_you_mean(name, _HOOKS) or f"The hooks are {', '.join(_HOOKS)}"
            raise PluginError(f"no such hook {name!r}", where=where, fix=hint)
    try:
        manager.register(module, name=f"{origin.plugin}@{origin.distribution}")
    except pluggy.PluginValidationError as error:
        reason = str(error).strip().splitlines()[-1]
        raise PluginError(f"a hook is misused: {reason}", where=where, fix="A hook takes no argument") from error
    except ValueError as error:
        raise PluginError("the plugin is registered twice", where=where, fix="Give each --plugin once") from error
    origins[f"{origin.plugin}@{origin.distribution}"] = origin


def _answers(
    manager: pluggy.PluginManager, hook: str, origins: Mapping[str, Origin], broken: list[Broken]
) -> Iterator[tuple[Origin, Sequence[Any]]]:
    """What each plugin answers, in order of registration; one that raises is remembered as broken."""
    by_name = {impl.plugin_name: impl for impl in getattr(manager.hook, hook).get_hookimpls()}
    for name, origin in origins.items():
        if name not in by_name:
            continue
        try:
            with _staying():
                answer = list(by_name[name].function())
            yield origin, answer
        except (Exception, SystemExit) as error:
            broken.append(Broken(origin.plugin, origin.distribution, f"{hook}: {describe_exception(error)}"))


def _entry(item: Any, hook: str, origin: Origin) -> Entry:
    if isinstance(item, Entry):
        return item
    name = getattr(item, "name", None)
    if isinstance(item, type) and isinstance(name, str):
        doc = (item.__doc__ or "").strip().splitlines()
        return Entry(name, f"{item.__module__}:{item.__qualname__}", doc[0] if doc else "")
    raise PluginError(
        f"{hook} returned {printable(repr(item))}, not an Entry or a class with a name",
        where=f"plugin {origin.plugin} ({origin.distribution})",
        fix="See docs/architecture.md, 'How to add'",
    )


def describe_exception(error: BaseException) -> str:
    """Class and first line of an exception, safe to print."""
    lines = str(error).strip().splitlines()
    return printable(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)


def default_metrics(plugins: Plugins) -> tuple[str, ...]:
    """Names of the metrics that are computed when none is named."""
    names = [name for name in plugins.metrics.offers if "{" not in name]
    return tuple(name for name in names if not plugins.metrics.find(name).load().on_request)
