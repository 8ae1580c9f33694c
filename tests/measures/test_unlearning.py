"""Figures of Alvi et al. 2018: every published row of Table 1, and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import entropy
from sklearn.metrics import accuracy_score, recall_score

from biasbench import DataError
from biasbench.measures.unlearning import group_accuracy, near_chance, prediction_divergence, rescaled, unlearned

# Table 1: baseline, blind, chance, percent unlearned as printed.
TABLE_1 = [
    (83, 25, 25, 100), (99, 56, 50, 88), (66, 24, 20, 91), (58, 12, 8, 92), (99, 51, 50, 98), (56, 25, 20, 86),
    (70, 12, 8, 94), (85, 26, 25, 98), (62, 22, 20, 95), (68, 12, 8, 93), (88, 39, 25, 78), (99, 57, 50, 86),
]  # fmt: skip
GROUPS = ("woman", "man")


@pytest.mark.parametrize(("baseline", "blind", "chance", "printed"), TABLE_1)
def test_table_1_follows_from_its_own_entries(baseline, blind, chance, printed):
    assert math.floor(unlearned(baseline, blind, chance) + 0.5 + 1e-9) == printed


def test_nine_of_twelve_attributes_come_near_chance():
    assert sum(near_chance(blind, chance) for _, blind, chance, _ in TABLE_1) == 9


def test_nothing_can_be_unlearned_from_chance():
    assert math.isnan(unlearned(50, 50, 50))
    assert math.isnan(unlearned(48, 50, 50))
    assert unlearned(90, 45, 50) > 100


@given(st.integers(2, 20), st.floats(0, 100))
def test_rescaled_is_accuracy_above_chance(k, accuracy):
    chance = 100 / k
    assert rescaled(accuracy, k) == pytest.approx(100 * (accuracy - chance) / (100 - chance), abs=1e-9)


@given(st.integers(2, 12), st.floats(55, 100), st.floats(0, 55))
def test_percent_unlearned_is_what_eq_6_lost(k, before, after):
    """Section 11's relation: 1 - a_blind / a_baseline."""
    chance = 100 / k
    if before - chance > 1:
        lost = 1 - rescaled(after, k) / rescaled(before, k)
        assert unlearned(before, after, chance) == pytest.approx(100 * lost, abs=1e-6)


def test_one_class_has_no_scale():
    assert math.isnan(rescaled(100, 1))


def codes(n, high, low=0):
    return hnp.arrays(np.int64, n, elements=st.integers(low, high))


@given(st.data(), st.integers(1, 40))
def test_accuracies_are_scikit_learns(data, n):
    y, said, a = data.draw(codes(n, 4)), data.draw(codes(n, 4)), data.draw(codes(n, 1, -1))
    got = group_accuracy(y, said, a, num_labels=5, groups=GROUPS)
    assert got.exact == pytest.approx(100 * accuracy_score(y, said))
    assert got.within == pytest.approx(100 * np.mean([abs(p - t) <= 1 for p, t in zip(said, y, strict=True)]))
    recall = recall_score(y, said, average="macro", labels=sorted(set(y)), zero_division=0)
    assert got.class_mean == pytest.approx(100 * recall)
    for g in range(2):
        rows = a == g
        if rows.any():
            assert got.group_exact[g] == pytest.approx(100 * accuracy_score(y[rows], said[rows]))
        else:
            assert np.isnan(got.group_within[g])
    assert got.n.sum() + got.unknown == n
    assert got.absent_classes == 5 - len(set(y))


def test_an_absent_group_shifts_nothing():
    two = group_accuracy([0, 1], [0, 0], [0, 0], num_labels=2, groups=("a",))
    three = group_accuracy([0, 1], [0, 0], [0, 0], num_labels=2, groups=("a", "b", "c"))
    assert (two.exact, two.group_exact[0]) == (three.exact, three.group_exact[0]) == (50, 50)
    assert np.isnan(three.group_exact[1:]).all()
    assert len(three.to_frame()) == 3


def test_no_example_is_undefined():
    got = group_accuracy(np.zeros(0, int), np.zeros(0, int), np.zeros(0, int), num_labels=3, groups=GROUPS)
    assert np.isnan([got.exact, got.within, got.class_mean]).all()


@given(st.data(), st.integers(2, 40), st.floats(0.1, 3))
def test_divergence_is_scipys(data, n, smoothing):
    said, a = data.draw(codes(n, 3)), np.arange(n) % 2
    p, q = (np.bincount(said[a == g], minlength=4) + smoothing for g in (0, 1))
    got = prediction_divergence(said, a, 0, 1, num_labels=4, smoothing=smoothing)
    assert got == pytest.approx(entropy(p, q), abs=1e-12)
    assert prediction_divergence(said, a, 1, 0, num_labels=4, smoothing=smoothing) == pytest.approx(
        entropy(q, p), abs=1e-12
    )


def test_divergence_without_smoothing_may_be_infinite_and_without_a_group_is_undefined():
    assert prediction_divergence([0, 1, 0, 0], [0, 0, 1, 1], 0, 1, num_labels=2, smoothing=0) == math.inf
    assert math.isnan(prediction_divergence([0, 1], [0, -1], 0, 1, num_labels=2))
    assert prediction_divergence([0, 1, 0, 1], [0, 0, 1, 1], 0, 1, num_labels=2) == 0


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (([0, 1], [0], [0, 0]), "do not fit"),
        (([0, 3], [0, 1], [0, 0]), "targets has codes outside 0..2"),
        (([0, 1], [0, -1], [0, 0]), "labels has codes outside"),
        (([0, 1], [0, 1], [0, 2]), "group has codes outside -1..1"),
        (([0.5, 1], [0, 1], [0, 0]), "targets must be whole numbers"),
        (([[0, 1]], [0, 1], [0, 0]), "one dimension"),
    ],
)
def test_bad_input_is_named(given, problem):
    with pytest.raises(DataError, match=problem):
        group_accuracy(*given, num_labels=3, groups=GROUPS)
