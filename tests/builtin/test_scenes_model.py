"""The closed form of scenes against counting by hand, Monte Carlo, plug-in estimates and an attacker."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from biasbench.builtin.datasets.scene.model import CUES, GENDERS, LABELS, MEN, MOST, NAMES, Label, Model

FEW = (Label("a", "x", 0.3, 0.8, 0.5), Label("b", "x", 0.2, -0.6, -1.0), Label("c", "x", 0.4, 0.0, 0.9))


def by_hand(model: Model, gender: str) -> dict[tuple[int, ...], float]:
    """P(y | gender) by adding up every history, noise included."""
    out = dict.fromkeys(itertools.product((0, 1), repeat=len(model.labels)), 0.0)
    for cue, share in zip(CUES, model.cues(gender), strict=True):
        weights = {}
        for y in out:
            weight = 0.0
            for pictured in itertools.product((0, 1), repeat=len(y)):
                term = 1.0
                for label, p, there, noted in zip(model.labels, model.pictured(gender, cue), pictured, y, strict=True):
                    claims = model.label_noise * label.rate / (1 - label.rate)
                    seen = (1 - model.label_noise) if there else claims
                    term *= (p if there else 1 - p) * (seen if noted else 1 - seen)
                weight += term
            weights[y] = weight if 1 <= sum(y) <= MOST else 0.0
        total = sum(weights.values())
        for y, weight in weights.items():
            out[y] += share * weight / total
    return out


@settings(max_examples=25, deadline=None)
@given(bias=st.floats(0, 1), noise=st.floats(0, 0.5), flip=st.floats(0, 0.5))
def test_the_law_is_what_adding_up_every_history_gives(bias, noise, flip):
    model = Model(bias, noise, FEW)
    hand = [by_hand(model, g) for g in GENDERS]
    vectors = list(hand[0])
    columns = [sum(bit << k for k, bit in enumerate(y)) for y in vectors]
    for row, table in zip(model.law, hand, strict=True):
        assert row[columns] == pytest.approx([table[y] for y in vectors], abs=1e-12)
        assert row.sum() == pytest.approx(1)
    assert model.leakage() == pytest.approx(50 * sum(max(hand[0][y], hand[1][y]) for y in vectors))
    for g, table in enumerate(hand):
        for k in range(3):
            assert model.frequencies()[g, k] == pytest.approx(sum(p for y, p in table.items() if y[k]), abs=1e-12)
    # flipping each bit: the channel, written out
    best = 0.0
    for z in vectors:
        change = {y: np.prod([flip if a != b else 1 - flip for a, b in zip(y, z, strict=True)]) for y in vectors}
        best += max(sum(change[y] * table[y] for y in vectors) for table in hand)
    assert model.leakage(flip) == pytest.approx(50 * best)


def test_without_bias_nothing_leaks():
    model = Model(0.0, 0.05)
    assert model.leakage() == pytest.approx(50, abs=1e-9)
    assert model.leakage(0.1) == pytest.approx(50, abs=1e-9)
    assert all(share == pytest.approx(MEN) for share in model.man_share().values())
    assert model.cues("man") == pytest.approx(model.cues("woman"))
    assert model.pictured("man", "masculine") == pytest.approx(model.pictured("woman", "feminine"))


def test_leakage_grows_with_bias_and_shrinks_with_noise_and_flips():
    by_bias = [Model(b, 0.03).leakage() for b in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    assert by_bias == sorted(by_bias)
    assert by_bias[-1] > 85
    model = Model(0.7, 0.03)
    flipped = [model.leakage(p) for p in (0, 0.05, 0.1, 0.3, 0.5)]
    assert flipped == sorted(flipped, reverse=True)
    assert flipped[-1] == pytest.approx(50)
    assert Model(0.7, 0.0).leakage() > model.leakage() > Model(0.7, 0.3).leakage()


def test_gender_and_cue_both_lean_and_some_labels_lean_by_the_cue_alone():
    leaning = [label for label in LABELS if label.gender or label.cue]
    assert len(leaning) >= 12
    assert any(not label.gender and label.cue > 0 for label in leaning)
    assert any(not label.gender and label.cue < 0 for label in leaning)
    model = Model(0.7)
    shares = model.man_share()
    for label in leaning:
        assert (shares[label.name] > MEN) == (label.gender + label.cue > 0), label.name
    # given gender, the cue still says something about objects: balancing labels leaves that path
    k = NAMES.index("truck")
    assert model.pictured("man", "masculine")[k] > 2 * model.pictured("man", "feminine")[k]


@pytest.fixture(scope="module")
def sample():
    """A large sample of the default law: gender (1 = woman) and annotations."""
    model = Model(0.7, 0.03)
    rng = np.random.default_rng(5)
    contents = [model.draw(rng) for _ in range(24_000)]
    woman = np.array([c.gender == "woman" for c in contents])
    y = np.array([np.isin(NAMES, c.annotated) for c in contents])
    return model, contents, woman, y


def balanced_accuracy(right, woman):
    return 50 * (right[woman].mean() + right[~woman].mean())


def test_a_large_sample_has_the_planted_frequencies(sample):
    model, contents, woman, y = sample
    assert abs(woman.mean() - (1 - MEN)) < 5 * np.sqrt(MEN * (1 - MEN) / len(woman))
    for group, expected in zip((~woman, woman), model.frequencies(), strict=True):
        z = (y[group].mean(0) - expected) / np.sqrt(expected * (1 - expected) / group.sum())
        assert np.abs(z).max() < 4.5
    for g, gender in enumerate(GENDERS):
        cues = [c.cue for c in contents if c.gender == gender]
        expected = model.cues(gender)
        found = np.array([cues.count(c) for c in CUES]) / len(cues)
        assert np.abs(found - expected).max() < 5 * np.sqrt(0.25 / len(cues)), g


def test_the_best_rule_reaches_the_closed_form_and_a_logistic_attacker_comes_near(sample):
    model, _, woman, y = sample
    half = len(y) // 2
    train, test = slice(0, half), slice(half, None)
    spread = 50 * np.sqrt(0.25 * (1 / woman[test].sum() + 1 / (~woman[test]).sum()))
    best = balanced_accuracy((model.odds(y) < 0) == woman, woman)
    assert best == pytest.approx(model.leakage(), abs=4 * spread)
    attacker = LogisticRegression(class_weight="balanced").fit(y[train], woman[train])
    found = balanced_accuracy(attacker.predict(y[test]) == woman[test], woman[test])
    assert model.leakage() - 2 < found < model.leakage() + 4 * spread


def test_a_plug_in_estimate_agrees():
    model = Model(0.9, 0.05, LABELS[:4])
    rng = np.random.default_rng(6)
    names = [label.name for label in model.labels]
    counts = np.zeros((2, 16))
    for _ in range(30_000):
        content = model.draw(rng)
        counts[GENDERS.index(content.gender), sum(1 << names.index(n) for n in content.annotated)] += 1
    plug_in = 50 * np.maximum(*(counts / counts.sum(1, keepdims=True))).sum()
    assert plug_in == pytest.approx(model.leakage(), abs=1.0)


def test_noise_keeps_labels_about_as_frequent_and_touches_both_genders_alike():
    quiet = Model(0.0, 0.0).frequencies()
    loud = Model(0.0, 0.2).frequencies()
    assert loud == pytest.approx(quiet, rel=0.05)
    assert loud[0] == pytest.approx(loud[1])


def test_impossible_vectors_have_no_odds():
    model = Model(0.5, 0.0, tuple(replace(label, rate=0.3) for label in LABELS[:3]))
    with pytest.raises(ValueError, match="fewer than 1"):
        model.odds(np.zeros((1, 3), np.uint8))
