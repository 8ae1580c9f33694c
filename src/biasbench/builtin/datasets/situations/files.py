"""Which files make up an imSitu folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from biasbench import SPLITS, DataError, Split, UsageError, printable

SPLIT_NAMES: dict[Split, tuple[str, ...]] = {"train": ("train",), "val": ("val", "dev"), "test": ("test",)}
JSON_NAMES: dict[Split, str] = {"train": "train.json", "val": "dev.json", "test": "test.json"}
SPACE = "imsitu_space.json"
GROUNDED = "SWiG_jsons"
LIST_KINDS = ("npz", "parquet", "csv")
LABEL_NAMES = ("imsitu_labels.json", "labels.json")
IMAGE_FOLDERS = ("of500_images_resized", "resized_256", "images_512", "of500_images")


@dataclass(frozen=True)
class Annotations:
    """The official JSON files of one folder.

    Attributes:
        parts: By split.
        space: `imsitu_space.json`.
    """

    parts: dict[Split, Path]
    space: Path

    def files(self) -> list[Path]:
        """Every file, in a fixed order."""
        return [*(self.parts[s] for s in SPLITS), self.space]


@dataclass(frozen=True)
class Sources:
    """What a folder has.

    Attributes:
        lists: Prepared lists by split; empty: labels come from `annotations`.
        labels: Names of the verbs in the order of their codes, for prepared lists.
        annotations: The files that give labels, if no list does.
        grounded: The files that may give boxes.
    """

    lists: dict[Split, Path] = field(default_factory=dict)
    labels: Path | None = None
    annotations: Annotations | None = None
    grounded: Annotations | None = None


def looks_like_imsitu(folder: Path) -> bool:
    """Whether a folder has prepared lists, or the official annotations.

    Names as common as `train.csv` count only where all three splits are there.
    """
    own = any(_list_files(folder, split, ("imsitu_",)) for split in SPLITS)
    plain = all(_list_files(folder, split) for split in SPLITS)
    official = (folder / SPACE).exists() or (folder / GROUNDED).is_dir()
    return own or plain or official or all((folder / name).exists() for name in JSON_NAMES.values())


def find_sources(root: Path, obtain: Sequence[str] = ()) -> Sources:
    """The files of a folder; prepared lists win over official annotations where both are there.

    Raises:
        DataError: Naming what is missing, or what stands twice.
    """
    try:
        grounded = _annotations(root / GROUNDED, root, obtain) if (root / GROUNDED).is_dir() else None
        if _list_files(root, "train"):
            labels = next((root / name for name in LABEL_NAMES if (root / name).exists()), None)
            return Sources({s: _list_file(root, s) for s in SPLITS}, labels, None, grounded)
        if grounded is not None and not (root / JSON_NAMES["train"]).exists():
            return Sources(annotations=grounded, grounded=grounded)
        annotations = _annotations(root, root / GROUNDED, obtain)
        return Sources(annotations=annotations, grounded=grounded or annotations)
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror}", where=printable(root), fix="Check that you may read the folder"
        ) from error


def _annotations(folder: Path, other: Path, obtain: Sequence[str]) -> Annotations:
    """The official files of `folder`; the one file that both releases share may lie in `other`."""
    parts = {split: folder / name for split, name in JSON_NAMES.items()}
    space = next((f / SPACE for f in (folder, other) if (f / SPACE).exists()), folder / SPACE)
    missing = [path.name for path in (*parts.values(), space) if not path.exists()]
    if missing:
        how = "; ".join(obtain) or "Use the folder of the release"
        raise DataError(f"missing: {', '.join(missing)}", where=printable(folder), fix=how)
    return Annotations(parts, space)


def _list_files(folder: Path, split: Split, prefixes: Sequence[str] = ("imsitu_", "")) -> list[Path]:
    names = [f"{p}{name}.{kind}" for p in prefixes for name in SPLIT_NAMES[split] for kind in LIST_KINDS]
    return [folder / name for name in names if (folder / name).exists()]


def _list_file(folder: Path, split: Split) -> Path:
    found = _list_files(folder, split)
    if not found:
        wanted = " or ".join(f"{name}.{{{','.join(LIST_KINDS)}}}" for name in SPLIT_NAMES[split])
        raise DataError(
            f"there is a list for train and none for {split}",
            where=printable(folder),
            fix=f"Add {wanted}, with or without imsitu_ before it",
        )
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise DataError(f"two lists for {split}: {names}", where=printable(folder), fix="Keep one of them")
    return found[0]


def image_folder(root: Path, wanted: str) -> str:
    """The folder of the images, relative to `root`: `wanted`, else the first official one that is there.

    Raises:
        UsageError: When `wanted` leaves `root`.

    Example:
        >>> image_folder(Path("/nowhere"), ""), image_folder(Path("/nowhere"), "pictures/small")
        ('of500_images_resized', 'pictures/small')
    """
    if not wanted:
        return next((name for name in IMAGE_FOLDERS if (root / name).is_dir()), IMAGE_FOLDERS[0])
    pure, windows = PurePosixPath(wanted), PureWindowsPath(wanted)
    if pure.is_absolute() or windows.drive or windows.root or ".." in (*pure.parts, *windows.parts):
        raise UsageError(f"imsitu: images={printable(wanted)!r} leaves the data set's folder", fix="Use a folder in it")
    return pure.as_posix()
