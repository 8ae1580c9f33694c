"""One line for the user, whatever the names in it."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biasbench import errors
from biasbench.errors import BiasBenchError, did_you_mean, printable


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "broken"),
        ({"where": "a.csv, row 3"}, "a.csv, row 3: broken"),
        ({"fix": "Repair it."}, "broken. Repair it."),
        ({"where": "a.csv", "fix": "Repair it"}, "a.csv: broken. Repair it."),
    ],
)
def test_message(options, text):
    error = BiasBenchError("broken", **options)
    assert str(error) == text
    assert error.what == "broken"


def test_exit_codes_of_the_classes():
    codes = {
        "BiasBenchError": 1,
        "CellError": 1,
        "ClusterError": 1,
        "UsageError": 2,
        "PluginError": 2,
        "DataError": 4,
        "StoreError": 5,
        "IntegrityError": 6,
    }
    found = {n: c.exit_code for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, BiasBenchError)}
    assert found == codes


def test_text_survives_the_way_between_processes():
    error = errors.DataError("broken", where="a.csv", fix="Repair it")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert type(again) is errors.DataError


@given(st.text(st.characters(exclude_categories=()), max_size=400), st.integers(1, 300))
def test_printable_is_printable_and_short(text, limit):
    shown = printable(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit


@given(st.text(st.characters(categories=("L", "N")), max_size=100))
def test_printable_leaves_plain_text_alone(text):
    assert printable(text) == text


def test_printable_hides_nothing_that_drives_a_terminal():
    assert printable("a\x1b[31mred\x1b[0m\r\n\u202egpj") == r"a\x1b[31mred\x1b[0m\r\n\u202egpj"


def test_did_you_mean():
    assert did_you_mean("adv-conv", ["adv-conv4", "original"]) == "Did you mean 'adv-conv4'?"
    assert did_you_mean("zzz", ["adv-conv4", "original"]) == ""
    assert did_you_mean("x", []) == ""
