"""The paired bootstrap of mean average precision, against scikit-learn on the drawn rows themselves."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import average_precision_score

from biasbench import CellError, DataError, mean_average_precision
from biasbench.measures.paired_map import map_difference, resampled_map, resamples


def by_scikit(scores, targets, times):
    """Of rows repeated as often as they were drawn."""
    rows = np.repeat(np.arange(len(scores)), times.astype(int))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where a class has no positive, and counts 0
        return average_precision_score(targets[rows], scores[rows], average="macro")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(2, 5), st.integers(1, 8), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_each_resample_is_what_scikit_learn_says_of_it(n, classes, levels, share, seed):
    """Few levels make ties, small shares classes without a positive."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (n, classes)).astype(np.float32)
    targets = (rng.random((n, classes)) < share).astype(np.uint8)
    (times,) = resamples(n, 7, rng)
    wanted = [by_scikit(scores, targets, one) for one in times.T]
    assert resampled_map(scores, targets, "multilabel", times) == pytest.approx(wanted, abs=1e-12)


def test_classes_are_ranked_by_probability():
    rng = np.random.default_rng(0)
    scores, targets = rng.normal(0, 2, (60, 4)), rng.integers(0, 4, 60)
    (times,) = resamples(60, 5, rng)
    wanted = [by_scikit(softmax(scores, 1), np.eye(4)[targets], one) for one in times.T]
    assert resampled_map(scores, targets, "multiclass", times) == pytest.approx(wanted, abs=1e-12)


def test_every_image_once_is_the_metric_itself():
    rng = np.random.default_rng(1)
    scores, targets = rng.normal(0, 1, (200, 6)), (rng.random((200, 6)) < 0.2).astype(int)
    once = np.ones((200, 1), np.float32)
    wanted = mean_average_precision(scores, targets, "multilabel")
    assert resampled_map(scores, targets, "multilabel", once)[0] == pytest.approx(wanted, abs=1e-12)


def test_a_resample_has_as_many_images_and_each_is_as_likely():
    blocks = list(resamples(50, 3000, np.random.default_rng(2)))
    times = np.concatenate(blocks, axis=1)
    assert times.shape == (50, 3000)
    assert (times.sum(0) == 50).all()
    assert abs(times.mean(1) - 1).max() < 5 * np.sqrt(0.98 / 3000)
    assert abs(times.var(1) - 0.98).max() < 0.2  # binomial: n p (1 - p)


def data(n=300, classes=5, seed=3):
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, classes)) < 0.3).astype(int)
    return targets, targets + rng.normal(0, 1.0, targets.shape), targets + rng.normal(0, 1.2, targets.shape)


def test_the_difference_is_that_of_resampling_and_scikit_learn():
    targets, one, other = data()
    found = map_difference(one, other, targets, "multilabel", np.random.default_rng(4), draws=150)
    times = np.concatenate(list(resamples(300, 150, np.random.default_rng(4))), axis=1)
    drawn = np.array([by_scikit(one, targets, t) - by_scikit(other, targets, t) for t in times.T])
    assert [found.interval.low, found.interval.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]).tolist())
    assert found.better == pytest.approx((drawn > 0).mean())
    whole = by_scikit(one, targets, np.ones(300)) - by_scikit(other, targets, np.ones(300))
    assert found.interval.mean == pytest.approx(whole)
    assert found.absent == 0


def test_pairing_matters():
    """A model against itself differs by nothing; resampled apart, the two would differ."""
    targets, one, _ = data()
    found = map_difference(one, one, targets, "multilabel", np.random.default_rng(5), draws=100)
    assert found.interval == (type(found.interval))(0.0, 0.0, 0.0)
    assert found.better == 0.5
    apart = [
        map_difference(one, one[order], targets, "multilabel", np.random.default_rng(5), draws=100).interval
        for order in [np.random.default_rng(6).permutation(len(one))]
    ]
    assert apart[0].low > 0


def test_classes_without_a_positive_are_counted():
    targets = np.zeros((40, 2), int)
    targets[:20, 0], targets[0, 1] = 1, 1  # the second is in a resample with probability 1 - (1 - 1/40)^40
    scores = np.random.default_rng(7).normal(0, 1, targets.shape)
    found = map_difference(scores, scores, targets, "multilabel", np.random.default_rng(8), draws=4000)
    expected = (1 - 1 / 40) ** 40
    assert abs(found.absent - expected) < 5 * np.sqrt(expected * (1 - expected) / 4000)


def test_what_does_not_fit_is_refused():
    targets, one, other = data(20)
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="shapes"):
        map_difference(one, other[:-1], targets, "multilabel", rng)
    with pytest.raises(DataError, match="none"):
        map_difference(one[:0], other[:0], targets[:0], "multilabel", rng)
    one[3, 1] = np.nan
    with pytest.raises(CellError, match="not finite"):
        map_difference(one, other, targets, "multilabel", rng)
