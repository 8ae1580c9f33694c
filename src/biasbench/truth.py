"""Joining a child's outputs with the truth, which the child never had."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from biasbench import io
from biasbench.data import SPLITS, Outputs, Predictions, Split, attribute, attributes_of, targets
from biasbench.errors import IntegrityError, printable
from biasbench.predict import read_outputs


def beside(run: Path, number: int) -> Path:
    """Folder of what a run says of another data set, the how manieth of those that were asked for."""
    return run / "secondary" / str(number)


def write_truth(run: Path, tables: Mapping[Split, pd.DataFrame], *, own: bool = True) -> None:
    """Write labels and attributes of the rows that were predicted, beside the predictions.

    Rows are found by id; the order a child claims is never trusted.

    Args:
        run: Folder with `predictions/`.
        tables: The full table of each split.
        own: Whether the model was trained to say these labels; another data set has labels of its own.

    Raises:
        IntegrityError: When ids are unknown, doubled or, outside training, missing, and when labels or their scores
            are not one for each label of the data set.
    """
    for split in SPLITS:
        outputs = read_outputs(run / "predictions" / split)
        ids = outputs.ids
        table = tables[split]
        known = pd.Index(table["id"])
        rows = known.get_indexer(pd.Index(ids))
        where = printable(run / "predictions" / split)
        if (rows < 0).any():
            raise IntegrityError(f"the predictions name {int((rows < 0).sum())} unknown examples", where=where)
        if len(set(rows.tolist())) != len(rows):
            raise IntegrityError("the predictions name an example twice", where=where)
        if split != "train" and len(rows) != len(table):
            raise IntegrityError(f"{len(table) - len(rows)} examples were not predicted", where=where)
        chosen = table.iloc[rows].reset_index(drop=True).drop(columns=["path"], errors="ignore")
        if own:
            _check_shapes(outputs, targets(chosen), where)
        with io.writing(run / "truth" / f"{split}.parquet") as aside:
            chosen.to_parquet(aside, compression="zstd", index=False)


def _check_shapes(outputs: Outputs, truth: NDArray[Any], where: str) -> None:
    """Refuse labels and scores of another shape than the truth [N, K], or [N] for one class a row."""
    if outputs.labels.shape != truth.shape:
        raise IntegrityError(f"labels of shape {outputs.labels.shape}, the truth has {truth.shape}", where=where)
    scores = outputs.scores.get("label")
    if scores is not None and (scores.ndim != 2 or (truth.ndim == 2 and scores.shape != truth.shape)):
        raise IntegrityError(f"scores of shape {scores.shape}, the truth has {truth.shape}", where=where)


def read_predictions(run: Path) -> tuple[dict[str, Predictions], dict[str, pd.DataFrame]]:
    """A finished run's predictions and tables by split, as metrics get them.

    Raises:
        IntegrityError: When predictions and truth do not fit together.
        DataError: When a score is not finite.
    """
    predictions: dict[str, Predictions] = {}
    tables: dict[str, pd.DataFrame] = {}
    for split in SPLITS:
        table = pd.read_parquet(run / "truth" / f"{split}.parquet")
        outputs = read_outputs(run / "predictions" / split)
        views: list[Mapping[str, Any]] = []
        while (folder := run / "predictions" / f"{split}@{len(views)}").is_dir():
            view = read_outputs(folder)
            if list(view.ids) != list(outputs.ids):
                raise IntegrityError("a view's rows differ from the split's", where=printable(folder))
            views.append(view.scores)
        if list(outputs.ids) != table["id"].tolist():
            raise IntegrityError("predictions and truth name different examples", where=printable(run))
        codes = {name: attribute(table, name) for name in attributes_of(table)}
        tables[split] = table
        predictions[split] = Predictions(
            outputs.scores, outputs.labels, targets(table), codes, outputs.ids, views, outputs.embeddings
        )
    return predictions, tables
