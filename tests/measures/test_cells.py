"""Small groups and intersections."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from biasbench import CellError, DataError, attribute
from biasbench.measures.cells import drop_small, intersect
from biasbench.planned import Data

NAMES = ("a", "b", "c", "d")
codes_of = st.lists(st.integers(-1, 3), max_size=30).map(lambda rows: np.array(rows, np.int64))


@settings(max_examples=80, deadline=None)
@given(codes_of, codes_of, codes_of, st.integers(0, 5))
def test_groups_are_kept_by_name_or_unknown_everywhere(train, val, test, minimum):
    splits = {"train": train, "val": val, "test": test}
    counts = {n: {s: int((c == g).sum()) for s, c in splits.items()} for g, n in enumerate(NAMES)}
    large = [n for n in NAMES if min(counts[n].values()) >= minimum]
    if len(large) < 2:
        with pytest.raises(CellError, match=f"fewer than two groups have {minimum} rows"):
            drop_small(splits, NAMES, minimum)
        return
    kept = drop_small(splits, NAMES, minimum)
    assert kept.groups == tuple(large)
    assert kept.dropped == {n: counts[n] for n in NAMES if n not in large}
    for split, codes in splits.items():
        got = [kept.groups[c] if c >= 0 else None for c in kept.codes[split]]
        assert got == [NAMES[c] if c >= 0 and NAMES[c] in large else None for c in codes]
    again = drop_small(kept.codes, kept.groups, minimum)
    assert (again.groups, again.dropped) == (kept.groups, {})
    assert all((again.codes[s] == kept.codes[s]).all() for s in splits)


def test_too_few_groups_are_told_with_their_sizes():
    splits = {"train": np.array([0, 0, 0, 1, 1]), "test": np.array([0, 0, 1])}
    with pytest.raises(CellError, match=r"in every split\. The least any split has: man 2, woman 1\."):
        drop_small(splits, ("man", "woman"), 2)


def test_names_from_data_are_shown_made_harmless():
    with pytest.raises(CellError) as caught:
        drop_small({"train": np.array([0])}, ("\x1b[2J",), 1)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("wrong", [4, -2])
def test_codes_without_a_name_are_refused(wrong):
    with pytest.raises(DataError, match=r"val: a code is outside -1\.\.3"):
        drop_small({"train": np.array([0, 1]), "val": np.array([wrong])}, NAMES, 1)
    with pytest.raises(DataError, match="second attribute"):
        intersect(np.array([0]), np.array([wrong]), NAMES, NAMES)


def test_attributes_of_different_rows_are_refused():
    with pytest.raises(DataError, match="1 and 2 rows"):
        intersect(np.array([0]), np.array([0, 1]), NAMES, NAMES)


class _Named:
    """As much of a data set as deriving an intersection reads."""

    attribute_names = {"gender": ("man", "woman"), "age": ("young", "mid", "old"), "group": NAMES}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 1), st.integers(-1, 2), st.integers(-1, 3)), max_size=30))
def test_intersections_are_those_that_plans_derive(rows):
    assume(rows)
    factors = dict(zip(_Named.attribute_names, np.array(rows, np.int64).T, strict=True))
    table = pd.DataFrame({f"attribute/{name}": codes for name, codes in factors.items()})
    data = Data("d", "d", _Named(), None)
    data.__dict__["tables"] = {"train": table}
    for name in ("gender*age", "gender*age*group"):
        data.derive(name)
        first, *others = name.split("*")
        codes, groups = factors[first], _Named.attribute_names[first]
        for other in others:
            codes, groups = intersect(codes, factors[other], groups, _Named.attribute_names[other])
        assert (codes == attribute(table, name)).all()
        assert groups == data.groups[name]


def test_many_groups_in_narrow_integers_do_not_wrap_around():
    names = [str(i) for i in range(300)]
    codes, pairs = intersect(np.array([299], np.int16), np.array([299], np.int16), names, names)
    assert pairs[codes[0]] == "299*299"
