"""`biasbench doctor`: what is installed and found, and what is wrong with it.

Libraries are imported in a child process, so that a broken one is reported and not fatal.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from biasbench.cli.lazy import Choice
from biasbench.cli.options import data_root_option, json_option, plugin_option, results_option
from biasbench.cli.run import PRECISIONS, PROFILES

if TYPE_CHECKING:
    from biasbench.config import Settings
    from biasbench.plugins import Plugins

PROBE = """
import json
found = {"libraries": {}, "devices": []}
for name in ("torch", "torchvision", "timm", "numpy", "pandas", "sklearn", "pycocotools"):
    try:
        module = __import__(name)
        from importlib.metadata import version
        dist = {"sklearn": "scikit-learn"}.get(name, name)
        found["libraries"][name] = {"version": getattr(module, "__version__", None) or version(dist), "error": None}
    except BaseException as error:
        found["libraries"][name] = {"version": None, "error": f"{type(error).__name__}: {error}"}
try:
    import torch
    found["devices"].append({"name": "cpu", "detail": f"{torch.get_num_threads()} threads"})
    for i in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(i)
        detail = f"{p.name}, {p.total_memory / 2**30:.1f} GB, CUDA {torch.version.cuda}"
        found["devices"].append({"name": f"cuda:{i}", "detail": detail})
    if torch.backends.mps.is_available():
        found["devices"].append({"name": "mps", "detail": "Apple GPU"})
except BaseException as error:
    found["devices"].append({"name": "none", "detail": f"{type(error).__name__}: {error}"})
print("\\n" + json.dumps(found))
"""
PROBE_SECONDS = 180


@click.command("doctor")
@data_root_option
@results_option
@plugin_option
@json_option
@click.option("--measure", is_flag=True, help="Measure what this machine takes, in place of the report, and keep it.")
@click.option("--backbone", metavar="BACKBONE", help="With --measure: network.  [default: the data set's own]")
@click.option("--dataset", metavar="DATASET", default="scenes", help="With --measure: whose size of image.")
@click.option("--profile", type=Choice(PROFILES), default="short", help="With --measure: whose threads and batches.")
@click.option(
    "--protocol", "protocols", multiple=True, metavar="NAME",
    help="With --measure: of the attackers. Repeatable.  [default: the profile's]",
)  # fmt: skip
@click.option("--device", metavar="DEVICE", default="auto", help="With --measure: auto, cpu, cuda, cuda:N or mps.")
@click.option("--precision", type=Choice(PRECISIONS), default="fp32", help="With --measure: arithmetic.")
def doctor_command(
    data_roots: tuple[Path, ...],
    results: Path | None,
    plugin_files: tuple[Path, ...],
    as_json: bool,
    measure: bool,
    **asked: Any,
) -> int:
    """Report what is installed and found, and what is broken.

    Versions, devices, data sets, plugins, folders and their sizes. Exit code 1 if
    anything is broken; a data set that is not here is no problem.

    With --measure: what this machine takes for an image, an attacker, the start of a
    cell and a megabyte, each with its spread. 'biasbench run --dry-run' and the
    progress bars work with it. Figures of another backbone or protocol measured
    before are kept.
    """
    from biasbench import __version__
    from biasbench.cli.output import emit, emit_json
    from biasbench.config import load_settings
    from biasbench.plugins import load_plugins

    settings = load_settings(data=data_roots, results=results)
    plugins = load_plugins(plugin_files)
    if measure:
        from biasbench.cli.doctor_measure import measure_machine

        return measure_machine(asked, settings, plugins, as_json=as_json)
    system = {"biasbench": __version__, "python": platform.python_version(), "platform": platform.platform()}
    report = {
        "system": {**system, "cores": os.cpu_count()},
        **probe(),
        "folders": folders(settings),
        "datasets": datasets(plugins, settings),
        "plugins": [{"name": o.plugin, "distribution": o.distribution, "error": None} for o in plugins.origins]
        + [{"name": b.plugin, "distribution": b.distribution, "error": b.reason} for b in plugins.broken],
    }
    report["problems"] = problems(report)
    if as_json:
        emit_json("doctor", report)
    else:
        emit(_text(report))
    return 1 if report["problems"] else 0


def probe(python: str = sys.executable) -> dict[str, Any]:
    """Versions and devices, asked of a fresh interpreter; an interpreter that dies is an answer too."""
    nothing: dict[str, Any] = {"libraries": {}, "devices": []}
    try:
        done = subprocess.run(  # noqa: S603  # our own interpreter and text
            [python, "-c", PROBE], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {**nothing, "probe_error": f"importing the libraries took more than {PROBE_SECONDS} s"}
    except (OSError, IndexError, ValueError) as error:
        ended = f"exit code {done.returncode}" if not isinstance(error, OSError) else str(error.strerror)
        return {**nothing, "probe_error": f"the interpreter that imports the libraries failed: {ended}"}
    return {**found, "probe_error": None}


def folders(settings: Settings) -> list[dict[str, Any]]:
    """Cache, results and data roots: where, by whose word, how much is in them and how much is free."""
    places = [("cache", settings.cache), ("results", settings.results), *(("data", p) for p in settings.data_roots)]
    return [
        {
            "use": use,
            "path": str(path.absolute()),
            "set_by": settings.origins.get(use, ""),
            "exists": path.is_dir(),
            "bytes": sum(_sizes(path)) if use != "data" else None,  # data may be millions of files on a network
            "free_bytes": _free(path),
        }
        for use, path in places
    ]


def _sizes(folder: Path) -> Iterator[int]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _sizes(Path(entry.path))
        else:
            yield entry.stat(follow_symlinks=False).st_size


def _free(path: Path) -> int | None:
    """Free bytes on the disk that holds the path, or would hold it."""
    for folder in (path.absolute(), *path.absolute().parents):
        if folder.is_dir():
            try:
                return shutil.disk_usage(folder).free
            except OSError:
                return None
    return None


def datasets(plugins: Plugins, settings: Settings) -> list[dict[str, Any]]:
    """Every data set by name: found, made on this machine, not here, or broken."""
    from biasbench.errors import BiasBenchError
    from biasbench.locate import candidates, find_root, resolve

    rows: list[dict[str, Any]] = []
    for offer in plugins.datasets:
        row: dict[str, Any] = {"name": offer.name, "state": "not here", "path": None, "looked_in": [], "obtain": []}
        rows.append(row)
        try:
            cls, options, _ = resolve(offer.name, plugins)
            root = find_root(cls, options, settings)
            row["obtain"] = list(cls.obtain)
            if root is not None:
                own = cls.home(settings.cache, options) is not None
                row["path"] = str(root)
                row["state"] = "found" if root.is_dir() else "made when needed" if own else "not here"
            else:
                row["looked_in"] = [str(p) for p in candidates(cls, settings)]
        except BiasBenchError as error:
            row.update(state="broken", error=str(error))
    return rows


def problems(report: dict[str, Any]) -> list[str]:
    """One line for each thing that is broken."""
    lines = [f"{name}: {lib['error']}" for name, lib in report["libraries"].items() if lib["error"]]
    lines += [report["probe_error"]] if report["probe_error"] else []
    lines += [f"plugin {p['name']} ({p['distribution']}): {p['error']}" for p in report["plugins"] if p["error"]]
    lines += [f"data set {d['name']}: {d['error']}" for d in report["datasets"] if d["state"] == "broken"]
    return lines


def _text(report: dict[str, Any]) -> str:
    from biasbench.cli.output import grid, render, size
    from biasbench.errors import printable

    versions = [[k, v] for k, v in report["system"].items()]
    versions += [[n, lib["version"] or f"BROKEN: {lib['error']}"] for n, lib in report["libraries"].items()]
    places = [
        [
            f["use"],
            f["path"] + ("" if f["exists"] else "  (not there yet)"),
            f["set_by"],
            "" if f["bytes"] is None else size(f["bytes"]),
            "" if f["free_bytes"] is None else size(f["free_bytes"]),
        ]
        for f in report["folders"]
    ]
    data = [
        [d["name"], d["state"], d["path"] or ", ".join(d["looked_in"]), "; ".join(d["obtain"])]
        for d in report["datasets"]
    ]
    plugins = [[p["name"], p["distribution"], f"BROKEN: {p['error']}" if p["error"] else "ok"]
               for p in report["plugins"]]  # fmt: skip
    tables = (
        grid(("", "version"), versions, "Versions"),
        grid(("device", ""), [[d["name"], d["detail"]] for d in report["devices"]], "Devices"),
        grid(("folder", "path", "set by", "holds", "free"), places, "Folders"),
        grid(("data set", "state", "where, or looked in", "to get it"), data, "Data sets"),
        grid(("plugin", "distribution", "state"), plugins, "Plugins"),
    )
    found = report["problems"]
    end = [f"PROBLEM: {printable(line)}" for line in found] or ["No problems found."]
    return "\n\n".join([*(render(t) for t in tables), "\n".join(end)])
