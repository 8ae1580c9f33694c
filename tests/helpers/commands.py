"""The command line in-process, in a folder and with a home of its own: fixtures that a conftest.py takes over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from biasbench.__main__ import main


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees the user's configuration, data or cache."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    for name in ("DATA", "RESULTS", "CACHE", "DEBUG"):
        monkeypatch.delenv(f"BIASBENCH_{name}", raising=False)
    return work


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """`cli("list", "--json")` gives exit code, standard output and standard error."""

    def run(*arguments: object) -> Said:
        capfd.readouterr()
        code = main([str(a) for a in arguments])
        out, err = capfd.readouterr()
        return Said(code, out, err)

    return run
