"""The law of the attributes of `faces`: closed forms against counting by hand, and the draw against the law."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from biasbench import UsageError
from biasbench.builtin.datasets.face.labels import CELLS, balanced, label_tables
from biasbench.builtin.datasets.face.law import GROUPS, NAMES, ORDER, PAIRS, Law, tie

SIZE = {name: len(groups) for name, groups in GROUPS.items()}


@st.composite
def laws(draw):
    """Any dials that are allowed: those into one attribute share what they may add up to."""
    dials = {}
    for b in ORDER[1:]:
        before = ORDER[: ORDER.index(b)]
        parts = draw(st.lists(st.floats(0, 1), min_size=len(before), max_size=len(before)))
        for a, part in zip(before, parts, strict=True):
            dials[a, b] = draw(st.sampled_from((-1, 1))) * part / max(1.0, sum(parts))
    return Law(dials)


def by_hand(a: str, b: str, reverse: bool = False) -> list[list[Fraction]]:
    """T(b | a) by cutting [0, 1) into pieces that lie in one interval of each; women before men."""
    n, m = SIZE[a], SIZE[b]
    table = [[Fraction(0)] * m for _ in range(n)]
    for piece in range(n * m):
        i, j = piece // m, piece // n
        i = n - 1 - i if a == "gender" else i
        j = m - 1 - j if (b == "gender") != reverse else j
        table[i][j] += Fraction(1, m)
    return table


@pytest.mark.parametrize(("a", "b"), PAIRS)
@pytest.mark.parametrize("reverse", [False, True])
def test_ties_by_hand(a, b, reverse):
    assert tie(a, b, reverse) == pytest.approx(np.array(by_hand(a, b, reverse), float))


@settings(max_examples=50)
@given(laws())
def test_the_joint_is_a_product_and_every_attribute_is_uniform(law):
    assert law.joint.shape == tuple(SIZE[name] for name in NAMES)
    assert law.joint.min() >= 0
    assert law.joint.sum() == pytest.approx(1)
    for k, name in enumerate(NAMES):
        single = law.joint.sum(axis=tuple(i for i in range(4) if i != k))
        assert single == pytest.approx(np.full(SIZE[name], 1 / SIZE[name]))
    for g, a, s, p in itertools.product(*(range(SIZE[name]) for name in NAMES)):
        codes = {"gender": g, "age": a, "skin": s, "pose": p}
        product = 1.0
        for j, name in enumerate(ORDER):
            chance, rest = 0.0, 1.0
            for other in ORDER[:j]:
                d = law.dial(other, name)
                chance += abs(d) * tie(other, name, d < 0)[codes[other], codes[name]]
                rest -= abs(d)
            product *= chance + rest / SIZE[name]
        assert law.joint[g, a, s, p] == pytest.approx(product, abs=1e-12)


@given(st.sampled_from(PAIRS), st.floats(-1, 1))
def test_one_dial_alone_moves_its_pair_alone(pair, dial):
    law = Law({pair: dial})
    for a, b in PAIRS:
        d = dial if (a, b) == pair else 0.0
        expected = (abs(d) * tie(a, b, d < 0) + (1 - abs(d)) / SIZE[b]) / SIZE[a]
        assert law.pair(a, b) == pytest.approx(expected)
        assert law.pair(b, a) == pytest.approx(expected.T)
        full = np.array(by_hand(a, b), float) / SIZE[a]
        chance = 1 / full.size
        most = np.sqrt(((full - chance) ** 2 / chance).sum() / (min(full.shape) - 1))
        assert law.association(a, b) == pytest.approx(abs(d) * most, abs=1e-9)


@given(st.floats(-1, 1))
def test_gender_from_age(dial):
    """With age_gender = d alone, a share (1 + |d|) / 2 of each age has its own gender."""
    law = Law({("age", "gender"): dial})
    assert law.best_guess("gender", given="age") == pytest.approx((1 + abs(dial)) / 2)
    assert law.best_guess("age", given="gender") == pytest.approx(0.25 * (1 + abs(dial)))
    young_women = law.pair("age", "gender")[:2, GROUPS["gender"].index("woman")].sum() / 0.5
    assert young_women == pytest.approx((1 + dial) / 2)


@settings(max_examples=20)
@given(laws(), st.sampled_from(PAIRS))
def test_the_best_guess_is_the_best_of_all_rules(law, pair):
    for name, given_ in (pair, pair[::-1]):
        table = law.pair(name, given_)
        rules = itertools.product(range(SIZE[name]), repeat=SIZE[given_])
        best = max(sum(table[guess, seen] for seen, guess in enumerate(rule)) for rule in rules)
        assert law.best_guess(name, given_) == pytest.approx(best)


@pytest.mark.parametrize(
    "dials",
    [
        {},
        {("age", "gender"): 0.7},
        {("age", "gender"): -0.4, ("age", "skin"): 0.5, ("gender", "skin"): -0.3, ("skin", "pose"): 0.6},
    ],
)
def test_drawn_attributes_follow_the_law(dials):
    law = Law(dials)
    table = label_tables(law, {"train": 100_000})["train"]
    counts = np.zeros(law.joint.shape)
    np.add.at(counts, tuple(table[name] for name in NAMES), 1)
    possible = law.joint > 0
    assert counts[~possible].sum() == 0
    assert chisquare(counts[possible], 100_000 * law.joint[possible]).pvalue > 1e-4


def test_the_extreme_biases_show_no_one_else():
    for dial, young in ((1.0, "woman"), (-1.0, "man")):
        table = label_tables(Law({("age", "gender"): dial}), {"train": 2_000, "val": 500})
        for split in ("train", "val"):
            is_young = table[split]["age"] < GROUPS["age"].index("middle-aged")
            assert ((table[split]["gender"] == GROUPS["gender"].index(young)) == is_young).all()


@pytest.mark.parametrize("n", [8, 80, 200, 1_000])
def test_the_test_split_is_balanced(n):
    table = balanced(n, 3)
    pairs = np.zeros((2, 4), int)
    np.add.at(pairs, (table["gender"], table["age"]), 1)
    assert (pairs == n // 8).all()
    if n % CELLS == 0:
        counts = np.zeros([SIZE[name] for name in NAMES], int)
        np.add.at(counts, tuple(table[name] for name in NAMES), 1)
        assert (counts == n // CELLS).all()


def test_no_dial_moves_the_test_split_and_a_small_table_begins_a_large_one():
    sizes, more = {"train": 40, "val": 30, "test": 50}, {"train": 90, "val": 95, "test": 433}
    plain, tied = label_tables(Law(), sizes), label_tables(Law({("age", "gender"): 1.0}), more)
    for name in NAMES:
        assert (plain["test"][name] == tied["test"][name][:50]).all()
    small = label_tables(Law({("age", "gender"): 1.0}), sizes)
    for split, name in itertools.product(sizes, NAMES):
        assert (small[split][name] == tied[split][name][: sizes[split]]).all()
    assert any((label_tables(Law(), sizes, 1)["test"][name] != plain["test"][name]).any() for name in NAMES)
    assert balanced(0, 0)["age"].shape == (0,)


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({("age", "gender"): 1.1}, "age_gender must be from -1 to 1"),
        ({("age", "gender"): float("nan")}, "age_gender must be from -1 to 1"),
        ({("gender", "age"): 0.1}, "no dial gender_age.*age_gender"),
        ({("age", "pose"): 0.6, ("skin", "pose"): -0.5}, "age_pose=0.6 \\+ skin_pose=-0.5 is more than 1"),
    ],
)
def test_dials_that_cannot_be(dials, message):
    with pytest.raises(UsageError, match=message):
        Law(dials)
