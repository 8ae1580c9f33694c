"""Whose face boxes a plan uses: the file the user named, else the data set's own, else a detector's."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from biasbench.data import SPLITS, Dataset, Split, table_digest
from biasbench.errors import DataError, UsageError, printable
from biasbench.faces import cache
from biasbench.faces.file import read_boxes
from biasbench.faces.yunet import INSTALL, Yunet
from biasbench.grammar import Component, parse

FACE = "face"
MASKS = f"masks:{FACE}"
OPTION = "faces"
TO_GET_FACES = f"{INSTALL} to detect faces, or name a file of boxes: faces='FILE'"


class Faces(ABC):
    """The region `face` of a data set, from elsewhere than its own annotations.

    Attributes:
        kind: `"file"` or `"yunet"`.
    """

    kind: str

    @property
    @abstractmethod
    def identity(self) -> str:
        """All that decides the boxes, beside the data set; hashed into the keys of the runs that use them."""

    @property
    @abstractmethod
    def label(self) -> str:
        """How a row names them."""

    @abstractmethod
    def region(self, split: Split) -> pd.DataFrame:
        """Boxes as of `Dataset.region`; may hold ids of other rows.

        Raises:
            DataError: When they cannot be had.
        """

    @abstractmethod
    def share_without(self) -> float | None:
        """Share of the images in which there is no face; None as long as it is not known."""

    @property
    def flag(self) -> str:
        """What a reader of the row must know."""
        share = self.share_without()
        return self.label if share is None else f"{self.label}, no face in {100 * share:.1f}% of images"


class FaceFile(Faces):
    """Boxes in a file that the user named.

    Args:
        path: The file.
        dataset: The data set that its ids are of.
        tables: The rows in use, by split.
    """

    kind = "file"

    def __init__(self, path: Path, dataset: Dataset, tables: Mapping[Split, pd.DataFrame]) -> None:
        self.path, self.dataset, self.tables = path, dataset, tables

    @cached_property
    def boxes(self) -> pd.DataFrame:
        """All boxes of the file, checked against every example of the data set."""
        whole = pd.concat([self.dataset.table(split)[["id", "path"]] for split in SPLITS])
        images = dict(zip(whole["id"].astype(str), whole["path"].astype(str), strict=True))
        return read_boxes(self.path, images, self.dataset.root)

    @cached_property
    def _digest(self) -> str:
        return table_digest(self.boxes)

    @property
    def identity(self) -> str:
        return f"file {self._digest}"

    @property
    def label(self) -> str:
        return f"faces={printable(self.path.name)}#{self._digest[:8]}"

    def region(self, split: Split) -> pd.DataFrame:
        return self.boxes

    def share_without(self) -> float | None:
        ids = pd.concat([self.tables[split]["id"] for split in SPLITS])
        return float(1 - ids.isin(self.boxes["id"]).mean())


class DetectedFaces(Faces):
    """Boxes that YuNet finds, once for the images of a split's table.

    Args:
        yunet: The detector.
        dataset: Where the images are, and the cache.
        tables: The rows in use, by split.
    """

    kind = "yunet"

    def __init__(self, yunet: Yunet, dataset: Dataset, tables: Mapping[Split, pd.DataFrame]) -> None:
        self.yunet, self.dataset, self.tables = yunet, dataset, tables

    @property
    def identity(self) -> str:
        return self.yunet.identity

    @property
    def label(self) -> str:
        return "faces=yunet"

    @cached_property
    def folders(self) -> dict[Split, Path]:
        """Where each split's boxes are, or will be."""
        places = self.dataset.cache.absolute() / "faces"
        return {s: places / cache.boxes_key(t, self.dataset.root, self.identity) for s, t in self.tables.items()}

    @property
    def found(self) -> bool:
        """Whether every split's boxes are there, undamaged."""
        return all(cache.found_in(folder) is not None for folder in self.folders.values())

    def region(self, split: Split) -> pd.DataFrame:
        folder = self.folders[split]
        if cache.found_in(folder) is None:
            raise DataError(
                "faces were not looked for in these images yet", where=printable(self.dataset.root),
                fix="Run a method that edits faces, such as blackout-face, first",
            )  # fmt: skip
        return pd.read_parquet(cache.boxes_file(folder))

    def share_without(self) -> float | None:
        counts = [cache.found_in(folder) for folder in self.folders.values()]
        known = [c for c in counts if c is not None]
        total = sum(images for images, _ in known)
        return 1 - sum(seen for _, seen in known) / total if total and len(known) == len(counts) else None


def choose_faces(typed: str, dataset: Dataset, tables: Mapping[Split, pd.DataFrame]) -> Faces | None:
    """Where the region `face` comes from, or None: from the data set's annotations, or from nowhere.

    Opens no file of boxes and imports no detector.

    Args:
        typed: The data set as the user wrote it, such as `"coco(faces='boxes.csv')"`; a relative path counts
            from the data set's folder, as those of other options do.
        dataset: The data set.
        tables: The rows in use, by split.

    Raises:
        UsageError: When `faces` is no file name.
    """
    _, named = split_option(parse(typed)[0], type(dataset))
    if named is not None:
        return FaceFile(dataset.root / Path(named).expanduser(), dataset, tables)
    if MASKS in dataset.provides:
        return None
    yunet = Yunet.find()
    return None if yunet is None else DetectedFaces(yunet, dataset, tables)


def without_faces(missing: list[str]) -> str:
    """What to add to the reason why a cell cannot run: how to get faces, if it is these that are missing."""
    return f" ({TO_GET_FACES})" if MASKS in missing else ""


def split_option(component: Component, cls: type[Any]) -> tuple[Component, str | None]:
    """A data set's component without the option `faces`, which every data set has, and the option's value.

    A class that has an option of that name itself keeps it.

    Raises:
        UsageError: When its value is not text.

    Example:
        >>> class Plain:
        ...     def __init__(self, root, cache): ...
        >>> split_option(parse("plain(faces='boxes.csv')")[0], Plain)[1]
        'boxes.csv'
    """
    if OPTION not in component.kwargs or OPTION in inspect.signature(cls.__init__).parameters:
        return component, None
    value = component.kwargs[OPTION]
    if not isinstance(value, str) or not value:
        raise UsageError(
            f"{component.name}: faces must be the name of a file, not {printable(repr(value))}",
            fix="Give a .csv or .parquet file with columns id, x0, y0, x1, y1",
        )
    rest = {name: given for name, given in component.kwargs.items() if name != OPTION}
    return replace(component, kwargs=rest), value
