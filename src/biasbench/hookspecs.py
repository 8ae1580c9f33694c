"""The four hooks of biasbench, and how to answer them.

A plugin implements any of them with `@biasbench.hookimpl` and declares its module in the
entry-point group `biasbench`. Each hook is called once per process, takes no argument and
returns a list of `Entry` records or classes. Hooks never run inside the training loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pluggy

PROJECT = "biasbench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True)
class Entry:
    """A name that users may type, and the class behind it, not yet imported.

    Attributes:
        name: The name. One `{option}` in it stands for a number: `alpha-{ratio}` also
            answers to `alpha-2.5`.
        target: `"package.module:Class"`.
        help: One line for `biasbench list`.
        options: Options that this name presets.
        any_name: Backbones only: this class answers to names that nobody registered, if
            its classmethod `accepts(name)` says so.

    Example:
        >>> Entry("adv-conv5", "biasbench.builtin.methods.adversary:Adversary",
        ...       "adversary at conv5", {"at": "conv5"}).name
        'adv-conv5'
    """

    name: str
    target: str
    help: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    any_name: bool = False


@hookspec
def biasbench_datasets() -> Sequence[Entry | type]:  # type: ignore[empty-body]
    """Data sets: classes derived from `biasbench.Dataset`, or entries that name them."""


@hookspec
def biasbench_backbones() -> Sequence[Entry | type]:  # type: ignore[empty-body]
    """Backbones: classes derived from `biasbench.Backbone`, or entries that name them."""


@hookspec
def biasbench_methods() -> Sequence[Entry | type]:  # type: ignore[empty-body]
    """Mitigation methods: classes derived from `biasbench.Method`, or entries that name them."""


@hookspec
def biasbench_metrics() -> Sequence[Entry | type]:  # type: ignore[empty-body]
    """Metrics: classes derived from `biasbench.Metric`, or entries that name them."""
