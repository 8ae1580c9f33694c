"""Which entries of IMDB-WIKI become faces: defects, the identity-balanced subset, and the rules of cleaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasbench import DataError, did_you_mean, printable
from biasbench.builtin.datasets.coco_check import refuse
from biasbench.builtin.datasets.face_ages import age_classes, possible
from biasbench.builtin.datasets.face_balance import MAN, WOMAN, identity_balanced
from biasbench.builtin.datasets.face_csv import read_csv

RULES = {
    "score": "the detector found a face with a score of at least min_score, and no second one",
    "predictions": "predicted gender agrees, predicted age is at most 10 years away (Alvi et al. 2018)",
    "none": "no cleaning",
}
MOST_YEARS = 10  # between predicted and told age
_WORDS = {"man": MAN, "male": MAN, "m": MAN, "woman": WOMAN, "female": WOMAN, "f": WOMAN}


def defects(metadata: pd.DataFrame) -> dict[str, int]:
    """Entries with each known defect; an entry may have several.

    Args:
        metadata: As of `open_metadata`.

    Example:
        >>> row = {"path": "a.jpg", "identity": "1", "years": -4.0, "gender": -1, "score": -np.inf, "second": np.nan}
        >>> defects(pd.DataFrame([row]))["impossible age"]
        1
    """
    years = metadata["years"].to_numpy(np.float64)
    score = metadata["score"].to_numpy(np.float64)
    return {
        "no date": int(np.isnan(years).sum()),
        "impossible age": int((~np.isnan(years) & ~possible(years)).sum()),
        "gender unknown": int((metadata["gender"] < 0).sum()),
        "no face found": int(np.isneginf(score).sum()),
        "a second face": int(metadata["second"].notna().sum()),
        "listed twice": int(metadata["path"].duplicated().sum()),
    }


def select(
    metadata: pd.DataFrame, rule: str, min_score: float, subset: int, predictions: Path | None, stream: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The entries that stay, and how many each step drops, in this order.

    Entries without a usable age or gender go first, whatever the rule. The identity-balanced subset is drawn
    before cleaning, as in the paper.

    Args:
        metadata: As of `open_metadata`.
        rule: One of `RULES`.
        min_score: Of rule `"score"`.
        subset: Size of the identity-balanced subset; 0 takes all.
        predictions: File of rule `"predictions"`.
        stream: Name of the draws.

    Returns:
        Columns `id, path, identity, years, attribute/age, attribute/gender`; and notes.

    Raises:
        DataError: When the file of predictions is missing, damaged or of other images.
    """
    dropped: dict[str, Any] = {"entries": len(metadata)}

    def drop(rows: pd.DataFrame, reason: str, keep: NDArray[np.bool_]) -> pd.DataFrame:
        dropped[reason] = int((~keep).sum())
        return rows[keep]

    rows = drop(metadata, "no possible age", possible(metadata["years"].to_numpy(np.float64)))
    rows = drop(rows, "gender unknown", (rows["gender"] >= 0).to_numpy())
    rows = drop(rows, "listed twice", ~rows["path"].duplicated().to_numpy())
    if subset:
        chosen = identity_balanced(rows["identity"].tolist(), rows["path"].tolist(), subset, stream)
        rows = drop(rows, "not in the identity-balanced subset", chosen)
    if rule == "score":
        score = rows["score"].to_numpy(np.float64)
        rows = drop(rows, "no face, or a score below min_score", score >= min_score)
        rows = drop(rows, "a second face", rows["second"].isna().to_numpy())
    elif predictions is not None:
        told = read_predictions(predictions, set(metadata["path"]))
        dropped["predictions for other files"] = told.attrs["others"]
        told = told.reindex(rows["path"])
        rows = drop(rows, "no prediction", told["gender"].notna().to_numpy())
        told = told.loc[rows["path"]]
        agree = told["gender"].to_numpy() == rows["gender"].to_numpy()
        rows = drop(rows, "gender predicted otherwise", agree)
        far = np.abs(told["age"].to_numpy(np.float64)[agree] - rows["years"].to_numpy(np.float64))
        rows = drop(rows, f"age predicted more than {MOST_YEARS} years away", far <= MOST_YEARS)
    dropped["kept"] = len(rows)
    faces = pd.DataFrame({"id": rows["path"], "path": rows["path"], "identity": rows["identity"]})
    faces["years"] = rows["years"]
    faces["attribute/age"] = age_classes(rows["years"].to_numpy())
    faces["attribute/gender"] = rows["gender"].astype(np.int64)
    return faces.reset_index(drop=True), dropped


def read_predictions(path: Path, known: set[str]) -> pd.DataFrame:
    """Another model's gender and age for each image: CSV with the columns `file`, `gender`, `age`.

    Args:
        path: The file. `file` is the `full_path` of the metadata, `gender` is man or woman (male or female,
            m or f, in any case), `age` a number of years.
        known: Paths of the metadata.

    Returns:
        By file: `gender` (code) and `age` (float64). `attrs["others"]` counts files that are not known.

    Raises:
        DataError: Naming line and value of what is not as it must be, or when no file is known.
    """
    columns = read_csv(path, ("file", "gender", "age"))
    files, genders, years = (columns.values[c] for c in ("file", "gender", "age"))
    words = [word.strip().lower() for word in genders]
    columns.refuse([i for i, w in enumerate(words) if w not in _WORDS], "", "gender", "Use man or woman")
    numbers = [_number(text) for text in years]
    columns.refuse([i for i, n in enumerate(numbers) if not 0 <= n <= 150], "", "age", "Use years from 0 to 150")
    seen: dict[str, int] = {}
    twice = [i for i, file in enumerate(files) if seen.setdefault(file, i) != i]
    columns.refuse(twice, ", which stands twice", "file", "Give one prediction for each image")
    others = sum(file not in known for file in files)
    if others == len(files):
        nearest = did_you_mean(files[0], sorted(known)[:1000])
        refuse([f"no file is one of the metadata, such as {printable(files[0])!r}"], path, nearest or "Use full_path")
    told = pd.DataFrame({"gender": [_WORDS[w] for w in words], "age": numbers}, index=pd.Index(files))
    told.attrs["others"] = others
    return told


def _number(text: str) -> float:
    try:
        return float(text) if text.strip().isascii() and "_" not in text else np.nan
    except ValueError:
        return np.nan


def find_mat(root: Path, name: str) -> Path:
    """`name.mat` in the folder, or in one of those that the release unpacks to.

    Raises:
        DataError: When it is in none.
    """
    places = [root / f"{name}.mat", root / f"{name}_crop" / f"{name}.mat", root / name / f"{name}.mat"]
    for path in places:
        if path.exists():
            return path
    raise DataError(
        f"there is no {name}.mat, nor in {name}_crop or {name}", where=printable(root), fix="Unpack the release there"
    )
