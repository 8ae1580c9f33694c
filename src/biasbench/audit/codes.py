"""Splits, classes and groups of a file as codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from biasbench.audit.cells import Cells, IntArray, said
from biasbench.data import SPLITS, Split
from biasbench.errors import DataError, did_you_mean, printable

SPELLINGS: dict[str, Split] = {
    "train": "train", "val": "val", "dev": "val", "valid": "val", "validation": "val", "test": "test",
}  # fmt: skip
NO_GROUP = {"nan", "none", "null", "<na>", "na", "n/a", "unknown", "?"}


def split_rows(cells: Cells) -> dict[Split, IntArray]:
    """Rows of each split, in the order of the file.

    `dev`, `valid` and `validation` are `val`; case does not matter.

    Raises:
        DataError: When a split has an unknown name or no row, or `val` has two names.

    Example:
        >>> {k: v.tolist() for k, v in split_rows(Cells(np.array(["test", "dev", "train"]), "split", "f")).items()}
        {'train': [2], 'val': [1], 'test': [0]}
    """
    names = [text.strip().casefold() for text in cells.texts()]
    for row, name in enumerate(names):
        if name not in SPELLINGS:
            known = ", ".join(SPLITS)
            hint = f"{did_you_mean(name, SPELLINGS)} Known: {known}".strip()
            raise cells.error(row, f"holds {said(cells.texts()[row])}, which is no split", hint)
    if len(spelt := sorted(set(names) - {"train", "test"})) > 1:
        fix = "Both would be val: give one of them up, or rename it train or test"
        raise cells.error(None, f"has the splits {' and '.join(spelt)}", fix)
    rows = {split: np.flatnonzero([SPELLINGS[name] == split for name in names]) for split in SPLITS}
    if absent := [split for split in SPLITS if not len(rows[split])]:
        fix = "An attacker is trained on train, chosen on val and read on test: give rows of all three"
        raise cells.error(None, f"has no row of the split {' or '.join(absent)}", fix)
    return rows


def classes(cells: Cells, label_names: Sequence[str]) -> IntArray:
    """[N] classes 0..K-1 from the labels' names or numbers.

    Labels that are themselves called by numbers other than 0..K-1 in that order can only be
    meant by name: 2 is then the label "2".

    Raises:
        DataError: For a name that is no label, and a number out of range.

    Example:
        >>> classes(Cells(np.array(["cat", "dog"]), "targets", "f"), ["dog", "cat"]).tolist()
        [1, 0]
        >>> classes(Cells(np.array([2.0, 0.0]), "targets", "f"), ["a", "b", "c"]).tolist()
        [2, 0]
    """
    meant, inverse = cells.symbols()
    index = {name: k for k, name in enumerate(label_names)}
    numbered = all(name.isdecimal() for name in label_names) and list(label_names) != [str(k) for k in index.values()]
    by_name = numbered or all(str(value) in index for value in meant)
    codes = []
    for at, value in enumerate(meant):
        row = int((inverse == at).argmax())
        code = index.get(str(value)) if by_name else value
        if value is None:
            raise cells.error(row, "holds nothing", "Every example needs one class")
        if not by_name and value in index:
            raise cells.error(row, f"holds the name {said(value)}, and numbers elsewhere", "Use one kind for all rows")
        if code is None or isinstance(code, str):
            hint = did_you_mean(str(value), label_names)
            raise cells.error(
                row, f"holds {said(value)}, which is no label", f"{hint} Labels: {_list(label_names)}".strip()
            )
        if not 0 <= code < len(label_names):
            what = "negative" if code < 0 else f"beyond the last class: there are {len(label_names)} columns of scores"
            fix = f"Classes count from 0 to {len(label_names) - 1}"
            if len(label_names) == 1:
                fix += "; for one yes/no label, give targets of 0 and 1 as a column of their own ([N, 1])"
            raise cells.error(row, f"holds class {code}, which is {what}", fix)
        codes.append(code)
    return np.array(codes, np.int64)[inverse]


def groups(cells: Cells) -> tuple[IntArray, tuple[str, ...]]:
    """[N] codes 0..G-1 of an attribute, -1 = unknown, and the names of the groups.

    Groups are the values that occur anywhere in the file, numbers by size, names
    alphabetically. Empty, NaN and -1 are unknown.

    Raises:
        DataError: When numbers and names are mixed, a number is below -1 or not whole, or a
            word such as "unknown" stands where a group should.

    Example:
        >>> codes, names = groups(Cells(np.array(["woman", "", "man"]), "attribute/gender", "f"))
        >>> codes.tolist(), names
        ([1, -1, 0], ('man', 'woman'))
        >>> groups(Cells(np.array([2, 1, -1]), "attribute/gender", "f"))
        (array([ 1,  0, -1]), ('1', '2'))
    """
    if cells.values.dtype.kind == "b":
        cells = replace(cells, values=cells.values.astype(str))  # groups "False" and "True", as in a CSV file
    meant, inverse = cells.symbols()

    def error(value: int | str | None, what: str, fix: str) -> DataError:
        return cells.error(int((inverse == meant.index(value)).argmax()), what, fix)

    numbers = sorted({v for v in meant if isinstance(v, int) and v != -1})
    names = sorted({v for v in meant if isinstance(v, str)})
    for name in names:
        if name.casefold() in NO_GROUP:
            fix = "Leave the cell empty or write -1 where the group is unknown; rename it if it is a group"
            raise error(name, f"holds {said(name)}", fix)
    if numbers and numbers[0] < 0:
        raise error(numbers[0], f"holds {numbers[0]}", "Groups are numbers from 0 or names; -1 is unknown")
    if numbers and names:
        what = f"mixes numbers and names: {numbers[0]} here, {said(names[0])} elsewhere"
        raise error(numbers[0], what, "Use one kind for all groups")
    code = {value: k for k, value in enumerate([*numbers, *names])}
    lookup = np.array([code.get(value, -1) if value is not None else -1 for value in meant], np.int64)
    return lookup[inverse], tuple(str(value) for value in code)


def _list(names: Sequence[str]) -> str:
    return ", ".join(printable(name, 40) for name in names[:10]) + (", …" if len(names) > 10 else "")
