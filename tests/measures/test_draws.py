"""Balanced draws."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from biasbench.measures.draws import balanced_rows, per_group


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.data(), st.one_of(st.none(), st.integers(1, 30)))
def test_draws_are_balanced_capped_distinct_and_repeatable(seed, groups, data, cap):
    codes = np.array(data.draw(st.lists(st.integers(-1, groups - 1), max_size=80)), np.int64)
    rows = balanced_rows(codes, groups, cap, np.random.default_rng(seed))
    scarcest = min(int((codes == g).sum()) for g in range(groups))
    n = per_group(codes, groups, cap)
    assert n == (scarcest if cap is None else min(cap, scarcest))
    assert codes[rows].tolist() == [g for g in range(groups) for _ in range(n)]
    assert len(set(rows.tolist())) == len(rows)
    assert (rows == balanced_rows(codes, groups, cap, np.random.default_rng(seed))).all()


def test_every_row_of_a_group_is_drawn_as_often():
    """Three of ten, 2,000 times: each row is in 30 % of the draws, within five standard errors."""
    codes = np.array([0, 1] * 10)
    rng = np.random.default_rng(0)
    counts = np.bincount(np.concatenate([balanced_rows(codes, 2, 3, rng) for _ in range(2000)]), minlength=20)
    assert np.abs(counts / 2000 - 0.3).max() < 5 * (0.3 * 0.7 / 2000) ** 0.5


def test_order_within_a_group_is_random_and_a_larger_draw_starts_with_the_smaller():
    codes = np.zeros(50, np.int64)
    codes[40:] = 1
    small, large = (balanced_rows(codes, 2, cap, np.random.default_rng(1)) for cap in (5, 9))
    assert small[:5].tolist() == large[:5].tolist()
    assert sorted(small[:5]) != small[:5].tolist() or sorted(large[:9]) != large[:9].tolist()


def test_groups_without_rows_and_codes_of_any_width():
    assert per_group(np.array([0, 0, -1]), 2, 10) == 0
    assert balanced_rows(np.array([0, 0, -1]), 2, 10, np.random.default_rng(0)).tolist() == []
    narrow = np.array([0, 1, -1, 1], np.int8)
    assert per_group(narrow, 2, None) == 1
