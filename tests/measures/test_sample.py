"""What a split must be to be measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from biasbench import CellError, DataError, Sample
from biasbench.measures.sample import check_samples

MULTI = np.array([[1, 0], [0, 1], [1, 1]], np.uint8)
CLASSES = np.array([0, 2, 1])
CODES = np.array([0, 1, -1])
SCORES = np.zeros((3, 2), np.float32)


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ((MULTI.astype(float), CODES), "targets must be integers"),
        ((MULTI[None], CODES), "targets must be integers of shape"),
        ((2 * MULTI, CODES), "multi-label targets must be 0 or 1"),
        ((MULTI.astype(np.int64) - 1, CODES), "multi-label targets must be 0 or 1"),
        ((CLASSES - 1, CODES), "a class in the targets is negative"),
        ((MULTI, CODES[:2]), "the attribute must be 3 integer codes"),
        ((MULTI, CODES.astype(float)), "the attribute must be 3 integer codes"),
        ((MULTI, CODES - 1), "a code of the attribute is below -1"),
        ((MULTI, CODES, SCORES[:2]), r"scores of shape \(2, 2\) do not fit targets of shape \(3, 2\)"),
        ((MULTI, CODES, SCORES[:, :1]), r"scores of shape \(3, 1\) do not fit"),
        ((CLASSES, CODES, SCORES[:, 0]), r"scores of shape \(3,\) do not fit"),
        ((MULTI, CODES, SCORES, MULTI[:2]), r"labels of shape \(2, 2\) do not fit"),
        ((MULTI, CODES, SCORES, CLASSES), r"labels of shape \(3,\) do not fit"),
        ((MULTI, CODES, SCORES, MULTI, (SCORES[:2],)), r"scores of shape \(2, 2\) do not fit"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays, text):
    with pytest.raises(DataError, match=text):
        Sample(*arrays)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_names_its_row(value):
    scores = SCORES.copy()
    scores[1, 1] = value
    with pytest.raises(DataError, match="row 1: a score is not finite"):
        Sample(MULTI, CODES, scores)
    with pytest.raises(DataError, match="row 1: a score is not finite"):
        Sample(MULTI, CODES, SCORES, MULTI, (SCORES, scores))


def test_scores_that_attackers_train_on():
    views = (SCORES + 1, SCORES + 2)
    one = Sample(MULTI, CODES, SCORES, MULTI, views)
    assert [one.training_scores(r)[0, 0] for r in range(4)] == [1, 2, 1, 2]
    assert replace(one, views=()).training_scores(3) is SCORES
    with pytest.raises(CellError, match="no scores to attack"):
        Sample(MULTI, CODES).training_scores(0)
    assert (len(one), one.single, Sample(CLASSES, CODES).single) == (3, False, True)


# -- train, val and test together ----------------------------------------------------------
def test_widths_and_groups():
    multi = Sample(MULTI, CODES)
    assert check_samples({"train": multi, "val": multi, "test": multi}) == (2, 2)
    one, two = Sample(CLASSES, CODES), Sample(np.array([4]), np.array([3]))
    assert check_samples({"train": one, "val": one, "test": two}) == (5, 4)  # a class and a group of one split alone
    scored = Sample(CLASSES, CODES, np.zeros((3, 7), np.float32))
    assert check_samples({"train": scored, "val": scored, "test": scored}) == (7, 2)
    nobody = Sample(CLASSES, np.full(3, -1))
    assert check_samples({"train": nobody, "val": nobody, "test": nobody}) == (3, 0)


@pytest.mark.parametrize(
    ("val", "text"),
    [
        (None, "no val split. Leakage needs train, val and test"),
        (Sample(CLASSES, CODES, SCORES), "some splits are single-label"),
        (Sample(MULTI, CODES), "some splits have scores"),
        (Sample(MULTI, CODES, SCORES, MULTI), "some splits have scores or decoded labels"),
        (
            Sample(np.ones((3, 3), np.uint8), CODES, np.zeros((3, 3), np.float32)),
            r"in their number of labels: \[2, 3\]",
        ),
    ],
)
def test_splits_that_do_not_belong_together_are_refused(val, text):
    whole = Sample(MULTI, CODES, SCORES)
    with pytest.raises(DataError, match=text):
        check_samples({"train": whole, "test": whole} | ({} if val is None else {"val": val}))


def test_a_class_without_a_score_is_refused():
    narrow = Sample(CLASSES, CODES, SCORES)
    with pytest.raises(DataError, match="class 2 has no score: there are 2 columns"):
        check_samples({"train": narrow, "val": narrow, "test": narrow})


def test_views_as_wide_as_the_scores():
    wide = Sample(CLASSES, CODES, np.zeros((3, 3), np.float32), views=(np.zeros((3, 5), np.float32),))
    plain = replace(wide, views=())
    with pytest.raises(DataError, match="number of labels"):
        check_samples({"train": wide, "val": plain, "test": plain})
