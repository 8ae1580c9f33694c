"""Printing: data on standard output, everything else on standard error."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from biasbench.errors import printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


RULED = "    \n    \n ── \n    \n ── \n    \n    \n    \n"
"""rich's SIMPLE_HEAD with a line between sections."""


def emit(text: str) -> None:
    """Write a line or more to standard output; a reader that has gone is no failure."""
    try:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        hush()


def hush() -> None:
    """Point standard output at nothing, so that the interpreter's last flush is quiet too."""
    try:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, sys.stdout.fileno())
        os.close(descriptor)
    except (OSError, ValueError):
        pass


def emit_json(schema: str, document: Mapping[str, Any], version: int = 1) -> None:
    """Write a JSON document that names its schema; NaN is refused, and what is not printable is escaped."""
    whole = {"schema": f"biasbench/{schema}", "schema_version": version, **document}
    text = json.dumps(whole, indent=1, allow_nan=False, ensure_ascii=False)
    emit(re.sub(r"[^\n -~]", lambda c: c[0] if c[0].isprintable() else json.dumps(c[0])[1:-1], text))


def note(text: str) -> None:
    """One line for the user on standard error."""
    sys.stderr.write(f"biasbench: {printable(text, 10_000)}\n")


def visible(text: str) -> str:
    r"""Lines with control characters made visible.

    Example:
        >>> visible("a\x1b[2J\nb")
        'a\\x1b[2J\nb'
    """
    return "\n".join(printable(line, 10_000) for line in text.split("\n"))


def render(thing: RenderableType) -> str:
    """What rich would print: as wide as the terminal, or as wide as it needs where there is none."""
    from rich.console import Console

    on_terminal = sys.stdout.isatty()
    wide = {} if on_terminal else {"width": 4000}
    console = Console(file=io.StringIO(), force_terminal=on_terminal, highlight=False, **wide)  # type: ignore[arg-type]
    console.print(thing)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


def grid(
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    title: str | None = None,
    rules: Collection[int] = (),
) -> Table:
    """A plain table whose cells are shown as they are: no markup, no control characters.

    Args:
        headings: Of the columns.
        rows: Their cells.
        title: Above the table.
        rules: Numbers of the rows that a rule stands above.
    """
    from rich.box import SIMPLE_HEAD, Box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title, style="bold") if title else None, title_justify="left",
        box=Box(RULED) if rules else SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False,
    )  # fmt: skip
    for heading in headings:
        table.add_column(Text(heading), overflow="fold")
    for number, row in enumerate(rows):
        if number in rules:
            table.add_section()
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def size(count: float) -> str:
    """A number of bytes for people.

    Example:
        >>> size(0), size(1536), size(5e9)
        ('0 B', '1.5 kB', '4.7 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"
