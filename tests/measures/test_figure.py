"""Figures by round, and the report."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from biasbench.measures.figure import Figure, LeakageReport, fold, undefined

shares = arrays(np.float64, st.integers(1, 8), elements=st.floats(0, 1))


@given(shares)
def test_the_fold_mirrors_at_one_half(accuracy):
    folded = fold(accuracy)
    assert folded == pytest.approx(100 * np.maximum(accuracy, 1 - accuracy))
    assert fold(1 - accuracy) == pytest.approx(folded)
    assert fold(accuracy, 3) == pytest.approx(100 * accuracy)


@given(st.integers(1, 6).flatmap(lambda n: st.tuples(*(arrays(np.float64, n, elements=st.floats(0, 100)),) * 2)))
def test_differences_are_by_round(pair):
    one, other = pair
    figure = Figure(one, one / 2).minus(Figure(other, other / 2), (-1.0, 2.0))
    assert figure.rounds == pytest.approx(one - other)
    assert figure.last == pytest.approx((one - other) / 2)
    assert figure.mean == pytest.approx(one.mean() - other.mean())
    assert figure.std == pytest.approx(np.sqrt(((one - other - figure.mean) ** 2).mean()), abs=1e-9)
    assert (figure.interval, figure.n, figure.epochs) == ((-1.0, 2.0), len(one), ())
    assert Figure(one, one).minus(Figure(other)).last is None


def test_a_figure_as_json():
    figure = Figure(np.array([60.0, 62.0]), np.array([59.0, 59.0]), (3, 4), (55.0, 66.0))
    found = figure.to_json()
    # Student's t for two values: 12.7062 standard errors, which are 1 point here.
    assert found.pop("interval_95_rounds") == pytest.approx([61 - 12.7062, 61 + 12.7062], abs=1e-3)
    assert found == {
        "mean": 61.0, "std": 1.0, "n": 2, "rounds": [60.0, 62.0], "last_epoch": {"mean": 59.0, "std": 0.0, "n": 2},
        "epochs": [3, 4], "interval_95": [55.0, 66.0],
    }  # fmt: skip
    nothing = undefined(3)
    assert nothing.to_json() == {
        "mean": None, "std": None, "n": 3, "rounds": [None] * 3, "interval_95_rounds": [None, None],
    }  # fmt: skip
    assert (str(figure), str(Figure(np.array([60.0]))), str(nothing)) == ("61.00 ± 1.00", "60.00", "undefined")


def test_one_undefined_round_leaves_the_mean_undefined():
    part = Figure(np.array([60.0, np.nan]))
    assert np.isnan(part.mean)
    assert part.to_json()["mean"] is None
    assert np.isnan(part.minus(Figure(np.array([1.0, 1.0]))).mean)


def report(model: bool, **more: object) -> LeakageReport:
    figures = {"lambda_D": Figure(np.array([70.0, 72.0]), np.array([60.0, 62.0]), (1, 2))}
    if model:
        figures["lambda_M"] = Figure(np.array([80.0, 80.0]), np.array([77.0, 79.0]), (5, 5))
    figures["null_train"] = Figure(np.array([51.0, 53.0]))
    return LeakageReport("quick", "gender", ("man", "woman"), figures, {"undefined": None}, ["underpowered"], **more)


def test_the_names_of_a_report_are_stable():
    labels, model = report(False).to_json(), report(True).to_json()
    assert list(labels) == [
        "protocol", "attribute", "groups", "chance", "lambda_D", "null_train", "null", "last_epoch", "details", "flags",
    ]  # fmt: skip
    assert labels["null"] == labels["null_train"]
    assert labels["last_epoch"] == {"mean": 61.0, "std": 1.0, "n": 2}
    assert model["last_epoch"] == {"mean": 78.0, "std": 1.0, "n": 2}  # of the model's scores where there are any
    assert (model["chance"], model["groups"], model["flags"]) == (50.0, ["man", "woman"], ["underpowered"])
    assert json.loads(json.dumps(model, allow_nan=False)) == model


def test_a_report_without_null_or_figure_is_null_in_json():
    nothing = LeakageReport("p", "a", ("0", "1", "2"), {"lambda_D": undefined(2)}, {}, []).to_json()
    assert nothing["null"] == nothing["last_epoch"] == {"mean": None, "std": None, "n": 2}
    assert nothing["chance"] == pytest.approx(100 / 3)


def test_a_report_as_table_and_text():
    frame = report(True).to_frame()
    assert frame.index.tolist() == ["lambda_D", "lambda_M", "null_train"]
    assert frame.loc["lambda_D", ["mean", "std", "n", "last_epoch"]].tolist() == [71.0, 1.0, 2.0, 61.0]
    assert np.isnan(frame.loc["null_train", "last_epoch"])
    text = str(report(False)).splitlines()
    assert text[0] == "leakage of gender (man, woman), protocol quick, percent"
    assert text[1].split() == ["lambda_D", "71.00", "±", "1.00"]
    assert text[-1] == "  ! underpowered"
