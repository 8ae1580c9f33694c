"""Every entry of the corpus is there, and every test that it names exists."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

from biasbench import errors
from tests.corpus.catalogue import CATALOGUE, GROUPS

TESTS = Path(__file__).parents[1]
CODES = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}


@functools.cache
def contents(path: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the functions of a file, and every text in it."""
    tree = ast.parse(path.read_text())
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return frozenset(functions), frozenset(texts)


def missing(test: str) -> str:
    """What is not there of a test, or the empty text."""
    name, _, rest = test.partition("::")
    function, _, case = rest.partition("[")
    if not (TESTS / name).is_file():
        return "no such file"
    functions, texts = contents(TESTS / name)
    if function not in functions or not function.startswith("test_"):
        return "no such test"
    return "" if not case or case.removesuffix("]") in texts else "no such case"


@pytest.mark.parametrize("letter", GROUPS)
def test_every_entry_is_there_once(letter: str) -> None:
    group, count = GROUPS[letter]
    assert list(group) == [f"{letter}{i}" for i in range(1, count + 1)]


def test_there_are_160() -> None:
    assert len(CATALOGUE) == sum(count for _, count in GROUPS.values()) == 160


@pytest.mark.parametrize("number", CATALOGUE)
def test_every_entry_names_its_tests_or_why_there_are_none(number: str) -> None:
    entry = CATALOGUE[number]
    assert bool(entry.tests) is (entry.verdict != "n/a")
    assert entry.why or entry.tests
    assert (entry.code is not None) is (entry.verdict == "refused")
    assert entry.code is None or entry.code in CODES - {errors.EXIT_OK, errors.EXIT_BUG}
    assert {test: missing(test) for test in entry.tests if missing(test)} == {}


@pytest.mark.parametrize(
    ("test", "why"),
    [
        ("corpus/test_none.py::test_x", "no such file"),
        ("corpus/test_coco.py::test_none", "no such test"),
        ("corpus/test_coco.py::link", "no such test"),
        ("corpus/test_coco.py::test_bytes[C99]", "no such case"),
        ("corpus/test_coco.py::test_bytes[C1]", ""),
    ],
)
def test_a_test_that_is_not_there_is_noticed(test: str, why: str) -> None:
    assert missing(test) == why
