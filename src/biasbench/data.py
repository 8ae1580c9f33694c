"""Data sets: labels are a table, pixels are lazy.

A `Dataset` hands out one table per split. Counts, resampling and dataset leakage read the
table alone; the harness opens the images it names only when a model needs them.

The columns of a table:

| column | dtype | meaning |
|---|---|---|
| `id` | str | stable identity of the example, unique over all splits |
| `path` | str | image file, POSIX, relative to `Dataset.root` |
| `label/<name>` | uint8 | multi-label: 1 = present (one column per label) |
| `label` | int64 | multi-class: the class, 0..K-1 |
| `attribute/<name>` | int64 | protected attribute, 0..G-1; -1 = unknown |
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from biasbench.errors import DataError, did_you_mean, printable

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

Task = Literal["multilabel", "multiclass"]
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
IntArray = NDArray[np.int64]
Progress = Callable[[int, int], None]
LARGEST = 1e15
"""Of numbers that a model computes. The squares of larger ones, summed over a million rows, leave float32: attackers
then learn from inf, and a leak that is there is not found."""


@dataclass(frozen=True)
class Batch:
    """What a model sees of some examples.

    Attributes:
        images: [B, 3, H, W] float32 RGB in [0, 1]; the backbone normalises, nobody else.
            In training from cached activations it has no pixels: [B, 3, 0, 0].
        targets: [B, K] float32 in {0, 1} (multi-label) or [B] int64 (multi-class); None
            where labels are withheld (test) or unknown (secondary data).
        attributes: Protected attributes by name, [B] int64 in 0..G-1, -1 = unknown; empty
            in evaluation.
        masks: Region name to [B, 1, H, W] float32 in {0, 1}, cropped and flipped with the
            image; only regions that a method lists in `Method.masks`.
        index: [B] int64, row of the split's table.
    """

    images: Tensor
    targets: Tensor | None
    attributes: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    index: Tensor


@dataclass(frozen=True)
class Outputs:
    """What a trained model says about one split, before targets and attributes are joined.

    Attributes:
        scores: Raw logits by head output, each [N, ...] float32; `"label"` is [N, K].
        labels: Decoded labels: [N, K] uint8 (multi-label) or [N] int64 (multi-class).
        ids: N example ids, in the order of the rows.
        embeddings: [N, D] float32 by data set; empty unless the recipe keeps them.
    """

    scores: Mapping[str, NDArray[np.float32]]
    labels: NDArray[Any]
    ids: Sequence[str]
    embeddings: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True)
class Predictions:
    """One split's outputs joined with its truth: all that metrics ever see of a model.

    Attributes:
        scores: As in `Outputs`.
        labels: As in `Outputs`.
        targets: [N, K] uint8 (multi-label) or [N] int64 (multi-class).
        attributes: Protected attributes by name, [N] int64, -1 = unknown.
        ids: N example ids.
        views: Further outputs of the same rows under augmented views (training split
            only): `views[r]["label"]` is [N, K]. The published attackers see a fresh
            random crop each round.
        embeddings: As in `Outputs`.

    Raises:
        DataError: When the arrays disagree on N, or a score is not finite: a model that
            says NaN would look perfectly fair.

    Example:
        >>> p = Predictions({"label": np.zeros((2, 3), np.float32)}, np.zeros((2, 3), np.uint8),
        ...                 np.ones((2, 3), np.uint8), {"gender": np.array([0, 1])}, ["a", "b"])
        >>> len(p)
        2
    """

    scores: Mapping[str, NDArray[np.float32]]
    labels: NDArray[Any]
    targets: NDArray[Any]
    attributes: Mapping[str, IntArray]
    ids: Sequence[str]
    views: Sequence[Mapping[str, NDArray[np.float32]]] = ()
    embeddings: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.ids)
        sized: dict[str, NDArray[Any]] = {"labels": self.labels, "targets": self.targets}
        groups: tuple[Mapping[str, NDArray[Any]], ...] = (self.scores, self.attributes, self.embeddings, *self.views)
        for group in groups:
            sized.update(group)
        for name, array in sized.items():
            if len(array) != n:
                raise DataError(f"{name!r} has {len(array)} rows, the split has {n}")
        for scores in (self.scores, self.embeddings, *self.views):
            for name, array in scores.items():
                if not np.isfinite(array).all():
                    bad = int((~np.isfinite(array)).any(axis=tuple(range(1, array.ndim))).argmax())
                    raise DataError(f"score {name!r} of example {self.ids[bad]!r} is not finite")

    def __len__(self) -> int:
        return len(self.ids)

    def training_scores(self, round_: int, name: str = "label") -> NDArray[np.float32]:
        """[N, ...] scores that the attacker of a round trains on: its view, else the plain ones."""
        if not self.views:
            return self.scores[name]
        return self.views[round_ % len(self.views)][name]


class Dataset(ABC):
    """Labelled images with protected attributes.

    Subclass it, set the class attributes, and give `table`. Options are annotated keyword
    arguments of `__init__` after `root` and `cache`, each with a literal default:

        class Faces(Dataset):
            name = "faces"
            def __init__(self, root: Path, cache: Path, *, aligned: bool = True) -> None:
                super().__init__(root, cache)

    Attributes:
        name: What the user types.
        task: `"multilabel"` or `"multiclass"`.
        primary_attribute: What methods and metrics protect when not told otherwise.
        default_backbone: Used when the user names none.
        crop: Side of the square crop that models see, pixels.
        short_side: Short side that images are resized to before cropping, pixels.
        obtain: Commands or sentences that tell how to get the data, one a line.
    """

    name: ClassVar[str]
    task: ClassVar[Task] = "multilabel"
    primary_attribute: str = "gender"
    default_backbone: ClassVar[str] = "resnet50"
    crop: ClassVar[int] = 224
    short_side: ClassVar[int] = 256
    obtain: ClassVar[tuple[str, ...]] = ()

    def __init__(self, root: Path, cache: Path) -> None:
        self.root, self.cache = Path(root), Path(cache)

    # -- where it is -------------------------------------------------------------------
    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Whether `folder` looks like this data set; decides between ROOT/<name> and ROOT."""
        return folder.is_dir()

    @classmethod
    def home(cls, cache: Path, options: Mapping[str, Any]) -> Path | None:  # noqa: ARG003
        """Where the data set makes itself on the user's machine, or None if it must be obtained."""
        return None

    def prepare(self, progress: Progress | None = None) -> None:  # noqa: B027
        """Generate files or build the index. Idempotent; called before the first `table`."""

    # -- what it says ------------------------------------------------------------------
    @property
    @abstractmethod
    def label_names(self) -> tuple[str, ...]:
        """The K labels, in the order of the model's logits."""

    @property
    @abstractmethod
    def attribute_names(self) -> Mapping[str, tuple[str, ...]]:
        """Each protected attribute's group names, in the order of their codes."""

    @property
    def provides(self) -> frozenset[str]:
        """Features of this instance that methods may require, such as `"masks:person"`."""
        return frozenset()

    @abstractmethod
    def table(self, split: Split) -> pd.DataFrame:
        """The split's table (see the module's text for columns), index 0..N-1; opens no image."""

    def region(self, split: Split, name: str) -> pd.DataFrame:
        """Geometry of a named region at the image's native size.

        Either boxes, with columns `id, x0, y0, x1, y1` (float pixels, any number of rows
        per image, right and lower edge exclusive), or masks, with columns
        `id, height, width, counts` (one row per image, COCO's compressed RLE as bytes).
        An image without rows has an empty region.
        """
        raise DataError(f"{self.name} has no region {name!r}")

    def notes(self) -> Mapping[str, Any]:
        """Facts worth printing about the data: counts of what was dropped and why, oracle values."""
        return {}

    def fingerprint(self) -> str:
        """SHA-256 over names, tables, regions and image file sizes: the content, wherever it lies."""
        digest = hashlib.sha256()
        digest.update(repr((self.task, self.label_names, sorted(self.attribute_names.items()))).encode())
        regions = sorted(f.removeprefix("masks:") for f in self.provides if f.startswith("masks:"))
        for split in SPLITS:
            digest.update(table_digest(self.table(split), self.root).encode())
            for name in regions:
                digest.update(f"{name}:{table_digest(self.region(split, name))}".encode())
        return digest.hexdigest()


# -- reading tables ------------------------------------------------------------------------
def targets(table: pd.DataFrame) -> NDArray[Any]:
    """[N, K] uint8 (multi-label) or [N] int64 (multi-class) labels of a table.

    Example:
        >>> import pandas as pd
        >>> targets(pd.DataFrame({"id": ["a"], "label/dog": [1], "label/cat": [0]}))
        array([[1, 0]], dtype=uint8)
    """
    if "label" in table:
        return table["label"].to_numpy(np.int64)
    columns = [c for c in table if str(c).startswith("label/")]
    return table[columns].to_numpy(np.uint8)


def attribute(table: pd.DataFrame, name: str) -> IntArray:
    """[N] int64 codes of a protected attribute; `a*b` is the intersection of two.

    Plans derive a column for every intersection they use. Without one, the number of
    groups of each factor is taken as the largest code seen plus one; -1 in either factor
    is -1.

    Raises:
        DataError: When the table has no such attribute.

    Example:
        >>> import pandas as pd
        >>> attribute(pd.DataFrame({"attribute/gender": [0, 1, -1]}), "gender")
        array([ 0,  1, -1])
    """
    parts = name.split("*") if f"attribute/{name}" not in table else [name]
    codes = _codes(table, parts[0])
    for part in parts[1:]:
        other = _codes(table, part)
        known = (codes >= 0) & (other >= 0)
        codes = np.where(known, codes * (int(other.max(initial=0)) + 1) + other, -1)
    return codes


def _codes(table: pd.DataFrame, name: str) -> IntArray:
    if f"attribute/{name}" not in table:
        known = attributes_of(table)
        raise DataError(
            f"no protected attribute {name!r} here",
            fix=f"{did_you_mean(name, known)} Known: {', '.join(known) or 'none'}".strip(),
        )
    return table[f"attribute/{name}"].to_numpy(np.int64)


def attributes_of(table: pd.DataFrame) -> tuple[str, ...]:
    """Names of the protected attributes in a table."""
    return tuple(str(c).removeprefix("attribute/") for c in table if str(c).startswith("attribute/"))


def withhold(table: pd.DataFrame) -> pd.DataFrame:
    """The table without labels and attributes: all that a model may know of the test split."""
    return table[[c for c in table if str(c) in ("id", "path")]]


def table_digest(table: pd.DataFrame, root: Path | None = None) -> str:
    """SHA-256 of a table's content; with `root`, of its image files' sizes too.

    Rows are hashed in order, columns by name, so that a table read back from any format
    has the same digest.
    """
    digest = hashlib.sha256()
    for column in sorted(str(c) for c in table):
        values = table[column].to_numpy()
        digest.update(f"{len(column)}:{column}:{len(values)}:".encode(errors="surrogatepass"))
        if values.dtype.kind in "iub":
            digest.update(values.astype(np.int64).tobytes())
        elif values.dtype.kind == "f":
            digest.update(values.astype(np.float64).tobytes())
        else:
            texts = [v.hex() if isinstance(v, bytes) else str(v) for v in values]
            digest.update("".join(f"{len(t)}:{t}" for t in texts).encode(errors="surrogatepass"))
    if root is not None and "path" in table:
        sizes = [_size(root / p) for p in table["path"]]
        digest.update(np.asarray(sizes, np.int64).tobytes())
    return digest.hexdigest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1  # a missing image is reported where pixels are read


def check_table(table: pd.DataFrame, dataset: Dataset, split: str) -> None:
    """Refuse a table that breaks the contract, before anything is trained on it.

    Raises:
        DataError: Naming the data set, split and column.
    """
    where = f"{dataset.name}, split {split}"
    for column in ("id", "path"):
        if column not in table:
            raise DataError(f"the table has no column {column!r}", where=where)
    if table["id"].duplicated().any():
        twice = table["id"][table["id"].duplicated()].iloc[0]
        raise DataError(f"id {printable(twice)!r} stands twice", where=where)
    if not (table.index == np.arange(len(table))).all():
        raise DataError("the table's index is not 0..N-1", where=where)
    for column in map(str, table):
        coded = column == "label" or column.startswith(("label/", "attribute/"))
        if coded and table[column].dtype.kind not in "iub":  # NaN and 0.5 would silently become 0
            raise DataError(f"column {printable(column)!r} holds {table[column].dtype}, not integers", where=where)
        if column.startswith("label/") and not table[column].isin((0, 1)).all():
            raise DataError(f"column {printable(column)!r} holds other values than 0 and 1", where=where)
    y = targets(table)
    k = len(dataset.label_names)
    if dataset.task == "multilabel" and (y.ndim != 2 or y.shape[1] != k or (y > 1).any()):
        raise DataError(f"expected {k} label columns of 0 and 1, found {y.shape[1:]}", where=where)
    if dataset.task == "multiclass" and (y.ndim != 1 or (len(y) and not 0 <= y.min() <= y.max() < k)):
        raise DataError(f"expected a column 'label' in 0..{k - 1}", where=where)
    for name, groups in dataset.attribute_names.items():
        codes = attribute(table, name)
        if len(codes) and not -1 <= codes.min() <= codes.max() < len(groups):
            raise DataError(f"attribute {name!r} is outside -1..{len(groups) - 1}", where=where)
