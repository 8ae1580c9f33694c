"""`biasbench data`: list, make, check and download data sets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from biasbench.cli.lazy import Choice, LazyGroup
from biasbench.cli.options import HELP, data_root_option, json_option, plugin_option

COMMANDS = {name: f"{__name__}:{name}_data" for name in ("list", "make", "check", "download")}


@click.group("data", cls=LazyGroup, lazy=COMMANDS, context_settings=HELP)
def data_command() -> None:
    """List, make, check and download data sets."""


@click.command("list")
@data_root_option
@plugin_option
@json_option
def list_data(data_roots: tuple[Path, ...], plugin_files: tuple[Path, ...], as_json: bool) -> None:
    """List the data sets, where each was found or how to get it."""
    from biasbench.cli.doctor import datasets
    from biasbench.cli.output import emit, emit_json, grid, render
    from biasbench.config import load_settings
    from biasbench.plugins import load_plugins

    rows = datasets(load_plugins(plugin_files), load_settings(data=data_roots))
    if as_json:
        emit_json("data-list", {"datasets": rows})
        return
    cells = [
        [r["name"], r["state"], r["path"] or ", ".join(r["looked_in"]), r.get("error") or "; ".join(r["obtain"])]
        for r in rows
    ]
    emit(render(grid(("data set", "state", "where, or looked in", "to get it"), cells)))


@click.command("make")
@click.argument("name")
@click.argument("options", nargs=-1, metavar="[OPTION=VALUE]...")
@data_root_option
@plugin_option
@json_option
def make_data(
    name: str,
    options: tuple[str, ...],
    data_roots: tuple[Path, ...],
    plugin_files: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Make a generated data set, or index one that is on the disk.

    Options of the data set follow its name: biasbench data make scenes bias=0.5. What is
    already there is kept.
    """
    from biasbench.cli.output import emit, emit_json
    from biasbench.cli.progress import Counter
    from biasbench.config import load_settings
    from biasbench.data import SPLITS
    from biasbench.locate import open_dataset
    from biasbench.plugins import load_plugins

    plugins = load_plugins(plugin_files)
    with Counter(name) as progress:
        dataset, text = open_dataset(
            with_options(name, options), plugins, load_settings(data=data_roots), progress=progress
        )
    made = {
        "dataset": text,
        "path": str(dataset.root),
        "rows": {split: len(dataset.table(split)) for split in SPLITS},
        "fingerprint": dataset.fingerprint(),
        "notes": plain(dataset.notes()),
    }
    if as_json:
        emit_json("data-make", made)
    else:
        emit(text_of(made))


def with_options(name: str, options: tuple[str, ...]) -> str:
    """`scenes` and `bias=0.5` as `scenes(bias=0.5)`; a value that is no literal is taken as text.

    Raises:
        UsageError: For an argument without `=`, or options both here and in the name.

    Example:
        >>> with_options("scenes", ("bias=0.5", "label=a b"))
        "scenes(bias=0.5, label='a b')"
    """
    from biasbench.cli.run import literal
    from biasbench.errors import UsageError, printable

    pairs = []
    for option in options:
        key, sign, value = option.partition("=")
        if not sign or not key.isidentifier():
            raise UsageError(f"cannot read the option {printable(option)!r}", fix="Write OPTION=VALUE")
        pairs.append(f"{key}={literal(value)!r}")
    if pairs and "(" in name:
        raise UsageError("options stand in the name and after it", fix="Write them in one place")
    return f"{name}({', '.join(pairs)})" if pairs else name


@click.command("check")
@click.argument("name")
@data_root_option
@plugin_option
@json_option
def check_data(name: str, data_roots: tuple[Path, ...], plugin_files: tuple[Path, ...], as_json: bool) -> int:
    """Count images, labels and groups by split, and open every image.

    Names the first missing and undecodable files; exit code 4 if there are any.
    """
    from biasbench.cli.output import emit, emit_json
    from biasbench.cli.progress import Counter
    from biasbench.config import load_settings
    from biasbench.datacheck import check
    from biasbench.errors import EXIT_DATA, EXIT_OK
    from biasbench.locate import open_dataset
    from biasbench.plugins import load_plugins

    plugins = load_plugins(plugin_files)
    with Counter(f"{name}: index") as progress:
        dataset, text = open_dataset(name, plugins, load_settings(data=data_roots), progress=progress)
    with Counter(f"{name}: images") as progress:
        report = check(dataset, progress)
    report = {"dataset": text, "path": str(dataset.root), **plain(report)}
    if as_json:
        emit_json("data-check", report)
    else:
        emit(checked_text(report))
    return EXIT_OK if report["ok"] else EXIT_DATA


PROBLEMS = ("missing", "undecodable", "wrong_size")


def checked_text(report: Mapping[str, Any]) -> str:
    """A check's counts by split as a table, then what is wrong, by kind with the first ten."""
    from biasbench.cli.output import grid, render
    from biasbench.data import SPLITS
    from biasbench.errors import printable

    rows = [["images", "", *(report["images"][split] for split in SPLITS)]]
    rows += [
        ["label", name, *(report["labels"][split][name] for split in SPLITS)] for name in report["labels"]["train"]
    ]
    for attribute, counts in report["attributes"].items():
        groups = dict.fromkeys(group for split in SPLITS for group in counts[split])
        rows += [[attribute, group, *(counts[split].get(group, 0) for split in SPLITS)] for group in groups]
    rows += [["region", name, *(found[split] for split in SPLITS)] for name, found in report["regions"].items()]
    lines = [f"{printable(report['dataset'])} in {printable(report['path'])}", ""]
    lines += [render(grid(("images with", "", *SPLITS), rows)), "", text_of({"notes": report["notes"]}), ""]
    for kind in PROBLEMS:
        found = report[kind]
        lines.append(f"{kind.replace('_', ' ')} files: {found['count']}")
        lines += [f"  {printable(line)}" for line in found["first"]]
        if found["count"] > len(found["first"]):
            lines.append(f"  … and {found['count'] - len(found['first'])} more")
    verdict = "is whole" if report["ok"] else "is damaged"
    return "\n".join([*lines, "", f"The data set {verdict}; fingerprint {report['fingerprint'][:16]}…"])


@click.command("download")
@click.argument("name", type=Choice(["coco"]))
@click.option("--year", type=Choice(["2014", "2017"]), default="2014", help="Release.")
@click.option(
    "--part", "parts", multiple=True, type=Choice(["annotations", "val", "train"]),
    help="Only this part. Repeatable.  [default: all]",
)  # fmt: skip
@click.option("--base-url", metavar="URL", help="Mirror to use in place of the official address.")
@data_root_option
def download_data(
    name: str, year: str, parts: tuple[str, ...], base_url: str | None, data_roots: tuple[Path, ...]
) -> None:
    """Fetch a data set from its official address.

    It is unpacked into DIR/coco, or into DIR if that holds a COCO release already. Run
    again, a download that was cut goes on where it stopped; finished parts are kept.
    """
    from biasbench.cli.output import emit
    from biasbench.cli.progress import Transfers
    from biasbench.config import load_settings
    from biasbench.download import COCO_URL, download_coco

    root = load_settings(data=data_roots).data_roots[0]
    target = root if (root / "annotations").is_dir() else root / name
    with Transfers() as progress:
        folders = download_coco(target, year, parts, base_url=base_url or COCO_URL, progress=progress)
    emit("\n".join(str(folder) for folder in folders))


def plain(value: Any) -> Any:
    """Plain JSON values: arrays and numpy numbers become lists and numbers, NaN becomes None."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and math.isnan(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def text_of(report: Mapping[str, Any], indent: int = 0) -> str:
    """Nested facts as indented lines; lists are cut after ten entries and say so."""
    from biasbench.errors import printable

    lines, pad = [], "  " * indent
    for key, value in report.items():
        name = f"{pad}{printable(key)}"
        if isinstance(value, Mapping) and value:
            lines += [f"{name}:", text_of(value, indent + 1)]
        elif isinstance(value, list) and value:
            more = f", … ({len(value)} in all)" if len(value) > 10 else ""
            lines.append(f"{name}: {', '.join(printable(v) for v in value[:10])}{more}")
        else:
            lines.append(f"{name}: {'none' if value in ([], {}, None) else printable(value, 2000)}")
    return "\n".join(lines)
