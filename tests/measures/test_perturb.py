"""Perturbed labels: their expected F1 against enumeration, simulation and the published curves."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from biasbench import CellError, DataError, UsageError, macro_f1, one_hot
from biasbench.measures.draws import balanced_rows
from biasbench.measures.perturb import MOST, calibrate, expected_f1, kind_for, perturb

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "wang2019"
real = pytest.mark.skipif(not DATA.is_dir(), reason="the published label tables are not on this machine")
seeds = st.integers(0, 2**32 - 1)


def positives_of(labels, width):
    return one_hot(labels, width).sum(0, dtype=np.int64)


def simulated(labels, kind, p, width, times, seed):
    """Macro F1 of each of so many perturbations of the labels."""
    rng, clean = np.random.default_rng(seed), one_hot(labels, width)
    drawn = (one_hot(perturb(labels, kind, p, rng, width), width) for _ in range(times))
    return np.array([macro_f1(said, clean, "multilabel", width) for said in drawn])


def rare_and_common(rng, n=800, k=12):
    labels = (rng.random((n, k)) < np.geomspace(0.004, 0.5, k)).astype(np.uint8)
    labels[:, 3] = 0  # a label that this draw lacks
    return labels


def skewed_classes(rng, n=800, k=12):
    weights = np.geomspace(0.01, 1, k)
    weights[3] = 0
    return rng.choice(k, n, p=weights / weights.sum())


CLEAN = {"flips": rare_and_common(np.random.default_rng(5)), "replacement": skewed_classes(np.random.default_rng(5))}


# -- expectation ---------------------------------------------------------------------------
@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.data(), st.floats(0, 1))
def test_expected_f1_of_flips_equals_enumeration(n, data, p):
    positives = data.draw(st.integers(0, n))
    total = 0.0
    for flips in product([0, 1], repeat=n):  # the first `positives` rows carry the label
        hits, alarms = positives - sum(flips[:positives]), sum(flips[positives:])
        f1 = 2 * hits / (positives + hits + alarms) if positives else 0.0
        total += p ** sum(flips) * (1 - p) ** (n - sum(flips)) * f1
    assert expected_f1(np.array([positives]), n, p, "flips") == pytest.approx(total, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.data(), st.floats(0, 1))
def test_expected_f1_of_replacement_equals_enumeration(k, data, p):
    clean = np.array(data.draw(st.lists(st.integers(0, k - 1), min_size=1, max_size=4)))
    total = 0.0
    for said in product(range(k), repeat=len(clean)):
        chance = np.prod([(1 - p) * (a == b) + p / k for a, b in zip(said, clean, strict=True)])
        total += chance * f1_score(clean, said, labels=range(k), average="macro", zero_division=0)
    got = expected_f1(np.bincount(clean, minlength=k), len(clean), p, "replacement")
    assert got == pytest.approx(total, abs=1e-9)


@settings(max_examples=8, deadline=None)
@given(seeds, st.sampled_from(["flips", "replacement"]), st.integers(2, 15), st.integers(20, 400), st.floats(0.02, 1))
def test_expected_f1_equals_the_mean_over_simulated_draws(seed, kind, k, n, share):
    rng, p = np.random.default_rng(seed), share * MOST[kind]
    single = kind == "replacement" or seed % 2 == 1
    labels = skewed_classes(rng, n, max(k, 5)) if single else rare_and_common(rng, n, max(k, 5))
    got = simulated(labels, kind, p, max(k, 5), 60, seed)
    error = got.std() / len(got) ** 0.5
    want = expected_f1(positives_of(labels, max(k, 5)), n, p, kind)
    assert got.mean() == pytest.approx(want, abs=1e-3 + 5 * error)


@pytest.mark.parametrize("kind", ["flips", "replacement"])
def test_expected_f1_falls_with_the_rate(kind):
    clean = CLEAN[kind]
    curve = [expected_f1(positives_of(clean, 12), len(clean), p, kind) for p in np.linspace(0, MOST[kind], 60)]
    assert (np.diff(curve) < 0).all()
    assert curve[0] == pytest.approx(11 / 12)  # the label that nothing has counts 0 also when nothing is perturbed


# -- calibration ---------------------------------------------------------------------------
@pytest.mark.parametrize("target", [0.85, 0.6, 0.35])
@pytest.mark.parametrize("kind", ["flips", "replacement"])
def test_calibration_hits_the_target_by_brute_force(kind, target):
    clean = CLEAN[kind]
    found = calibrate(kind, clean, 12, target)
    rng = np.random.default_rng(6)
    if kind == "flips":
        said = [clean ^ (rng.random(clean.shape) < found.p) for _ in range(80)]
    else:
        said = [np.where(rng.random(800) < found.p, rng.integers(12, size=800), clean) for _ in range(80)]
    drawn = [f1_score(clean, s, labels=range(12), average="macro", zero_division=0) for s in said]
    assert found.f1 == pytest.approx(target, abs=1e-6)
    assert (found.kind, found.target, found.out_of_reach) == (kind, target, False)
    assert np.mean(drawn) == pytest.approx(target, abs=max(1e-3, 3.5 * np.std(drawn) / 80**0.5))


@pytest.mark.parametrize("kind", ["flips", "replacement"])
def test_targets_out_of_reach_are_clamped_and_flagged(kind):
    above, below = calibrate(kind, CLEAN[kind], 12, 0.99), calibrate(kind, CLEAN[kind], 12, 0.01)
    assert (above.p, above.out_of_reach) == (0.0, True)
    assert (below.p, below.out_of_reach) == (MOST[kind], True)
    exact = calibrate(kind, CLEAN[kind], 12, 11 / 12)
    assert (exact.p, exact.out_of_reach) == (0.0, False)


# -- perturbing ----------------------------------------------------------------------------
def test_flips_are_independent_with_their_rate_and_nested():
    zero = np.zeros((4000, 50), np.uint8)
    few, many = (perturb(zero, "flips", p, np.random.default_rng(1), 50) for p in (0.03, 0.05))
    assert few.mean() == pytest.approx(0.03, abs=4 * (0.03 / zero.size) ** 0.5)
    assert (few <= many).all()
    assert abs(np.corrcoef(many[:, 0], many[:, 1])[0, 1]) < 4 / 4000**0.5


@settings(max_examples=30, deadline=None)
@given(seeds, st.lists(st.integers(0, 6), max_size=40), st.floats(0, 1), st.floats(0, 1))
def test_replacements_are_nested_repeatable_and_leave_the_labels_alone(seed, classes, p, q):
    clean = np.array(classes, np.int16)
    few, many = (perturb(clean, "replacement", rate, np.random.default_rng(seed), 7) for rate in (min(p, q), max(p, q)))
    assert (many[few != clean] == few[few != clean]).all()
    assert few.dtype == np.int64
    assert clean.tolist() == classes
    assert (many == perturb(clean, "replacement", max(p, q), np.random.default_rng(seed), 7)).all()


def test_replacements_are_uniform_and_may_be_the_same_label():
    said = perturb(np.zeros(60_000, np.int64), "replacement", 0.5, np.random.default_rng(2), 4)
    assert np.bincount(said) / 60_000 == pytest.approx([0.625, 0.125, 0.125, 0.125], abs=0.006)


@pytest.mark.parametrize("kind", ["flips", "replacement"])
def test_nothing_is_left_at_the_largest_rate_and_something_short_of_it(kind):
    rng, n = np.random.default_rng(4), 40_000
    for rate, left in ((MOST[kind], 0.0), (0.9 * MOST[kind], 0.1)):
        said = [one_hot(perturb(np.full(n, c), kind, rate, rng, 3), 3).mean(0) for c in (0, 1)]
        assert said[0] - said[1] == pytest.approx([left, -left, 0], abs=4 * (0.5 / n) ** 0.5)


def test_flips_of_single_label_data_flip_the_one_hot_vectors():
    classes = np.array([2, 0, 1])
    got = perturb(classes, "flips", 0.4, np.random.default_rng(3), 4)
    assert (got == perturb(np.eye(4, dtype=np.uint8)[classes], "flips", 0.4, np.random.default_rng(3), 4)).all()
    assert (got.shape, got.dtype) == ((3, 4), np.uint8)


def test_what_cannot_be_meant_is_refused():
    hot, classes, rng = np.eye(3, dtype=np.uint8), np.arange(3), np.random.default_rng(0)
    with pytest.raises(UsageError, match=r"multi-label\. Use flips"):
        perturb(hot, "replacement", 0.1, rng, 3)
    with pytest.raises(UsageError, match="multi-label"):
        calibrate("replacement", hot, 3, 0.5)
    with pytest.raises(UsageError, match=r"Did you mean 'flips'\?"):
        kind_for("flip", single=True)
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="outside"):
            perturb(classes, "flips", p, rng, 3)
    for labels in (hot, classes):
        with pytest.raises(DataError):
            perturb(labels, "flips", 0.1, rng, 2)
    for target in (-0.1, 1.1, float("nan")):
        with pytest.raises(CellError, match="macro F1 of"):
            calibrate("flips", hot, 3, target)
    with pytest.raises(CellError, match="no labels"):
        calibrate("replacement", classes[:0], 3, 0.5)


# -- the published lists -------------------------------------------------------------------
@pytest.fixture(scope="module")
def coco_val():
    """Labels of a balanced draw of 1,500 + 1,500."""
    with np.load(DATA / "coco_val.npz") as table:
        return table["objects"][balanced_rows(table["gender"].astype(np.int64), 2, 1500, np.random.default_rng(0))]


@pytest.fixture(scope="module")
def imsitu_val():
    """Verbs of a balanced draw of 3,000 + 3,000."""
    with np.load(DATA / "imsitu_val.npz") as table:
        rows = balanced_rows(table["gender"].astype(np.int64), 2, 3000, np.random.default_rng(0))
        return table["verb"][rows].astype(np.int64)


COCO_FLIPS = {
    0.0195: 63.9, 0.022: 61.8, 0.026: 58.3, 0.030: 55.4, 0.034: 52.9, 0.038: 50.3, 0.044: 47.2, 0.052: 43.7,
    0.060: 40.9, 0.065: 38.9,
}  # fmt: skip
IMSITU_FLIPS = {
    0.0001: 98.9, 0.001: 90.1, 0.002: 82.1, 0.004: 69.7, 0.006: 60.8, 0.009: 50.6, 0.011: 45.7, 0.013: 41.4,
    0.014: 39.6, 0.015: 38.1, 0.017: 35.2, 0.019: 32.6, 0.025: 26.7, 0.04: 18.5, 0.07: 11.2, 0.10: 7.9, 0.15: 5.1,
}  # fmt: skip
IMSITU_REPLACED = {
    0.08: 91.8, 0.10: 89.6, 0.15: 84.6, 0.50: 49.8, 0.55: 44.8, 0.58: 42.1, 0.60: 39.4, 0.62: 37.5, 0.64: 35.3,
    0.66: 33.7, 0.68: 31.6,
}  # fmt: skip


@real
def test_the_curves_measured_on_the_published_lists_are_met(coco_val, imsitu_val):
    """Each of those figures is one random draw, with a standard deviation of up to 0.55 points."""
    curves = [(coco_val, 79, "flips", COCO_FLIPS)]
    curves += [(imsitu_val, 211, "flips", IMSITU_FLIPS), (imsitu_val, 211, "replacement", IMSITU_REPLACED)]
    for labels, width, kind, curve in curves:
        positives = positives_of(labels, width)
        got = {p: 100 * expected_f1(positives, len(labels), p, kind) for p in curve}
        assert got == pytest.approx(curve, abs=0.5), kind


@real
@pytest.mark.parametrize(("kind", "p", "times"), [("flips", 0.0137, 60), ("replacement", 0.593, 400)])
def test_expected_f1_of_the_imsitu_list_equals_simulation(imsitu_val, kind, p, times):
    got = 100 * simulated(imsitu_val, kind, p, 211, times, 1)
    assert got.std() / times**0.5 < 0.05
    assert got.mean() == pytest.approx(100 * expected_f1(positives_of(imsitu_val, 211), 6000, p, kind), abs=0.1)


@real
@pytest.mark.parametrize("p", [0.0195, 0.065])
def test_expected_f1_of_the_coco_list_equals_simulation(coco_val, p):
    got = 100 * simulated(coco_val, "flips", p, 79, 120, 1)
    assert got.std() / 120**0.5 < 0.05
    assert got.mean() == pytest.approx(100 * expected_f1(positives_of(coco_val, 79), 3000, p, "flips"), abs=0.1)


@real
def test_calibration_of_the_published_lists_finds_the_rates_that_gave_the_curves(coco_val, imsitu_val):
    for p, f1 in COCO_FLIPS.items():
        assert calibrate("flips", coco_val, 79, f1 / 100).p == pytest.approx(p, rel=0.03)
    assert calibrate("replacement", imsitu_val, 211, 0.397).p == pytest.approx(0.593, abs=0.01)
    assert calibrate("flips", imsitu_val, 211, 0.401).p == pytest.approx(0.0137, abs=0.0003)
