"""A few of the campaign's mutants of each format; the campaign has 1,500 of each."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "campaign"
sys.path.insert(0, str(FOLDER))
try:
    import inputs
    import mutants
finally:
    sys.path.remove(str(FOLDER))

pytestmark = pytest.mark.torch
COUNTS = {"mat": 6, "sqlite": 40, "coco": 8, "jpeg": 60, "png": 60}


@pytest.mark.parametrize("kind", mutants.FORMATS)
def test_mutants_are_read_or_refused(kind: str) -> None:
    found = inputs.batch(kind, 0, COUNTS[kind])
    assert found["odd"] == {}
    assert found["counts"]["read"] >= 1  # number 0 is the file as it is
    assert found["counts"]["refused"] >= 1
    assert sum(found["counts"].values()) == COUNTS[kind]


def test_a_death_is_seen_and_the_others_are_read() -> None:
    """The first mutants that end scipy's reader, given to it as most programs do."""
    found = inputs.batch("mat read plainly", 0, 120)
    assert sum(found["counts"].values()) == 120
    if not found["died"]:
        pytest.skip("this scipy dies of none of them")
    assert found["counts"]["died"] == len(found["died"])
    assert all("died (-" in what for what in found["odd"].values())


def test_a_refusal_that_names_no_file_is_no_refusal(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def silent(_path: Path) -> None:
        raise mutants.DataError("something is wrong")

    def bug(_path: Path) -> None:
        raise KeyError("k")

    def good(path: Path) -> None:
        raise mutants.DataError("something is wrong", where=str(path))

    told = [mutants.outcome(read, path, tmp_path) for read in (silent, bug, good, lambda _: None)]
    assert [t.partition(":")[0] for t in told] == ["odd", "odd", "refused", "read"]


def test_mutants_are_the_same_each_time() -> None:
    whole = bytes(range(256)) * 4
    assert mutants.mutant(whole, "png", 0) == whole
    assert len({mutants.mutant(whole, "png", n) for n in range(40)}) == 40
    assert [mutants.mutant(whole, "png", n) for n in range(9)] == [mutants.mutant(whole, "png", n) for n in range(9)]
    assert len(mutants.mutant(whole, "png", 8)) < len(whole)
