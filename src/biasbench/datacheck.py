"""Looking a data set over before anyone trains on it: what `biasbench data check` reports."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import pandas as pd

from biasbench import io
from biasbench.data import SPLITS, Dataset, Progress, attribute, check_table, targets
from biasbench.errors import DataError, printable

FIRST = 10  # problems of a kind that are named
Finding = tuple[Literal["missing", "undecodable", "wrong_size"], str]


def check(dataset: Dataset, progress: Progress | None = None, *, decode: bool = True) -> dict[str, Any]:
    """Count what a data set has, and open every image it names.

    Args:
        dataset: Any data set.
        progress: Called with (images done, images).
        decode: Whether to open the images; without it only missing files are found.

    Returns:
        JSON-able: `images` by split, `labels` and `attributes` with counts by split, `regions` (how
        many images of each split have a non-empty one), `notes` of the data set, and for each of
        `missing`, `undecodable` and `wrong_size` the `count` and the `first` ten, one line each.
        `ok` says that these three are empty. `fingerprint` as of the data set.

    Raises:
        DataError: When the tables themselves cannot be read or break the contract.
    """
    dataset.prepare()
    tables = {split: dataset.table(split) for split in SPLITS}
    for split, table in tables.items():
        check_table(table, dataset, split)
    regions = _regions(dataset)
    paths = pd.concat([t[["id", "path"]] for t in tables.values()], ignore_index=True)
    findings = _open_all(dataset, paths, regions.pop("sizes"), progress, decode)
    problems = {
        kind: _listed(text for k, text in findings if k == kind) for kind in ("missing", "undecodable", "wrong_size")
    }
    return {
        "ok": not findings,
        "images": {**{s: len(t) for s, t in tables.items()}, "total": len(paths)},
        "labels": {s: _label_counts(dataset, t) for s, t in tables.items()},
        "attributes": {
            name: {s: _groups(dataset, t, name) for s, t in tables.items()} for name in dataset.attribute_names
        },
        "regions": regions,
        "decoded": decode,
        **problems,
        "notes": dict(dataset.notes()),
        "fingerprint": dataset.fingerprint(),
    }


def _label_counts(dataset: Dataset, table: pd.DataFrame) -> dict[str, int]:
    y = targets(table)
    if dataset.task == "multilabel":
        counts = y.sum(0, dtype=int).tolist()
    else:
        counts = [int((y == k).sum()) for k in range(len(dataset.label_names))]
    return dict(zip(dataset.label_names, counts, strict=True))


def _groups(dataset: Dataset, table: pd.DataFrame, name: str) -> dict[str, int]:
    codes = attribute(table, name)
    groups = {group: int((codes == k).sum()) for k, group in enumerate(dataset.attribute_names[name])}
    unknown = int((codes < 0).sum())
    return {**groups, "unknown": unknown} if unknown else groups


def _regions(dataset: Dataset) -> dict[str, Any]:
    """Images with each region by split, and under "sizes" height and width of each image as annotated."""
    names = sorted(f.removeprefix("masks:") for f in dataset.provides if f.startswith("masks:"))
    found: dict[str, Any] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for name in names:
        found[name] = {}
        for split in SPLITS:
            table = dataset.region(split, name)
            found[name][split] = int(table["id"].nunique())
            if "height" in table:
                rows = zip(table["id"], table["height"], table["width"], strict=True)
                sizes.update({key: (int(h), int(w)) for key, h, w in rows})
    return {**found, "sizes": sizes}


def _open_all(
    dataset: Dataset, paths: pd.DataFrame, sizes: Mapping[str, tuple[int, int]], progress: Progress | None, decode: bool
) -> list[Finding]:
    findings: list[Finding] = []
    rows = list(zip(paths["id"], paths["path"], strict=True))
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        results = pool.map(lambda row: _open(dataset, row[1], sizes.get(row[0]), decode), rows)
        for done, finding in enumerate(results, 1):
            if finding is not None:
                findings.append(finding)
            if progress is not None and (done % 50 == 0 or done == len(rows)):
                progress(done, len(rows))
    return findings


def _open(dataset: Dataset, name: str, size: tuple[int, int] | None, decode: bool) -> Finding | None:
    try:
        path = io.safe_join(dataset.root, name)
        if not path.is_file():
            return "missing", printable(name)
        if not decode:
            return None
        from biasbench.images import read_image

        height, width = read_image(path).shape[:2]
    except DataError as error:
        return "undecodable", f"{printable(name)}: {error.what}"
    if size is not None and size != (height, width):
        return "wrong_size", f"{printable(name)}: {width}x{height} pixels, annotated as {size[1]}x{size[0]}"
    return None


def _listed(lines: Iterable[str]) -> dict[str, Any]:
    found = list(lines)
    return {"count": len(found), "first": found[:FIRST]}
