"""What leakage reads of the data: label vectors and attribute codes of each split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasbench import SPLITS, CellError, DataError, Predictions, one_hot, printable, targets
from biasbench import attribute as attribute_codes

GROUPS = 2


@dataclass(frozen=True)
class Truth:
    """One split.

    Attributes:
        labels: [N, K] uint8; one-hot for multi-class data.
        codes: [N] int64 in {0, 1}, or -1 where the attribute is unknown.
    """

    labels: NDArray[np.uint8]
    codes: NDArray[np.int64]

    def digest(self) -> str:
        """SHA-256 of the content, by which stored figures are found again."""
        labels = np.packbits(np.ascontiguousarray(self.labels))
        digest = hashlib.sha256(repr((self.labels.shape, len(self.codes))).encode())
        digest.update(labels.tobytes())
        digest.update(np.ascontiguousarray(self.codes, "<i8").tobytes())
        return digest.hexdigest()


def read_truth(
    predictions: Mapping[str, Predictions], tables: Mapping[str, pd.DataFrame], attribute: str
) -> dict[str, Truth]:
    """Labels and codes of train, val and test, checked against the predictions.

    Raises:
        CellError: When the attribute has more than two groups, or scores are missing or of
            different widths.
        DataError: When a table and its predictions are not of the same examples.

    Example:
        >>> table = pd.DataFrame({"id": ["a"], "label": [1], "attribute/gender": [0]})
        >>> p = Predictions({"label": np.zeros((1, 3), np.float32)}, np.array([1]), np.array([1]), {}, ["a"])
        >>> read_truth(dict.fromkeys(SPLITS, p), dict.fromkeys(SPLITS, table), "gender")["val"].labels
        array([[0, 1, 0]], dtype=uint8)
    """
    truth: dict[str, Truth] = {}
    for split in SPLITS:
        said, table = predictions[split], tables[split]
        if list(said.ids) != table["id"].tolist():
            raise DataError("predictions and table are not of the same examples in the same order", where=split)
        scores = said.scores.get("label")
        if scores is None or scores.ndim != 2:
            raise CellError("no scores [N, K] named 'label' to attack", where=split)
        labels = one_hot(targets(table), scores.shape[1])
        if labels.shape != scores.shape:
            raise CellError(f"scores of shape {scores.shape} do not fit labels of {labels.shape}", where=split)
        truth[split] = Truth(labels, attribute_codes(table, attribute))
    check_groups(attribute, 1 + max(int(t.codes.max(initial=-1)) for t in truth.values()))
    return truth


def check_groups(attribute: str, groups: int) -> None:
    """Refuse an attribute of more than two groups.

    Raises:
        CellError: Saying how many there are.
    """
    if groups > GROUPS:
        raise CellError(
            f"leakage of an attribute with {groups} groups ({printable(attribute)!r}) is not defined here: "
            f"the published attacker, its folding and its draws are for {GROUPS}",
            fix="Measure an attribute of two groups",
        )
