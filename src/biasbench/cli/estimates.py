"""What a plan will take on this machine, for `--dry-run` and for the time left of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from biasbench.config import Settings
    from biasbench.costs.counts import Work
    from biasbench.costs.estimate import Estimate
    from biasbench.costs.rates import Rates
    from biasbench.planned import Cell
    from biasbench.plugins import Plugins


def work_of(cells: Sequence[Cell], settings: Settings, plugins: Plugins) -> Work:
    """What a plan still has to do, in counts."""
    from biasbench.costs.work import plan_work
    from biasbench.store import Store

    store = Store(settings.results) if settings.results.exists() else None
    return plan_work(cells, store, settings.cache, plugins)


def estimate_of(
    cells: Sequence[Cell], settings: Settings, plugins: Plugins, device: str, jobs: int, work: Work | None = None
) -> Estimate | None:
    """The same in hours, by what was measured here; None where nothing was."""
    from biasbench.costs.estimate import Estimate

    if not measurable(cells):
        return None
    rates = _rates(cells, settings, device)
    return None if rates is None else Estimate(work or work_of(cells, settings, plugins), rates, jobs)


def measurable(cells: Sequence[Cell]) -> bool:
    """Whether `doctor --measure` measures cells of these kinds: by one process, nothing compiled."""
    return not any(cell.spec.recipe.processes > 1 or cell.spec.recipe.compile for cell in cells)


def _rates(cells: Sequence[Cell], settings: Settings, device: str) -> Rates | None:
    """What was measured for the precision and the threads of the plan's cells, the first that was."""
    from biasbench.costs.rates import Machine, load_rates

    for precision, threads in dict.fromkeys((c.spec.precision, c.spec.recipe.threads) for c in cells):
        found = load_rates(settings.cache, Machine.here(device.partition(":")[0], precision, threads))
        if found is not None:
            return found
    return None


def span(seconds: float) -> str:
    """A time for people.

    Example:
        >>> span(40), span(500), span(20_000), span(700_000)
        ('40 s', '8 min', '5.6 h', '8.1 days')
    """
    for most, unit, name in ((90, 1, "s"), (5400, 60, "min")):
        if seconds < most:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
