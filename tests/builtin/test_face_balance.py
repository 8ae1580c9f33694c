"""Choosing faces: laws that hold for any data, and small cases by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biasbench import UsageError
from biasbench.builtin.datasets.face_ages import age_classes
from biasbench.builtin.datasets.face_balance import (
    MAN,
    WOMAN,
    equal_genders,
    extreme_bias,
    fixed_numbers,
    identity_balanced,
    split_by_identity,
)
from biasbench.builtin.datasets.face_splits import Protocol, split_faces

people = st.lists(st.tuples(st.integers(0, 8), st.integers(1, 90), st.integers(0, 1)), min_size=1, max_size=60)


def test_fixed_numbers_are_uniform_and_independent_between_streams():
    names = [f"n{k}" for k in range(4000)]
    a, b = fixed_numbers(names, "one"), fixed_numbers(names, "two")
    counts = np.histogram(a, bins=10, range=(0, 1))[0]
    assert ((counts - 400) ** 2 / 400).sum() < 27.9  # chi-squared, 9 degrees of freedom, p = 0.001
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.06
    assert fixed_numbers(names[:3], "one").tolist() == a[:3].tolist()


# -- splits by identity ------------------------------------------------------------------------
def test_an_identity_is_in_one_split_and_others_do_not_move_it():
    who = [f"p{k % 50}" for k in range(200)]
    split = split_by_identity(who, 0.1, 0.2, "imdb")
    assert all(len({s for w, s in zip(who, split, strict=True) if w == p}) == 1 for p in set(who))
    assert split_by_identity(who[:60], 0.1, 0.2, "imdb").tolist() == split[:60].tolist()


def test_shares_are_of_identities():
    split = split_by_identity([f"p{k}" for k in range(5000)], 0.1, 0.2, "imdb")
    share = {s: (split == s).mean() for s in ("train", "val", "test")}
    assert share["test"] == pytest.approx(0.2, abs=4 * (0.2 * 0.8 / 5000) ** 0.5)
    assert share["val"] == pytest.approx(0.1, abs=4 * (0.1 * 0.9 / 5000) ** 0.5)


@pytest.mark.parametrize(("val", "test"), [(0, 0.2), (0.5, 0.5), (-0.1, 0.2), (0.1, 1.0), (float("nan"), 0.2)])
def test_shares_that_leave_nothing(val, test):
    with pytest.raises(UsageError, match="must be above 0 and leave something"):
        split_by_identity(["a"], val, test, "imdb")


# -- the identity-balanced subset -----------------------------------------------------------------
@given(people, st.integers(0, 70))
def test_an_identity_balanced_subset_is_as_level_as_it_can_be(rows, images):
    who = [str(p) for p, _, _ in rows]
    ids = [str(i) for i in range(len(rows))]
    chosen = identity_balanced(who, ids, images, "t")
    assert chosen.sum() == min(images, len(rows))
    had, given_ = Counter(who), Counter(np.array(who)[chosen].tolist())
    most = max(given_.values(), default=0)
    for person, n in had.items():  # who gives fewer than the most has no more, or is one short of it
        assert given_[person] >= min(n, most - 1)


def test_the_subset_does_not_follow_the_order_of_the_file():
    who, ids = ["a"] * 50 + ["b"] * 50, [f"i{k}" for k in range(100)]
    chosen = identity_balanced(who, ids, 20, "t")
    assert set(np.flatnonzero(chosen)) != {*range(10), *range(50, 60)}
    again = identity_balanced(who[::-1], ids[::-1], 20, "t")
    assert again.tolist() == chosen[::-1].tolist()


# -- equal genders ---------------------------------------------------------------------------------
@given(people)
def test_each_age_class_has_as_many_women_as_men_and_no_fewer_than_possible(rows):
    age = np.array([a // 20 for _, a, _ in rows])
    gender = np.array([g for _, _, g in rows])
    chosen = equal_genders(age, gender, [str(i) for i in range(len(rows))], "t")
    for k in set(age.tolist()):
        had = [int(((age == k) & (gender == g)).sum()) for g in (MAN, WOMAN)]
        left = [int(((age == k) & (gender == g) & chosen).sum()) for g in (MAN, WOMAN)]
        assert left == [min(had), min(had)]


def test_unknown_gender_is_left_out():
    chosen = equal_genders(np.zeros(3, np.int64), np.array([-1, 0, 1]), ["a", "b", "c"], "t")
    assert chosen.tolist() == [False, True, True]


# -- extreme bias ------------------------------------------------------------------------------------
@pytest.mark.parametrize("thresholds", ["30/40", "35/45"])
def test_the_two_biases_by_hand(thresholds):
    low, high = (int(part) for part in thresholds.split("/"))
    years = np.array([low - 1, low - 1, low, low, high - 1, high - 1, high, high])
    gender = np.array([MAN, WOMAN] * 4)
    assert extreme_bias(years, gender, "eb1", thresholds).tolist() == [0, 1, 0, 0, 0, 0, 1, 0]
    assert extreme_bias(years, gender, "eb2", thresholds).tolist() == [1, 0, 0, 0, 0, 0, 0, 1]
    assert extreme_bias(years, gender, "none", thresholds).all()
    with pytest.raises(UsageError, match="unknown bias 'eb3'"):
        extreme_bias(years, gender, "eb3", thresholds)


# -- all of it ----------------------------------------------------------------------------------------
def faces(rows):
    frame = pd.DataFrame(rows, columns=["identity", "years", "attribute/gender"])
    frame["identity"] = frame["identity"].astype(str)
    frame["id"] = [f"i{k}" for k in range(len(frame))]
    frame["attribute/age"] = age_classes(frame["years"].to_numpy())
    return frame


@settings(max_examples=40)
@given(people, st.sampled_from(["none", "eb1", "eb2"]), st.sampled_from(["30/40", "35/45"]), st.booleans())
def test_splits_keep_their_promises(rows, bias, thresholds, balanced):
    before = faces(rows)
    protocol = Protocol("t", bias, thresholds, balanced, 0.3, 0.4)
    kept, notes = split_faces(before, protocol)
    seen = {s: set(part["identity"]) for s, part in kept.groupby("split")}
    assert all(seen[a].isdisjoint(seen[b]) for a in seen for b in seen if a < b)
    trained = kept[kept["split"] != "test"]
    low, high = (int(part) for part in thresholds.split("/"))
    if bias != "none":
        women, men = (trained.loc[trained["attribute/gender"] == g, "years"] for g in (WOMAN, MAN))
        young, old = (women, men) if bias == "eb1" else (men, women)
        assert (young < low).all()
        assert (old >= high).all()
    tested = kept[kept["split"] == "test"]
    if balanced and len(tested):
        table = pd.crosstab(tested["attribute/age"], tested["attribute/gender"])
        assert (table[MAN] == table[WOMAN]).all()
    dropped = notes["left out by the bias"] + notes["left out to balance the test split"]
    assert len(kept) + dropped == len(before)
    assert sum(notes[s]["rows"] for s in ("train", "val", "test")) == len(kept)


def test_the_test_split_does_not_depend_on_the_bias_and_shows_all_ages():
    rng = np.random.default_rng(0)
    rows = [(k, int(rng.integers(15, 70)), k % 2) for k in range(600)]
    tests = []
    for bias in ("none", "eb1", "eb2"):
        kept, _ = split_faces(faces(rows), Protocol("t", bias))
        tests.append(kept.loc[kept["split"] == "test", "id"].tolist())
        assert kept.loc[kept["split"] == "test", "years"].between(30, 39).any()
    assert tests[0] == tests[1] == tests[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bias": "eb"}, "imdb: bias='eb' is unknown. Did you mean 'eb"),
        ({"thresholds": "30-40"}, "unknown thresholds '30-40'"),
        ({"val": 0.6, "test": 0.5}, "leave something to train on"),
    ],
)
def test_a_protocol_that_cannot_be_meant(options, message):
    with pytest.raises(UsageError, match=message):
        Protocol("imdb", **options)
