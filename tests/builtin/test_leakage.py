"""Leakage as a metric: what it makes of a cell's predictions and tables."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from biasbench import (
    LEAKAGE_PROTOCOLS,
    CellError,
    DataError,
    Measurement,
    Predictions,
    Sample,
    leakage,
    macro_f1,
)
from biasbench.builtin.metrics.leakage import Leakage

pytestmark = pytest.mark.torch
SHORT = "smoke(rounds=2, epochs=4, lr=1e-2, width=16, caps=(200, 100, 100), batch_size=32)"
SIZES = {"train": 500, "val": 260, "test": 240}
CONTEXT = Measurement("multilabel", ("a", "b", "c", "d"), "gender", ("man", "woman"), SHORT, 2)
KEYS = {
    "lambda_m": "lambda_M", "lambda_d": "lambda_D", "lambda_d_f1": "lambda_D_F1", "delta": "delta",
    "null": "null_train", "null_all": "null_all",
    "lambda_m_decoded": "lambda_M_decoded", "delta_decoded": "delta_decoded",
}  # fmt: skip


class Kept(dict):
    """A memo in memory."""

    put = dict.__setitem__

    def __call__(self, key, compute):
        return self.setdefault(key, compute())


def cell(classes=False, views=0):
    """Predictions and tables of a model that is right three times of four, whose first label tells gender."""
    predictions, tables = {}, {}
    for i, (split, n) in enumerate(SIZES.items()):
        rng = np.random.default_rng(i)
        gender = (rng.random(n) < 0.45).astype(np.int64)
        y = (rng.random((n, 4)) < 0.3).astype(np.uint8)
        y[:, 0] = gender ^ (rng.random(n) < 0.2)
        if classes:
            y = 2 * y[:, 0].astype(np.int64) + rng.integers(0, 2, n)
        hot = np.eye(4)[y] if classes else y
        scores = (rng.normal(size=(n, 4)) + 2.0 * hot - 1).astype(np.float32)
        ids = [f"{split}/{j}" for j in range(n)]
        columns = {"label": y} if classes else {f"label/{k}": y[:, k] for k in range(4)}
        tables[split] = pd.DataFrame({"id": ids, "path": ids, **columns, "attribute/gender": gender})
        decoded = scores.argmax(1) if classes else (scores >= 0).astype(np.uint8)
        extra = tuple({"label": scores + j} for j in range(1, views + 1)) if split == "train" else ()
        predictions[split] = Predictions({"label": scores}, decoded, y, {"gender": gender}, ids, views=extra)
    return predictions, tables


def measure(predictions, tables, **changes):
    return Leakage().measure(predictions, tables, replace(CONTEXT, **changes))


def samples(predictions, tables):
    return {
        s: Sample(p.targets, tables[s]["attribute/gender"].to_numpy(), p.scores["label"], p.labels,
                  [view["label"] for view in p.views])
        for s, p in predictions.items()
    }  # fmt: skip


# -- what it passes on ---------------------------------------------------------------------
@pytest.mark.parametrize("classes", [False, True])
def test_a_list_per_column_as_the_function_gives_it(classes):
    one = cell(classes)
    row = measure(*one)
    report = leakage(samples(*one), SHORT, groups=("man", "woman"), seed=2)
    assert [column.key for column in Leakage.columns] == list(KEYS)
    for key, name in KEYS.items():
        assert row[key] == report.figures[name].rounds.tolist()
        assert len(row[key]) == 2
    assert min(row["lambda_d"]) > 65  # of 80: equal figures are not all chance
    assert row["flags"] == report.flags
    assert set(row["figures"]) == set(report.figures)
    assert row["protocol"] == SHORT
    task = "multiclass" if classes else "multilabel"
    test = one[0]["test"]
    assert row["f1_target"] == pytest.approx(100 * macro_f1(test.labels, test.targets, task, 4))


def test_details_are_json():
    row = measure(*cell())
    assert json.loads(json.dumps(dict(row), allow_nan=False)) == json.loads(json.dumps(row))
    assert row["per_group"] == {"train": 200, "val": 100, "test": 100}
    assert row["figures"]["lambda_M"]["last_epoch"]["n"] == 2


def test_rounds_train_on_views():
    plain, viewed = measure(*cell()), measure(*cell(views=2))
    assert (plain["training_views"], viewed["training_views"]) == (0, 2)
    assert viewed["lambda_d"] == plain["lambda_d"]
    assert viewed["lambda_m"] != plain["lambda_m"]


def test_what_is_known_is_not_trained_again():
    one, memo = cell(), Kept()
    row = measure(*one, memo=memo)
    size = len(memo)
    assert size == 8 + 8 + 2  # four figures and four nulls of two rounds, and two controls
    assert measure(*one, memo=memo) == row
    assert len(memo) == size


def test_protocols_are_those_of_the_function():
    assert Leakage.protocols == LEAKAGE_PROTOCOLS
    assert Leakage.splits == ("train", "val", "test")


# -- what is undefined or refused ----------------------------------------------------------
def test_an_absent_group_leaves_every_column_undefined():
    predictions, tables = cell()
    tables["val"]["attribute/gender"] = 0
    row = measure(predictions, tables)
    assert all(np.isnan(row[column.key]).all() for column in Leakage.columns)
    assert row["flags"] == ["leakage undefined: no example of woman (val)"]


def test_intersections_are_measured_against_their_own_chance():
    predictions, tables = cell()
    for table in tables.values():
        table["attribute/tone"] = np.arange(len(table)) % 3
        table["attribute/gender*tone"] = 3 * table["attribute/gender"] + table["attribute/tone"]
    groups = tuple(f"{g}*{t}" for g in ("man", "woman") for t in "abc")
    row = measure(predictions, tables, attribute="gender*tone", groups=groups)
    # None has 100 rows in every split: not measured, and the reason is told.
    assert all(np.isnan(row[column.key]).all() for column in Leakage.columns)
    assert "fewer than two groups have 100 rows in every split" in row["dropped_groups"]["reason"]


def test_an_attribute_that_the_tables_lack_is_refused():
    with pytest.raises(DataError, match=r"no protected attribute 'gendre'.*Did you mean 'gender'"):
        measure(*cell(), attribute="gendre")


def test_tables_of_other_examples_are_refused():
    predictions, tables = cell()
    tables["test"] = tables["test"].iloc[::-1].reset_index(drop=True)
    with pytest.raises(DataError, match=r"test: predictions and table are not of the same examples"):
        measure(predictions, tables)


def test_predictions_without_label_scores_are_refused():
    predictions, tables = cell()
    p = predictions["val"]
    predictions["val"] = Predictions({"other": p.scores["label"]}, p.labels, p.targets, p.attributes, p.ids)
    with pytest.raises(CellError, match=r"val: no scores \[N, K\] named 'label'"):
        measure(predictions, tables)


def test_scores_spoilt_after_the_fact_are_refused_not_fair():
    predictions, tables = cell()
    predictions["train"].scores["label"][:, 2] = np.nan
    with pytest.raises(DataError, match="not finite"):
        measure(predictions, tables)
