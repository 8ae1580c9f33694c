"""Whatever happens to the bytes of a file: it is read, or refused in one line. Nothing else."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biasbench.audit.file import AuditFile
from biasbench.audit.read import read_audit_file
from biasbench.errors import DataError

PLACES = st.floats(0, 1, exclude_max=True)


@pytest.fixture(scope="module")
def whole(outputs: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, bytes]]:
    """A folder's file and its valid bytes, by ending."""
    folder = tmp_path_factory.mktemp("damage")
    return {
        ending: (path := outputs.save(folder / f"outputs{ending}", outputs.arrays()), path.read_bytes())
        for ending in (".npz", ".csv", ".csv.gz", ".parquet")
    }


def verdict(path: Path, content: bytes) -> AuditFile | DataError:
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return read_audit_file(path)
        except DataError as error:
            found = error
    assert str(path) in str(found)
    assert str(found).isprintable()
    return found


@pytest.mark.parametrize("ending", [".npz", ".csv", ".csv.gz", ".parquet"])
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_changed_bytes(whole: Any, ending: str, data: st.DataObject) -> None:
    path, content = whole[ending]
    changed = bytearray(content)
    for place in data.draw(st.lists(PLACES, min_size=1, max_size=4)):
        changed[int(place * len(content))] = data.draw(st.integers(0, 255))
    found = verdict(path, bytes(changed))
    if ending in (".npz", ".csv.gz") and isinstance(found, AuditFile):  # both carry checksums of what they hold
        scores = np.concatenate([part.scores for part in found.splits.values()])
        path.write_bytes(content)
        clean = read_audit_file(path)
        np.testing.assert_array_equal(scores, np.concatenate([part.scores for part in clean.splits.values()]))


@pytest.mark.parametrize("ending", [".npz", ".csv", ".csv.gz", ".parquet"])
@given(share=PLACES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cut_off(whole: Any, ending: str, share: float) -> None:
    path, content = whole[ending]
    found = verdict(path, content[: int(share * len(content))])
    # A CSV file cut off at the end of a line is a shorter file; inside the last cell it is another name.
    assert isinstance(found, DataError) or ending == ".csv"


@given(text=st.text(max_size=400))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_as_csv(whole: Any, text: str) -> None:
    path, _ = whole[".csv"]
    assert isinstance(verdict(path, text.encode(errors="replace")), DataError)


CELL = st.one_of(
    st.text(max_size=6), st.integers(-3, 10**20).map(str), st.floats().map(str), st.sampled_from(["", "train", "man"])
)


@given(row=st.integers(1, 24), column=st.integers(0, 8), cell=CELL)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_cell_of_a_csv(whole: Any, row: int, column: int, cell: str) -> None:
    path, content = whole[".csv"]
    rows = [line.split(",") for line in content.decode().splitlines()]
    rows[row][column] = '"' + cell.replace('"', '""') + '"'
    found = verdict(path, "\n".join(",".join(line) for line in rows).encode(errors="replace"))
    if isinstance(found, DataError) and "row" in str(found):
        assert f"row {row - 1}" in str(found)
