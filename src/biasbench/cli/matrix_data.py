"""Matrices of methods by attributes for programs: CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, astuple
from typing import Any

from biasbench.cli.boards import harmless
from biasbench.cli.matrix_remarks import Shown
from biasbench.leaderboard import NOTHING
from biasbench.matrix import Entry, Line, Matrix, totals
from biasbench.metric import Column

MADE = ("dataset", "backbone", "profile", "protocol", "weights")
FIELDS = (
    *MADE, "changes", "method", "status", "seeds", "planned", "attribute", "column", "named", "mean", "std", "n",
    "spread", "figure_low", "figure_high", "chance", "near_chance", "difference_mean", "difference_std",
    "difference_n", "difference_low", "difference_high", "unlearned_mean", "unlearned_std", "unlearned_n",
    "undefined", "reasons", "flags", "marks",
)  # fmt: skip
ROW = ("method", "status", "seeds", "planned", "reasons", "flags", "marks")


def csv_text(shown: Shown) -> str:
    """Full precision, one line for each method and attribute."""
    out = io.StringIO()
    writer = csv.DictWriter(out, FIELDS, lineterminator="\n")
    writer.writeheader()
    for matrix in shown.matrices:
        for line in matrix.lines:
            for name in matrix.attributes:
                values = _flat(matrix, line, name, shown.column)
                writer.writerow({key: _plain(value) for key, value in values.items()})
    return out.getvalue()


def _flat(matrix: Matrix, line: Line, name: str, column: Column) -> dict[str, Any]:
    row, entry = line.row, line.entries.get(name, Entry(NOTHING))
    figure, gone, change = entry.figure, entry.unlearned or NOTHING, entry.difference
    paired = (None, None, 0, None, None) if change is None else astuple(change)
    undefined = [f"{reason}: {n}" for reason, n in entry.undefined.items()]
    values = (
        *(getattr(matrix, key) for key in MADE), matrix.changes, row.method, row.status, row.seeds, row.planned, name,
        column.key, entry.named, figure.mean, figure.std, figure.n, figure.spread, *(entry.stored or (None, None)),
        entry.chance, entry.near, *paired, gone.mean, gone.std, gone.n, undefined,
        row.reasons, row.flags, row.marks,
    )  # fmt: skip
    return dict(zip(FIELDS, values, strict=True))


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        value = "; ".join(map(str, value))
    return harmless(value) if isinstance(value, str) else "" if value is None else value


def document(shown: Shown) -> Mapping[str, Any]:
    """For JSON."""
    return {
        "column": asdict(shown.column),
        "other_columns": list(shown.others),
        "matrices": [_matrix(matrix, shown) for matrix in shown.matrices],
        "totals": [asdict(total) for total in totals(shown.matrices)] if shown.guessed else [],
    }


def _matrix(matrix: Matrix, shown: Shown) -> dict[str, Any]:
    rows = []
    for line in matrix.lines:
        fields = {k: v for k, v in asdict(line.row).items() if k in ROW}
        near = {"every": asdict(line.near(named=False)), "named": asdict(line.near(named=True))}
        cells = {name: {**asdict(entry), "near_chance": entry.near} for name, entry in line.entries.items()}
        unresolved = list(line.unresolved)
        rows.append({**fields, "near": near if shown.guessed else None, "unresolved": unresolved, "cells": cells})
    made = {key: getattr(matrix, key) for key in (*MADE, "changes", "attributes")}
    return {**made, "rows": rows}
