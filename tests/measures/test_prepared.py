"""Rows without a group: unknown in the data, or of a group that was left out for its size."""

from __future__ import annotations

import numpy as np
import pytest

from biasbench import Sample, leakage
from biasbench.measures.prepared import prepare

pytestmark = pytest.mark.torch
SHORT = "smoke(rounds=1, epochs=1, width=4, caps=(20, 20, 20), batch_size=8)"


def sample(*counts):
    """A split with so many rows of unknown attribute, of group 0, of group 1, ..."""
    codes = np.repeat(np.arange(-1, len(counts) - 1), counts)
    return Sample(np.arange(len(codes)) % 2, codes)


def test_what_is_unknown_and_what_was_left_out_are_counted_apart():
    samples = {"train": sample(10, 40, 40, 10), "val": sample(0, 30, 30, 0), "test": sample(5, 40, 50, 5)}
    ready = prepare(samples, SHORT, ("a", "b", "rare"), 20)
    assert ready.names == ("a", "b")
    assert ready.unknown_share == {"train": 0.1, "val": 0.0, "test": 0.05}
    assert ready.dropped_share == {"train": 0.1, "val": 0.0, "test": 0.05}
    assert [(ready.samples[s].attribute < 0).sum() for s in ("train", "val", "test")] == [20, 0, 10]


def test_without_groups_to_leave_out_nothing_is_left_out():
    samples = {split: sample(25, 50, 25) for split in ("train", "val", "test")}
    ready = prepare(samples, SHORT, (), None)
    assert set(ready.unknown_share.values()) == {0.25}
    assert set(ready.dropped_share.values()) == {0.0}


def test_where_too_few_groups_are_left_all_known_rows_are_left_out():
    samples = {split: sample(1, 2, 1) for split in ("train", "val", "test")}
    ready = prepare(samples, SHORT, ("a", "b"), 50)
    assert "fewer than two groups" in ready.dropped["reason"]
    assert set(ready.unknown_share.values()) == {0.25}
    assert set(ready.dropped_share.values()) == {0.75}


def test_a_split_without_rows_has_no_shares():
    samples = {"train": sample(0, 3, 3), "val": sample(0, 0, 0), "test": sample(0, 3, 3)}
    ready = prepare(samples, SHORT, ("a", "b"), None)
    assert (ready.unknown_share["val"], ready.dropped_share["val"]) == (None, None)


def test_the_report_tells_both():
    samples = {split: sample(10, 40, 40, 10) for split in ("train", "val", "test")}
    found = leakage(samples, SHORT, groups=("a", "b", "rare"), minimum=20, nulls=0, threads=1).details
    assert set(found["unknown_share"].values()) == {0.1}
    assert set(found["dropped_share"].values()) == {0.1}
    assert found["dropped_groups"] == {"rare": dict.fromkeys(("train", "val", "test"), 10)}
