"""Optional side tables of a COCO folder: further protected attributes and further regions."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

from biasbench import DataError, did_you_mean, printable
from biasbench.builtin.datasets import coco_segments
from biasbench.builtin.datasets.coco_check import refuse
from biasbench.builtin.datasets.coco_json import Id, decode, read_file

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
Groups = dict[str, list[str]]


def read_groups(path: Path | None) -> Groups:
    """The declared order of groups, by attribute.

    Raises:
        DataError: When the file is damaged or names a group twice.
    """
    if path is None:
        return {}
    groups = decode(read_file(path), Groups, path)
    for name, values in groups.items():
        if len(set(values)) < len(values) or "" in values:
            raise DataError(f"attribute {printable(name)!r} has an empty group or one twice", where=printable(path))
    return groups


def read_attributes(path: Path, image_ids: Sequence[int]) -> pd.DataFrame:
    """A side table of attributes: index `image_id`, a column of group names each, "" = unknown.

    Raises:
        DataError: Naming the line.
    """
    text = read_file(path)
    try:
        lines = text.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError("not a UTF-8 file", where=printable(path)) from error
    numbered = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    try:
        rows = list(csv.reader([line for _, line in numbered], strict=True))
    except csv.Error as error:
        raise DataError(f"not a CSV file: {printable(error)}", where=printable(path)) from error
    if len(rows) != len(numbered):
        raise DataError("a cell runs over several lines", where=printable(path))
    if not rows or rows[0][0] != "image_id":
        raise DataError("the first line is not 'image_id,NAME,...'", where=printable(path))
    header = rows[0]
    refuse([f"unusable attribute name {printable(n)!r}" for n in header[1:] if not _NAME.fullmatch(n)], path)
    if "gender" in header or len(set(header)) < len(header):
        raise DataError("an attribute stands twice, or is named 'gender', which captions give", where=printable(path))
    known, values, offences = set(image_ids), {}, []
    for (number, _), row in zip(numbered[1:], rows[1:], strict=True):
        key = int(row[0]) if row[0].isascii() and row[0].isdigit() else None
        if len(row) != len(header) or key is None:
            offences.append(f"line {number}: expected {len(header)} cells, the first one an image id")
        elif key not in known:
            offences.append(f"line {number}: image {key} is not in the instances file")
        elif key in values:
            offences.append(f"line {number}: image {key} stands twice")
        else:
            values[key] = [cell.strip() for cell in row[1:]]
    refuse(offences, path, "Repair the line")
    return pd.DataFrame.from_dict(values, orient="index", columns=header[1:], dtype=object)


def encode_attributes(
    tables: Mapping[str, pd.DataFrame], declared: Groups, paths: Mapping[str, Path]
) -> tuple[dict[str, pd.DataFrame], Groups]:
    """Group names turned into codes, the same for each part.

    Args:
        tables: From `read_attributes`, by part.
        declared: From `read_groups`.
        paths: By part, named in errors.

    Returns:
        Tables of int64 codes (-1 = unknown) and the groups of each attribute.

    Raises:
        DataError: For parts with different columns and for a group that is not declared.
    """
    names = {part: list(table.columns) for part, table in tables.items()}
    first = next(iter(names))
    for part, columns in names.items():
        if columns != names[first]:
            raise DataError(
                f"columns {columns} differ from {names[first]} of {paths[first].name}", where=str(paths[part])
            )
    groups: Groups = {}
    unused = sorted(set(declared) - set(names[first]))
    refuse([f"attribute_groups.json names {printable(n)!r}, which is no column here" for n in unused], paths[first])
    for name in names[first]:
        seen = sorted({v for table in tables.values() for v in table[name]} - {""})
        groups[name] = list(declared.get(name, seen))
        for part, table in tables.items():
            strange = [v for v in table[name] if v and v not in groups[name]]
            hint = did_you_mean(strange[0], groups[name]) if strange else ""
            refuse(
                [f"{name}: {printable(v)!r} is not in attribute_groups.json" for v in strange],
                paths[part],
                hint or "Add it",
            )
    codes = {
        part: pd.DataFrame(
            {n: [groups[n].index(v) if v else -1 for v in table[n]] for n in groups}, index=table.index, dtype=np.int64
        )
        for part, table in tables.items()
    }
    return codes, groups


class Area(msgspec.Struct, gc=False):
    """One entry of a region's side table."""

    image_id: Id
    bbox: tuple[float, float, float, float] | None = None
    segmentation: msgspec.Raw = msgspec.Raw()


def read_region(path: Path, sizes: Mapping[int, tuple[int, int]]) -> pd.DataFrame:
    """A side table of a region: columns `image_id, x, y, w, h, segmentation` (boxes or segments).

    Args:
        path: The JSON file.
        sizes: Height and width of each image.

    Raises:
        DataError: Naming the entry.
    """
    areas = decode(read_file(path), list[Area], path)
    offences = []
    boxes = [a.bbox is not None for a in areas]
    for number, area in enumerate(areas):
        segment = bytes(area.segmentation)
        if area.image_id not in sizes:
            offences.append(f"entry {number}: image {area.image_id} is not in the instances file")
        elif bool(segment) == boxes[number] or boxes[number] != boxes[0]:
            offences.append(f"entry {number}: each entry has a bbox, or each a segmentation")
        elif segment and (wrong := coco_segments.problem(segment, *sizes[area.image_id])):
            offences.append(f"entry {number}: {printable(wrong)}")
        elif area.bbox and min(area.bbox[2:]) <= 0:
            offences.append(f"entry {number}: the box has no area")
    refuse(offences, path, "Repair the file")
    x, y, w, h = np.array([a.bbox or (np.nan,) * 4 for a in areas], np.float64).reshape(-1, 4).T
    return pd.DataFrame(
        {
            "image_id": np.array([a.image_id for a in areas], np.int64),
            "x": x,
            "y": y,
            "w": w,
            "h": h,
            "segmentation": np.array([bytes(a.segmentation) for a in areas], object),
        }
    )
