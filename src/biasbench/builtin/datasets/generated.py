"""What data sets that make themselves share: options within range, and a folder named after all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from biasbench import DataError, UsageError, io, printable


def check_ranges(dataset: str, ranges: Iterable[tuple[str, float, float, float]]) -> None:
    """Refuse an option (name, value, lowest, highest) out of range.

    Raises:
        UsageError: Naming the first one.

    Example:
        >>> check_ranges("scenes", [("bias", 0.7, 0, 1)])
    """
    for option, value, low, high in ranges:
        if not low <= value <= high:
            raise UsageError(f"{dataset}: {option} must be from {low} to {high}, not {value!r}")


def folder_of(cache: Path, dataset: str, made_with: Mapping[str, Any]) -> Path:
    """The folder of one choice of options.

    Example:
        >>> folder_of(Path("/cache"), "scenes", {"seed": 0}) == folder_of(Path("/cache"), "scenes", {"seed": 1})
        False
    """
    return cache / dataset / io.hash_json(made_with)[:16]


def check_made(root: Path, dataset: str, made: Any, wanted: Mapping[str, Any]) -> None:
    """Refuse a folder that was made with other options.

    Args:
        root: The folder.
        dataset: What lies in it.
        made: What it says that it was made with.
        wanted: What it should be.

    Raises:
        DataError: Naming the options that differ.
    """
    if made == wanted:
        return
    made = made if isinstance(made, Mapping) else {}
    differ = ", ".join(f"{k}={made.get(k)!r}, not {v!r}" for k, v in wanted.items() if made.get(k) != v)
    raise DataError(
        f"the {dataset} here were made with {printable(differ)}", where=printable(root), fix="Delete the folder"
    )
