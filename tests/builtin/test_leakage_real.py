"""The perturbation and the attacker on the label tables published with Wang et al. 2019."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from biasbench.builtin.metrics.draws import balanced_rows
from biasbench.builtin.metrics.perturb import calibrate, expected_f1
from biasbench.builtin.metrics.protocol import PROTOCOLS
from biasbench.builtin.metrics.rounds import Rounds
from biasbench.builtin.metrics.truth import Truth

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "wang2019"
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(not DATA.is_dir(), reason="the published label tables are not on this machine"),
]


@pytest.fixture(scope="module")
def coco_val():
    """Positives per label and rows of a balanced draw of 1,500 + 1,500."""
    with np.load(DATA / "coco_val.npz") as table:
        rows = balanced_rows(table["gender"].astype(np.int64), 2, 1500, np.random.default_rng(0))
        return table["objects"][rows].sum(0, dtype=np.int64), len(rows)


def imsitu(split):
    with np.load(DATA / f"imsitu_{split}.npz") as table:
        return Truth(np.eye(211, dtype=np.uint8)[table["verb"]], table["gender"].astype(np.int64))


COCO_CURVE = {0.0195: 63.9, 0.022: 61.8, 0.030: 55.4, 0.038: 50.3, 0.044: 47.2, 0.052: 43.7, 0.065: 38.9}


@pytest.mark.parametrize(("p", "f1"), COCO_CURVE.items())
def test_f1_of_flipped_coco_labels(coco_val, p, f1):
    assert 100 * expected_f1(*coco_val, p) == pytest.approx(f1, abs=0.7)
    assert calibrate(*coco_val, f1 / 100).p == pytest.approx(p, rel=0.03)


@pytest.mark.parametrize(("p", "f1"), [(0.0001, 98.9), (0.002, 82.1), (0.013, 41.4), (0.04, 18.5), (0.15, 5.1)])
def test_f1_of_flipped_imsitu_labels(p, f1):
    val = imsitu("val")
    rows = balanced_rows(val.codes, 2, 3000, np.random.default_rng(0))
    assert 100 * expected_f1(val.labels[rows].sum(0, dtype=np.int64), len(rows), p) == pytest.approx(f1, abs=0.7)


def test_dataset_leakage_of_imsitu_comes_near_the_majority_rule_and_stays_below():
    """One quick epoch already; the best rule, majority gender of the verb, has 68.5 on test."""
    truth = {split: imsitu(split) for split in ("train", "val", "test")}
    protocol = replace(PROTOCOLS["wang2019-imsitu"], rounds=1, epochs=1, lr=1e-3)
    rounds = Rounds(truth, protocol, 0)
    assert rounds.per_group() == {"train": 7300, "val": 3000, "test": 3000}
    figure = rounds.attack(lambda _r, split, rows: truth[split].labels[rows])
    assert 64.5 < figure.percent[0] < 68.5 + 4 * 0.6
