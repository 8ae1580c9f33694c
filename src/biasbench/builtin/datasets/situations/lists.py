"""Prepared lists: image, verb and gender of each row, as npz, Parquet or CSV.

| column | values |
|---|---|
| `image` or `image_name` | plain file name |
| `verb` | a name, or a code that `labels.json` gives a name to |
| `gender` | `man` or 0, `woman` or 1 |

Further columns are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasbench import DataError, Split, did_you_mean, printable
from biasbench.builtin.datasets.coco_check import plain_name, refuse
from biasbench.builtin.datasets.coco_json import decode, read_file
from biasbench.builtin.datasets.situations.columns import Listed, read_list
from biasbench.builtin.datasets.situations.gender import GENDERS

_CODES = {**{name: k for k, name in enumerate(GENDERS)}, **{str(k): k for k in range(len(GENDERS))}}


def read_lists(paths: Mapping[Split, Path], labels: Path | None) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """All lists as one table, and the names of the verbs in the order of their codes.

    Without a file of names the verbs must be names, and their order is alphabetical.

    Args:
        paths: By split.
        labels: JSON list of names, if there is one.

    Returns:
        Columns `split, name` (text), `label, gender` (int64), in the order of the lists; verb names.

    Raises:
        DataError: Naming file and row of what is missing, unknown, of another type or twice there.
    """
    listed = {split: read_list(path) for split, path in paths.items()}
    names = read_labels(labels) if labels is not None else _names_in(listed)
    known: dict[str, str] = {}
    parts = []
    for split, one in listed.items():
        images = _images(one, known)
        label, gender = _labels(one, names, labels), _genders(one)
        parts.append(pd.DataFrame({"split": split, "name": images, "label": label, "gender": gender}))
    return pd.concat(parts, ignore_index=True), names


def read_labels(path: Path) -> tuple[str, ...]:
    """The verbs in the order of their codes.

    Raises:
        DataError: When the file is no list of different names.
    """
    names = decode(read_file(path), list[str], path)
    if not names or "" in names or len(set(names)) < len(names):
        raise DataError("no list of different names", where=printable(path), fix="Name each verb once, in code order")
    return tuple(names)


def _names_in(listed: Mapping[Split, Listed]) -> tuple[str, ...]:
    found: set[str] = set()
    for one in listed.values():
        verbs = one.columns["verb"]
        if verbs.dtype != object or any(v.isascii() and v.isdigit() for v in verbs):
            raise DataError(
                "the verbs are codes, and no file names them",
                where=printable(one.path),
                fix="Put labels.json beside it: a list of the verbs in the order of their codes",
            )
        found |= set(verbs)
    return tuple(sorted(found - {""}))


def _images(one: Listed, known: dict[str, str]) -> NDArray[Any]:
    """The file names; `known` collects where each was first seen."""
    images = one.columns["image"]
    if images.dtype != object:
        raise DataError("the images are numbers, not file names", where=printable(one.path), fix="Give file names")
    bad = [f"{one.place(i)}: {printable(n)!r} is no plain file name" for i, n in enumerate(images) if not plain_name(n)]
    refuse(bad, one.path, "A file name must be a plain name, without folders")
    twice = []
    for row, name in enumerate(images):
        if name in known:
            twice.append(f"{one.place(row)}: image {printable(name)!r} is listed already ({known[name]})")
        else:
            known[name] = f"{one.path.name}, {one.place(row)}"
    refuse(twice, one.path, "An image belongs to one row of one split")
    return images


def _labels(one: Listed, names: tuple[str, ...], labels: Path | None) -> NDArray[np.int64]:
    codes = {name: k for k, name in enumerate(names)}
    if labels is not None:
        codes |= {str(k): k for k in range(len(names)) if str(k) not in codes}
    verbs = [str(v) for v in one.columns["verb"]]
    strange = [i for i, verb in enumerate(verbs) if verb not in codes]
    hint = did_you_mean(verbs[strange[0]], names) if strange else ""
    told = f"Known are {len(names)} verbs" + (f" of {labels.name}, with codes from 0" if labels else "")
    refuse([f"{one.place(i)}: unknown verb {printable(verbs[i])!r}" for i in strange], one.path, hint or told)
    return np.array([codes[verb] for verb in verbs], np.int64)


def _genders(one: Listed) -> NDArray[np.int64]:
    values = [str(v) for v in one.columns["gender"]]
    strange = [i for i, value in enumerate(values) if value not in _CODES]
    refuse(
        [f"{one.place(i)}: gender is {printable(values[i])!r}" for i in strange], one.path, "Use man or 0, woman or 1"
    )
    return np.array([_CODES[value] for value in values], np.int64)
