"""Train, val and test of faces with age, gender and identity, as in the paper's experiments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from biasbench import SPLITS
from biasbench.builtin.datasets.face_ages import AGE_CLASSES, sides
from biasbench.builtin.datasets.face_balance import (
    BIASES,
    GENDERS,
    equal_genders,
    extreme_bias,
    split_by_identity,
)
from biasbench.builtin.datasets.face_set import choose


@dataclass(frozen=True)
class Protocol:
    """How faces are split.

    Attributes:
        name: The data set; it names the fixed draws.
        bias: `"none"`, `"eb1"` or `"eb2"`: who stays in train and val.
        thresholds: Of the extreme biases, `"30/40"` or `"35/45"`.
        balanced: Whether the test split has as many women as men in each age class, and nothing else.
        val: Share of the identities in val.
        test: Share of the identities kept for the test.

    Raises:
        UsageError: For an unknown bias, other thresholds, or shares that leave nothing to train on.
    """

    name: str
    bias: str = "none"
    thresholds: str = "30/40"
    balanced: bool = True
    val: float = 0.1
    test: float = 0.2

    def __post_init__(self) -> None:
        choose(self.name, "bias", self.bias, BIASES)
        sides(np.zeros(0), self.thresholds)
        split_by_identity([], self.val, self.test, self.name)


def split_faces(faces: pd.DataFrame, protocol: Protocol) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The faces that stay, with their split, and counts of the others.

    No identity is in two splits. The bias is of train and val; the test split shows all ages.

    Args:
        faces: Columns `id`, `identity` (text), `years` (float), `attribute/age`, `attribute/gender` (int64).
        protocol: How to split.

    Returns:
        `faces` with a column `split`, in the same order; and notes.
    """
    split = split_by_identity(faces["identity"].tolist(), protocol.val, protocol.test, protocol.name)
    gender = faces["attribute/gender"].to_numpy(np.int64)
    age = faces["attribute/age"].to_numpy(np.int64)
    tested = split == "test"
    biased = extreme_bias(faces["years"].to_numpy(np.float64), gender, protocol.bias, protocol.thresholds)
    keep = np.where(tested, True, biased)
    spare = 0
    if protocol.balanced:
        rows = np.flatnonzero(tested)
        chosen = equal_genders(age[rows], gender[rows], faces["id"].iloc[rows].tolist(), protocol.name)
        keep[rows] = chosen
        spare = int((~chosen).sum())
    kept = faces.assign(split=split)[keep].reset_index(drop=True)
    notes: dict[str, Any] = {
        "left out by the bias": int((~biased & ~tested).sum()),
        "left out to balance the test split": spare,
    }
    for name in SPLITS:
        part = kept[kept["split"] == name]
        notes[name] = {"rows": len(part), "identities": int(part["identity"].nunique()), **_genders(part)}
    seen = set(kept.loc[kept["split"] == "test", "attribute/age"])
    notes["age classes without a test row"] = [n for k, n in enumerate(AGE_CLASSES) if k not in seen]
    return kept, notes


def _genders(part: pd.DataFrame) -> dict[str, int]:
    codes = part["attribute/gender"].to_numpy()
    return {group: int((codes == k).sum()) for k, group in enumerate(GENDERS)}
