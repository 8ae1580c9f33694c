"""Seeds as the user writes them: one, or a range with both ends."""

from __future__ import annotations

import re

from biasbench.errors import printable


def seed_range(text: str) -> range:
    """`3` or `0..4`.

    Raises:
        ValueError: When it is neither, or ends before it begins.

    Example:
        >>> seed_range("3"), seed_range("0..4")
        (range(3, 4), range(0, 5))
    """
    found = re.fullmatch(r"(\d{1,18})(?:\.\.(\d{1,18}))?", text, re.ASCII)
    if found is None:
        raise ValueError(f"{printable(text)!r} is neither a seed nor a range such as 0..4.")
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first:
        raise ValueError(f"{text} ends before it begins.")
    return range(first, last + 1)
