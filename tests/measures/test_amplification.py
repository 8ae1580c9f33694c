"""Measures of bias amplification: definitions written out as loops, laws, refusals and how results print."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biasbench import CellError, DataError, UsageError, bias_amplification, directional_amplification
from biasbench import multi_attribute_amplification as multi
from biasbench.measures import combinations as enumeration


def share(part, whole):
    return Fraction(int(part), int(whole))


def mean(values):
    values = list(values)
    return float(100 * sum(values) / len(values)) if values else float("nan")


@st.composite
def splits(draw, groups=3, labels=4):
    """Test truth, predictions, attribute, guesses, training truth and attribute; sizes and rates of all kinds."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    g, k = draw(st.integers(2, groups)), draw(st.integers(1, labels))
    n, m = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rate, unknown = draw(st.sampled_from([0.05, 0.3, 0.7])), draw(st.sampled_from([0, 0.2]))
    truth, said, learnt = (rng.random((rows, k)) < rate for rows in (n, n, m))
    codes, train = (np.where(rng.random(rows) < unknown, -1, rng.integers(0, g, rows)) for rows in (n, m))
    return (*(a.astype(np.uint8) for a in (truth, said)), codes, rng.integers(0, g, n), learnt.astype(np.uint8), train)


def present(*codes):
    """Groups with an example in each array."""
    return sorted(set.intersection(*({int(c) for c in part if c >= 0} for part in codes)))


def leanings(has_true, train, has_said, group, groups):
    """Changes of one label, or combination, over `groups`; None when undefined (Zhao et al. 2017, section 3)."""
    true = [np.sum(has_true & (train == g)) for g in groups]
    said = [np.sum(has_said & (group == g)) for g in groups]
    if len(groups) < 2 or not sum(true) or not sum(said):
        return None
    pairs = zip(true, said, strict=True)
    return [
        share(s, sum(said)) - share(t, sum(true)) if share(t, sum(true)) > Fraction(1, len(groups)) else Fraction(0)
        for t, s in pairs
    ]


@settings(max_examples=150, deadline=None)
@given(splits(), st.booleans())
def test_bias_amplification_is_its_definition(arrays, guess):
    truth, said, codes, guesses, learnt, train = arrays
    group = np.where(codes >= 0, guesses, -1) if guess else codes
    groups = present(train) if guess else present(train, codes)
    k = truth.shape[1]
    per_label = [leanings(learnt[:, o] == 1, train, said[:, o] == 1, group, groups) for o in range(k)]
    got = bias_amplification(
        truth, said, codes, reference=(learnt, train), attribute_predictions=guesses if guess else None
    )
    assert got.value == pytest.approx(mean(sum(d) for d in per_label if d is not None), abs=1e-9, nan_ok=True)
    assert got.undefined == per_label.count(None)
    assert (got.reason != "") == np.isnan(got.value)


def directional(truth, said, codes, learnt, train, guesses):
    """Both directions, pair by pair (Wang and Russakovsky 2021)."""
    to_task, to_attribute = [], []
    known, groups = codes >= 0, present(train)
    for g in groups if len(groups) > 1 else []:
        for t in range(truth.shape[1]):
            learnt_t = learnt[train >= 0, t] == 1
            in_g, n = train[train >= 0] == g, int((train >= 0).sum())
            if not learnt_t.any() or not (codes == g).any():
                continue
            lift = share((learnt_t & in_g).sum(), n) - share(learnt_t.sum(), n) * share(in_g.sum(), n)
            sign = (lift > 0) - (lift < 0)
            here, size = codes == g, (codes == g).sum()
            to_task.append(sign * (share(said[here, t].sum(), size) - share(truth[here, t].sum(), size)))
            has = known & (truth[:, t] == 1)
            if has.any():
                to_attribute.append(
                    sign * (share((guesses[has] == g).sum(), has.sum()) - share(here[has].sum(), has.sum()))
                )
    return mean(to_task), mean(to_attribute)


@settings(max_examples=150, deadline=None)
@given(splits())
def test_directional_amplification_is_its_definition(arrays):
    truth, said, codes, guesses, learnt, train = arrays
    to_task, to_attribute = directional(truth, said, codes, learnt, train, guesses)
    got = directional_amplification(truth, said, codes, reference=(learnt, train), attribute_predictions=guesses)
    assert got.attribute_to_task.value == pytest.approx(to_task, abs=1e-9, nan_ok=True)
    assert got.task_to_attribute.value == pytest.approx(to_attribute, abs=1e-9, nan_ok=True)


@settings(max_examples=100, deadline=None)
@given(splits(), st.integers(1, 3), st.sampled_from([None, 1, 2]), st.booleans(), st.booleans())
def test_multi_mals_is_its_definition_over_all_subsets(arrays, min_count, max_size, whole, guess):
    truth, said, codes, guesses, learnt, train = arrays
    group = np.where(codes >= 0, guesses, -1) if guess else codes
    groups = present(train) if guess else present(train, codes)
    k = truth.shape[1]
    known, known_train = codes >= 0 if guess else np.isin(codes, groups), np.isin(train, groups)
    changes, expected = [], []
    for size in range(1, (max_size or k) + 1):
        for m in combinations(range(k), size):
            has_learnt, has_truth, has_said = (part[:, m].all(1) for part in (learnt, truth, said))
            exactly = has_learnt & (learnt.sum(1) == size) & known_train
            often = min((has_learnt & known_train).sum(), (has_truth & known).sum()) >= min_count
            if often and (not whole or exactly.sum() >= min_count):
                expected.append(m)
                changes.append(leanings(has_learnt, train, has_said, group, groups))
    got = multi(
        truth, said, codes, reference=(learnt, train), min_count=min_count, max_size=max_size, label_sets_only=whole,
        attribute_predictions=guesses if guess else None,
    )  # fmt: skip
    defined = [d for d in changes if d is not None]
    assert list(got.combinations) == expected
    assert got.undefined == changes.count(None)
    assert got.value == pytest.approx(mean(sum(map(abs, d)) for d in defined), abs=1e-9, nan_ok=True)
    assert got.signed == pytest.approx(mean(map(sum, defined)), abs=1e-9, nan_ok=True)
    variance = float(np.var(1e2 * np.array(defined, float))) if defined else float("nan")
    assert got.variance == pytest.approx(variance, abs=1e-7, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(splits(), st.permutations(range(3)))
def test_renaming_groups_or_adding_an_empty_one_moves_nothing(arrays, order):
    truth, said, codes, _, learnt, train = arrays
    renamed = np.array([*order, -1])  # code -1 stays
    for measure in (bias_amplification, directional_amplification, multi):
        plain = measure(truth, said, codes, reference=(learnt, train)).value
        for groups, old, new in ((None, codes, train), ("abcde", codes, train), (None, renamed[codes], renamed[train])):
            moved = measure(truth, said, old, reference=(learnt, new), groups=groups).value
            assert moved == pytest.approx(plain, abs=1e-9, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_single_label_is_one_hot(seed, k):
    rng = np.random.default_rng(seed)
    truth, said, codes = rng.integers(0, k, 50), rng.integers(0, k, 50), rng.integers(0, 2, 50)
    hot, names = np.eye(k, dtype=np.uint8), [f"class {i}" for i in range(k)]
    for measure in (bias_amplification, directional_amplification, multi):
        single = measure(truth, said, codes, label_names=names)
        assert single.value == measure(hot[truth], hot[said], codes).value
        assert single.label_names == tuple(names)


def test_one_absolute_value_per_label_without_combinations():
    """On single-label data of two groups, Multi_MALS is the mean of Zhao et al.'s values without their signs."""
    rng = np.random.default_rng(5)
    truth, said, codes = rng.integers(0, 4, 200), rng.integers(0, 4, 200), rng.integers(0, 2, 200)
    values = bias_amplification(truth, said, codes).per_label
    assert multi(truth, said, codes).value == pytest.approx(np.abs(values).mean())
    assert multi(truth, said, codes).signed == pytest.approx(values.mean())


def test_many_labels_and_few_examples_are_no_explosion():
    """2^60 subsets exist; those that occur are the 2^3 - 1 of each example's three labels."""
    truth = np.zeros((20, 60), np.uint8)
    for row in range(20):
        truth[row, 3 * row : 3 * row + 3] = 1
    got = multi(np.tile(truth, (2, 1)), np.tile(truth, (2, 1)), np.arange(40) % 2)
    assert len(got.combinations) == 20 * 7


def test_too_many_combinations_are_refused_with_the_way_out(monkeypatch):
    monkeypatch.setattr(enumeration, "MOST", 100)
    ones = np.ones((2, 8), np.uint8)
    with pytest.raises(CellError, match=r"more than 100 label combinations occur\. Give max_size"):
        multi(ones, ones, np.array([0, 1]))
    assert len(multi(ones, ones, np.array([0, 1]), max_size=2).combinations) == 8 + 28
    with pytest.raises(UsageError, match="min_count is 0"):
        multi(ones, ones, np.array([0, 1]), min_count=0)
    with pytest.raises(UsageError, match="max_size is 0"):
        multi(ones, ones, np.array([0, 1]), max_size=0)


ONES, CODES = np.ones((3, 2), np.uint8), np.array([0, 1, 0])


@pytest.mark.parametrize(
    ("message", "arguments", "options"),
    [
        ("targets: must be integers of shape .* not float64", (ONES * 0.5, ONES, CODES), {}),
        ("targets: must be integers", (np.full((3, 2), "x"), ONES, CODES), {}),
        ("labels: 2 rows, the attribute has 3", (ONES, ONES[:2], CODES), {}),
        ("labels: 1 labels, expected 2", (ONES, ONES[:, :1], CODES), {}),
        ("targets: a value is outside 0..1", (ONES * 2, ONES, CODES), {}),
        ("targets: a value is outside 0..1", (np.array([0, 1, -1]), np.array([0, 1, 0]), CODES), {}),
        ("labels: must be integers", (ONES, ONES[:, :, None], CODES), {}),
        ("some labels are classes", (ONES[:, 0], ONES, CODES), {}),
        ("some labels are classes", (ONES, ONES, CODES), {"reference": (ONES[:, 0], CODES)}),
        ("attribute: must be integer codes", (ONES, ONES, CODES * 0.5), {}),
        ("attribute: must be integer codes", (ONES, ONES, np.array(["a", "b", "a"])), {}),
        ("attribute: must be integer codes", (ONES, ONES, ONES), {}),
        ("attribute: a code is below -1", (ONES, ONES, CODES - 2), {}),
        ("attribute: code 1 has no name: there are 1 groups", (ONES, ONES, CODES), {"groups": ["a"]}),
        ("targets: 2 labels, expected 3", (ONES, ONES, CODES), {"label_names": ["x", "y", "z"]}),
        ("reference targets: 1 labels, expected 2", (ONES, ONES, CODES), {"reference": (ONES[:, :1], CODES)}),
        ("reference targets: 3 rows, the attribute has 2", (ONES, ONES, CODES), {"reference": (ONES, CODES[:2])}),
        ("reference attribute: a code is below -1", (ONES, ONES, CODES), {"reference": (ONES, CODES - 2)}),
        ("attribute_predictions: a code is below 0", (ONES, ONES, CODES), {"attribute_predictions": CODES - 1}),
        ("attribute_predictions: 2 values for 3", (ONES, ONES, CODES), {"attribute_predictions": CODES[:2]}),
    ],
)
def test_refusals(message, arguments, options):
    for measure in (bias_amplification, directional_amplification, multi):
        with pytest.raises(DataError, match=message):
            measure(*arguments, **options)


def test_arrays_of_any_integer_type_are_read():
    truth, said = np.array([[1], [1], [1], [1]]), np.array([[1], [1], [0], [0]])
    for kind in (bool, np.uint8, np.int16, np.int64):
        for codes in (np.array([0, 0, 0, 1], np.uint8), np.array([False, False, False, True]), [0, 0, 0, 1]):
            assert bias_amplification(truth.astype(kind), said.astype(kind), codes).value == 25


def test_results_print_and_become_tables():
    truth = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0]], np.uint8)
    said = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]], np.uint8)
    names = {"label_names": ("dog", "cat", "cow"), "groups": ("man", "woman")}
    codes = np.array([0, 0, 0, 1])
    mals = bias_amplification(truth, said, codes, **names)
    assert str(mals) == "bias amplification (Zhao et al. 2017) 12.50 points (undefined labels: 1)"
    assert mals.to_frame().columns.tolist() == [
        "label", "bias_amplification", "reference man", "reference woman", "predicted man", "predicted woman",
    ]  # fmt: skip
    assert mals.to_frame()["label"].tolist() == ["dog", "cat", "cow"]
    assert mals.to_frame()["predicted man"].tolist()[:2] == [100, 50]
    frame = directional_amplification(truth, said, codes, **names).to_frame()
    assert frame[["group", "label"]].values.tolist()[2:4] == [["man", "cow"], ["woman", "dog"]]
    assert frame["task_to_attribute"].isna().all()
    both = multi(truth, said, codes, **names)
    assert str(both).splitlines()[0] == (
        "multi-attribute amplification (Multi_MALS) 12.50 points (label combinations: 3; undefined ones: 1)"
    )
    assert both.to_frame()["labels"].tolist() == ["dog", "cat", "dog & cat"]
    assert both.to_frame()["change man"].tolist()[:2] == [25, 0]
    nothing = np.zeros((0, 3), np.uint8)
    empty = multi(nothing, nothing, np.zeros(0, np.int64), **names)
    assert str(empty).startswith("multi-attribute amplification (Multi_MALS) undefined: 0 groups")
    assert len(empty.to_frame()) == 0
