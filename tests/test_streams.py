"""Orders are pure functions of a name and a counter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biasbench.errors import CellError
from biasbench.streams import Stream, epoch_batches


@given(st.integers(1, 300), st.integers(2, 64), st.integers(0, 5))
def test_an_epoch_visits_every_row_once_in_near_equal_batches(count: int, size: int, seed: int) -> None:
    batches = epoch_batches(np.arange(count), size, ("t", seed))
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    lengths = {len(b) for b in batches}
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1


def test_orders_depend_on_the_name_alone() -> None:
    one, two = (epoch_batches(np.arange(50), 7, ("t", 1)) for _ in range(2))
    other = epoch_batches(np.arange(50), 7, ("t", 2))
    assert all((a == b).all() for a, b in zip(one, two, strict=True))
    assert not all((a == b).all() for a, b in zip(one, other, strict=True))


def test_most_limits_the_batches() -> None:
    assert len(epoch_batches(np.arange(100), 10, ("t",), most=3)) == 3


@settings(max_examples=40)
@given(st.integers(2, 40), st.integers(1, 5), st.integers(2, 16))
def test_balanced_batches_have_equal_shares_and_no_unknown_group(men: int, women: int, size: int) -> None:
    groups = np.array([0] * men + [1] * women + [-1] * 3)
    stream = Stream(np.arange(len(groups)) + 100, size, ("t",), groups)
    for _ in range(6):
        codes = groups[stream.next() - 100]
        assert (codes == 0).sum() == (codes == 1).sum() == -(-size // 2)


def test_each_group_is_passed_through_without_repeats() -> None:
    groups = np.array([0] * 6 + [1] * 3)
    stream = Stream(np.arange(9), 6, ("t",), groups)
    drawn = np.concatenate([stream.next() for _ in range(2)])
    assert sorted(drawn[groups[drawn] == 0].tolist()) == list(range(6))
    assert sorted(drawn[groups[drawn] == 1].tolist()) == [6, 6, 7, 7, 8, 8]


def test_the_cursor_is_the_whole_state() -> None:
    fresh = Stream(np.arange(20), 6, ("t",), np.arange(20) % 2)
    resumed = Stream(np.arange(20), 6, ("t",), np.arange(20) % 2)
    batches = [fresh.next() for _ in range(9)]
    resumed.cursor = 5
    assert (resumed.next() == batches[5]).all()


def test_one_group_cannot_be_balanced() -> None:
    with pytest.raises(CellError, match="fewer than two groups"):
        Stream(np.arange(4), 2, ("t",), np.array([0, 0, -1, 0]))
