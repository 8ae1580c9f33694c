"""`biasbench list`: what is installed, and from where. Imports no plugin's classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from biasbench.cli.lazy import Choice
from biasbench.cli.options import json_option, plugin_option

if TYPE_CHECKING:
    from biasbench.plugins import Kind, Plugins

KINDS = ("methods", "datasets", "backbones", "metrics", "plugins")


@click.command("list")
@click.argument("kind", required=False, type=Choice(KINDS))
@plugin_option
@json_option
def list_command(kind: str | None, plugin_files: tuple[Path, ...], as_json: bool) -> None:
    """List methods, data sets, backbones, metrics and plugins.

    With a kind, lists that kind alone.
    """
    from biasbench.cli.output import emit, emit_json
    from biasbench.plugins import load_plugins

    plugins = load_plugins(plugin_files)
    kinds = [kind] if kind else list(KINDS)
    found = {name: entries(plugins, name) for name in kinds}
    if as_json:
        emit_json("list", found)
        return
    emit("\n\n".join(_table(name, found[name], title=kind is None) for name in kinds))
    if kind != "plugins":
        _name_broken(plugins)


def entries(plugins: Plugins, kind: str) -> list[dict[str, Any]]:
    """The JSON rows of a kind."""
    if kind == "plugins":
        fine = [
            {"name": o.plugin, "distribution": o.distribution, "module": o.module, "status": "ok", "reason": None}
            for o in plugins.origins
        ]
        return fine + [
            {"name": b.plugin, "distribution": b.distribution, "module": None, "status": "broken", "reason": b.reason}
            for b in plugins.broken
        ]
    return [_offer(offer) for offer in plugins.registry(_kind(kind))]


def _kind(name: str) -> Kind:
    from biasbench.plugins import KINDS as REGISTRIES

    return next(k for k in REGISTRIES if k == name)


def _offer(offer: Any) -> dict[str, Any]:
    entry, origin = offer.entry, offer.origin
    return {
        "name": entry.name,
        "help": entry.help,
        "options": dict(entry.options),
        "target": entry.target,
        "plugin": origin.plugin,
        "distribution": origin.distribution,
    }


def _table(kind: str, rows: list[dict[str, Any]], *, title: bool) -> str:
    from biasbench.cli.output import grid, render

    keys = ("name", "distribution", "status", "reason") if kind == "plugins" else ("name", "help", "distribution")
    cells = [[row[k] or "" for k in keys] for row in rows]
    return render(grid(keys, cells, title=kind if title else None))


def _name_broken(plugins: Plugins) -> None:
    """A broken plugin's names are missing from the list: say so."""
    from biasbench.cli.output import note

    for broken in plugins.broken:
        note(f"plugin {broken.plugin} ({broken.distribution}) failed to load and is left out: {broken.reason}")
