"""A file of face boxes from anybody's detector or annotators: read strictly, told about in one line.

CSV (`.csv`, UTF-8, with a header) or Parquet (`.parquet`), one row a box, columns `id, x0, y0, x1, y1`;
others are passed over. `id` is the example's id in the data set's table. Coordinates are pixels of the
image file as it is stored (EXIF orientation ignored), right and lower edge exclusive. A box that sticks
out of its image is cut at the edge, as detectors' boxes do at the border; one that lies outside is refused, since
then the boxes are of other pictures or in other units.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasbench import io
from biasbench.errors import DataError, printable
from biasbench.images.decode import read_header

SIDES = ("x0", "y0", "x1", "y1")
_KINDS = (".csv", ".parquet")
_HEADERS = (1 << 16, 4 << 20)  # bytes in which a picture's size is looked for: a few, then as the decoder does
_REPAIR = "Repair the file of boxes"


def read_boxes(path: Path, images: Mapping[str, str], root: Path) -> pd.DataFrame:
    r"""The boxes of a file, checked against the images they belong to.

    Args:
        path: The file.
        images: Path, relative to `root`, of each example's image by the example's id.
        root: Folder of the images.

    Returns:
        Columns `id` (str) and `x0, y0, x1, y1` (float64, cut at the edges of the image), sorted. An image
        that is missing or cannot be read is reported where pixels are read; its boxes are only cut at 0.

    Raises:
        DataError: For a file that cannot be read, a missing column, no box at all, boxes in shares of the
            image, and, naming the row, for an unknown id, a coordinate that is no finite number, a box
            without area or one outside its image.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "faces.csv").write_text("id,x0,y0,x1,y1\n7,-3,2,5,9.5\n")
        >>> read_boxes(folder / "faces.csv", {"7": "7.jpg"}, folder).to_numpy().tolist()
        [['7', 0.0, 2.0, 5.0, 9.5]]
    """
    frame = _read(path)
    missing = [name for name in ("id", *SIDES) if name not in frame]
    if missing:
        raise _bad(path, f"the column {', '.join(missing)} is missing", "The columns are id, x0, y0, x1, y1")
    if not len(frame):
        raise _bad(path, "there is no box in it", "Leave out faces=… to paint nothing")
    ids = _ids(frame, path)
    _refuse(~ids.isin(list(images)).to_numpy(), path, ids, "is no example of the data set")
    boxes = _numbers(frame)  # [N, 4]
    _refuse(~np.isfinite(boxes).all(axis=1), path, ids, "has a coordinate that is no finite number")
    _refuse((boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1]), path, ids, "has a box without area")
    if np.abs(boxes).max() <= 1:
        raise _bad(path, "every coordinate is within -1 and 1", "Coordinates are pixels, not shares of the image")
    known = {id_: _size(root, images[id_]) for id_ in ids.unique()}
    size = np.array([known[id_] for id_ in ids], np.float64)  # [N, 2] width, height; infinite where not known
    low, high = boxes[:, :2], boxes[:, 2:]
    _refuse(((low >= size) | (high <= 0)).any(axis=1), path, ids, "has a box outside its image")
    table = pd.DataFrame(np.clip(boxes, 0, np.tile(size, 2)), columns=list(SIDES))
    table.insert(0, "id", ids.to_numpy())
    return table.sort_values(["id", *SIDES], kind="stable", ignore_index=True)


def _bad(path: Path, what: str, fix: str = _REPAIR) -> DataError:
    return DataError(what, where=printable(path), fix=fix)


def _refuse(wrong: Any, path: Path, ids: pd.Series[str], what: str) -> None:
    """Raise for the first of some wrong rows ([N] bool), saying how many there are."""
    if wrong.any():
        row = int(wrong.argmax())
        more = f" ({int(wrong.sum())} such rows)" if wrong.sum() > 1 else ""
        raise _bad(path, f"row {row + 1}, id {printable(ids.iloc[row])!r}: {what}{more}")


def _read(path: Path) -> pd.DataFrame:
    """The file as it is, CSV cells as text."""
    if path.suffix not in _KINDS:
        raise _bad(path, "is neither .csv nor .parquet", "Give a CSV or Parquet file")
    if not path.is_file():
        raise _bad(path, "no such file of boxes", "A relative path counts from the data set's folder")
    try:
        if path.suffix == ".csv":
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # it would drop cells of rows that are too long
                return pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig")
        return pd.read_parquet(path)
    except OSError as error:
        _damaged(path, error.strerror or "not a Parquet file", error)
    except Exception as error:  # the parsers raise whatever the bytes make them raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        _damaged(path, printable(reason, 120), error)


def _damaged(path: Path, reason: str, error: Exception) -> NoReturn:
    raise _bad(path, f"cannot be read: {reason}") from error


def _ids(frame: pd.DataFrame, path: Path) -> pd.Series[str]:
    """Ids as text; whole numbers are as good as their digits."""
    ids = frame["id"]
    if ids.dtype.kind == "f" or ids.isna().any():
        raise _bad(path, "the column id holds numbers with a fraction or nothing", "Ids are texts or whole numbers")
    return ids.astype(str)


def _numbers(frame: pd.DataFrame) -> NDArray[np.float64]:
    """[N, 4] coordinates; what is no number is NaN."""
    columns = [pd.to_numeric(frame[side], errors="coerce") for side in SIDES]
    return np.stack([column.to_numpy(np.float64, na_value=np.nan) for column in columns], axis=1)


def _size(root: Path, name: str) -> tuple[float, float]:
    """Width and height of an image from its header; infinite when it cannot be read."""
    try:
        path = io.safe_join(root, name)
        for length in _HEADERS:
            with open(path, "rb") as file:
                head = file.read(length)
            try:
                header = read_header(head)
            except ValueError:
                continue
            return header.width, header.height
    except (OSError, DataError):
        pass
    return np.inf, np.inf
