"""What a cell must leave as it found it: tables, labels, input files, and the settings of its process."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from biasbench import io
from biasbench.data import table_digest
from biasbench.errors import IntegrityError, printable
from biasbench.source import Labels, Source

if TYPE_CHECKING:
    from biasbench.cell import Cell

THREADS, DETERMINISTIC = "the number of torch's threads", "torch's choice of deterministic algorithms"
_FIX = "A method may choose rows and change pictures at the points made for it; copy before you write"


class State:
    """The state of a cell before any of its method's code ran on the data.

    Args:
        cell: The cell, built.
        files: Its input files.
        before: The `settings` of the process before the cell was built.
    """

    def __init__(self, cell: Cell, files: Iterable[Path], before: Mapping[str, object]) -> None:
        self.cell, self.files = cell, tuple(files)
        ours = {THREADS: cell.recipe.threads, DETERMINISTIC: cell.job.device != "cpu"}
        self.before = {**self._now(), **before, **ours}

    def check(self) -> None:
        """Compare with what is there now.

        Raises:
            IntegrityError: Naming the first thing that is another one.
        """
        now = self._now()
        for name, value in self.before.items():
            if now[name] != value:
                raise IntegrityError(f"the cell is void: its process has changed {name}", fix=_FIX)

    def _now(self) -> dict[str, Any]:
        cell = self.cell
        found: dict[str, Any] = {}
        for split, table in cell.tables.items():
            found[f"the {split} table"] = table_digest(table)
        for name, tables in cell.others.items():
            found |= {f"the {split} table of {name}": table_digest(table) for split, table in tables.items()}
        for name, source in {"": cell.source, **cell.secondary}.items():
            found |= _labels(source, f" of {name}" if name else "")
        found |= {f"the file {printable(path)}": _signature(path) for path in self.files}
        return {**found, **settings()}


def _labels(source: Source, of: str) -> dict[str, str]:
    return {f"the {split} labels{of}": _digest(labels) for split, labels in source.labels.items()}


def _digest(labels: Labels) -> str:
    tensors = {**labels.attributes, **({} if labels.targets is None else {"": labels.targets})}
    return io.hash_bytes(b"".join(k.encode() + tensors[k].contiguous().numpy().tobytes() for k in sorted(tensors)))


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def settings() -> Mapping[str, object]:
    """Settings of this process that change numbers or files."""
    mask = os.umask(0)
    os.umask(mask)
    return {
        THREADS: torch.get_num_threads(),
        "torch's default type": torch.get_default_dtype(),
        DETERMINISTIC: torch.are_deterministic_algorithms_enabled(),
        "torch's precision of matrix products": torch.get_float32_matmul_precision(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "cuDNN's settings": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "the working folder": str(Path.cwd()),
        "the file mode mask": mask,
    }
