"""Noisy attribute codes and the accuracy they hide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biasbench import UsageError
from biasbench.measures.draws import balanced_rows
from biasbench.measures.noise import denoised, mistaken, noisy

seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(2, 4), st.data(), st.floats(0, 1), st.floats(0, 1))
def test_noise_is_exact_nested_repeatable_and_leaves_unknown_codes(seed, groups, data, p, q):
    p, q = min(p, q), max(p, q)
    codes = np.array(data.draw(st.lists(st.integers(-1, groups - 1), max_size=60)), np.int64)
    before = codes.copy()
    few, many = (noisy(codes, share, groups, np.random.default_rng(seed)) for share in (p, q))
    known = codes >= 0
    assert (few != codes).sum() == round(p * known.sum())
    assert (many[few != codes] == few[few != codes]).all()
    for found in (few, many):
        assert (found[~known] == -1).all()
        assert ((found[known] >= 0) & (found[known] < groups)).all()
    assert (many == noisy(codes, q, groups, np.random.default_rng(seed))).all()
    assert (codes == before).all()


def test_wrong_codes_are_uniform_over_the_other_groups_and_rows():
    codes = np.repeat(np.arange(4), 30_000)
    found = noisy(codes, 0.3, 4, np.random.default_rng(1))
    table = np.zeros((4, 4))
    np.add.at(table, (codes, found), 1 / 30_000)
    assert table == pytest.approx(np.full((4, 4), 0.1) + 0.6 * np.eye(4), abs=0.01)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5), st.floats(0, 1), st.floats(0, 0.45))
def test_denoising_undoes_the_confusion_of_codes(groups, accuracy, q):
    """Forward by matrices: P(predicted, true) and P(noisy | true), groups of equal size."""
    wrong = (1 - accuracy) / (groups - 1)
    predicted = np.full((groups, groups), wrong) + (accuracy - wrong) * np.eye(groups)
    noise = np.full((groups, groups), q / (groups - 1)) + (1 - q - q / (groups - 1)) * np.eye(groups)
    measured = np.trace(predicted.T @ noise) / groups
    assert denoised(measured, q, groups) == pytest.approx(accuracy, abs=1e-9)


def test_two_groups_have_the_known_form():
    assert denoised(0.7, 0.15, 2) == pytest.approx((0.7 - 0.15) / (1 - 2 * 0.15))
    assert denoised(0.9, 0.0, 3) == 0.9
    assert np.isnan(denoised(float("nan"), 0.1, 2))
    assert denoised(0.95, 0.1, 2) > 1  # not clipped


@pytest.mark.parametrize("first", [0.5, 0.85])
def test_it_recovers_the_accuracy_on_balanced_draws_by_noisy_codes(first):
    """Two groups of unequal size and unequal accuracy: exact with the share that `mistaken` finds."""
    rng = np.random.default_rng(2)
    codes = (rng.random(400_000) >= first).astype(np.int64)
    predicted = np.where(rng.random(len(codes)) < np.array([0.9, 0.6])[codes], codes, 1 - codes)
    found = noisy(codes, 0.2, 2, rng)
    rows = balanced_rows(found, 2, None, rng)
    q = mistaken(codes, found, 2)
    assert q == pytest.approx((codes[rows] != found[rows]).mean(), abs=0.005)
    assert denoised(float((predicted[rows] == found[rows]).mean()), q, 2) == pytest.approx(0.75, abs=0.01)
    if first != 0.5:  # with the share in the data it would not be
        assert abs(denoised(float((predicted[rows] == found[rows]).mean()), 0.2, 2) - 0.75) > 0.05


def test_an_empty_group_has_no_share_of_wrong_codes():
    assert np.isnan(mistaken(np.array([0, 0, -1]), np.array([0, 0, -1]), 2))
    assert mistaken(np.array([0, 1, -1]), np.array([0, 1, -1]), 2) == 0.0


def test_what_cannot_be_meant_is_refused():
    codes = np.array([0, 1])
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="outside"):
            noisy(codes, share, 2, np.random.default_rng(0))
    with pytest.raises(UsageError, match="two groups"):
        noisy(codes, 0.1, 1, np.random.default_rng(0))
    for q, groups in ((0.5, 2), (0.6, 2), (2 / 3, 3), (-0.1, 2), (float("nan"), 2)):
        with pytest.raises(UsageError, match="undone"):
            denoised(0.7, q, groups)
    with pytest.raises(UsageError, match="two groups"):
        denoised(0.7, 0.1, 1)
