"""mAP and macro F1 against scikit-learn, and the convention for empty classes."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax
from sklearn.metrics import average_precision_score, f1_score

from biasbench import CellError, Measurement, Predictions, macro_f1, mean_average_precision
from biasbench.builtin.metrics.accuracy import Accuracy
from biasbench.scoring import average_precision

seeds = st.integers(0, 2**32 - 1)


def reference_map(probabilities, targets):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns about classes without a positive
        return np.mean([average_precision_score(t, p) for t, p in zip(targets.T, probabilities.T, strict=True)])


def reference_f1(labels, targets):
    """Per label, so that K = 1 means one class here too."""
    return np.mean([f1_score(t, y, zero_division=0) for t, y in zip(targets.T, labels.T, strict=True)])


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 60), st.integers(1, 6), st.sampled_from([1, 4, 1000]), st.floats(0, 1))
def test_multilabel_equals_scikit_learn_with_ties_and_empty_classes(seed, n, k, levels, density):
    rng = np.random.default_rng(seed)
    scores = (rng.integers(0, levels, (n, k)) / levels * 4 - 2).astype(np.float32)
    targets = (rng.random((n, k)) < density).astype(np.uint8)
    labels = (scores >= 0).astype(np.uint8)
    assert mean_average_precision(scores, targets, "multilabel") == pytest.approx(
        reference_map(expit(scores.astype(np.float64)), targets), abs=1e-12
    )
    assert macro_f1(labels, targets, "multilabel", k) == pytest.approx(reference_f1(labels, targets), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 60), st.integers(2, 8))
def test_multiclass_equals_scikit_learn(seed, n, k):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, k, n)
    scores = rng.normal(0, 2, (n, k)).astype(np.float32)
    probabilities = softmax(scores.astype(np.float64), axis=1)
    assert mean_average_precision(scores, targets, "multiclass") == pytest.approx(
        reference_map(probabilities, np.eye(k, dtype=int)[targets]), abs=1e-9
    )
    expected = f1_score(targets, scores.argmax(1), average="macro", labels=range(k), zero_division=0)
    assert macro_f1(scores.argmax(1), targets, "multiclass", k) == pytest.approx(expected, abs=1e-12)


def test_by_hand():
    # Ranks of the positives: 1 and 3 of 4, so AP = (1/1 + 2/3) / 2.
    assert average_precision(np.array([[4.0, 3, 2, 1]]), np.array([[1, 0, 1, 0]])).tolist() == [pytest.approx(5 / 6)]
    # All tied: every positive counts the share of positives.
    assert average_precision(np.zeros((1, 4)), np.array([[1, 0, 1, 0]])).tolist() == [0.5]
    # TP 1, FP 1, FN 0 -> 2/3; a class neither present nor said counts 0.
    labels, targets = np.array([[1, 0], [1, 0]]), np.array([[1, 0], [0, 0]])
    assert macro_f1(labels, targets, "multilabel", 2) == pytest.approx(1 / 3)


def test_saturated_scores_keep_their_order():
    """Float32 sigmoids of 30 and 40 are both 1, and softmaxes of -900 and -950 both 0."""
    assert mean_average_precision(np.float32([[40], [30]]), np.array([[1], [0]]), "multilabel") == 1.0
    scores = np.float32([[0, -900, -950], [0, -950, -900]])
    assert mean_average_precision(scores, np.array([1, 2]), "multiclass") == pytest.approx(2 / 3)


def test_perfect_and_worst():
    targets = np.array([[1, 0], [0, 1], [1, 0]], np.uint8)
    scores = targets * 2.0 - 1
    assert mean_average_precision(scores, targets, "multilabel") == 1.0
    assert macro_f1(targets, targets, "multilabel", 2) == 1.0
    assert macro_f1(1 - targets, targets, "multilabel", 2) == 0.0


def test_refusals():
    with pytest.raises(CellError, match="not finite"):
        mean_average_precision(np.array([[np.nan]]), np.array([[1]]), "multilabel")
    with pytest.raises(CellError, match="do not fit"):
        mean_average_precision(np.zeros((2, 3)), np.zeros((2, 2)), "multilabel")
    with pytest.raises(CellError, match="do not fit"):
        macro_f1(np.zeros(2, int), np.zeros(3, int), "multiclass", 2)
    assert np.isnan(macro_f1(np.zeros((0, 2)), np.zeros((0, 2)), "multilabel", 2))
    assert np.isnan(mean_average_precision(np.zeros((0, 2)), np.zeros((0, 2)), "multilabel"))


def context(task, k):
    return Measurement(task, tuple(f"l{i}" for i in range(k)), "gender", ("man", "woman"), "quick", 0)


def test_metric_reports_percent_of_the_decoded_labels_and_counts_empty_classes():
    rng = np.random.default_rng(3)
    targets = (rng.random((50, 4)) < 0.4).astype(np.uint8)
    targets[:, 2] = 0
    scores = rng.normal(size=(50, 4)).astype(np.float32)
    labels = (scores >= 0.7).astype(np.uint8)  # decoded otherwise than at probability 0.5
    test = Predictions({"label": scores}, labels, targets, {}, [str(i) for i in range(50)])
    out = Accuracy().measure({"test": test}, {"test": pd.DataFrame()}, context("multilabel", 4))
    assert out["map"] == pytest.approx(100 * reference_map(expit(scores), targets), abs=1e-4)
    assert out["f1"] == pytest.approx(100 * reference_f1(labels, targets))
    assert out["empty_classes"] == 1
    assert {c.key for c in Accuracy.columns} <= set(out)
    assert all("counts 0" in c.help and c.better == "higher" for c in Accuracy.columns)


def test_metric_multiclass():
    scores = np.eye(5, dtype=np.float32)[[0, 1, 2, 2]]
    targets = np.array([0, 1, 2, 3])
    test = Predictions({"label": scores}, scores.argmax(1), targets, {}, list("abcd"))
    out = Accuracy().measure({"test": test}, {"test": pd.DataFrame()}, context("multiclass", 5))
    assert out["empty_classes"] == 1
    assert out["f1"] == pytest.approx(100 * (1 + 1 + 2 / 3 + 0 + 0) / 5)


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_map_of_each_group_equals_scikit_learn_on_its_rows(task):
    rng = np.random.default_rng(5)
    n, k = 90, 4
    codes = rng.integers(-1, 2, n)  # unknown, man, woman: and nobody of a third group
    hot = (rng.random((n, k)) < 0.4).astype(np.uint8)
    hot[codes == 1, 2] = 0  # no woman has label 2
    targets = hot if task == "multilabel" else np.where(codes == 1, rng.integers(0, 2, n), rng.integers(0, k, n))
    scores = rng.normal(size=(n, k)).astype(np.float32)
    labels = (scores >= 0).astype(np.uint8) if task == "multilabel" else scores.argmax(1)
    test = Predictions({"label": scores}, labels, targets, {"gender": codes}, [str(i) for i in range(n)])
    told = Measurement(task, tuple("abcd"), "gender", ("man", "woman", "other"), "quick", 0)
    out = Accuracy().measure({"test": test}, {"test": pd.DataFrame()}, told)
    probabilities = expit(scores) if task == "multilabel" else softmax(scores.astype(np.float64), axis=1)
    truth = targets if task == "multilabel" else np.eye(k, dtype=int)[targets]
    for group, name in enumerate(("man", "woman")):
        rows = codes == group
        expected = 100 * reference_map(probabilities[rows], truth[rows])
        assert out["map_by_group"][name] == pytest.approx(expected, abs=1e-4)
    assert np.isnan(out["map_by_group"]["other"])
    assert out["empty_classes_by_group"] == {"man": 0, "woman": 1 if task == "multilabel" else 2, "other": k}
    assert set(out) == {"map", "f1", "empty_classes", "map_by_group", "empty_classes_by_group"}
