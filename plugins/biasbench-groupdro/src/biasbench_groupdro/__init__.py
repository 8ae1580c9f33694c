"""Group DRO for biasbench: what is offered. The method itself is in `dro.py`, which needs torch."""

from __future__ import annotations

from biasbench import Entry, hookimpl


@hookimpl
def biasbench_methods() -> list[Entry]:
    """One method, imported when it is asked for."""
    return [Entry("groupdro", "biasbench_groupdro.dro:GroupDRO", "group distributionally robust optimisation")]
