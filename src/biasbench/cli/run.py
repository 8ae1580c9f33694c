"""`biasbench run`: plan, check everything, train, predict, measure."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from biasbench.cli.engine import Engine, choose_engine, engine_options
from biasbench.cli.lazy import Choice
from biasbench.cli.options import data_root_option, json_option, plugin_option, results_option
from biasbench.cli.seeds import Seeds

if TYPE_CHECKING:
    from biasbench.cli.progress import RunProgress
    from biasbench.config import Settings
    from biasbench.costs.left import TimeLeft
    from biasbench.executors.limits import Limits
    from biasbench.plan import Request
    from biasbench.planned import Cell
    from biasbench.plugins import Plugins

PROFILES = ("alvi2018", "paper", "short", "smoke")
PRECISIONS = ("fp32", "bf16", "fp16")


@click.command("run")
@click.argument("benchmark", required=False, type=click.Path(path_type=Path), metavar="[BENCHMARK.toml]")
@click.option("--method", "-m", "methods", multiple=True, metavar="METHOD", help="Such as original, alpha-1+adv-conv5.")
@click.option("--dataset", "-d", "datasets", multiple=True, metavar="DATASET", help="Such as scenes, coco.")
@click.option(
    "--backbone", "-b", "backbones", multiple=True, metavar="BACKBONE",
    help="Such as resnet50, or any timm model.  [default: the data set's own]",
)  # fmt: skip
@click.option(
    "--seed", "-s", "seeds", multiple=True, type=Seeds(), metavar="INT",
    help="Random seed, or a range of them: 0..4. Repeatable.  [default: 0]",
)  # fmt: skip
@click.option("--profile", type=Choice(PROFILES), help="Training recipe.  [default: short]")
@click.option("--device", metavar="DEVICE", default="auto", help="Where to compute: auto, cpu, cuda, cuda:N or mps.")
@click.option(
    "--processes", type=click.IntRange(min=1), metavar="N",
    help="Processes that compute a cell together, each with a GPU of its own if there are any.  [default: 1]",
)  # fmt: skip
@click.option("--precision", type=Choice(PRECISIONS), help="Arithmetic of the model.  [default: fp32]")
@results_option
@data_root_option
@click.option("--dry-run", is_flag=True, help="Print the checked plan and its cost; run nothing.")
@click.option("--yes", is_flag=True, help="A plan of more than 100,000 cells is meant.")
@click.option(
    "--set", "overrides", multiple=True, metavar="recipe.KEY=VALUE",
    help="Replace one field of the recipe, such as recipe.stages.0.lr=1e-4. Repeatable.",
)  # fmt: skip
@plugin_option
@click.option("--weights", metavar="SOURCE", help="Starting weights: auto, random, a named source, or a file.")
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N", help="Cells at a time.  [default: by cores, at most 4]"
)
@engine_options
@click.option(
    "--time-limit", type=click.FloatRange(min=0, min_open=True), metavar="MINUTES",
    help="End a cell's process after so long; the cell has failed.  [default: none]",
)  # fmt: skip
@click.option(
    "--stall-limit", type=click.FloatRange(min=0, min_open=True), metavar="MINUTES", default=360.0, show_default=True,
    help="End a process that finishes no batch, file or figure for so long.",
)  # fmt: skip
@click.option(
    "--memory-limit", type=click.FloatRange(min=0, min_open=True), metavar="GB",
    help="End a process that holds more memory (Linux).  [default: none]",
)  # fmt: skip
@click.option("--protocol", metavar="NAME", help="Measuring protocol.  [default: the profile's]")
@click.option(
    "--attribute", "-a", "attributes", multiple=True, metavar="NAME",
    help="Protected attribute to measure; a*b for an intersection. Repeatable.  [default: the data set's primary one]",
)  # fmt: skip
@click.option("--metric", "metrics", multiple=True, metavar="METRIC", help="Measure these only. Repeatable.")
@click.option(
    "--secondary", multiple=True, metavar="DATASET",
    help="Also predict this data set's images, to measure what the embedding tells of its attributes. Repeatable.",
)  # fmt: skip
@click.option("--tensorboard", is_flag=True, help="Write event files beside each training's log.")
@json_option
@click.option("--quiet", "-q", is_flag=True, help="No progress; results and errors only.")
def run_command(
    benchmark: Path | None,
    device: str,
    results: Path | None,
    data_roots: tuple[Path, ...],
    dry_run: bool,
    plugin_files: tuple[Path, ...],
    jobs: int | None,
    engine: str,
    address: str | None,
    gpus: float | None,
    tensorboard: bool,
    time_limit: float | None,
    stall_limit: float,
    memory_limit: float | None,
    as_json: bool,
    quiet: bool,
    **asked: Any,
) -> int:
    """Train and measure methods on data sets, with backbones and seeds.

    Runs every combination: --method, --dataset, --backbone and --seed may be repeated. A
    benchmark file names combinations too; options given beside it replace what it says.

    The whole plan is checked before the first epoch. A finished cell is never computed
    twice; a cell that fails does not stop the others. After an interruption the same
    command goes on: Ctrl-C, SIGTERM and SIGUSR1 let trainings write a checkpoint first.
    """
    from biasbench.cli.progress import Counter, RunProgress
    from biasbench.config import load_settings
    from biasbench.executors.limits import Limits
    from biasbench.plan import make_plan
    from biasbench.plugins import load_plugins
    from biasbench.tensorboard import check_installed

    if tensorboard:
        check_installed()
    plugins = load_plugins(plugin_files)
    settings = load_settings(data=data_roots, results=results)
    requests = asked_for(benchmark, asked)
    chosen = choose_engine(engine, address, gpus, device)
    with Counter("reading data", quiet=quiet) as progress:
        kind = chosen.device.partition(":")[0]
        cells = make_plan(requests, plugins, settings, device=kind, progress=progress)
    room = chosen.fit(cells)
    at_once = jobs or room or cells_at_a_time(cells, chosen.device)
    if dry_run:
        from biasbench.cli.dryrun import show_plan

        show_plan(cells, settings, plugins, device=chosen.device, jobs=at_once, as_json=as_json)
        return 0
    left = None if quiet else time_left(cells, settings, plugins, chosen.device, at_once)
    with RunProgress.choose(quiet=quiet, left=left) as shown:
        limits = Limits(time_limit and 60 * time_limit, 60 * stall_limit, memory_limit)
        code = carry_out(
            cells, settings, plugins, shown, engine=chosen, jobs=at_once, tensorboard=tensorboard, limits=limits
        )
    report(cells, settings, plugins, shown, code, as_json=as_json, quiet=quiet)
    return code


def asked_for(benchmark: Path | None, asked: Mapping[str, Any]) -> list[Request]:
    """The requests of a benchmark file, or of the options alone.

    Raises:
        UsageError: When neither says what to run, or the file is wrong.
    """
    from biasbench.errors import UsageError
    from biasbench.plan import Request

    overrides = read_overrides(asked["overrides"])
    if asked["processes"] is not None:
        if "processes" in overrides:
            raise UsageError("--processes and --set recipe.processes say the same thing", fix="Give one of them")
        overrides["processes"] = asked["processes"]
    apart = ("overrides", "processes", "seeds", "yes")
    given = {key: value for key, value in asked.items() if key not in apart and value not in (None, ())}
    if benchmark is not None:
        from biasbench.benchmark import load_benchmark

        return [changed(load_benchmark(benchmark).request(), given, overrides, asked)]
    lacking = [f"--{name[:-1]}" for name in ("methods", "datasets") if name not in given]
    if lacking:
        raise UsageError(
            f"nothing to run: {' and '.join(lacking)} not given",
            fix="Name both, as in 'biasbench run --method original --dataset scenes', or give a benchmark file",
        )
    return [changed(Request(given.pop("methods"), given.pop("datasets")), given, overrides, asked)]


def changed(
    request: Request, given: Mapping[str, Any], overrides: Mapping[str, Any], asked: Mapping[str, Any]
) -> Request:
    """A request with what the command line says in place of its own."""
    from dataclasses import replace

    from biasbench.cli.seeds import seed_list

    request = replace(request, **given, overrides={**request.overrides, **overrides})
    return replace(request, seeds=seed_list(asked["seeds"], request, confirmed=asked["yes"]))


def read_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """`recipe.KEY=VALUE` by KEY; values are literals, `true`, `false`, `none`, or plain text.

    Raises:
        UsageError: For a text of another form, or a key given twice.

    Example:
        >>> read_overrides(["recipe.crop=64", "recipe.cache=false", "recipe.select=last"])
        {'crop': 64, 'cache': False, 'select': 'last'}
    """
    from biasbench.errors import UsageError, printable

    found: dict[str, Any] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key.startswith("recipe.") or key == "recipe.":
            raise UsageError(f"cannot read --set {printable(text)!r}", fix="Write --set recipe.KEY=VALUE")
        name = key.removeprefix("recipe.")
        if name in found:
            raise UsageError(f"--set {printable(key)} is given twice", fix="Give it once")
        found[name] = literal(value)
    return found


def literal(value: str) -> Any:
    """The value of a text on the command line; what is no literal is text.

    Example:
        >>> [literal(v) for v in ("1e-4", "true", "None", "'a b'", "a b")]
        [0.0001, True, None, 'a b', 'a b']
    """
    words = {"true": True, "false": False, "none": None, "null": None}
    if value.casefold() in words:
        return words[value.casefold()]
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def cells_at_a_time(cells: Sequence[Cell], device: str) -> int:
    """As many cells as the processor has cores for, four at most; one on an accelerator."""
    if device != "cpu" or not cells:
        return 1
    threads = max(cell.spec.recipe.threads * cell.spec.recipe.processes for cell in cells)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(4, cores // threads))


def time_left(cells: Sequence[Cell], settings: Settings, plugins: Plugins, device: str, jobs: int) -> TimeLeft | None:
    """What tells the time left of a plan; None where this machine's costs were not measured."""
    from biasbench.cli.estimates import estimate_of
    from biasbench.costs.left import TimeLeft

    estimate = estimate_of(cells, settings, plugins, device, jobs)
    return None if estimate is None else TimeLeft(estimate)


def carry_out(
    cells: Sequence[Cell],
    settings: Settings,
    plugins: Plugins,
    shown: RunProgress,
    *,
    engine: Engine,
    jobs: int,
    tensorboard: bool,
    limits: Limits,
) -> int:
    """Run the plan; returns the exit code. An interruption says what is kept."""
    from biasbench.runner import Runner
    from biasbench.store import Store

    runner = Runner(
        cells,
        Store(settings.results, create=True),
        settings.cache,
        device=engine.device,
        jobs=jobs,
        plugin_files=plugins.files,
        tensorboard=tensorboard,
        report=shown,
        executor=engine.executor(limits, settings.results, settings.cache),
    )
    try:
        return runner.run().exit_code
    except KeyboardInterrupt as stop:
        kept = f"{shown.summary()}; finished cells are kept in {settings.results}"
        kept += ", and the same command goes on from the last checkpoint"
        raise type(stop)(kept) from None


def report(
    cells: Sequence[Cell],
    settings: Settings,
    plugins: Plugins,
    shown: RunProgress,
    code: int,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """The plan's rows on standard output, and one line of counts on standard error."""
    from biasbench.cli.leaderboard import load_board, print_board
    from biasbench.cli.output import emit_json, note

    if as_json:
        emit_json("run", {"results": str(settings.results), "exit_code": code, **shown.document()})
    else:
        print_board(load_board(settings.results, plugins, keys={cell.key for cell in cells}), "rich")
    if not quiet:
        note(f"{shown.summary()} · exit {code}")
