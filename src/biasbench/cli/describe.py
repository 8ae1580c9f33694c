"""`biasbench describe NAME`: what a name means, its options, its paper."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from biasbench.cli.options import json_option, plugin_option

if TYPE_CHECKING:
    from biasbench.plugins import Kind, Offer, Plugins

ORDER: tuple[Kind, ...] = ("methods", "datasets", "metrics", "backbones")  # backbones last: timm knows many names


@click.command("describe")
@click.argument("name")
@plugin_option
@json_option
def describe_command(name: str, plugin_files: tuple[Path, ...], as_json: bool) -> None:
    """Describe a method, data set, backbone or metric.

    Prints its options with types and defaults, its presets and its source. NAME may be a
    composition such as alpha-1+adv-conv5: each part is described.
    """
    from biasbench.cli.output import emit, emit_json
    from biasbench.grammar import parse
    from biasbench.plugins import load_plugins

    plugins = load_plugins(plugin_files)
    found = [about(kind, offer) for part in parse(name) for kind, offer in find(plugins, part.name)]
    if as_json:
        emit_json("describe", {"found": found})
    else:
        emit("\n".join(_text(item) for item in found))


def find(plugins: Plugins, name: str) -> list[tuple[Kind, Offer]]:
    """Every kind that knows the name; a backbone only if nothing else does.

    Raises:
        UsageError: When nobody offers it: names the nearest of all kinds, and broken plugins.
        PluginError: When its class cannot be loaded.
    """
    from biasbench.errors import PluginError, UsageError, did_you_mean, printable

    found: list[tuple[Kind, Offer]] = []
    for kind in ORDER:
        if kind == "backbones" and found and name not in plugins.backbones.offers:
            continue
        try:
            found.append((kind, plugins.registry(kind).find(name)))
        except PluginError:
            raise
        except UsageError:
            continue
    if found:
        return found
    names = [offer.name for kind in ORDER for offer in plugins.registry(kind)]
    broken = " ".join(f"Plugin {b.plugin} ({b.distribution}) failed to load: {b.reason}." for b in plugins.broken)
    hint = did_you_mean(name, names)
    fix = f"{hint} See 'biasbench list'. {broken}".strip()
    raise UsageError(f"nothing is called {printable(name)!r}", fix=fix)


def about(kind: Kind, offer: Offer) -> dict[str, Any]:
    """The JSON description of an offer."""
    cls = offer.load()
    doc = inspect.getdoc(cls) or ""
    helps = _argument_helps(doc)
    presets = dict(offer.entry.options)
    options = [
        {
            "name": p.name,
            "type": _type_text(p.annotation),
            "required": p.default is p.empty and p.name not in presets,
            "default": None if p.default is p.empty else _plain(p.default),
            "preset": p.name in presets,
            "value": _plain(presets.get(p.name)),
            "help": helps.get(p.name, ""),
        }
        for p in _options(kind, cls)
    ]
    description: dict[str, Any] = {
        "kind": kind[:-1],
        "name": offer.name,
        "help": offer.entry.help,
        "class": offer.entry.target,
        "distribution": offer.origin.distribution,
        "source": getattr(cls, "source", ""),
        "description": _summary(doc),
        "options": options,
    }
    return {**description, **_facts(kind, cls)}


def _options(kind: Kind, cls: Any) -> list[inspect.Parameter]:
    """What the user may set: the parameters of `__init__` that the harness does not fill in itself."""
    from biasbench.locate import SUPPLIED

    skip = SUPPLIED if kind == "datasets" else cls.supplied if kind == "backbones" else ()
    parameters = [p for p in inspect.signature(cls.__init__).parameters.values() if p.name not in ("self", *skip)]
    # A class without options inherits an __init__(*args, **kwargs) that says nothing.
    return [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _type_text(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _plain(value: Any) -> Any:
    """A JSON value; what has none is shown as Python writes it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else repr(value)


def _summary(doc: str) -> str:
    """The docstring up to its first section."""
    return re.split(r"\n(?:Args|Attributes|Raises|Example|Examples|Returns|Details):", doc)[0].strip()


def _argument_helps(doc: str) -> dict[str, str]:
    """Texts of the `Args:` section by argument, each on one line."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", doc, re.MULTILINE)
    helps: dict[str, str] = {}
    name = ""
    for line in section[1].splitlines() if section else ():
        if start := re.match(r" {4}(\w+)[^:]*: ?(.*)", line):
            name, helps[start[1]] = start[1], start[2]
        elif name and line.strip():
            helps[name] += f" {line.strip()}"
    return helps


def _facts(kind: str, cls: Any) -> dict[str, Any]:
    """What a class of this kind declares beside its options."""
    if kind == "metrics":
        columns = [{"key": c.key, "title": c.title, "better": c.better, "unit": c.unit, "help": c.help}
                   for c in cls.columns]  # fmt: skip
        return {"columns": columns, "splits": list(cls.splits)}
    if kind == "datasets":
        facts = ("task", "primary_attribute", "default_backbone", "crop", "short_side")
        return {**{f: getattr(cls, f) for f in facts}, "obtain": list(cls.obtain)}
    if kind == "methods":
        requires = cls.requires if isinstance(cls.requires, frozenset) else frozenset()
        return {"stage": cls.stage, "starts_from_init": cls.starts_from_init, "requires": sorted(requires)}
    return {}


def _text(item: Mapping[str, Any]) -> str:
    from biasbench.cli.output import grid, render
    from biasbench.errors import printable

    lines = [f"{item['kind']} {printable(item['name'])}  ({printable(item['distribution'])})"]
    lines += [f"  {printable(line, 2000)}" for line in (item["description"] or item["help"]).splitlines()]
    lines += ["", *(f"  {label}: {printable(text, 2000)}" for label, text in _labelled(item))]
    text = "\n".join(line.rstrip() for line in lines).rstrip() + "\n\n"
    if item["options"]:
        rows = [[o["name"], o["type"], _shown_default(o), o["help"]] for o in item["options"]]
        text += render(grid(("option", "type", "default", "meaning"), rows)) + "\n"
    else:
        text += "  No options.\n"
    if item.get("columns"):
        rows = [[c["key"], c["title"], c["unit"], c["better"], c["help"]] for c in item["columns"]]
        text += "\n" + render(grid(("column", "title", "unit", "better", "meaning"), rows)) + "\n"
    return text


def _labelled(item: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if item["source"]:
        yield "Source", item["source"]
    yield "Class", item["class"]
    if presets := {o["name"]: o["value"] for o in item["options"] if o["preset"]}:
        yield "Presets", ", ".join(f"{k}={v!r}" for k, v in presets.items())
    for key in ("task", "primary_attribute", "default_backbone", "stage"):
        if key in item:
            yield key.replace("_", " ").capitalize(), item[key]
    if item.get("requires"):
        yield "Requires", ", ".join(item["requires"])
    for line in item.get("obtain", ()):
        yield "Obtain", line


def _shown_default(option: Mapping[str, Any]) -> str:
    if option["preset"]:
        return f"{option['value']!r} (set by the name)"
    return "required" if option["required"] else repr(option["default"])
