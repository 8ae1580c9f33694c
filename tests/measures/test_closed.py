"""The majority rule's leakage: by hand, by counting copies of rows, by simulated draws, on the published lists."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biasbench import DataError, UsageError
from biasbench.measures.closed import majority_leakage
from biasbench.measures.draws import balanced_rows

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "wang2019"


def split(groups, classes, least=0):
    """Classes and codes; `least` rows of every group at least."""
    row = st.tuples(st.integers(0, classes - 1), st.integers(-1 if least == 0 else 0, groups - 1))
    every = st.tuples(
        *(st.tuples(st.integers(0, classes - 1), st.just(g)) for g in range(groups) for _ in range(least))
    )
    return st.tuples(every, st.lists(row, max_size=25)).map(
        lambda found: np.array([*found[0], *found[1]], np.int64).reshape(-1, 2).T
    )


def by_copies(train, test, groups):
    """The same by counting: every group's rows copied until all groups have equally many, then plain majorities."""

    def copied(part):
        sizes = [int((part[1] == g).sum()) for g in range(groups)]
        whole = int(np.lcm.reduce(sizes))
        return [(c, g) for c, g in zip(*part.tolist(), strict=True) for _ in range(whole // sizes[g])]

    train, test = copied(train), copied(test)
    right = Fraction(0)
    for label, group in test:
        votes = [train.count((label, g)) for g in range(groups)]
        winners = [g for g in range(groups) if votes[g] == max(votes)]
        right += Fraction(int(group in winners), len(winners))
    return 100 * right / len(test)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 3).flatmap(lambda g: st.tuples(st.just(g), split(g, 4, least=1), split(g, 5, least=1))))
def test_it_equals_plain_majorities_of_copied_rows(case):
    groups, train, test = case
    assert majority_leakage(*train, *test, groups).value == pytest.approx(float(by_copies(train, test, groups)))


def test_by_hand():
    # Shares of labels 0, 1, 2, 3. Group 0: 1/2, 1/4, 1/4, 0 in training; group 1: 1/4, 1/4, 1/2, 0.
    train = np.array([0, 0, 1, 2, 0, 1, 2, 2]), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    # Test, group 0: labels 0, 1, 3, 3 (right: 1, 1/2, 1/2, 1/2); group 1: 2, 0 (right: 1, 0); one unknown.
    test = np.array([0, 1, 3, 3, 2, 0, 2]), np.array([0, 0, 0, 0, 1, 1, -1])
    got = majority_leakage(*train, *test, 2)
    assert got.value == pytest.approx(100 * (2.5 / 4 + 1 / 2) / 2)
    assert (got.labels, got.unseen, got.tied, got.unknown, got.reason) == (4, 1, 1, (0, 1), "")


def test_the_majority_is_that_of_the_balanced_draw_not_of_the_rows():
    """Label 0 has more rows of group 0, yet is a larger share of group 1."""
    train = np.array([0] * 10 + [1] * 90 + [0] * 5 + [1] * 5), np.repeat([0, 1], [100, 10])
    assert majority_leakage(*train, np.array([0, 1]), np.array([1, 0]), 2).value == 100.0


def test_equal_shares_of_groups_of_different_sizes_are_ties():
    train = np.array([0] * 1 + [1] * 9 + [0] * 3 + [1] * 27), np.repeat([0, 1], [10, 30])
    got = majority_leakage(*train, np.array([0, 1, 1]), np.array([0, 0, 1]), 2)
    assert (got.value, got.tied) == (50.0, 2)


def test_two_of_three_groups_may_tie():
    train = np.array([0, 0, 1]), np.array([0, 1, 2])
    got = majority_leakage(*train, np.array([0, 0, 0]), np.array([0, 1, 2]), 3)
    assert got.value == pytest.approx(100 * (1 / 2 + 1 / 2 + 0) / 3)


def test_it_is_the_mean_accuracy_over_balanced_test_draws():
    rng = np.random.default_rng(0)
    codes = (rng.random(300) < 0.3).astype(np.int64)
    classes = (rng.integers(6, size=300) + codes) % 6
    rule = np.array([1, 0, 1, 1, 0, 0])
    train = np.repeat(np.arange(6), 3), np.concatenate([np.array([g, g, 1 - g]) for g in rule])
    # 9 rows of each group in training: the majorities of rows and of shares agree.
    drawn = [balanced_rows(codes, 2, 40, rng) for _ in range(4000)]
    accuracy = [100 * (rule[classes[rows]] == codes[rows]).mean() for rows in drawn]
    error = np.std(accuracy) / len(accuracy) ** 0.5
    assert majority_leakage(*train, classes, codes, 2).value == pytest.approx(np.mean(accuracy), abs=4 * error)


@settings(max_examples=30, deadline=None)
@given(
    split(3, 4, least=1), split(3, 4, least=1), st.permutations(range(3)), st.permutations(range(4)), st.integers(1, 4)
)
def test_names_of_groups_and_labels_order_and_copies_change_nothing(train, test, codes, classes, times):
    codes, classes = np.array(codes), np.array(classes)
    want = majority_leakage(*train, *test, 3)
    again = [np.tile(part, times)[:, ::-1] for part in (train, test)]
    (tc, tg), (ec, eg) = again
    got = majority_leakage(classes[tc], codes[tg], classes[ec], codes[eg], 3)
    assert got.value == pytest.approx(want.value)
    assert (got.labels, got.unseen, got.tied) == (want.labels, want.unseen, want.tied)


@settings(max_examples=30, deadline=None)
@given(split(3, 4), split(3, 4))
def test_an_absent_group_leaves_it_undefined_and_says_why(train, test):
    got = majority_leakage(*train, *test, 3)
    absent = [(g, name) for name, part in (("train", train), ("test", test)) for g in range(3) if g not in part[1]]
    assert np.isnan(got.value) == bool(absent)
    assert got.reason == "; ".join(f"no example of group {g} in {name}" for g, name in absent)


def test_one_group_leaves_it_undefined():
    one = np.zeros(3, np.int64)
    assert majority_leakage(one, one, one, one, 1).reason == "1 group, two are needed"


def test_what_cannot_be_meant_is_refused():
    hot, classes, codes = np.eye(2, dtype=np.uint8), np.array([0, 1]), np.array([0, 1])
    for train, test in ((hot, classes), (classes, hot), (hot, hot)):
        with pytest.raises(UsageError, match="multi-label"):
            majority_leakage(train, codes, test, codes, 2)
    for wrong in (np.array([0, 2]), np.array([0, -2]), np.array([0])):
        with pytest.raises(DataError):
            majority_leakage(classes, codes, classes, wrong, 2)
    with pytest.raises(DataError, match="train: a class is negative"):
        majority_leakage(np.array([-1, 0]), codes, classes, codes, 2)


@pytest.mark.skipif(not DATA.is_dir(), reason="the published label tables are not on this machine")
@pytest.mark.parametrize(
    ("ratio", "val", "test", "tied"),
    [(None, 69.08, 68.49, 0), (3, 68.73, 68.76, 0), (2, 68.64, 68.76, 0), (1, 50.0, 50.0, 211)],
)
def test_the_published_imsitu_lists(ratio, val, test, tied):
    tables = {}
    for name in ("train", "val", "test"):
        with np.load(DATA / f"imsitu_{name}.npz") as table:
            rows = table[f"ratio_{ratio}"] if ratio and name == "train" else slice(None)
            tables[name] = table["verb"][rows], table["gender"].astype(np.int64)[rows]
    for name, want in (("val", val), ("test", test)):
        got = majority_leakage(*tables["train"], *tables[name], 2)
        assert got.value == pytest.approx(want, abs=0.005)
        assert (got.labels, got.unseen, got.tied) == (211, 0, tied)
