"""alpha and balance: the exact rule, the bounds of the heuristic, and the published subsets."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biasbench import CellError, DataError, UsageError
from biasbench.builtin.methods._ratios import TOLERANCE, cap_classes, thin
from biasbench.builtin.methods.resample import Alpha, Balance

pytestmark = pytest.mark.torch  # importing biasbench.Method does

PUBLISHED = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "wang2019"
published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published annotation lists are not here")


def multi_label(y, groups):
    columns = {f"label/l{k}": y[:, k] for k in range(y.shape[1])}
    ids = [f"r{i}" for i in range(len(y))]
    return pd.DataFrame({"id": ids, "path": ids, **columns, "attribute/gender": groups})


def multi_class(labels, groups):
    ids = [f"r{i}" for i in range(len(labels))]
    return pd.DataFrame({"id": ids, "path": ids, "label": labels, "attribute/gender": groups})


def choose(table, ratio, seed=0):
    return Alpha(ratio, "gender").resample(table, np.random.default_rng(seed))


def group_counts(y, groups, codes=(0, 1)):
    return np.stack([y[groups == g].sum(0) for g in codes])


# ------------------------------------------------------------------ one label per row
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=2, max_size=60),
    st.sampled_from([1.0, 1.5, 2.0, 3.0]),
)
def test_exact_rule(rows, ratio):
    labels, groups = (np.array(column) for column in zip(*rows, strict=True))
    keep = cap_classes(labels, groups, ratio, np.random.default_rng(0))
    for label in set(labels):
        before = np.array([((labels == label) & (groups == g)).sum() for g in range(groups.max() + 1)])
        after = np.array([((labels == label) & (groups == g) & keep).sum() for g in range(groups.max() + 1)])
        most = int(ratio * max(before.min(), 1) + 1e-9)
        assert after.tolist() == np.minimum(before, most).tolist()


def test_which_rows_stay_is_drawn():
    table = multi_class([0] * 40, [0] * 30 + [1] * 10)
    a, b, again = (choose(table, 1.0, seed).index.tolist() for seed in (0, 1, 0))
    assert a == again
    assert a != b
    assert len(a) == 20


@published
@pytest.mark.parametrize(("ratio", "men", "women"), [(1, 7342, 7342), (2, 10265, 8884), (3, 11613, 9530)])
def test_imsitu_counts(ratio, men, women):
    data = np.load(PUBLISHED / "imsitu_train.npz")
    chosen = choose(multi_class(data["verb"].astype(np.int64), data["gender"].astype(np.int64)), float(ratio))
    assert chosen["attribute/gender"].value_counts().to_dict() == {0: men, 1: women}
    rows = data[f"ratio_{ratio}"]  # the published draw has the same counts for every verb
    for gender in (0, 1):
        theirs = np.bincount(data["verb"][rows][data["gender"][rows] == gender], minlength=211)
        ours = np.bincount(chosen.label[chosen["attribute/gender"] == gender], minlength=211)
        assert (theirs == ours).all()


# ------------------------------------------------------------------ several labels per row
def obeys(y, groups, keep, ratio):
    everyone = np.ones((len(y), 1), int)
    z, limit = np.concatenate([y, everyone], 1), np.full(y.shape[1] + 1, max(ratio, TOLERANCE))
    limit[-1] = ratio
    counts = np.stack([z[keep & (groups == g)].sum(0) for g in range(groups.max() + 1)])
    return bool((counts.max(0) <= limit * counts.min(0) + 1e-9).all())


@st.composite
def label_matrices(draw, rows=60):
    n, k = draw(st.integers(2, rows)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    y = (rng.random((n, k)) < draw(st.floats(0.05, 0.95))).astype(np.uint8)
    groups = rng.integers(0, draw(st.integers(2, 3)), n)
    groups[:2] = [0, 1]
    return y, np.unique(groups, return_inverse=True)[1]


@settings(max_examples=150, deadline=None)
@given(label_matrices(), st.sampled_from([1.0, 1.3, 2.0, 3.0]), st.integers(0, 5))
def test_every_label_obeys_and_nothing_fits_again(data, ratio, seed):
    y, groups = data
    keep = thin(y, groups, ratio, np.random.default_rng(seed))
    assert obeys(y, groups, keep, ratio)
    for row in np.flatnonzero(~keep):
        more = keep.copy()
        more[row] = True
        assert not obeys(y, groups, more, ratio)


def test_close_to_the_optimum_on_sets_small_enough_to_enumerate():
    rng = np.random.default_rng(0)
    ours, best = 0, 0
    for trial in range(30):
        ratio = (1.0, 1.5, 2.0)[trial % 3]
        y = (rng.random((9, 3)) < 0.5).astype(np.uint8)
        groups = (rng.random(9) < 0.4).astype(np.int64)
        groups[:2] = [0, 1]
        kept = thin(y, groups, ratio, np.random.default_rng(trial)).sum()
        subsets = (np.array(s, bool) for s in itertools.product([0, 1], repeat=9))
        top = max(s.sum() for s in subsets if obeys(y, groups, s, ratio))
        assert kept <= top
        ours, best = ours + kept, best + top
    assert ours >= 0.9 * best


@published
@pytest.mark.parametrize(("ratio", "rows", "emptied"), [(1, 1080, 3), (2, 3633, 1), (3, 4072, 1)])
def test_coco_keeps_at_least_what_was_published(ratio, rows, emptied):
    data = np.load(PUBLISHED / "coco_val.npz")
    y, groups = data["objects"].astype(np.uint8), data["gender"].astype(np.int64)
    theirs = np.zeros(len(y), bool)
    theirs[data[f"ratio_{ratio}"]] = True
    assert theirs.sum() == rows
    assert (y[theirs].sum(0) == 0).sum() == emptied
    for seed in range(3):
        chosen = choose(multi_label(y, groups), float(ratio), seed)
        counts = group_counts(y[chosen.index], groups[chosen.index])
        left = counts.max(0) > 0
        assert (~left).sum() <= emptied
        assert (counts.max(0)[left] / counts.min(0)[left]).max() <= max(ratio, 1.08) + 1e-9
        assert len(chosen) >= rows
        people = np.bincount(groups[chosen.index])
        assert people.max() <= ratio * people.min()


def test_a_label_of_one_group_loses_its_rows_and_the_others_stay():
    y = np.array([[1, 0], [1, 0], [0, 1], [1, 0]], np.uint8)
    assert choose(multi_label(y, [0, 1, 0, 1]), 2.0).id.tolist() == ["r0", "r1", "r3"]


# ------------------------------------------------------------------ the method
@pytest.mark.parametrize("kind", ["multilabel", "multiclass"])
def test_a_selection_of_the_rows_with_their_index(kind):
    rng = np.random.default_rng(0)
    groups = rng.choice([-1, 0, 1], 120, p=[0.1, 0.6, 0.3])
    if kind == "multilabel":
        table = multi_label((rng.random((120, 4)) < 0.3).astype(np.uint8), groups)
    else:
        table = multi_class(rng.integers(0, 4, 120), groups)
    table.index = table.index + 1000
    before = table.copy(deep=True)
    chosen = choose(table, 2.0)
    pd.testing.assert_frame_equal(table, before)
    pd.testing.assert_frame_equal(chosen, table.loc[chosen.index])
    assert chosen.index.is_monotonic_increasing
    assert (chosen["attribute/gender"] >= 0).all()
    assert 0 < len(chosen) < 120
    pd.testing.assert_frame_equal(chosen, choose(table, 2.0))


def test_intersections():
    rng = np.random.default_rng(1)
    table = multi_class(np.zeros(200, int), rng.integers(0, 2, 200)).assign(
        **{"attribute/age": rng.integers(0, 2, 200)}
    )
    chosen = Alpha(1.0, "gender*age").resample(table, rng)
    sizes = chosen.groupby(["attribute/gender", "attribute/age"]).size()
    assert len(sizes) == 4
    assert sizes.nunique() == 1


@pytest.mark.parametrize("groups", [[0, 0, 0], [-1, -1, -1], [1, -1, -1]])
def test_fewer_than_two_groups(groups):
    with pytest.raises(CellError, match="at least two groups of 'gender'"):
        choose(multi_class([0, 0, 0], groups), 1.0)


def test_an_empty_choice_is_an_error():
    y = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.uint8)
    with pytest.raises(CellError, match="no training row is left"):
        choose(multi_label(y, [0, 0, 1, 1]), 3.0)


@pytest.mark.parametrize("ratio", [0.5, 0.0, -1.0, float("inf"), float("nan")])
def test_senseless_ratios(ratio):
    with pytest.raises(UsageError, match="ratio must be at least 1"):
        Alpha(ratio)


def test_attributes_must_be_named_and_exist():
    table = multi_class([0, 0], [0, 1])
    with pytest.raises(UsageError, match="no protected attribute is named"):
        Alpha(1.0).resample(table, np.random.default_rng(0))
    with pytest.raises(DataError, match="Did you mean 'gender'"):
        Alpha(1.0, "gendr").resample(table, np.random.default_rng(0))
    with pytest.raises(UsageError, match="balance"):
        Balance().balance_by()
    assert Balance("age").balance_by() == "age"
