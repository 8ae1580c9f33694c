"""Names from data in every table that is printed."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from biasbench import DataError
from biasbench.cli.output import emit_json, grid, note, render
from tests.cli import matrix_store, stored
from tests.corpus.names import NAMES
from tests.corpus.said import calm
from tests.helpers.commands import Said

Cli = Callable[..., Said]
STORED = tuple(name for name in NAMES if "\ud800" not in name)  # JSON in UTF-8 has no half of a pair
CATEGORIES = tuple(name for name in STORED if len(name) <= 200)


def test_there_are_forty() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 40
    assert sum(not name.isprintable() for name in NAMES) >= 20
    assert not all(c == "\n" or c.isprintable() for c in "".join(NAMES))  # printed as they are, they would be noticed


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_grids(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    shown = render(grid(["heading", name[:50].strip("\n\r\u2028\u2029\x85") or "x"], [[name, 1]], title=None))
    assert all(c == "\n" or c.isprintable() for c in render(grid(["heading"], [[name]], title="t")))
    assert "heading" in shown
    note(f"left out: {name}")
    emit_json("test", {"name": name})
    out, err = capfd.readouterr()
    calm(Said(0, out, err))
    assert len(err.splitlines()) == 1
    if name in STORED:
        assert json.loads(out)["name"] == name


def no_formula(cell: str) -> bool:
    return bool(re.fullmatch(r"-?[0-9.e+-]*", cell)) or not re.match(r"[\s]*[=+\-@]|[\t\r]", cell)


def check_csv(text: str, rows: int) -> None:
    lines = list(csv.reader(io.StringIO(text)))
    assert len(lines) == rows + 1
    assert {len(line) for line in lines} == {len(lines[0])}
    assert [cell for line in lines for cell in line if not no_formula(cell)] == []


def check_markdown(text: str) -> None:
    """Every line of a table has as many cells, and nothing in it is HTML, markup or a link."""
    plain = text.replace("\\\\", "")
    parts = [part for part in re.split(r"\n\n", plain) if part.startswith("| ")]
    assert parts
    for part in parts:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in part.splitlines() if line.startswith("|")}) == 1
    assert not re.search(r"(?<!\\)[<>`$\[]", plain)


def test_names_written_as_they_are_would_be_noticed() -> None:
    naive = "".join(f'"{name}",1\n' for name in ("head", "=1+1"))
    with pytest.raises(AssertionError):
        check_csv(naive, 1)
    with pytest.raises(AssertionError):
        check_markdown("| a | b |\n| --- | --- |\n| <script> | 1 |\n")
    with pytest.raises(AssertionError):
        check_markdown("| a | b |\n| --- | --- |\n| x | y | 1 |\n")


def test_the_leaderboard(cli: Cli, tmp_path: Path) -> None:
    for i, name in enumerate(STORED):
        other = STORED[i - 1]
        stored.commit(
            tmp_path / "results", name, dataset=other, backbone=STORED[i - 2], profile=STORED[i - 3], weights=other
        )
        matrix_store.unscored(tmp_path / "results", name, "failed", f"because {other}")
    for form in ("rich", "md", "csv", "json"):
        said = cli("leaderboard", "--results", tmp_path / "results", "--format", form)
        assert said.code == 0, said.err
        calm(said)
        if form == "csv":
            check_csv(said.out, 2 * len(STORED))
        elif form == "md":
            check_markdown(said.out)
        elif form == "json":
            assert {row["method"] for row in json.loads(said.out)["rows"]} == set(STORED)


def test_the_matrix(cli: Cli, tmp_path: Path) -> None:
    groups = {"gender": STORED[:2], **dict.fromkeys(STORED[4:8], STORED[2:4])}
    for name in ("original", *STORED):
        figures = {"gender": 60.0, **dict.fromkeys(groups, 55.0)}
        matrix_store.commit(tmp_path / "results", name, embedding=figures, groups=groups, flags=[STORED[0]])
    for form in ("text", "md", "csv", "json"):
        said = cli("matrix", "--results", tmp_path / "results", "--format", form)
        assert said.code == 0, said.err
        calm(said)
        if form == "csv":
            check_csv(said.out, (1 + len(STORED)) * len(groups))
        elif form == "md":
            check_markdown(said.out)


def test_the_list_of_plugins_and_the_description(cli: Cli, home: Path) -> None:
    (home / "names.py").write_text(
        "import biasbench\nNAMES = " + ascii(NAMES) + "\n"
        "class M(biasbench.Method):\n    '''Mine.'''\n"
        "@biasbench.hookimpl\ndef biasbench_methods():\n"
        "    return [biasbench.Entry(n, f'{__name__}:M', n, {n: n}) for n in NAMES if '{' not in n]\n"
    )
    for arguments in (("list",), ("list", "methods", "--json"), ("list", "plugins"), ("describe", "M")):
        said = cli(*arguments, "--plugin", "names.py")
        assert said.code in (0, 2), said.err
        calm(said)


@pytest.mark.torch
def test_the_check_of_a_data_set(cli: Cli, coco_folder: Any) -> None:
    def change(files: Any) -> None:
        for part in ("train", "val"):
            files.instances[part]["categories"] += [{"id": 90 + i, "name": n} for i, n in enumerate(CATEGORIES)]

    for more in ((), ("--json",)):
        said = cli("data", "check", "coco", "--data-root", coco_folder(change), *more)
        assert said.code == 0, said.text
        calm(said)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_errors(cli: Cli, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (("list", name), (name,), ("describe", name), ("list", f"--{name}")):
        if "\0" in name or "\ud800" in name:  # no argument can be
            continue
        said = cli(*arguments)
        assert said.code == 2, said.text
        calm(said)

    def fail(*_: object, **__: object) -> None:
        raise DataError(f"a message with {name}", where=name, fix=name)

    monkeypatch.setattr("biasbench.plugins.load_plugins", fail)
    said = cli("list")
    assert said.code == 4
    calm(said)
    assert len(said.err.splitlines()) == 1
