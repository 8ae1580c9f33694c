"""What a COCO file must not contradict: ids, references, names and segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biasbench import DataError, printable
from biasbench.builtin.datasets import coco_segments
from biasbench.builtin.datasets.coco_json import Annotation, Captions, Category, Image, Instances

MAX_PIXELS = 64_000_000  # as for reading images
_AS_RELEASED = "Use the file as it was released"


@dataclass
class Warnings:
    """Oddities that are counted and let pass."""

    outside_boxes: int = 0
    degenerate: int = 0
    crowd: int = 0


def refuse(offences: Sequence[str], path: Path, fix: str = _AS_RELEASED) -> None:
    """Raise a `DataError` that names the first offence and counts the rest.

    Example:
        >>> refuse([], Path("a.json"))
        >>> refuse(["image 7 stands twice", "image 9 stands twice"], Path("a.json"))
        Traceback (most recent call last):
        biasbench.errors.DataError: a.json: image 7 stands twice (and 1 more like it). Use the file as it was released.
    """
    if offences:
        more = f" (and {len(offences) - 1} more like it)" if len(offences) > 1 else ""
        raise DataError(offences[0] + more, where=printable(path), fix=fix)


def repeated(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Values that stand more than once, in ascending order."""
    values, counts = np.unique(ids, return_counts=True)
    return values[counts > 1]


def int_column(values: Sequence[object], name: str) -> NDArray[np.int64]:
    """[N] int64 of one attribute of each record."""
    return np.fromiter((getattr(v, name) for v in values), np.int64, len(values))


def check_instances(content: Instances, path: Path) -> Warnings:
    """Refuse annotations that contradict themselves; returns what was counted.

    Raises:
        DataError: Naming the first offence of the first kind that is found.
    """
    _check_categories(content.categories, path)
    _check_images(content.images, path)
    images = {image.id: image for image in content.images}
    ids = int_column(content.annotations, "id")
    owners = int_column(content.annotations, "image_id")
    kinds = int_column(content.annotations, "category_id")
    refuse([f"annotation id {i} stands twice" for i in repeated(ids)], path)
    lost = np.flatnonzero(~np.isin(owners, list(images)))
    refuse([f"annotation {ids[r]} is for image {owners[r]}, which is not in this file" for r in lost], path)
    unknown = np.flatnonzero(~np.isin(kinds, [c.id for c in content.categories]))
    refuse([f"annotation {ids[r]} has category id {kinds[r]}, which is not in 'categories'" for r in unknown], path)
    return _check_segments(content.annotations, images, path)


def _check_categories(categories: Sequence[Category], path: Path) -> None:
    refuse([f"category id {i} stands twice" for i in repeated(int_column(categories, "id"))], path)
    names = [c.name for c in categories]
    twice = sorted({n for n in names if names.count(n) > 1})
    refuse([f"two categories have the name {printable(n)!r}" for n in twice], path)
    if "person" not in names:
        refuse(["there is no category 'person'"], path)


def _check_images(images: Sequence[Image], path: Path) -> None:
    refuse([f"image id {i} stands twice" for i in repeated(int_column(images, "id"))], path)
    refuse(
        [f"image {i.id} has the file name {printable(i.file_name)!r}" for i in images if not plain_name(i.file_name)],
        path,
        "A file name must be a plain name, without folders",
    )
    names = [i.file_name for i in images]
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = [n for n in names if n in seen or seen.add(n)]  # type: ignore[func-returns-value]
        refuse([f"two images have the file name {printable(n)!r}" for n in twice], path)
    refuse(
        [f"image {i.id} claims {i.width} by {i.height} pixels" for i in images if i.width * i.height > MAX_PIXELS],
        path,
        f"At most {MAX_PIXELS} pixels",
    )


def plain_name(name: str) -> bool:
    r"""Whether a file name stays in its folder on every system.

    Example:
        >>> plain_name("COCO_val2014_000000000042.jpg"), plain_name("../x.jpg"), plain_name("a\\b.jpg")
        (True, False, False)
    """
    return (
        name not in ("", ".", "..") and name.isprintable() and not set(name) & set("/\\:") and len(name.encode()) <= 255
    )


def _check_segments(annotations: Sequence[Annotation], images: dict[int, Image], path: Path) -> Warnings:
    seen, offences = Warnings(), []
    for a in annotations:
        image = images[a.image_id]
        segment = bytes(a.segmentation)
        if wrong := coco_segments.problem(segment, image.height, image.width):
            offences.append(f"annotation {a.id} of image {a.image_id}: {printable(wrong)}")
            continue
        x, y, w, h = a.bbox
        seen.outside_boxes += (
            w <= 0 or h <= 0 or x < -1 or y < -1 or x + w > image.width + 1 or y + h > image.height + 1
        )
        seen.degenerate += coco_segments.degenerate(segment)
        seen.crowd += a.iscrowd
    refuse(offences, path)
    return seen


def check_captions(content: Captions, image_ids: NDArray[np.int64], path: Path) -> None:
    """Refuse captions of images that the instances file does not have, and repeated caption ids.

    Raises:
        DataError: Naming the first offence.
    """
    ids, owners = int_column(content.annotations, "id"), int_column(content.annotations, "image_id")
    refuse([f"caption id {i} stands twice" for i in repeated(ids)], path)
    lost = np.flatnonzero(~np.isin(owners, image_ids))
    refuse(
        [f"caption {ids[r]} is for image {owners[r]}, which is not in the instances file" for r in lost],
        path,
        "Use the captions and instances of the same release",
    )
