"""Epoch logs as TensorBoard event files, for those who look at curves there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from biasbench.errors import UsageError


def check_installed() -> None:
    """Raise a `UsageError` unless the optional dependency is there."""
    if find_spec("tensorboard") is None:
        raise UsageError("--tensorboard needs the tensorboard package", fix="pip install 'biasbench[tensorboard]'")


def write_events(folder: Path, log: Iterable[Mapping[str, Any]]) -> None:
    """Write every number of an epoch log as a scalar; the step is the epoch's place in the log."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for step, record in enumerate(log, start=1):
            for name, value in record.items():
                if isinstance(value, (int, float)) and name not in ("stage", "epoch", "epochs"):
                    writer.add_scalar(name, value, step)
