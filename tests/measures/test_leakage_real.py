"""Leakage of the lists published with Wang et al. 2019."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from biasbench import Sample, leakage
from biasbench.measures.protocol import PROTOCOLS, Protocol
from biasbench.measures.rounds import Rounds

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "wang2019"
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(not DATA.is_dir(), reason="the published label tables are not on this machine"),
]


def imsitu(split):
    with np.load(DATA / f"imsitu_{split}.npz") as table:
        return Sample(table["verb"].astype(np.int64), table["gender"].astype(np.int64))


@pytest.fixture(scope="module")
def samples():
    return {split: imsitu(split) for split in ("train", "val", "test")}


def test_draws_of_imsitu_are_as_large_as_published(samples):
    rounds = Rounds(samples, 211, 2, PROTOCOLS["wang2019-imsitu"], 0, "replacement")
    assert rounds.per_group() == {"train": 7300, "val": 3000, "test": 3000}
    for split, n in rounds.per_group().items():
        assert np.bincount(samples[split].attribute[rounds.rows(4, split)]).tolist() == [n, n]


def test_dataset_leakage_of_imsitu_comes_near_the_majority_rule_and_stays_below(samples):
    """The rule is an expectation over draws: a test draw of 6,000 rows is off by 0.6 points."""
    protocol = Protocol("short", rounds=2, epochs=4, lr=1e-2, width=16, caps=(7300, 3000, 3000), batch_size=1000)
    report = leakage(samples, protocol, f1=0.5, nulls=1, threads=1)
    rule = report.details["majority_rule"]["test"]
    found = report.figures["lambda_D"]
    assert rule - 3 < found.mean < rule + 2 * 0.6
    assert report.details["perturbation"] == "replacement"
    # With replaced labels it falls, and with shuffled attributes to chance; null_train may exceed it by selection.
    assert report.figures["null_all"].mean < 50 + 4 * 0.65 < report.figures["lambda_D_F1"].mean < found.mean
    assert report.details["f1_realised"] == pytest.approx([50, 50], abs=1.5)
    assert report.flags == []
