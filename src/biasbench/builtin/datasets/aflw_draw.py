"""Which faces of AFLW are used: yaw in five bins, profiles mirrored, as many rows of every bin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasbench import SPLITS, DataError, Split, UsageError
from biasbench.builtin.datasets.face.law import POSES
from biasbench.builtin.datasets.face_balance import fixed_numbers

FRONTAL = POSES.index("frontal")
SEXES = ("m", "f")  # in the order of the groups man, woman


def yaw_bins(yaw: NDArray[np.float64], near: float, profile: float) -> NDArray[np.int64]:
    """[N] codes of `POSES`. A positive yaw turns the nose to the left of the picture, as in AFLW2000-3D.

    Args:
        yaw: [N] radians.
        near: Degrees of yaw, to either side, below which a face is frontal.
        profile: Degrees from which it is a profile.

    Raises:
        UsageError: Unless 0 < near < profile < 180.

    Source: Alvi et al. 2018, section 3.3, which names the five bins and not their edges.

    Example:
        >>> yaw_bins(np.radians([80.0, 15.0, 14.0, -15.0, -45.0]), 15, 45).tolist()
        [0, 1, 2, 3, 4]
    """
    if not 0 < near < profile < 180:
        raise UsageError(f"aflw: edges must be 0 < near < profile < 180 degrees, not {near!r} and {profile!r}")
    degrees = np.round(np.degrees(yaw), 6)
    side = (np.abs(degrees) >= near).astype(np.int64) + (np.abs(degrees) >= profile)
    return FRONTAL - np.sign(degrees).astype(np.int64) * side


def with_mirrored(faces: pd.DataFrame) -> pd.DataFrame:
    """The faces and, behind them, each that is not frontal once more, mirrored.

    Args:
        faces: Columns `face`, `pose` (codes of `POSES`) and others.

    Returns:
        The same columns and `id` (text) and `mirrored` (bool).

    Source: Alvi et al. 2018, section 3.3.

    Example:
        >>> with_mirrored(pd.DataFrame({"face": [7, 8], "pose": [0, 2]}))[["id", "pose"]].to_numpy().tolist()
        [['7', 0], ['8', 2], ['7-mirrored', 4]]
    """
    turned = faces[faces["pose"] != FRONTAL]
    turned = turned.assign(pose=len(POSES) - 1 - turned["pose"], mirrored=True)
    both = pd.concat([faces.assign(mirrored=False), turned], ignore_index=True)
    both["id"] = both["face"].astype(str) + np.where(both["mirrored"], "-mirrored", "")
    return both


def draw(rows: pd.DataFrame, sizes: Mapping[Split, int]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A class-balanced choice for each split; all faces of a photo, mirrored or not, go to one split.

    Photos are split by fixed numbers, in proportion to the sizes; of each bin the same number of rows is taken: a
    fifth of the split's size, or as many as the rarest bin has.

    Args:
        rows: Columns `id`, `photo`, `pose`.
        sizes: Rows wanted by split.

    Returns:
        The chosen rows with a column `split`, by split and id; and counts.

    Raises:
        DataError: When a bin has no row in a split.

    Source: Alvi et al. 2018, section 3.3: 24,000 for training and 6,000 for the test, class-balanced.
    """
    total = sum(sizes.values())
    photo = fixed_numbers(rows["photo"].tolist(), "aflw", "split")
    test, val = sizes["test"] / total, sizes["val"] / total
    split = np.select([photo < test, photo < test + val], ["test", "val"], "train")
    order = fixed_numbers(rows["id"].tolist(), "aflw", "draw")
    pose = rows["pose"].to_numpy(np.int64)
    parts: list[pd.DataFrame] = []
    notes: dict[str, Any] = {}
    for name in SPLITS:
        cells = [np.flatnonzero((split == name) & (pose == k)) for k in range(len(POSES))]
        least = min(map(len, cells))
        each = min(sizes[name] // len(POSES), least)
        notes[name] = {
            "rows": each * len(POSES),
            "of wanted": sizes[name] // len(POSES) * len(POSES),
            "there are": {pose: len(cell) for pose, cell in zip(POSES, cells, strict=True)},
        }
        if not each:
            empty = ", ".join(p for p, cell in zip(POSES, cells, strict=True) if not len(cell)) or "every bin"
            raise DataError(f"aflw: no face for {empty} in {name}", fix="Use more images, or other edges or sizes")
        chosen = np.concatenate([cell[np.argsort(order[cell], kind="stable")[:each]] for cell in cells])
        parts.append(rows.iloc[np.sort(chosen)].assign(split=name))
    return pd.concat(parts, ignore_index=True), notes
