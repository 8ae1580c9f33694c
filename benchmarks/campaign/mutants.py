"""Files of each format that data sets read, changed at random, and a process that reads them one after the other.

`python mutants.py FORMAT FIRST COUNT` prints a line for each: `read`, `refused` in one line that names the file, or
what else became of it. It imports no torch: the promise that starts many of these is in `inputs.py`.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from biasbench import BiasBenchError, DataError, generator

HELPERS = Path(__file__).parents[2] / "tests" / "helpers"
sys.path.insert(0, str(HELPERS))
try:
    import aflw_files
    import coco_files
    import face_files
finally:
    sys.path.remove(str(HELPERS))

READ, REFUSED = "read", "refused"


# -- formats: a true file, and its reader ---------------------------------------------------------
def mat_file(folder: Path) -> Path:
    """`imdb.mat`, uncompressed: a changed byte of a compressed file is found by its checksum."""
    from scipy.io import savemat

    path = folder / "imdb.mat"
    savemat(path, {"imdb": face_files.small_imdb(people=3).fields()}, long_field_names=True)
    return path


def read_mat(path: Path) -> None:
    """As the data set does, in a process of its own."""
    from biasbench.builtin.datasets.imdb_index import open_metadata

    with tempfile.TemporaryDirectory(prefix="biasbench-") as cache:
        open_metadata(path, "imdb", Path(cache))


def read_mat_plainly(path: Path) -> None:
    """As most programs do."""
    from scipy.io import loadmat

    try:
        loadmat(path, variable_names=["imdb"])
    except Exception as error:  # it lets many kinds through
        raise DataError("refused", where=str(path)) from error


def sqlite_file(folder: Path) -> Path:
    """`aflw.sqlite`."""
    path: Path = aflw_files.small_aflw().write(folder, images=False)
    return path


def read_sqlite(path: Path) -> None:
    """Its faces."""
    from biasbench.builtin.datasets.aflw_sqlite import read_faces

    read_faces(path)


def coco_file(folder: Path) -> Path:
    """The instances of a COCO folder, with polygons and run lengths of both kinds."""
    return Path(coco_files.small_coco().write(folder, images=False)) / "annotations" / "instances_train2014.json"


def read_coco(path: Path) -> None:
    """Rows, and the masks of people, which are drawn in a process of their own."""
    from biasbench.builtin.datasets.coco import Coco

    with tempfile.TemporaryDirectory(prefix="biasbench-") as cache:
        coco = Coco(path.parents[1], Path(cache))
        for split in ("train", "val"):
            coco.table(split)
            coco.region(split, "person")


def image_file(folder: Path, kind: str) -> Path:
    """A photograph."""
    path = folder / f"photo.{kind}"
    face_files.draw(folder, [path.name], (40, 30))
    return path


def read_photo(path: Path) -> None:
    """Its pixels."""
    from biasbench.images import read_image

    read_image(path)


FORMATS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], None]]] = {
    "mat": (mat_file, read_mat),
    "sqlite": (sqlite_file, read_sqlite),
    "coco": (coco_file, read_coco),
    "jpeg": (partial(image_file, kind="jpg"), read_photo),
    "png": (partial(image_file, kind="png"), read_photo),
}
NAIVE = {"mat read plainly": (mat_file, read_mat_plainly)}


def mutant(whole: bytes, kind: str, number: int) -> bytes:
    """The file with one to three bytes changed, or one time in eight cut; number 0 is the file as it is.

    In COCO's JSON every second mutant changes digits and letters within segments alone, so that it stays JSON.
    """
    if number == 0:
        return whole
    rng = generator("mutants", kind, number)
    if number % 8 == 0:
        return whole[: int(rng.integers(len(whole)))]
    content = bytearray(whole)
    places = _segments(whole) if kind == "coco" and number % 2 else np.arange(len(whole))
    for place in rng.choice(places, int(rng.integers(1, 4))):
        byte = content[place]
        if kind == "coco" and number % 2:
            content[place] = int(rng.choice(list(b"0123456789"))) if byte in b"0123456789" else byte ^ 1
        else:
            content[place] = int(rng.integers(256))
    return bytes(content)


def _segments(whole: bytes) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Places of letters and digits within segments."""
    found, at = [], whole.find(b'"segmentation"')
    while at >= 0:
        end = whole.find(b"}", at)
        found += [i for i in range(at + 16, end) if chr(whole[i]).isalnum()]
        at = whole.find(b'"segmentation"', end)
    return np.array(found)


# -- the process that reads them ------------------------------------------------------------------
def victim(kind: str, first: int, count: int) -> None:
    """Read mutants, and print a line for each."""
    make, read = {**FORMATS, **NAIVE}[kind]
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="biasbench-") as name:
        folder = Path(name)
        path = make(folder)
        whole = path.read_bytes()
        for number in range(first, first + count):
            path.write_bytes(mutant(whole, kind, number))
            sys.stdout.write(f"{outcome(read, path, folder)}\n")
            sys.stdout.flush()


def outcome(read: Callable[[Path], None], path: Path, folder: Path) -> str:
    """What became of one file."""
    try:
        read(path)
    except BiasBenchError as error:
        text = str(error)
        sound = isinstance(error, DataError) and str(folder) in text and "\n" not in text
        return REFUSED if sound else f"odd: {type(error).__name__}: {text[:200]!r}"
    except Exception as error:
        return f"odd: {type(error).__name__}: {str(error)[:200]!r}"
    return READ


if __name__ == "__main__":
    victim(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
