"""Two ways of doing the same, by turns: seconds of each, and how many times the one takes what the other takes."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

import click


class Took(NamedTuple):
    """Seconds on the clock, and of processors: this process and its children that have ended."""

    wall: float
    cpu: float


def now() -> Took:
    """What this process and its ended children have taken so far."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Took(time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime)


def between(a: Took, b: Took) -> Took:
    """From one moment to another."""
    return Took(b.wall - a.wall, b.cpu - a.cpu)


def timed(call: Callable[[], object]) -> Took:
    """What a call takes."""
    began = now()
    call()
    return between(began, now())


def by_turns(sides: Mapping[str, Callable[[], Took]], times: int) -> dict[str, list[Took]]:
    """Each side `times` times, A B A B; whoever begins changes, so that neither always finds the warmer machine."""
    found: dict[str, list[Took]] = {name: [] for name in sides}
    for turn in range(times):
        for name in list(sides) if turn % 2 == 0 else reversed(sides):
            found[name].append(sides[name]())
    return found


def tell(found: Mapping[str, Sequence[Took]], per: Mapping[str, float], unit: str) -> None:
    """Median seconds of each side for one of what it does."""
    for name, took in found.items():
        walls = [t.wall / per[name] for t in took]
        spread = (max(walls) - min(walls)) / median(walls)
        cpu = median(t.cpu / per[name] for t in took)
        click.echo(f"{name}: {shown(median(walls))} {unit} (spread {spread:.0%} of {len(took)}), {shown(cpu)} of CPU")


def shown(seconds: float) -> str:
    """Three digits."""
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def ratio(
    found: Mapping[str, Sequence[Took]], per: Mapping[str, float], slow: str, fast: str, wish: float | None = None,
    name: str = "ratio",
) -> None:  # fmt: skip
    """How many times what `fast` takes `slow` takes, turn by turn; the medians over turns."""
    pairs = list(zip(found[slow], found[fast], strict=True))
    scale = per[fast] / per[slow]
    wall = scale * median(a.wall / b.wall for a, b in pairs)
    cpu = scale * median(a.cpu / b.cpu if b.cpu else float("nan") for a, b in pairs)
    asked = "" if wish is None else f"; at least {wish:g} is wanted"
    click.echo(f"{name}: {wall:.3g} (of CPU seconds {cpu:.3g}{asked})")
