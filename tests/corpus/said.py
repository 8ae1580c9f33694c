"""What every refusal has in common."""

from __future__ import annotations

from tests.helpers.commands import Said

MOST_LINES = 12


def refused(said: Said, code: int, *named: str) -> None:
    """The exit code is as listed, and what is said is short, names file and place, and drives no terminal."""
    assert said.code == code, said.text
    calm(said)
    assert 1 <= len(said.err.splitlines()) <= MOST_LINES, said.err
    for part in named:
        assert part in said.err, said.err


def calm(said: Said) -> None:
    """No traceback, no bug, no control character."""
    assert "Traceback" not in said.text, said.text
    assert "bug in biasbench" not in said.text, said.text
    assert all(c == "\n" or c.isprintable() for c in said.text), ascii(said.text)
