"""The closed form behind `benchmarks/erase_ages.py`, against what it promises."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from biasbench import generator

pytestmark = pytest.mark.torch

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))  # as when it runs as a script
        spec = importlib.util.spec_from_file_location("erase_ages", ROOT / "benchmarks" / "erase_ages.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module


@pytest.fixture(scope="module")
def drawn():
    """Features [600, 20] of unequal spread whose means differ between four classes."""
    rng = generator("test", "erase ages")
    codes = rng.integers(0, 4, 600)
    shape = rng.normal(size=(20, 20))
    return rng.normal(size=(600, 20)) @ shape + 3 * rng.normal(size=(4, 20))[codes], codes


def test_no_class_has_a_mean_of_its_own(script, drawn):
    features, codes = drawn
    erased = script.leace(features, codes)(features)
    means = np.stack([erased[codes == k].mean(0) for k in range(4)])
    assert np.abs(means - erased.mean(0)).max() < 1e-9
    before = LogisticRegression(max_iter=2000).fit(features, codes).score(features, codes)
    after = LogisticRegression(max_iter=2000).fit(erased, codes).score(erased, codes)
    assert before > 0.9
    assert after <= np.bincount(codes).max() / len(codes) + 0.01


def test_three_directions_go_and_no_more(script, drawn):
    features, codes = drawn
    erase = script.leace(features, codes)
    once = erase(features)
    assert np.allclose(erase(once), once)
    moved = features - once
    assert np.linalg.matrix_rank(moved, tol=1e-6) == 3
    assert np.linalg.matrix_rank(once - once.mean(0), tol=1e-6) == 17


def test_what_is_taken_is_uncorrelated_with_what_stays(script, drawn):
    """The least change in the metric of the covariance: of the whole of it where data are many."""
    features, codes = np.tile(drawn[0], (200, 1)), np.tile(drawn[1], 200)
    features = features + 1e-3 * generator("test", "jitter").normal(size=features.shape)
    once = script.leace(features, codes)(features)
    both = np.cov(np.hstack([once, features - once]).T)
    assert np.abs(both[:20, 20:]).max() < 1e-2 * both[:20, :20].max()
