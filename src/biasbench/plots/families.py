"""Which methods are levels of one method: those whose texts differ in numbers only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from biasbench.grammar import parse

_RATIO = re.compile(r"(.+)-(\d+(?:\.\d+)?)")  # alpha-1.5


class Level(NamedTuple):
    """A method among its like.

    Attributes:
        family: What they have in common; the method's own text where it has no like.
        level: The numbers in which it differs from them; empty where it has no like.
    """

    family: str
    level: str


def levels(methods: Sequence[str]) -> list[Level]:
    """The family of each method and its place there.

    A number that is not written is the default, whatever that is: it makes no family of its own.

    Example:
        >>> [tuple(found) for found in levels(["crf", "alpha-1", "alpha-1.5"])]
        [('crf', ''), ('alpha', '1'), ('alpha', '1.5')]
        >>> levels(["adv(at='conv4', weight=2)", "adv(at='conv4')"])[1]
        Level(family="adv(at='conv4')", level='default')
    """
    taken = [_taken_apart(method) for method in methods]
    found = []
    for method, (family, numbers) in zip(methods, taken, strict=True):
        alike = [other for common, other in taken if common == family]
        if len(alike) == 1:
            found.append(Level(method, ""))
            continue
        keys = dict.fromkeys(key for other in alike for key in other)
        differ = [key for key in keys if len({other.get(key) for other in alike}) > 1]
        found.append(Level(family, ", ".join(numbers.get(key, "default") for key in differ)))
    return found


def _taken_apart(method: str) -> tuple[str, dict[tuple[int, str | int], str]]:
    """The text without its numbers, and the numbers by (component, option)."""
    parts: list[str] = []
    numbers: dict[tuple[int, str | int], str] = {}
    for i, component in enumerate(parse(method)):
        name, rest = component.name, []
        if ratio := _RATIO.fullmatch(name):
            name, numbers[i, ""] = ratio[1], ratio[2]
        written: list[tuple[str | int, Any]] = [*enumerate(component.args), *component.kwargs.items()]
        for key, value in written:
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                numbers[i, key] = f"{value:g}"
            else:
                rest.append(f"{key}={value!r}" if isinstance(key, str) else repr(value))
        parts.append(f"{name}({', '.join(rest)})" if rest else name)
    return "+".join(parts), numbers
