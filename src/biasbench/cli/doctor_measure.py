"""What this machine takes, for `biasbench doctor --measure`: measured in a process of its own, printed and kept."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from biasbench.config import Settings
    from biasbench.costs.rates import Cost, Machine, Rates, Request
    from biasbench.plugins import Plugins

SECONDS = 1800  # a large network on a slow processor takes minutes


def measure_machine(asked: dict[str, Any], settings: Settings, plugins: Plugins, *, as_json: bool) -> int:
    """Measure, print, keep.

    Args:
        asked: `dataset`, `backbone`, `profile`, `protocols`, `device`, `precision` as given on the command line.
        settings: Whose cache folder keeps the figures.
        plugins: Where names are looked up.
        as_json: Whether to print JSON.

    Raises:
        UsageError: For an unknown name.
        CellError: When the measuring process fails.
    """
    from biasbench.cli.output import emit, emit_json
    from biasbench.costs.rates import Machine, save_rates

    request = request_for(asked, plugins)
    machine = Machine.here(request.device.partition(":")[0], request.precision, request.threads)
    rates = measured(request)
    path = save_rates(settings.cache, machine, rates)
    if as_json:
        emit_json("costs", {"file": str(path), "machine": machine.model_dump(), "rates": rates.model_dump(mode="json")})
    else:
        emit(_text(request, machine, rates) + f"\n\nKept in {path}; 'biasbench run --dry-run' and its bars use it.")
        if rates.busy:
            emit(f"The machine was busy: this got {100 * rates.share:.0f} % of its processor time. Measure again.")
    return 0


def request_for(asked: dict[str, Any], plugins: Plugins) -> Request:
    """What to measure: a backbone at the data set's size, with the profile's threads, batch and protocol."""
    from biasbench.costs.rates import Request
    from biasbench.errors import UsageError
    from biasbench.grammar import bind, canonical, parse
    from biasbench.measures.named import protocol_named
    from biasbench.model import choose_device
    from biasbench.recipe import load_recipe

    recipe = load_recipe(asked["profile"])
    dataset = plugins.datasets.find(parse(asked["dataset"])[0].name).load()
    component, *more = parse(asked["backbone"] or dataset.default_backbone)
    if more:
        raise UsageError("--backbone names several backbones", fix="Measure one after the other")
    offer = plugins.backbones.find(component.name)
    cls = offer.load()
    protocols = tuple(asked["protocols"]) or (recipe.protocol,)
    for text in protocols:
        protocol_named(text, single=False)
    options = bind(cls, component, offer.entry.options, cls.supplied)
    return Request(
        backbone=component.name,
        text=canonical(component.name, options),
        options=options,
        crop=recipe.crop or dataset.crop,
        short_side=recipe.short_side or dataset.short_side,
        batch=max(stage.batch_size for stage in recipe.stages),
        width=LABELS,
        protocols=protocols,
        device=choose_device(asked["device"]),
        precision=asked["precision"],
        threads=recipe.threads,
        channels_last=recipe.channels_last,
        plugins=plugins.files,
    )


LABELS = 80  # that attackers read; for other numbers their time is scaled by their multiplications


def measured(request: Request) -> Rates:
    """What the measuring process answers.

    Raises:
        CellError: When it fails, with its last line.
    """
    from pydantic import ValidationError

    from biasbench.costs.rates import Rates
    from biasbench.errors import CellError, printable

    command = [sys.executable, "-m", "biasbench.costs.machine"]
    asked = request.model_dump_json()
    try:
        done = subprocess.run(  # noqa: S603  # our own interpreter and module
            command, input=asked, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise CellError(f"measuring took more than {SECONDS} s", fix="Try a smaller --backbone") from None
    try:
        return Rates.model_validate_json((done.stdout.splitlines() or [""])[-1])
    except ValidationError:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise CellError(
            f"the process that measures failed: {printable(last)}", where=request.backbone, fix="See 'biasbench doctor'"
        ) from None


def _text(request: Request, machine: Machine, rates: Rates) -> str:
    from biasbench.cli.output import grid, render, size

    (network,) = rates.networks.values()
    whole = f"{request.backbone} at {network.crop} px"
    taps = list(network.forward)
    last = [tap for tap in taps if tap.startswith("conv")][-1:]
    rows = [
        _row("read, decode and resize a 640 x 480 JPEG", [rates.decode], "s a core"),
        _row(f"cut {rates.crop_side} px out of stored pixels", [rates.crop], "s an image"),
        _row(f"{whole}, forward", network.forward.values(), "s an image"),
        _row(f"{whole}, forward and backward", network.both.values(), "s an image"),
        *(_row(f"the same from {tap} on", [network.both[t] for t in taps[taps.index(tap) :]], "s an image")
          for tap in last),
        *(_row(f"attacker of {name}", [a.seconds], "s an epoch", 1 / a.epochs) for name, a in rates.attackers.items()),
        _row("start of a cell", [rates.start], "s"),
        ["SHA-256", f"{size(1 / rates.hash.value)}/s", _spread([rates.hash])],
        ["write and sync", f"{size(1 / rates.write.value)}/s", _spread([rates.write])],
        [f"memory, training with batches of {network.batch}", size(network.peak), ""],
    ]  # fmt: skip
    threads = f"{machine.threads} thread{'s' if machine.threads > 1 else ''}"
    title = f"{machine.device}, {machine.precision}, {threads} of {rates.cores} cores"
    return render(grid(("", "takes", "spread"), rows, title))


def _row(name: str, costs: Iterable[Cost], unit: str, share: float = 1.0) -> Sequence[str]:
    """A figure's line; several costs are added up."""
    costs = list(costs)
    value = share * sum(c.value for c in costs)
    shown = f"{1000 * value:.3g} m{unit}" if value < 1 else f"{value:.3g} {unit}"
    return [name, shown, _spread(costs)]


def _spread(costs: Sequence[Cost]) -> str:
    """Largest less smallest of the measurements, as a share of the median; of a sum at most."""
    total = sum(c.value for c in costs)
    share = sum(c.value * c.spread for c in costs) / total if total else 0.0
    return f"{100 * share:.0f} % of {costs[0].times}"
