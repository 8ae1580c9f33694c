"""Cutting faces out of photos, mirrored where asked, into a folder of their own."""

from __future__ import annotations

import io as streams
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd
from PIL import Image

from biasbench import DataError, Progress, io, printable
from biasbench.builtin.datasets.coco_check import MAX_PIXELS

SIDE = 256  # pixels, of the longer side, at most
_QUALITY = 95
_FIRST = 5
Box = tuple[int, int, int, int]


def refuse_missing(root: Path, paths: Sequence[str], fix: str) -> None:
    """Raise when photos are missing.

    Raises:
        DataError: Saying how many, and the first five; or naming a path that leaves `root`.
    """
    names = list(dict.fromkeys(paths))
    missing = [name for name in names if not io.safe_join(root, name).is_file()]
    if missing:
        first = ", ".join(map(printable, missing[:_FIRST]))
        more = ", …" if len(missing) > _FIRST else ""
        what = f"{len(missing)} of {len(names)} photos are missing: {first}{more}"
        raise DataError(what, where=printable(root), fix=fix)


def square(x: float, y: float, w: float, h: float, margin: float) -> Box:
    """The square around a rectangle's centre, of its longer side and `margin` of that on every side.

    Example:
        >>> square(10, 10, 20, 10, 0.25)
        (5, 0, 35, 30)
    """
    side = round(max(w, h) * (1 + 2 * margin))
    left, top = round(x + (w - side) / 2), round(y + (h - side) / 2)
    return left, top, left + side, top + side


def write_crops(folder: Path, root: Path, rows: pd.DataFrame, margin: float, progress: Progress | None = None) -> None:
    """Fill an empty folder with `ID.jpg` for each row; what lies outside of a photo is not there.

    Args:
        folder: Where to.
        root: Folder that the photos' paths start from.
        rows: Columns `id`, `photo`, `x, y, w, h`, `mirrored`.
        margin: As in `square`.
        progress: Called with (rows done, rows).

    Raises:
        DataError: When a photo cannot be read, or a rectangle lies outside of it.
    """
    done = 0
    for photo, group in rows.groupby("photo", sort=True):
        image = _photo(io.safe_join(root, str(photo)))
        for row in group.itertuples(index=False):
            face = cast("Any", row)
            box = _inside(square(face.x, face.y, face.w, face.h, margin), image.size)
            if box is None:
                what = f"the rectangle of face {face.id} lies outside of {printable(photo)!r}"
                raise DataError(what, where=printable(root), fix="Use photos and annotations of one release")
            crop = image.crop(box)
            crop.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            if face.mirrored:
                crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            file = streams.BytesIO()
            crop.save(file, "JPEG", quality=_QUALITY)
            (folder / f"{face.id}.jpg").write_bytes(file.getvalue())  # the folder is set aside; synced as a whole
            done += 1
            if progress is not None:
                progress(done, len(rows))


def _inside(box: Box, size: tuple[int, int]) -> Box | None:
    left, top, right, bottom = max(0, box[0]), max(0, box[1]), min(size[0], box[2]), min(size[1], box[3])
    return (left, top, right, bottom) if left < right and top < bottom else None


def _photo(path: Path) -> Image.Image:
    """The photo as RGB."""
    try:
        with warnings.catch_warnings(), Image.open(path, formats=["JPEG", "PNG"]) as file:
            warnings.simplefilter("ignore")  # of pictures that are large or strangely tagged
            if file.width * file.height > MAX_PIXELS:
                raise ValueError(
                    f"{file.width}x{file.height} pixels, at most {MAX_PIXELS // 1_000_000} million are read"
                )
            return file.convert("RGB")
    except Exception as error:  # decoders of hostile bytes raise anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].split(": '")[0]
        raise DataError(
            f"cannot be used as an image: {printable(reason, 120)}", where=printable(path), fix="Get it again"
        ) from error
