"""The metric `amplification`: which arrays go where, details and flags."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from biasbench import (
    CellError,
    Measurement,
    Predictions,
    bias_amplification,
    demographic_parity_gap,
    directional_amplification,
    equalised_odds_gap,
    multi_attribute_amplification,
    worst_group,
)
from biasbench.builtin.metrics.amplification import Amplification
from biasbench.measures import combinations

RNG = np.random.default_rng(7)
N = 300
GROUP = RNG.integers(-1, 2, N)
TRUTH = (RNG.random((N, 3)) < 0.3 + 0.3 * (GROUP[:, None] == 1)).astype(np.uint8)
SAID = np.where(RNG.random((N, 3)) < 0.2, 1 - TRUTH, TRUTH).astype(np.uint8)
LEARNT = (RNG.random((N, 3)) < 0.6 - 0.3 * (GROUP[:, None] == 1)).astype(np.uint8)
HEAD = RNG.normal(size=(N, 2)).astype(np.float32)


def split(targets, labels, group=GROUP, **scores):
    n = len(group)
    given = {"label": np.zeros((n, 3), np.float32), **scores}
    return Predictions(given, labels, targets, {"gender": group}, [str(i) for i in range(n)])


def measured(train, test, task="multilabel"):
    context = Measurement(task, ("x", "y", "z"), "gender", ("man", "woman"), "quick", 0)
    empty = dict.fromkeys(("train", "test"), pd.DataFrame())
    return Amplification().measure({"train": train, "test": test}, empty, context)


def test_training_truth_is_the_reference_and_the_true_attribute_counts():
    got = measured(split(LEARNT, 1 - LEARNT), split(TRUTH, SAID))
    reference = (LEARNT, GROUP)
    mals = bias_amplification(TRUTH, SAID, GROUP, reference=reference)
    ways = directional_amplification(TRUTH, SAID, GROUP, reference=reference)
    multi = multi_attribute_amplification(TRUTH, SAID, GROUP, reference=reference)
    odds, worst = equalised_odds_gap(TRUTH, SAID, GROUP), worst_group(TRUTH, SAID, GROUP)
    expected = {
        "mals": mals.value,
        "directional_at": ways.attribute_to_task.value,
        "directional_ta": math.nan,
        "multi_mals": multi.value,
        "multi_mals_variance": multi.variance,
        "demographic_parity_gap": demographic_parity_gap(SAID, GROUP).value,
        "equalised_odds_gap": odds.value,
        "true_positive_gap": odds.true_positive.value,
        "false_positive_gap": odds.false_positive.value,
        "worst_group_f1": worst.f1.value,
        "worst_group_accuracy": worst.accuracy.value,
        "worst_pair_f1": worst.pair_f1.value,
        "worst_pair_accuracy": worst.pair_accuracy.value,
    }
    assert {key: got[key] for key in expected} == pytest.approx(expected, nan_ok=True)
    assert set(expected) == {column.key for column in Amplification.columns}
    assert abs(mals.value - bias_amplification(TRUTH, SAID, GROUP).value) > 5  # the two references differ
    assert got["flags"] == []
    assert got["reasons"] == {"directional_ta": "no predicted attribute"}
    assert got["attribute"] == "true"
    assert got["unknown"] == {"test": (GROUP < 0).sum(), "train": (GROUP < 0).sum()}
    assert got["combinations"] == 7
    assert got["worst"]["worst_group_f1"].endswith(f"n = {worst.f1.n})")


def test_an_output_of_the_attributes_name_is_the_predicted_attribute():
    got = measured(split(LEARNT, LEARNT), split(TRUTH, SAID, gender=HEAD))
    given = {"reference": (LEARNT, GROUP), "attribute_predictions": HEAD.argmax(1)}
    assert got["mals"] == bias_amplification(TRUTH, SAID, GROUP, **given).value
    assert got["multi_mals"] == multi_attribute_amplification(TRUTH, SAID, GROUP, **given).value
    ways = directional_amplification(TRUTH, SAID, GROUP, **given)
    assert got["directional_ta"] == ways.task_to_attribute.value
    assert got["attribute"] == "predicted"
    assert got["flags"] == ["amplification under the predicted attribute"]
    with pytest.raises(CellError, match="not one column a group"):
        measured(split(LEARNT, LEARNT), split(TRUTH, SAID, gender=HEAD[:, :1]))


def test_single_label():
    truth, said = RNG.integers(0, 3, N), RNG.integers(0, 3, N)
    got = measured(split(truth, truth), split(truth, said), "multiclass")
    assert got["mals"] == bias_amplification(truth, said, GROUP).value
    assert got["worst_group_accuracy"] == worst_group(truth, said, GROUP).accuracy.value
    assert got["combinations"] == 3


def test_a_missing_group_is_undefined_and_flagged():
    men = np.zeros(N, np.int64)
    got = measured(split(LEARNT, LEARNT), split(TRUTH, SAID, men))
    assert math.isnan(got["mals"])
    assert math.isnan(got["demographic_parity_gap"])
    assert got["worst_group_f1"] == worst_group(TRUTH, SAID, men).f1.value
    assert "mals undefined: 1 group with examples, two are needed" in got["flags"]
    assert "equalised_odds_gap undefined: no label has both rates in two groups" in got["flags"]
    assert got["absent"] == ["woman"]


def test_too_many_combinations_leave_the_other_figures(monkeypatch):
    monkeypatch.setattr(combinations, "MOST", 3)
    got = measured(split(LEARNT, LEARNT), split(TRUTH, SAID))
    assert math.isnan(got["multi_mals"])
    assert math.isnan(got["multi_mals_variance"])
    assert math.isfinite(got["mals"])
    assert [f for f in got["flags"] if "multi_mals undefined: more than 3 label combinations occur" in f]


def test_two_columns_stand_on_the_board_and_each_says_which_way_is_better():
    board = [column.key for column in Amplification.columns if column.board]
    assert board == ["mals", "worst_group_f1"]
    better = {column.key: column.better for column in Amplification.columns}
    assert [k for k, b in better.items() if b == "zero"] == ["mals", "directional_at", "directional_ta"]
    assert all(b == "higher" for k, b in better.items() if k.startswith("worst"))
    assert all(b == "lower" for k, b in better.items() if "gap" in k or k.startswith("multi"))
    assert all(column.help for column in Amplification.columns)
