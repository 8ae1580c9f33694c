"""Gender from captions: whole words only, by a list that is part of the data set's identity."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from biasbench import DataError, UsageError, did_you_mean, io, printable

GENDERS = ("man", "woman")
DEFAULT = "man-woman"
_TOKEN = re.compile(r"[^\W\d_]+")  # letters of any script, so that no list word is cut out of a longer word


@dataclass(frozen=True)
class WordList:
    """Words that tell a gender.

    Attributes:
        id: Name of the list.
        version: Of the list's content.
        source: Where the list comes from.
        words: One set of lower-case words for each of `GENDERS`.
    """

    id: str
    version: str
    source: str
    words: tuple[frozenset[str], frozenset[str]]

    def identity(self) -> dict[str, Any]:
        """What decides which caption means what; equal identity, equal labels."""
        return {"id": self.id, "version": self.version, "words": [sorted(group) for group in self.words]}

    def __str__(self) -> str:
        return f"{self.id} (version {self.version}, {io.hash_json(self.identity())[:8]})"


def tokens(caption: str) -> frozenset[str]:
    """The words of a caption, lower-case; a hyphen or an apostrophe ends a word.

    Example:
        >>> sorted(tokens("The man's wet-suit"))
        ['man', 's', 'suit', 'the', 'wet']
    """
    return frozenset(token.lower() for token in _TOKEN.findall(caption))  # lower-casing first can split a word


def mentions(captions: Iterable[str], words: WordList) -> tuple[bool, bool]:
    """Whether any of an image's captions has a word for a man, and one for a woman.

    Example:
        >>> mentions(["Two salesmen.", "A WOMAN on a manhole"], load_words("man-woman"))
        (False, True)
    """
    man = woman = False
    for caption in captions:
        found = tokens(caption)
        man = man or not found.isdisjoint(words.words[0])
        woman = woman or not found.isdisjoint(words.words[1])
    return man, woman


def shipped_lists() -> tuple[str, ...]:
    """Ids of the word lists that come with biasbench."""
    folder = resources.files(__package__).joinpath("words")
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")))


def load_words(name: str, root: Path | None = None) -> WordList:
    """A word list by its id, or from a TOML file.

    A file has `id`, `version` and `source` (strings) and a section `[words]` with two lists, `man`
    and `woman`.

    Args:
        name: An id of `shipped_lists`, or a path that ends in `.toml`.
        root: Folder that a relative path starts from.

    Raises:
        UsageError: For an unknown id.
        DataError: For a file that is missing, damaged or ambiguous.

    Example:
        >>> load_words("adults").words[1] == {"woman", "women"}
        True
    """
    if name.endswith(".toml"):
        path = (root or Path()) / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(
                f"the word list cannot be read: {error.strerror}", where=printable(path), fix="Check option 'words'"
            ) from error
        return _parse(content, printable(path))
    known = shipped_lists()
    if name not in known:
        hint = did_you_mean(name, known) or f"Known: {', '.join(known)}; or the path of a .toml file"
        raise UsageError(f"unknown word list {printable(name)!r}", fix=hint)
    file = resources.files(__package__).joinpath("words", f"{name}.toml")
    return _parse(file.read_bytes(), f"words/{name}.toml")


def _parse(content: bytes, where: str) -> WordList:
    try:
        value = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"not a TOML file: {printable(error)}", where=where, fix="See 'biasbench describe coco'"
        ) from error
    fix = "Give id, version, source and a section [words] with lists man and woman"
    texts = [value.get(key) for key in ("id", "version", "source")]
    section = value.get("words")
    if (
        not all(isinstance(t, str) and t for t in texts)
        or not isinstance(section, dict)
        or set(section) != set(GENDERS)
    ):
        raise DataError("the word list is incomplete", where=where, fix=fix)
    groups = [_group(section[gender], gender, where) for gender in GENDERS]
    if both := groups[0] & groups[1]:
        raise DataError(f"{min(both)!r} stands in both lists", where=where, fix="A word tells one gender")
    return WordList(texts[0], texts[1], texts[2], (groups[0], groups[1]))  # type: ignore[arg-type]


def _group(words: Any, gender: str, where: str) -> frozenset[str]:
    if not isinstance(words, Sequence) or isinstance(words, str) or not words:
        raise DataError(f"words.{gender} is not a list of words", where=where, fix="Write it as a list of strings")
    for word in words:
        if not isinstance(word, str) or word != word.lower() or not _TOKEN.fullmatch(word):
            raise DataError(
                f"words.{gender}: {printable(word)!r} is not one lower-case word", where=where, fix="Letters only"
            )
    return frozenset(words)
