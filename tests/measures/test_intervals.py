"""Intervals against closed forms, brute force and their coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from biasbench import DataError
from biasbench.measures.intervals import bootstrap_difference, bootstrap_interval, rounds_interval


def rng(seed=0):
    return np.random.default_rng(seed)


def test_width_is_that_of_two_binomials():
    codes = np.repeat([0, 1], [400, 600])
    right = np.concatenate([np.arange(400) < 320, np.arange(600) < 420])
    found = bootstrap_interval([right], [codes], rng(), draws=20_000)
    error = 0.5 * (0.8 * 0.2 / 400 + 0.7 * 0.3 / 600) ** 0.5
    assert found.mean == pytest.approx(0.75)
    assert (found.high - found.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.03)


def test_rounds_of_the_same_images_are_no_more_data():
    codes, right = np.repeat([0, 1], 200), rng(1).random(400) < 0.7
    one = bootstrap_interval([right], [codes], rng(), draws=20_000)
    five = bootstrap_interval([right] * 5, [codes] * 5, rng(), draws=20_000)
    apart = bootstrap_interval(
        [right] * 5, [codes] * 5, rng(), rows=[np.arange(400) + 400 * r for r in range(5)], draws=20_000
    )
    assert five.high - five.low == pytest.approx(one.high - one.low, rel=0.03)
    assert apart.high - apart.low == pytest.approx((one.high - one.low) / 5**0.5, rel=0.04)


def test_images_that_are_in_some_rounds_only_agree_with_brute_force():
    truth, groups = rng(2).random(300), np.arange(300) % 2
    rows = [rng(10 + r).choice(300, 200, replace=False) for r in range(3)]
    right = [rng(20 + r).random(200) < truth[rows[r]] for r in range(3)]
    found = bootstrap_interval(right, [groups[r] for r in rows], rng(), rows=rows, draws=20_000)
    total, times = np.zeros(300), np.zeros(300)
    for at, hit in zip(rows, right, strict=True):
        total[at] += hit
        times[at] += 1
    draw, drawn = rng(3), []
    for _ in range(4000):
        parts = []
        for g in (0, 1):
            of = np.flatnonzero((groups == g) & (times > 0))
            took = draw.choice(of, len(of))
            parts.append(total[took].sum() / times[took].sum())
        drawn.append(np.mean(parts))
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.006)


@pytest.mark.parametrize(("p", "n"), [(0.5, 40), (0.7, 200), (0.95, 40), (0.99, 100), (0.999, 40)])
def test_coverage_is_nominal_also_near_one_and_with_few_rows(p, n):
    codes, draw = np.repeat([0, 1], n), rng(5)
    covered = []
    for _ in range(300):
        found = bootstrap_interval([draw.random(2 * n) < p], [codes], draw, draws=500)
        covered.append(found.low <= p <= found.high)
    # no lower than 95 % by more than the noise of 300 trials and of 500 draws
    assert np.mean(covered) > 0.95 - 3 * (0.05 * 0.95 / 300) ** 0.5


def test_all_right_has_a_width():
    found = bootstrap_interval([np.ones(100, bool)], [np.repeat([0, 1], 50)], rng())
    assert found.mean == found.high == 1
    assert 0.92 < found.low < 0.99


def test_differences_are_paired():
    codes, draw = np.repeat([0, 1], 500), rng(6)
    other = draw.random(1000) < 0.7
    right = other.copy()
    right[draw.permutation(np.flatnonzero(~other))[:60]] = True
    found = bootstrap_difference([right], [other], [codes], rng(), draws=20_000)
    change = right.astype(int) - other
    error = 0.5 * sum(change[codes == g].var() / 500 for g in (0, 1)) ** 0.5
    assert found.mean == pytest.approx(0.06)
    assert (found.high - found.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.1)
    assert found.low > 0
    alone = bootstrap_interval([right], [codes], rng())
    assert found.high - found.low < 0.6 * (alone.high - alone.low)  # unpaired it would be 1.4 times as wide
    back = bootstrap_difference([other], [right], [codes], rng(), draws=20_000)
    assert [-back.high, -back.low] == pytest.approx([found.low, found.high], abs=0.003)


def test_three_groups_count_the_same():
    codes = np.repeat([0, 1, 2], [10, 100, 1000])
    right = np.concatenate([np.zeros(10, bool), np.ones(1100, bool)])
    assert bootstrap_interval([right], [codes], rng()).mean == pytest.approx(2 / 3)


def test_same_stream_same_interval():
    codes, right = np.repeat([0, 1], 50), rng(1).random(100) < 0.7
    assert bootstrap_interval([right], [codes], rng(4)) == bootstrap_interval([right], [codes], rng(4))


def test_rounds_agree_with_scipy():
    values = rng().normal(60, 2, 5)
    found = rounds_interval(values, 0.9)
    low, high = stats.t.interval(0.9, 4, loc=values.mean(), scale=stats.sem(values))
    assert [found.mean, found.low, found.high] == pytest.approx([values.mean(), low, high])
    one = rounds_interval(np.array([61.0]))
    assert one.mean == 61
    assert np.isnan([one.low, one.high]).all()


def test_what_does_not_belong_together_is_refused():
    codes, right = np.array([0, 1]), np.array([True, False])
    with pytest.raises(DataError, match="equally many"):
        bootstrap_interval([right], [codes[:1]], rng())
    with pytest.raises(DataError, match="equally many"):
        bootstrap_interval([], [], rng())
    with pytest.raises(DataError, match="one group in one round"):
        bootstrap_interval([right, right], [codes, 1 - codes], rng())
    with pytest.raises(DataError, match="different rows"):
        bootstrap_difference([right], [right[:1]], [codes], rng())
