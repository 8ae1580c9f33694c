"""Ages and age classes, against Python's calendar and by hand."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biasbench import UsageError
from biasbench.builtin.datasets.face_ages import (
    AGE_CLASSES,
    THRESHOLDS,
    age_classes,
    ages,
    birth_years,
    possible,
    sides,
)


@given(st.dates(date(1, 1, 1), date(9999, 12, 31)), st.floats(0, 0.999))
def test_years_of_birth_are_those_of_the_calendar(day, time):
    number = day.toordinal() + 366  # Matlab counts from 1 January of year 0, which has 366 days
    assert birth_years(np.array([number + time])).tolist() == [day.year]


def test_known_datenums_of_matlab():
    """From Matlab's documentation: datenum(2000,1,1) = 730486; day 1 is 1 January of year 0."""
    assert birth_years(np.array([730486, 730485, 1, 366, 367, 0])).tolist() == [2000, 1999, 0, 0, 1, -1]


def test_what_is_no_date_has_no_age():
    dates = np.array([np.nan, np.inf, -np.inf, 1e300, -1e300, 5e6])
    assert np.isnan(birth_years(dates)).all()
    assert np.isnan(ages(dates, np.full(6, 2000))).all()
    assert np.isnan(ages(np.array([730486.0]), np.array([np.nan])))


def test_age_is_the_difference_of_the_years():
    born = [date(1980, 1, 1), date(1980, 12, 31), date(2004, 2, 29), date(2010, 5, 1)]
    numbers = np.array([d.toordinal() + 366 for d in born])
    assert ages(numbers, np.array([2004, 2004, 2004, 2004], np.uint16)).tolist() == [24, 24, 0, -6]


def test_possible_ages():
    assert possible(np.array([0.0, 1, 100, 101])).tolist() == [False, True, True, False]


@given(st.integers(0, 120))
def test_classes_hold_the_ages_they_name(age):
    name = AGE_CLASSES[age_classes(np.array([age]))[0]]
    low, high = (name.rstrip("+"), "999") if name.endswith("+") else name.split("-")
    assert int(low) <= age <= int(high)


def test_twelve_classes_of_five_years_wider_at_both_ends():
    assert len(AGE_CLASSES) == 12
    assert round(1 / len(AGE_CLASSES), 2) == 0.08  # chance of Table 1
    widths = np.bincount(age_classes(np.arange(101)))
    assert widths.tolist() == [15, *[5] * 10, 36]


@pytest.mark.parametrize("thresholds", THRESHOLDS)
def test_ten_years_lie_between_young_and_old_and_no_class_is_cut(thresholds):
    years = np.arange(1, 101)
    young, old = sides(years, thresholds)
    assert (~young & ~old).sum() == 10
    for side in (young, old):
        codes = age_classes(years)
        assert set(codes[side]).isdisjoint(codes[~side])


def test_thresholds_by_hand():
    young, old = sides(np.array([34, 35, 44, 45]), "35/45")
    assert (young.tolist(), old.tolist()) == ([True, False, False, False], [False, False, False, True])
    with pytest.raises(UsageError, match=r"unknown thresholds '20/50'.*30/40, 35/45"):
        sides(np.zeros(1), "20/50")
