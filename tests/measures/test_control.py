"""The positive control: what is planted, and whether real attackers find it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biasbench import CellError, UsageError
from biasbench.measures.control import expected, found, planted, tolerance
from biasbench.measures.protocol import Protocol

pytestmark = pytest.mark.torch


def draw_of(table, rows, codes):
    from biasbench.measures.reader import Draw

    return Draw(table, np.asarray(rows, np.int64), np.asarray(codes, np.int64))


def read(draw):
    """[n, K] what an attacker reads."""
    return draw.table()[draw.rows]


KINDS = {
    "scores": lambda rng, n: rng.normal(size=(n, 3)).astype(np.float32),
    "labels": lambda rng, n: rng.integers(2, size=(n, 3)).astype(np.uint8),
    "wide labels": lambda rng, n: rng.integers(2, size=(n, 3)),
    "classes": lambda rng, n: rng.integers(3, size=n),
}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(KINDS)), st.integers(2, 4), st.data(), st.integers(0, 2**31))
def test_the_draws_stay_and_a_certain_leak_names_the_group(kind, groups, data, seed):
    rng = np.random.default_rng(seed)
    whole = KINDS[kind](rng, 20)
    codes = rng.integers(groups, size=20)
    rows = data.draw(st.lists(st.integers(0, 19), unique=True, min_size=1))
    plain = draw_of(lambda: whole, rows, codes[rows])
    got, width = planted({"train": plain}, 3, groups, 1.0, ("s",))
    table = read(got["train"])
    before = np.eye(3)[whole[rows]] if kind == "classes" else whole[rows]
    assert table.shape == (len(rows), width) == (len(rows), 3 + groups - 1)
    assert (table[:, :3] == before).all()
    assert table.dtype == (np.float32 if kind == "scores" else np.uint8)
    assert (got["train"].codes == codes[rows]).all()
    named = table[:, 3:] > 0
    assert (named == (codes[rows][:, None] == np.arange(1, groups))).all()


@pytest.mark.parametrize(("groups", "strength"), [(2, 0.8), (2, 0.5), (3, 0.7), (4, 0.0)])
def test_it_is_right_as_often_as_asked_and_otherwise_uniform(groups, strength):
    codes = np.repeat(np.arange(groups), 20_000)
    draw = draw_of(lambda: np.zeros((len(codes), 1), np.uint8), np.arange(len(codes)), codes)
    got, _ = planted({"train": draw}, 1, groups, strength, ("rate",))
    bits = read(got["train"])[:, 1:]
    named = np.where(bits.any(1), bits.argmax(1) + 1, 0)
    table = np.zeros((groups, groups))
    np.add.at(table, (codes, named), 1 / 20_000)
    stray = (1 - strength) / (groups - 1)
    assert table == pytest.approx(np.full((groups, groups), stray) + (strength - stray) * np.eye(groups), abs=0.016)
    assert bits.sum(1).max() <= 1


def test_what_is_named_depends_on_stream_table_and_row_alone():
    codes = np.arange(400) % 2
    table = np.zeros((400, 1), np.uint8)

    def bits(rows, stream, splits=("train",)):
        draws = {s: draw_of(lambda: table, rows, codes[rows]) for s in splits}
        got, _ = planted(draws, 1, 2, 0.7, stream)
        return [read(got[s])[:, 1] for s in splits]

    rows = np.random.default_rng(0).permutation(400)
    (whole,) = bits(rows, ("a", 1))
    (part,) = bits(rows[100:200], ("a", 1))
    assert (whole[100:200] == part).all()
    assert (whole == bits(rows, ("a", 1))[0]).all()
    assert (whole != bits(rows, ("a", 2))[0]).sum() > 50
    train, test = bits(rows, ("a", 1), ("train", "test"))
    assert (train != test).sum() > 50


def test_draws_that_share_a_table_share_the_planted_one_and_it_is_made_late_with_few_rows():
    made = []

    def shared():
        made.append("shared")
        return np.arange(300.0).reshape(100, 3)

    def own():
        made.append("own")
        return np.arange(30.0).reshape(10, 3)

    draws = {
        "train": draw_of(shared, [90, 5, 7], [1, 0, 0]),
        "val": draw_of(shared, [5, 60], [0, 1]),
        "test": draw_of(own, [3, 2], [0, 1]),
    }
    got, _ = planted(draws, 3, 2, 0.9, ("s",))
    assert made == []
    assert got["train"].table is got["val"].table
    assert got["train"].table is not got["test"].table
    assert len(got["train"].table()) == 4  # rows 5, 7, 60 and 90
    for split, draw in draws.items():
        assert (read(got[split])[:, :3] == read(draw)).all()
    made.clear()
    got["test"].table()
    assert made == ["own"]  # the scale was read from the training table once before


@pytest.mark.parametrize("groups", [2, 3])
def test_beside_scores_it_is_as_large_as_they_are(groups):
    rng = np.random.default_rng(1)
    codes = np.arange(600) % groups
    scores = rng.normal(size=(600, 5)) * np.array([0.0, 1.0, 2.0, 4.0, 9.0]) + 7  # of the varied ones: 3 in the middle
    spread = np.median(scores[:, 1:].std(0))

    def column(size, split):
        draws = {
            "train": draw_of(lambda: size * scores, np.arange(600), codes),
            "test": draw_of(lambda: 50 * size * scores, np.arange(600), codes),
        }
        return read(planted(draws, 5, groups, 1.0, ("s",))[0][split])[:, 5:]

    one = column(1.0, "train")
    assert one.std(0) == pytest.approx(np.full(groups - 1, spread))
    assert one.mean(0) == pytest.approx(np.zeros(groups - 1), abs=1e-9)
    assert column(1e-8, "train") == pytest.approx(1e-8 * one)
    assert column(1.0, "test") == pytest.approx(one)  # one size in all splits: that of training


def test_constant_scores_get_a_visible_leak():
    draw = draw_of(lambda: np.full((4, 2), 3.0), np.arange(4), [0, 1, 0, 1])
    assert read(planted({"train": draw}, 2, 2, 1.0, ("s",))[0]["train"])[:, 2].tolist() == [-1, 1, -1, 1]


# -- what is expected ----------------------------------------------------------------------
@pytest.mark.parametrize(("groups", "strength"), [(2, 0.9), (2, 0.2), (3, 0.5), (3, 0.1), (4, 0.25), (4, 1.0)])
def test_expected_is_the_best_of_all_rules(groups, strength):
    stray = (1 - strength) / (groups - 1)
    joint = (np.full((groups, groups), stray) + (strength - stray) * np.eye(groups)) / groups  # [group, named]
    rules = product(range(groups), repeat=groups)
    best = max(sum(joint[answer, named] for named, answer in enumerate(rule)) for rule in rules)
    assert expected(strength, groups) == pytest.approx(best)


def test_found_is_within_three_standard_errors_and_three_points():
    assert tolerance(400, 0.8) == pytest.approx(3 * 0.02 + 0.03)
    assert (found(0.7101, 400, 0.8), found(0.7099, 400, 0.8)) == (True, False)
    assert found(1.0, 400, 0.8)  # what is attacked may leak more by itself
    assert not found(float("nan"), 400, 0.8)
    assert tolerance(400, 1.0) == 0.03


# -- real attackers ------------------------------------------------------------------------
PROTOCOL = Protocol("test", epochs=12, lr=3e-3, width=32, layers=3)


def attacked(kind, size=1.0, strength=0.85, groups=2):
    """Accuracy of a real attacker on data that tell nothing but what is planted, and its test rows."""
    from biasbench.measures.attackers import Job, train_attackers

    draws = {}
    for i, (split, n) in enumerate([("train", 1200), ("val", 600), ("test", 1200)]):
        whole = KINDS[kind](np.random.default_rng(i), n)
        whole = size * whole if kind == "scores" else whole
        draws[split] = draw_of(lambda whole=whole: whole, np.arange(n), np.arange(n) % groups)
    draws, width = planted(draws, 3, groups, strength, ("real",))
    outcome = train_attackers([Job(("job",), draws, width, groups)], PROTOCOL, threads=1)[0]
    return outcome.accuracy, len(outcome.right)


@pytest.mark.parametrize(
    ("kind", "size", "groups"), [("scores", 1.0, 2), ("scores", 1e3, 3), ("labels", 1.0, 2), ("classes", 1.0, 3)]
)
def test_a_sound_attacker_finds_it(kind, size, groups):
    accuracy, n = attacked(kind, size, groups=groups)
    assert found(accuracy, n, 0.85, groups)
    assert accuracy < 0.85 + tolerance(n, 0.85, groups)  # nothing else was there to find


def test_the_published_attacker_misses_it_beside_scores_too_small_for_it():
    """The point of the control: such scores look fair to this attacker, and so does the planted leak."""
    accuracy, n = attacked("scores", 1e-8)
    assert not found(accuracy, n, 0.85)
    assert accuracy < 0.6


def test_nothing_is_found_where_nothing_is_planted():
    accuracy, n = attacked("scores", strength=0.5)
    assert accuracy == pytest.approx(0.5, abs=4 * 0.5 / n**0.5)
    assert not found(accuracy, n, 0.85)


def test_what_cannot_be_meant_is_refused():
    draw = draw_of(lambda: np.zeros((2, 1), np.uint8), [0, 1], [0, 1])
    for strength in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="outside"):
            planted({"train": draw}, 1, 2, strength, ("s",))
    with pytest.raises(UsageError, match="two groups"):
        planted({"train": draw}, 1, 1, 0.9, ("s",))
    other = draw_of(draw.table, [1, 0], [0, 0])
    with pytest.raises(CellError, match="disagree"):
        planted({"train": draw, "test": other}, 1, 2, 0.9, ("s",))
