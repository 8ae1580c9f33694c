"""What a child tells its parent of an error."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from biasbench.child import failure
from biasbench.errors import DataError


def told(raise_it: Callable[[], object]) -> tuple[bool, int, str]:
    try:
        raise_it()
    except BaseException as error:
        said = failure(error)
        return said["bug"], said["exit_code"], said["message"]
    raise AssertionError("nothing was raised")


def too_much() -> None:
    raise MemoryError


def too_much_for_a_gpu() -> None:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1.50 GiB free\nand more")


@pytest.mark.parametrize(
    ("raise_it", "said"),
    [
        (too_much, "out of memory: MemoryError (test_child.py, line "),
        pytest.param(
            too_much_for_a_gpu,
            "out of memory: OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1.50 GiB free",
            marks=pytest.mark.torch,
        ),
    ],
)
def test_too_little_memory_is_the_cells_failure_and_no_bug(raise_it: Callable[[], object], said: str) -> None:
    bug, code, message = told(raise_it)
    assert (bug, code) == (False, 1)
    assert message.startswith(said)
    assert "Nothing was made smaller" in message


def test_other_errors_are_what_they_were() -> None:
    def wrong() -> None:
        raise DataError("damaged", where="a.csv")

    assert told(wrong) == (False, 4, "a.csv: damaged")
    bug, code, message = told(lambda: 1 / 0)
    assert (bug, code, message.partition(" (")[0]) == (True, 3, "ZeroDivisionError: division by zero")
