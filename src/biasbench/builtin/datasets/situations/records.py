"""Reading the official JSON files: typed and strict, with the image named when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from biasbench import DataError, printable
from biasbench.builtin.datasets.coco_check import plain_name, refuse
from biasbench.builtin.datasets.coco_json import BOM, Side, decode, read_file

AS_RELEASED = "Use the file as it was released"


class Frame(msgspec.Struct, gc=False):
    """One annotator's answer; a noun id, or nothing, for the one role that is read."""

    agent: str | None = None


class Boxes(msgspec.Struct, gc=False):
    """Left, top, right and bottom in pixels of what has a role; a -1 says that it has no box."""

    agent: tuple[float, float, float, float] | None = None


class Record(msgspec.Struct, gc=False):
    """One image; the last three are in the grounded release (SWiG) only."""

    verb: str
    frames: list[Frame]
    bb: Boxes | None = None
    width: Side | None = None
    height: Side | None = None


class Noun(msgspec.Struct, gc=False):
    """A WordNet synset."""

    gloss: list[str]


class Verb(msgspec.Struct, gc=False):
    """An activity with its roles."""

    roles: dict[str, msgspec.Raw]


class Space(msgspec.Struct, gc=False):
    """Content of `imsitu_space.json`."""

    nouns: dict[str, Noun]
    verbs: dict[str, Verb]


def read_space(path: Path) -> Space:
    """The nouns and verbs.

    Raises:
        DataError: When the file is missing or damaged, or has no verbs or no nouns.
    """
    space = decode(read_file(path), Space, path)
    if not space.nouns or not space.verbs:
        raise DataError("there are no nouns or no verbs", where=printable(path), fix=AS_RELEASED)
    return space


def read_records(path: Path, space: Space) -> dict[str, Record]:
    """The images of one file by name.

    Args:
        path: `train.json`, `dev.json` or `test.json`, as of imSitu or of SWiG.
        space: Gives the verbs and nouns that may occur.

    Raises:
        DataError: Naming the image that is damaged, stands twice, or has a verb or an agent that `space`
            does not have.
    """
    content = read_file(path)
    raw = decode(content, dict[str, msgspec.Raw], path)
    if content.count(b'"frames"') > len(raw):
        _refuse_repeated(content, path)
    decoder = msgspec.json.Decoder(Record)
    records = {}
    for name, text in raw.items():
        try:
            records[name] = decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            refuse([f"image {printable(name)!r}: {printable(error)}"], path)
    _check(records, space, path)
    return records


def _refuse_repeated(content: bytes, path: Path) -> None:
    """Name an image that stands twice: a JSON reader would keep only one of its records."""
    outermost: list[str] = []

    def remember(pairs: list[tuple[str, Any]]) -> None:
        outermost[:] = [name for name, _ in pairs]  # objects end from the inside out: the last is the file's own

    json.loads(content.removeprefix(BOM), object_pairs_hook=remember)
    seen: set[str] = set()
    twice = [name for name in outermost if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    refuse([f"image {printable(name)!r} stands twice" for name in twice], path)


def _check(records: dict[str, Record], space: Space, path: Path) -> None:
    refuse(
        [f"image {printable(name)!r} has no plain file name" for name in records if not plain_name(name)],
        path,
        "A file name must be a plain name, without folders",
    )
    offences = []
    for name, record in records.items():
        image = f"image {printable(name)!r}"
        if record.verb not in space.verbs:
            offences.append(f"{image} has the verb {printable(record.verb)!r}, which is not in imsitu_space.json")
        elif not record.frames:
            offences.append(f"{image} has no frame")
        elif strange := [f.agent for f in record.frames if f.agent and f.agent not in space.nouns]:
            offences.append(f"{image} has the agent {printable(strange[0])!r}, which is not in imsitu_space.json")
        elif record.bb is not None and (record.width is None or record.height is None):
            offences.append(f"{image} has boxes, but not its width and height")
    refuse(offences, path)
