"""Seeds as the user writes them, and plans that are too large to be meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from biasbench.errors import UsageError
from biasbench.seeds import seed_range

if TYPE_CHECKING:
    from biasbench.plan import Request

CELLS = 100_000
"""A larger plan is refused unless --yes confirms it."""


class Seeds(click.ParamType[range]):
    """A seed, or a range of them with both ends: `3`, `0..4`.

    Example:
        >>> Seeds().convert("3", None, None), Seeds().convert("0..4", None, None)
        (range(3, 4), range(0, 5))
    """

    name = "seeds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> range:
        if isinstance(value, range):
            return value
        try:
            return seed_range(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def seed_list(ranges: Sequence[range], request: Request, *, confirmed: bool) -> list[int]:
    """The seeds of a request, after its cells were counted: nothing is built before.

    Args:
        ranges: From the command line; without any the request's own.
        request: The rest of what was asked for.
        confirmed: Whether the user said that the size is meant.

    Raises:
        UsageError: For more than 100,000 cells that nobody confirmed.
    """
    seeds = sum(r.stop - r.start for r in ranges) if ranges else len(request.seeds)
    backbones = max(1, len(request.backbones))
    cells = len(request.methods) * len(request.datasets) * backbones * seeds
    if cells > CELLS and not confirmed:
        raise UsageError(
            f"that is a plan of {cells:,} cells ({len(request.methods)} methods x {len(request.datasets)} data sets x "
            f"{backbones} backbones x {seeds:,} seeds); nothing was built",
            fix="Ask for fewer, or confirm it with --yes",
        )
    return list(dict.fromkeys(seed for r in ranges for seed in r)) if ranges else list(request.seeds)
