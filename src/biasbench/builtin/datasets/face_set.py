"""What the face data sets share: any attribute can be the task, and any other the protected one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

import numpy as np
import pandas as pd

from biasbench import DataError, Dataset, Split, UsageError, did_you_mean, io, printable


class FaceSet(Dataset):
    """Faces with attributes, one of which is the task.

    The attribute that is the task stays among the attributes too: another data set's run may use it. Measured
    against itself it says nothing. `primary_attribute` of an instance is the first of the others.

    Args:
        root: The folder of the images.
        cache: Folder for what is remembered.
        target: The attribute to predict.

    Raises:
        UsageError: For an unknown attribute.
    """

    task: ClassVar[Literal["multilabel", "multiclass"]] = "multiclass"
    default_backbone: ClassVar[str] = "tf_efficientnet_lite0"
    groups: ClassVar[Mapping[str, tuple[str, ...]]]

    def __init__(self, root: Path, cache: Path, target: str) -> None:
        super().__init__(root, cache)
        choose(self.name, "task", target, self.groups)
        self.target = target
        others = [name for name in self.groups if name != target]
        self.primary_attribute = others[0] if others else target
        self._tables: dict[Split, pd.DataFrame] = {}

    @property
    @abstractmethod
    def faces(self) -> pd.DataFrame:
        """All rows: `id`, `path`, `split` (text) and `attribute/NAME` (int64) of each attribute."""

    @property
    def label_names(self) -> tuple[str, ...]:
        return self.groups[self.target]

    @property
    def attribute_names(self) -> Mapping[str, tuple[str, ...]]:
        return dict(self.groups)

    def table(self, split: Split) -> pd.DataFrame:
        if split not in self._tables:
            rows = self.faces
            rows = rows[rows["split"] == split].reset_index(drop=True)
            columns = {"id": rows["id"], "path": rows["path"], "label": rows[f"attribute/{self.target}"]}
            columns |= {f"attribute/{name}": rows[f"attribute/{name}"].astype(np.int64) for name in self.groups}
            self._tables[split] = pd.DataFrame(columns)
        return self._tables[split].copy()


def choose(dataset: str, option: str, value: str, known: Collection[str]) -> None:
    """Refuse a value that an option does not know.

    Raises:
        UsageError: Naming the nearest one that it knows.

    Example:
        >>> choose("imdb", "task", "gendre", ["age", "gender"])
        Traceback (most recent call last):
        biasbench.errors.UsageError: imdb: task='gendre' is unknown. Did you mean 'gender'?
    """
    if value not in known:
        hint = did_you_mean(value, known) or f"Known: {', '.join(known)}"
        raise UsageError(f"{dataset}: {option}={printable(value)!r} is unknown", fix=hint)


def plain_path(name: str) -> bool:
    r"""Whether a path from data is relative, stays below its folder and is written in one way only.

    A colon is allowed behind the first part: IMDB-WIKI has some in its file names.

    Example:
        >>> [plain_path(p) for p in ("01/a.jpg", "../a.jpg", "/a.jpg", "a//b.jpg", "a\\b.jpg", "")]
        [True, False, False, False, False, False]
    """
    parts = name.split("/")
    lost = {"", ".", ".."} & set(parts) or ":" in parts[0] or "\\" in name or "://" in name
    return not lost and name.isprintable() and len(name.encode()) <= 1000


def folder_option(dataset: str, root: Path, wanted: str, usual: Collection[str]) -> str:
    """The folder of the images, relative to `root`: `wanted`, else the first usual one that is there, else `"."`.

    Raises:
        UsageError: When `wanted` leaves `root`.

    Example:
        >>> folder_option("utkface", Path("/nowhere"), "", ["UTKFace"]), folder_option("u", Path("/x"), "a/b", [])
        ('.', 'a/b')
    """
    if not wanted:
        return next((name for name in usual if (root / name).is_dir()), ".")
    if wanted != "." and not plain_path(wanted):
        raise UsageError(
            f"{dataset}: images={printable(wanted)!r} leaves the data set's folder", fix="Use a folder in it"
        )
    return PurePosixPath(wanted).as_posix()


def below(folder: str, name: str) -> str:
    """`folder/name`, where `"."` is no folder.

    Example:
        >>> below(".", "a.jpg"), below("x", "a.jpg")
        ('a.jpg', 'x/a.jpg')
    """
    return name if folder == "." else f"{folder}/{name}"


def own_file(root: Path, name: str, fix: str) -> Path:
    """A file that an option names, below `root`.

    Raises:
        DataError: When the name leaves `root` or nothing is there.
    """
    path = io.safe_join(root, name)
    if not path.is_file():
        raise DataError(f"there is no file {printable(name)!r}", where=printable(root), fix=fix)
    return path
