"""Label tables without pictures, against the law, the scene-by-scene draw and the closed form."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare

from biasbench.builtin.datasets.scene.labels import label_tables
from biasbench.builtin.datasets.scene.model import LABELS, MEN, MOST, NAMES, Model
from biasbench.builtin.datasets.scene.truth import best_rule

WEAK, STRONG = Model(0.1, 0.03), Model(0.7, 0.03)


def test_shapes_and_what_cannot_occur():
    tables = label_tables(STRONG, {"train": 5000, "val": 0, "test": 7})
    assert {s: (len(t.gender), t.annotated.shape) for s, t in tables.items()} == {
        "train": (5000, (5000, 20)),
        "val": (0, (0, 20)),
        "test": (7, (7, 20)),
    }
    train = tables["train"]
    assert train.gender.dtype == np.int64
    assert train.annotated.dtype == np.uint8
    assert set(np.unique(train.gender)) == set(np.unique(train.annotated)) == {0, 1}
    ones = train.annotated.sum(1)
    assert (ones.min(), ones.max()) == (1, MOST)


def test_the_same_bits_again_and_a_smaller_table_is_the_beginning_of_a_larger_one():
    large = label_tables(STRONG, {"train": 3000, "test": 3000}, seed=4)
    small = label_tables(STRONG, {"test": 1000}, seed=4)
    for one, other in zip(small["test"], large["test"], strict=True):
        assert (one == other[:1000]).all()
    other_seed = label_tables(STRONG, {"test": 3000}, seed=5)["test"]
    for another in (large["train"], other_seed):
        assert (another.gender != large["test"].gender).mean() == pytest.approx(2 * MEN * (1 - MEN), abs=0.05)


def test_genders_are_as_planted_whatever_the_bias():
    weak, strong = (label_tables(m, {"train": 200_000})["train"].gender for m in (WEAK, STRONG))
    assert (weak == strong).all()
    assert abs(strong.mean() - (1 - MEN)) < 4 * np.sqrt(MEN * (1 - MEN) / 200_000)


@pytest.mark.parametrize("model", [Model(0.0, 0.03), WEAK, STRONG, Model(1.0, 0.2)], ids=lambda m: f"bias {m.bias}")
def test_a_million_rows_have_the_frequencies_of_the_law(model):
    found = label_tables(model, {"train": 1_000_000})["train"]
    for code, expected in enumerate(model.frequencies()):
        rows = found.annotated[found.gender == code]
        z = (rows.mean(0) - expected) / np.sqrt(expected * (1 - expected) / len(rows))
        assert np.abs(z).max() < 4


@settings(max_examples=20, deadline=None)
@given(bias=st.floats(0, 1), noise=st.floats(0, 0.5), seed=st.integers(0, 10**6))
def test_whole_vectors_follow_the_law(bias, noise, seed):
    model = Model(bias, noise, LABELS[:4])
    found = label_tables(model, {"val": 20_000}, seed)["val"]
    for code, expected in enumerate(model.law):
        vectors = found.annotated[found.gender == code] @ (1 << np.arange(4))
        counts = np.bincount(vectors, minlength=16)
        assert counts[0] == 0
        assert chisquare(counts[1:], expected[1:] * counts.sum()).pvalue > 1e-6


# -- the same law as the scene-by-scene draw -------------------------------------------------
def drawn(model, n):
    rng = np.random.default_rng(11)
    contents = [model.draw(rng) for _ in range(n)]
    return np.array([c.gender == "woman" for c in contents]), np.array([np.isin(NAMES, c.annotated) for c in contents])


def smallest_p(one, other):
    """Of two-sample chi-square tests of each label and each pair of labels, jointly with gender; times their number."""
    codes, p = [], []
    for gender, y in (one, other):
        pairs = itertools.combinations_with_replacement(range(y.shape[1]), 2)  # a label with itself: the label
        codes.append([gender.astype(int) * 4 + y[:, i] * 2 + y[:, j] for i, j in pairs])
    for a, b in zip(*codes, strict=True):
        table = np.array([np.bincount(a, minlength=8), np.bincount(b, minlength=8)])
        p.append(chi2_contingency(table[:, table.sum(0) > 0]).pvalue)
    return min(p) * len(p)


def test_equal_in_law_to_drawing_scene_by_scene():
    scenes = drawn(STRONG, 8_000)
    tables = label_tables(STRONG, {"train": 100_000}, seed=2)["train"]
    assert smallest_p(scenes, tables) > 0.01
    assert smallest_p(scenes, label_tables(Model(0.6, 0.03), {"train": 100_000}, seed=2)["train"]) < 1e-4
    independent = tables._replace(annotated=np.random.default_rng(0).permuted(tables.annotated, axis=0))
    assert smallest_p(scenes, independent) < 1e-4


# -- the closed form -------------------------------------------------------------------------
@pytest.mark.parametrize("model", [WEAK, STRONG], ids=lambda m: f"bias {m.bias}")
def test_the_best_rule_reaches_the_closed_form(model):
    found = label_tables(model, {"test": 200_000}, seed=3)["test"]
    women = found.gender.sum()
    error = 25 * np.sqrt(1 / women + 1 / (len(found.gender) - women))  # at most: a share's variance is at most 1/4
    reached = best_rule(model, list(zip(found.gender, found.annotated, strict=True)))
    assert reached == pytest.approx(model.leakage(), abs=4 * error)
    assert 4 * error < 0.5 < abs(model.leakage() - 50)
    assert best_rule(model, list(zip(1 - found.gender, found.annotated, strict=True))) == pytest.approx(100 - reached)


def test_without_bias_the_best_rule_is_at_chance():
    found = label_tables(Model(0.0, 0.03), {"test": 5_000})["test"]
    assert best_rule(Model(0.0, 0.03), list(zip(found.gender, found.annotated, strict=True))) == 50
