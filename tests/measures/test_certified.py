"""Leakage by several attackers, against leaks whose best possible accuracy is known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("torch")

from biasbench import CellError, UsageError
from biasbench.measures.attackers import Job
from biasbench.measures.certified import CERTIFIED, KINDS, Certified
from biasbench.measures.certified_attack import certified_attack
from biasbench.measures.certified_plateau import Slope, slope
from biasbench.measures.certified_pool import Pool, standardised
from biasbench.measures.intervals import bootstrap_interval
from biasbench.measures.reader import Draw

pytestmark = pytest.mark.torch
N = (500, 300, 1000)
SMALL = Certified("small", folds=3, epochs=8, width=32, iterations=32, plateau=False)


def job(table, codes, n=N, groups=2, width=None, name="test"):
    rows = np.split(np.arange(len(codes)), np.cumsum(n)[:-1])
    draws = {s: Draw(lambda: table, r, codes[r]) for s, r in zip(("train", "val", "test"), rows, strict=True)}
    return Job((name,), draws, width or table.shape[1], groups)


def planted(p, groups=2, columns=6, seed=1, n=N):
    """One column names the group with probability p, exactly so on the test rows, and another group otherwise."""
    rng = np.random.default_rng(seed)
    codes = np.arange(sum(n)) % groups
    true = rng.random(len(codes)) < p
    test = np.arange(sum(n) - n[2], sum(n))
    for g in range(groups):
        own = rng.permutation(test[codes[test] == g])
        true[own] = np.arange(len(own)) < round(p * len(own))
    said = np.where(true, codes, (codes + rng.integers(1, groups, len(codes))) % groups)
    table = rng.normal(size=(len(codes), columns))
    table[:, 0] = said
    return table, codes


def xor(seed=1, n=N):
    """Two bits of which neither tells anything; together they tell the group nine times of ten."""
    rng = np.random.default_rng(seed)
    table = (rng.random((sum(n), 6)) < 0.5).astype(np.uint8)
    codes = np.where(rng.random(sum(n)) < 0.9, table[:, 0] ^ table[:, 1], 1 - (table[:, 0] ^ table[:, 1]))
    return table, codes.astype(np.int64)


def attack(*jobs, protocol=SMALL, **more):
    return certified_attack(jobs, protocol, **more)


# -- accuracy ------------------------------------------------------------------------------
@pytest.mark.parametrize("p", [0.5, 0.6, 0.75, 0.9, 1.0])
def test_a_planted_leak_is_found_and_its_interval_covers_it(p):
    n = (1200, 800, 1000)
    table, codes = planted(p, n=n)
    (found,) = attack(job(table, codes, n))
    assert found.accuracy == pytest.approx(p, abs=0.03)
    assert found.accuracy == pytest.approx(found.right.mean())  # the test draw is balanced
    interval = bootstrap_interval([found.right], [codes[-n[2] :]], np.random.default_rng(0))
    assert interval.low <= p <= interval.high
    assert interval.mean == pytest.approx(found.accuracy)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_alone_finds_a_planted_leak(kind):
    (found,) = attack(job(*planted(0.9)), protocol=Certified("one", folds=3, kinds=(kind,), width=32, plateau=False))
    assert (found.kind, list(found.scores)) == (kind, [kind])
    assert found.accuracy == pytest.approx(0.9, abs=0.03)


def test_two_bits_that_tell_only_together_are_found():
    (found,) = attack(job(*xor()))
    assert found.kind != "logistic"
    assert found.scores["logistic"] < 0.6
    assert found.accuracy == pytest.approx(0.9, abs=0.03)
    assert found.scores["boosting"] == pytest.approx(0.9, abs=0.05)


def test_shuffled_codes_are_at_chance():
    n = (500, 300, 4000)
    table, codes = planted(0.9, n=n)
    draw, at = np.random.default_rng(0), np.cumsum((0, *n))
    shuffled = np.concatenate([draw.permutation(codes[a:b]) for a, b in pairwise(at)])
    (found,) = attack(job(table, shuffled, n))
    assert found.accuracy == pytest.approx(0.5, abs=0.03)


def test_three_groups():
    n = (501, 300, 999)
    table, codes = planted(0.8, groups=3, n=n)
    one_hot = np.concatenate([np.eye(3)[table[:, 0].astype(int)], table[:, 1:]], 1)
    even, none = attack(job(one_hot, codes, n, 3), job(table[:, 1:], codes, n, 3))
    assert even.accuracy == pytest.approx(0.8, abs=0.03)
    assert none.accuracy == pytest.approx(1 / 3, abs=0.05)  # 999 rows: three standard errors


def test_classes_and_their_one_hot_labels_tell_the_same():
    rng = np.random.default_rng(3)
    codes = np.arange(sum(N)) % 2
    classes = np.where(rng.random(sum(N)) < 0.8, codes, 1 - codes) + 2 * rng.integers(0, 3, sum(N))
    bayes = (classes % 2 == codes)[-N[2] :].mean()
    by_class, by_label = attack(
        job(classes, codes, width=6), job((classes[:, None] == np.arange(6)).astype(np.uint8), codes)
    )
    assert by_class.accuracy == pytest.approx(bayes, abs=0.005)
    assert by_class.right.tolist() == by_label.right.tolist()


# -- scale and bad numbers -----------------------------------------------------------------
def test_scale_and_offset_change_nothing():
    table, codes = planted(0.8)
    table[:, 0] += 0.3 * np.random.default_rng(5).normal(size=len(table))
    n = [job(table * s, codes) for s in (1e-12, 1e-6, 1, 1e6, 1e12)]
    protocol = Certified("two", folds=3, epochs=4, width=16, iterations=16, plateau=False)
    found = attack(*n, job(table + 1000 * table.std(0), codes), protocol=protocol)
    assert found[2].accuracy > 0.7
    assert len({one.kind for one in found}) == 1
    assert [one.accuracy for one in found] == pytest.approx([found[2].accuracy] * 6, abs=1e-4)


@given(
    arrays(np.float64, (9, 3), elements=st.floats(-1e6, 1e6, width=32)),
    st.sampled_from([1e-150, 1e-12, 1.0, 1e12, 1e150]),
)
@settings(max_examples=50, deadline=None)
def test_standardised_columns_have_mean_0_and_deviation_1_or_are_0(table, scale):
    train, _ = standardised(table * scale, table * scale)
    # a spread of a few roundings is none: such columns are between the two
    clear = table.std(0) > 1e-10 * np.abs(table).max(0)
    assert train[:, clear].mean(0) == pytest.approx(0, abs=1e-5)
    assert train[:, clear].std(0) == pytest.approx(1, abs=1e-5)
    assert (train[:, np.ptp(table, axis=0) == 0] == 0).all()


def test_a_row_beyond_anything_is_far_and_stays_a_number():
    train, read = standardised(np.array([[1.0, 5.0], [2.0, 5.0]]), np.array([[1.7e308, 1.7e308], [-1.7e308, 0.0]]))
    assert np.isfinite(train).all()
    assert read.tolist() == [[1e4, 0.0], [-1e4, 0.0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 600, -1])
def test_one_bad_number_anywhere_is_refused(bad, row):
    table, codes = planted(0.9)
    table[row, 3] = bad
    with pytest.raises(CellError, match="not finite"):
        attack(job(table, codes))


def test_too_few_rows_of_a_group_are_refused():
    table, codes = planted(0.9)
    with pytest.raises(CellError, match="group 1 has 0 rows in test, 1 needed"):
        attack(job(table, np.where(np.arange(len(codes)) < 800, codes, 0)))
    with pytest.raises(CellError, match="group 2 has 0 rows in train and val, 3 needed"):
        attack(job(table, codes, groups=3))


# -- what decides --------------------------------------------------------------------------
def test_folds_have_equal_shares_and_no_model_sees_what_it_is_judged_on():
    pool = Pool(job(*planted(0.9)), 3)
    split = np.arange(pool.size) < N[0]
    for part in (split, ~split):
        for g in (0, 1):
            counts = np.bincount(pool.fold[part & (pool.codes[: pool.size] == g)], minlength=3)
            assert np.ptp(counts) <= 1
    for whole, half in zip(pool.fits(), pool.fits(half=True), strict=True):
        held = whole.read[whole.read < pool.size]
        assert not set(whole.train) & set(whole.read)
        assert sorted([*whole.train, *held]) == list(range(pool.size))
        assert set(half.train) < set(whole.train)
        assert half.read.tolist() == whole.read.tolist()
        counts = [np.bincount(pool.codes[fit.train]) for fit in (half, whole)]
        assert counts[0].tolist() == (-(-counts[1] // 2)).tolist()


def test_the_test_draw_decides_nothing():
    table, codes = planted(0.7)
    other = codes.copy()
    other[-N[2] :] = 1 - codes[-N[2] :]
    one, two = attack(job(table, codes), job(table, other))
    assert (one.kind, one.epoch, one.scores) == (two.kind, two.epoch, two.scores)
    assert (one.right == ~two.right).all()
    assert two.accuracy == pytest.approx(1 - one.accuracy)  # below chance, and not folded


def test_remembered_training_rows_do_not_choose_the_attacker():
    """Where scores of training rows give the group away and others do not, kinds are judged on the others."""
    table, codes = planted(0.6)
    table[: N[0], 1] = 3 * codes[: N[0]] + table[: N[0], 1]
    (found,) = attack(job(table, codes))
    assert max(found.scores.values()) < 0.7


def test_equal_kinds_leave_the_simplest():
    (found,) = attack(job(*planted(1.0)))
    assert set(found.scores.values()) == {1.0}
    assert (found.kind, found.accuracy) == ("logistic", 1.0)


# -- certificate ---------------------------------------------------------------------------
def test_a_logistic_regression_on_two_bits_that_tell_together_is_no_plateau():
    weak = Certified("weak", folds=3, kinds=("logistic",), epochs=16, width=32)
    (found,) = attack(job(*xor()), protocol=weak)
    assert found.accuracy < 0.6
    assert found.plateau is not None
    assert not found.plateau.plateau
    assert found.plateau.slopes["capacity"].gain > 25
    assert found.plateau.slopes["steps"] == Slope(0.0, 0.0)
    assert found.details["plateau"] is False
    assert found.details["capacity"]["gain"] == found.plateau.slopes["capacity"].gain


def test_a_network_stopped_early_and_a_stump_are_no_plateau():
    few = Certified("few", folds=3, kinds=("mlp-2",), epochs=1, width=32, lr=1e-4)
    stump = Certified("stump", folds=3, kinds=("boosting",), iterations=8, leaves=2)
    for protocol, name in ((few, "steps"), (stump, "capacity")):
        (found,) = attack(job(*xor(n=(900, 600, 400)), (900, 600, 400)), protocol=protocol)
        assert found.plateau is not None
        assert not found.plateau.slopes[name].flat


def test_a_strong_attacker_is_certified_where_asked():
    known, counts = [], []
    table, codes = planted(0.9)
    one, two = attack(
        job(table, codes), job(table, codes), protocol=Certified("s", folds=3, epochs=4, width=16, iterations=16),
        certify=[1], done=lambda *call: known.append(call), progress=lambda *call: counts.append(call),
    )  # fmt: skip
    assert one.plateau is None
    assert two.plateau is not None
    assert two.plateau.plateau
    assert set(two.plateau.slopes) == {"data", "capacity", "steps"}
    assert [(i, id(found)) for i, found in known] == [(0, id(one)), (1, id(two))]
    assert counts[-1] == (3 * (2 * 5 + 3), 3 * (2 * 5 + 3))


def test_slopes_have_paired_errors():
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1], [300, 500])
    before, after = rng.random(800) < 0.6, rng.random(800) < 0.7
    found = slope(before, after, codes)
    change = after.astype(int) - before.astype(int)
    assert found.gain == pytest.approx(50 * (change[:300].mean() + change[300:].mean()))
    drawn = [50 * (rng.choice(change[:300], 300).mean() + rng.choice(change[300:], 500).mean()) for _ in range(4000)]
    assert found.error == pytest.approx(np.std(drawn), rel=0.06)


# -- bits ----------------------------------------------------------------------------------
def test_equal_bits_whatever_the_threads_and_the_neighbours():
    jobs = [job(*planted(p), name=f"{p}") for p in (0.6, 0.7, 0.8)]
    protocol = Certified("bits", folds=3, epochs=3, width=16, iterations=8, plateau=False)
    one, many = attack(*jobs, protocol=protocol, threads=1), attack(*jobs, protocol=protocol, threads=3)
    (alone,) = attack(jobs[1], protocol=protocol, threads=1)
    for a, b in [*zip(one, many, strict=True), (one[1], alone)]:
        assert (a.kind, a.epoch, a.accuracy, a.scores) == (b.kind, b.epoch, b.accuracy, b.scores)
        assert (a.right == b.right).all()


# -- protocol ------------------------------------------------------------------------------
def test_protocols_are_checked():
    assert CERTIFIED["certified"].caps is None
    assert len(CERTIFIED["certified"].kinds) >= 4
    with pytest.raises(UsageError, match="folds must be at least 2; lr must be above 0"):
        Certified("bad", folds=1, lr=float("nan"))
    with pytest.raises(UsageError, match="kinds must be some of"):
        Certified("bad", kinds=("boosting", "logistic"))
    with pytest.raises(UsageError, match="caps needs a positive number"):
        Certified("bad", caps=(1, 0, 1))
