"""Gaps and the worst group against scikit-learn, group by group, and how results print."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

from biasbench import DataError, demographic_parity_gap, equalised_odds_gap, worst_group


@st.composite
def examples(draw, single=False):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, k, groups = draw(st.integers(1, 60)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    codes = np.where(rng.random(n) < draw(st.sampled_from([0, 0.3])), -1, rng.integers(0, groups, n))
    if single:
        return rng.integers(0, k, n), rng.integers(0, k, n), codes, k
    rate = draw(st.sampled_from([0.05, 0.5, 0.9]))
    truth, said = (rng.random((n, k)) < rate for _ in range(2))
    return truth.astype(np.uint8), said.astype(np.uint8), codes, k


def spread(values):
    values = [v for v in values if not np.isnan(v)]
    return 100 * (max(values) - min(values)) if len(values) > 1 else np.nan


def defined_mean(values):
    values = [v for v in values if not np.isnan(v)]
    return np.mean(values) if values else np.nan


def rates(truth, said):
    """True and false positive rate of a label, by scikit-learn."""
    (tn, fp), (fn, tp) = confusion_matrix(truth, said, labels=[0, 1])
    return tp / (tp + fn) if tp + fn else np.nan, fp / (fp + tn) if fp + tn else np.nan


@settings(max_examples=100, deadline=None)
@given(examples())
def test_gaps_equal_scikit_learns_rates(arrays):
    truth, said, codes, k = arrays
    groups = sorted(set(codes.tolist()) - {-1})
    parity = [spread(said[codes == g, j].mean() for g in groups) for j in range(k)]
    both = [[rates(truth[codes == g, j], said[codes == g, j]) for g in groups] for j in range(k)]
    tpr, fpr = ([spread(pair[i] for pair in label) for label in both] for i in (0, 1))
    larger = [np.nan if np.isnan(t + f) else max(t, f) for t, f in zip(tpr, fpr, strict=True)]
    odds = equalised_odds_gap(truth, said, codes)
    gap = demographic_parity_gap(said, codes)
    for got, expected in ((gap, parity), (odds.true_positive, tpr), (odds.false_positive, fpr), (odds, larger)):
        np.testing.assert_allclose(got.per_label, expected, atol=1e-9)
        assert got.value == pytest.approx(defined_mean(expected), abs=1e-9, nan_ok=True)
        assert got.undefined == np.isnan(expected).sum()
        assert (got.reason != "") == np.isnan(got.value)


def lowest(values):
    values = np.array(values, float)
    return np.nan if np.isnan(values).all() else np.nanmin(values)


@settings(max_examples=100, deadline=None)
@given(examples())
def test_worst_group_equals_scikit_learn_multi_label(arrays):
    truth, said, codes, k = arrays
    groups = sorted(set(codes.tolist()) - {-1})
    f1, recall = np.full((2, len(groups), k), np.nan)
    for i, g in enumerate(groups):
        here = codes == g
        for j in np.flatnonzero(truth[here].any(0)):
            f1[i, j] = f1_score(truth[here, j], said[here, j], zero_division=0)
            recall[i, j] = recall_score(truth[here, j], said[here, j])
    accuracy = [accuracy_score(truth[codes == g].ravel(), said[codes == g].ravel()) for g in groups]
    got = worst_group(truth, said, codes)
    expected = {
        "f1": lowest([defined_mean(row) for row in f1]),
        "accuracy": lowest(accuracy),
        "pair_f1": lowest(f1),
        "pair_accuracy": lowest(recall),
    }
    for name, value in expected.items():
        assert getattr(got, name).value == pytest.approx(100 * value, abs=1e-9, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(examples(single=True))
def test_worst_group_equals_scikit_learn_single_label(arrays):
    truth, said, codes, k = arrays
    groups = sorted(set(codes.tolist()) - {-1})
    accuracy = [accuracy_score(truth[codes == g], said[codes == g]) for g in groups]
    macro = [
        f1_score(truth[codes == g], said[codes == g], labels=np.unique(truth[codes == g]), average="macro")
        for g in groups
    ]
    got = worst_group(truth, said, codes, label_names=[str(i) for i in range(k)])
    assert got.accuracy.value == pytest.approx(100 * lowest(accuracy), nan_ok=True)
    assert got.f1.value == pytest.approx(100 * lowest(macro), nan_ok=True)
    hot = np.eye(k, dtype=np.uint8)
    odds = equalised_odds_gap(truth, said, codes, label_names=[str(i) for i in range(k)])
    assert odds.value == pytest.approx(equalised_odds_gap(hot[truth], hot[said], codes).value, nan_ok=True)


def test_undefined_without_a_warning():
    nothing = np.zeros((0, 0), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for result in (
            demographic_parity_gap(nothing, np.zeros(0, int)),
            equalised_odds_gap(nothing, nothing, np.zeros(0, int)),
            worst_group(nothing, nothing, np.zeros(0, int)),
            demographic_parity_gap(np.ones((2, 1), int), np.array([-1, -1])),
        ):
            assert np.isnan(result.value)
            assert "undefined" in str(result)
            assert len(result.to_frame()) <= 1


def test_refusals():
    ones, codes = np.ones((2, 1), np.uint8), np.array([0, 1])
    with pytest.raises(DataError, match="labels: a value is outside"):
        demographic_parity_gap(2 * ones, codes)
    with pytest.raises(DataError, match="targets: 1 rows, the attribute has 2"):
        equalised_odds_gap(ones[:1], ones, codes)
    with pytest.raises(DataError, match="attribute: must be integer codes"):
        worst_group(ones, ones, ["man", "woman"])


def test_results_print_and_become_tables():
    truth, said = np.array([[1, 0], [0, 0], [1, 0], [0, 0]]), np.array([[1, 0], [0, 0], [0, 0], [0, 0]])
    codes, names = np.array([0, 0, 1, 1]), {"label_names": ("dog", "cat"), "groups": ("man", "woman")}
    parity = demographic_parity_gap(said, codes, **names)
    assert str(parity) == "demographic parity gap 25.00 points"
    assert parity.to_frame().to_dict("list") == {
        "label": ["dog", "cat"], "gap": [50, 0], "rate man": [50, 0], "rate woman": [0, 0],
    }  # fmt: skip
    odds = equalised_odds_gap(truth, said, codes, **names)
    assert str(odds) == "equalised odds gap 100.00 points (undefined labels: 1)"
    assert odds.to_frame()["true_positive_rate woman"].tolist()[0] == 0
    worst = worst_group(truth, said, codes, **names)
    assert str(worst).splitlines() == [
        "worst group: macro F1 0.00 % (woman, n = 2), accuracy 75.00 % (woman, n = 2)",
        "worst label and group: F1 0.00 % (dog, woman, n = 1), accuracy 0.00 % (dog, woman, n = 1)",
    ]
    frame = worst.to_frame()
    assert frame["group"].tolist() == ["man", "woman", "man", "man", "woman", "woman"]
    assert frame["label"].tolist() == ["", "", "dog", "cat", "dog", "cat"]
    assert frame["n"].tolist() == [2, 2, 1, 0, 1, 0]
