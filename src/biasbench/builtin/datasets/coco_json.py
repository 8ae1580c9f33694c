"""Reading COCO's JSON files: typed, strict, and lean enough for the full release.

A segment stays raw text until someone needs it, so that the 600,000 annotations of train2014
cost a few hundred megabytes and not several gigabytes of Python objects.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec

from biasbench import DataError, printable

Id = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Side = Annotated[int, msgspec.Meta(ge=1, le=65_500)]  # the longest side that JPEG can hold
T = TypeVar("T")
_PICKLES = (b"\x80", b"(dp", b"(lp")  # how pickles of a dict or a list start
BOM = b"\xef\xbb\xbf"


class Image(msgspec.Struct, gc=False):
    """An image's record; what else the release says about it is skipped."""

    id: Id
    file_name: str
    height: Side
    width: Side


class Category(msgspec.Struct, gc=False):
    """An object category."""

    id: Id
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Annotation(msgspec.Struct, gc=False):
    """One object in one image; `bbox` is left, top, width, height in pixels."""

    id: Id
    image_id: Id
    category_id: Id
    bbox: tuple[float, float, float, float]
    segmentation: msgspec.Raw
    iscrowd: Annotated[int, msgspec.Meta(ge=0, le=1)]


class Instances(msgspec.Struct, gc=False):
    """Content of `instances_*.json`."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]


class Caption(msgspec.Struct, gc=False):
    """One caption of one image."""

    id: Id
    image_id: Id
    caption: str


class Captions(msgspec.Struct, gc=False):
    """Content of `captions_*.json`."""

    annotations: list[Caption]


def read_file(path: Path) -> bytes:
    """The content of a regular file.

    Raises:
        DataError: When it is missing, no regular file, not readable or empty.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError("not a regular file", where=printable(path), fix="Put the file of the release there")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror}",
            where=printable(path),
            fix="Check that it is there and that you may read it",
        ) from error
    if not content:
        raise DataError("the file is empty", where=printable(path), fix="Download it again")
    return content


def decode(content: bytes, kind: type[T], path: Path) -> T:
    """Decode JSON into a type, or say in one line what is wrong and where.

    Args:
        content: UTF-8 text of a JSON file, with or without a byte-order mark.
        kind: A msgspec type.
        path: Named in errors.

    Raises:
        DataError: For text that is cut or no JSON, and for values of another shape.

    Example:
        >>> decode(b'{"annotations": [{"id": 1, "image_id": 7, "caption": "A dog."}]}', Captions, Path("c.json"))
        Captions(annotations=[Caption(id=1, image_id=7, caption='A dog.')])
    """
    text = memoryview(content)[len(BOM) :] if content.startswith(BOM) else memoryview(content)
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        _wrong_shape(error, content, kind, path)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        why = f"not valid JSON: {printable(error)}"
        if "truncated" in str(error):
            why = "the JSON ends too early: the file is truncated"
        elif content.startswith(_PICKLES):
            why = "not JSON but a Python pickle by its looks, which can hold code and is never read"
        raise DataError(why, where=printable(path), fix="Download it again") from error
    except RecursionError as error:
        raise DataError("the JSON is nested too deeply", where=printable(path), fix="Download it again") from error


def _wrong_shape(error: msgspec.ValidationError, content: bytes, kind: type[Any], path: Path) -> NoReturn:
    captions, categories = b'"caption"' in content, b'"categories"' in content
    if kind is Instances and captions and not categories:
        hint = "This looks like a captions_*.json in place of an instances_*.json"
    elif kind is Captions and categories and not captions:
        hint = "This looks like an instances_*.json in place of a captions_*.json"
    else:
        hint = "Use the file as it was released"
    raise DataError(printable(error), where=printable(path), fix=hint) from error


def refuse_repeated_keys(content: bytes, annotations: int, path: Path) -> None:
    """Raise when an object names its image or category twice: readers would differ in what it means.

    Counting the keys is quick; only a file with more of them than annotations is read again, slowly.

    Raises:
        DataError: Naming the key and the object.
    """
    if all(content.count(f'"{key}"'.encode()) <= annotations for key in ("image_id", "category_id")):
        return

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(
                f"the key {printable(twice)!r} stands twice in the object with id {printable(found.get('id'))}",
                where=printable(path),
                fix="Keep one of them",
            )
        return found

    json.loads(content.removeprefix(BOM), object_pairs_hook=unique)
