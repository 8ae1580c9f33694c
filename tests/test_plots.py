"""Pictures: what they are computed from by hand and by brute force, and that they are the same bytes."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from sklearn.metrics import f1_score

from biasbench.errors import CellError, StoreError
from biasbench.measures.curve import Curve
from biasbench.measures.figure import Figure as LeakageFigure
from biasbench.measures.figure import LeakageReport
from biasbench.plots.curve import draw_curve
from biasbench.plots.families import levels
from biasbench.plots.frontier import Point, draw_frontier, pareto
from biasbench.plots.grid import choose_rows, draw_grid
from biasbench.plots.labels import draw_labels, label_changes
from biasbench.plots.margin import Score, gain, margin


def noise(seed, *points):
    """A curve of one seed: (F1, Δ by round) of the plain model and of each level."""
    return [{seed: Score(f1, tuple(delta))} for f1, delta in points]


# -- the margin over randomisation ----------------------------------------------------------


def test_the_margin_of_one_seed_is_over_its_rounds():
    curve = noise(0, (50.0, (10.0, 12.0, 11.0)), (40.0, (6.0, 6.0, 6.0)), (30.0, (2.0, 2.0, 2.0)))
    found = margin({0: Score(45.0, (5.0, 5.0, 5.0))}, curve)
    values = np.array([5 - 8.0, 5 - 9.0, 5 - 8.5])  # half way between the first two points, round by round
    assert found.difference == pytest.approx(values.mean())
    assert found.error == pytest.approx(stats.sem(values))
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.n, found.over, found.verdict) == (3, "rounds", "better")


def test_the_margin_of_several_seeds_is_over_them():
    curve, method = [{}, {}], {}
    for seed, (top, own) in enumerate([(10.0, 6.0), (12.0, 7.0), (11.0, 8.0)]):
        curve[0][seed], curve[1][seed] = Score(50.0 + seed, (top,) * 2), Score(40.0, (0.0, 0.0))
        method[seed] = Score(50.0 + seed, (own - 1, own + 1))  # at its own curve's end, not at another seed's
    found = margin(method, curve)
    values = np.array([-4.0, -5.0, -3.0])
    assert (found.difference, found.error) == pytest.approx((-4.0, stats.sem(values)))
    assert (found.n, found.over, found.verdict) == (3, "seeds", "better")


@pytest.mark.parametrize(("own", "verdict"), [(20.0, "worse"), (1.0, "better"), (8.25, "not told apart")])
def test_verdicts(own, verdict):
    curve = noise(0, (50.0, (10.0, 11.0)), (40.0, (6.0, 6.0)))
    assert margin({0: Score(45.0, (own + 0.5, own))}, curve).verdict == verdict


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ({0: Score(51.0, (1.0, 1.0))}, "its F1 51.00 lies outside the curve's 40.00 to 50.00"),
        ({0: Score(45.0, (1.0,))}, "noise was measured with another number of rounds"),
        ({1: Score(45.0, (1.0, 1.0))}, "no levels of noise with its seed"),
        ({}, "no score"),
    ],
)
def test_what_has_no_margin_says_why(method, reason):
    found = margin(method, noise(0, (50.0, (10.0, 10.0)), (40.0, (6.0, 6.0))))
    assert math.isnan(found.difference)
    assert (found.reason, found.verdict, found.over) == (reason, "unknown", None)


def test_one_round_has_a_difference_and_no_error():
    found = margin({0: Score(45.0, (1.0,))}, noise(0, (50.0, (10.0,)), (40.0, (6.0,))))
    assert (found.difference, found.verdict) == (-7.0, "unknown")
    assert math.isnan(found.error)
    assert found.reason


def test_levels_of_equal_f1_are_averaged():
    curve = noise(0, (50.0, (10.0, 10.0)), (50.0, (12.0, 12.0)), (40.0, (6.0, 6.0)))
    assert margin({0: Score(50.0, (1.0, 1.0))}, curve).difference == -10.0


# -- F1 at equal amplification -------------------------------------------------------------


def test_the_gain_of_several_seeds_is_over_them():
    curve, method = [{}, {}, {}], {}
    for seed, own in enumerate([48.0, 50.0, 52.0]):
        for level, (f1, delta) in enumerate([(50.0, 10.0), (40.0, 6.0), (30.0, 2.0)]):
            curve[level][seed] = Score(f1 + seed, (delta - 1, delta + 1))
        method[seed] = Score(own, (3.0, 5.0))  # mean 4: half way between the last two levels
    found = gain(method, curve)
    values = np.array([48.0 - 35, 50.0 - 36, 52.0 - 37])
    assert (found.difference, found.error) == pytest.approx((values.mean(), stats.sem(values)))
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 2, values.mean(), stats.sem(values)))
    assert (found.n, found.over, found.verdict, found.higher) == (3, "seeds", "better", True)


@pytest.mark.parametrize(("own", "verdict"), [((30.0, 30.2), "worse"), ((40.0, 40.2), "better"), ((34.9, 35.2), "not")])
def test_more_f1_at_equal_amplification_is_better(own, verdict):
    curve = [{s: Score(f1, (delta,)) for s in (0, 1)} for f1, delta in ((50.0, 10.0), (40.0, 6.0), (30.0, 2.0))]
    assert gain({s: Score(f1, (4.0,)) for s, f1 in enumerate(own)}, curve).verdict.startswith(verdict)


@given(
    levels=st.dictionaries(st.integers(0, 60), st.integers(-3, 12), min_size=2, max_size=6),
    delta=st.integers(-4, 13),
)  # fmt: skip
def test_noise_gets_the_best_f1_that_it_reaches(levels, delta):
    """Against a search over the line in small steps."""
    found = gain({0: Score(0.0, (float(delta),))}, noise(0, *((float(f), (float(d),)) for f, d in levels.items())))
    f1, deltas = np.array(sorted(levels.items()), float).T
    fine = np.union1d(np.linspace(f1[0], f1[-1], 60_001), f1)
    reached = fine[np.interp(fine, f1, deltas) <= delta + 1e-9]
    if len(reached):
        assert found.difference == pytest.approx(-reached.max(), abs=2e-3)
    else:
        assert "lies below the curve" in found.reason


def test_what_has_no_gain_says_why():
    curve = noise(0, (50.0, (10.0, 10.0)), (40.0, (6.0, 6.0)))
    low = gain({0: Score(45.0, (1.0, 2.0))}, curve)
    assert (low.reason, low.over) == ("its Δ 1.50 lies below the curve, which falls to 6.00", None)
    assert gain({1: Score(45.0, (1.0,))}, curve).reason == "no levels of noise with its seed"
    one = gain({0: Score(60.0, (12.0,))}, curve)
    assert (one.difference, one.verdict, one.reason) == (10.0, "unknown", "one seed: no spread")


def test_what_has_no_noise_of_its_f1_is_judged_by_its_amplification():
    curve = [{s: Score(f1, (delta,)) for s in (0, 1)} for f1, delta in ((50.0, 10.0), (40.0, 6.0))]
    both = {0: Score(55.0, (7.0,)), 1: Score(56.0, (7.0,))}
    point = Point("adv", 55.5, 7.0, margin=margin(both, curve), gain=gain(both, curve))
    assert point.margin.over is None
    assert point.better
    inside = {0: Score(45.0, (7.9,)), 1: Score(45.0, (8.2,))}
    assert not Point("adv", 45.0, 8.0, margin=margin(inside, curve), gain=gain(inside, curve)).better


# -- families ------------------------------------------------------------------------------


def test_methods_that_differ_in_numbers_are_levels_of_one():
    names = [
        "original", "adv-conv5(weight=0.5)", "adv-conv5(weight=4.0, update='reversal')", "adv-conv5(weight=2, width=9)",
        "alpha-1", "alpha-3", "alpha-1+adv-conv5(weight=0.5)", "adv(at='conv4', balance=True)", "adv(at='conv4')",
        "noise(0.5)", "noise(sigma=0.5)", "blackout-segm",
    ]  # fmt: skip
    assert levels(names) == [
        ("original", ""), ("adv-conv5", "0.5, default"), ("adv-conv5(weight=4.0, update='reversal')", ""),
        ("adv-conv5", "2, 9"), ("alpha", "1"), ("alpha", "3"), ("alpha-1+adv-conv5(weight=0.5)", ""),
        ("adv(at='conv4', balance=True)", ""), ("adv(at='conv4')", ""), ("noise", "0.5, default"),
        ("noise", "default, 0.5"), ("blackout-segm", ""),
    ]  # fmt: skip


# -- the front -----------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(cells):
    points = [Point(str(i), float(f1), float(delta)) for i, (f1, delta) in enumerate(cells)]

    def beaten(p):
        return any((q.f1 >= p.f1 and q.delta <= p.delta) and (q.f1, q.delta) != (p.f1, p.delta) for q in points)

    assert {p.name for p in pareto(points)} == {p.name for p in points if not beaten(p)}


# -- labels ----------------------------------------------------------------------------------


def multilabel(n=600, k=5, seed=0):
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, k)) < 0.4).astype(np.uint8)
    return truth, lambda rate: truth ^ (rng.random((n, k)) < rate)


def test_f1_by_label_is_that_of_scikit_learn():
    truth, wrong = multilabel()
    pairs = [(wrong(0.1), wrong(0.2)), (wrong(0.1), wrong(0.3))]
    found = label_changes("abcde", truth, pairs)
    for i, shown in enumerate((found.before, found.after)):
        assert shown == pytest.approx(np.mean([100 * f1_score(truth, p[i], average=None) for p in pairs], 0))
    assert found.positives.tolist() == truth.sum(0).tolist()
    assert found.seeds == 2


def test_f1_by_class_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    truth, said = rng.integers(0, 4, 300), rng.integers(0, 4, 300)
    found = label_changes("abcd", truth, [(truth, said)])
    assert found.after == pytest.approx(100 * f1_score(truth, said, average=None))
    assert found.before.tolist() == [100.0] * 4


def test_the_error_is_that_of_another_test_split():
    """Against splits drawn anew, 400 times, from the same law."""
    changes, errors = [], []
    for seed in range(400):
        truth, wrong = multilabel(n=400, k=1, seed=seed)
        old, new = wrong(0.1), wrong(0.25)
        if seed < 5:
            errors.append(label_changes("a", truth, [(old, new)]).error[0])
        changes.append(100 * (f1_score(truth[:, 0], new[:, 0]) - f1_score(truth[:, 0], old[:, 0])))
    assert np.mean(errors) == pytest.approx(np.std(changes), rel=0.15)


def test_one_label_that_collapses_falls_out_and_equal_costs_do_not():
    truth, wrong = multilabel(n=2000)
    after = wrong(0.1)
    assert not label_changes("abcde", truth, [(wrong(0.1), after)]).falls_out.any()
    after[:, 2] = truth[:, 2] ^ (np.random.default_rng(5).random(2000) < 0.3)
    found = label_changes("abcde", truth, [(wrong(0.1), after)])
    assert found.falls_out.tolist() == [False, False, True, False, False]


def test_a_label_without_examples_is_undefined_and_one_never_predicted_is_not_judged():
    truth, wrong = multilabel(n=300, k=3)
    truth[:, 0] = 0
    before, after = wrong(0.0), wrong(0.0)
    before[:, 1] = after[:, 1] = 0
    found = label_changes("abc", truth, [(before, after)])
    assert np.isnan([found.before[0], found.after[0]]).all()
    assert (found.before[1], found.after[1], found.error[1]) == (0.0, 0.0, 0.0)
    assert not found.falls_out[:2].any()


def test_labels_of_other_examples_are_refused():
    truth, wrong = multilabel()
    with pytest.raises(CellError, match="same examples"):
        label_changes("abcde", truth, [(wrong(0.1), wrong(0.1)[:-1])])
    with pytest.raises(CellError, match="same examples"):
        label_changes("abcde", truth, [])


# -- images ------------------------------------------------------------------------------------


@given(st.lists(st.integers(-1, 2), min_size=1, max_size=40), st.integers(1, 12), st.integers(0, 3))
def test_chosen_rows_are_known_eligible_and_as_even_as_can_be(codes, count, seed):
    codes = np.array(codes)
    eligible = np.arange(len(codes)) % 3 != 1
    rows = choose_rows(codes, eligible, count, seed)
    able = eligible & (codes >= 0)
    assert len(rows) == len(set(rows)) == min(count, able.sum())
    assert able[rows].all()
    assert (np.diff(rows) > 0).all()
    shown = np.bincount(codes[rows], minlength=3) if len(rows) else np.zeros(3)
    there = np.bincount(codes[able], minlength=3) if able.any() else np.zeros(3)
    for group in range(3):  # a group with one fewer than another has no more to give
        assert shown[group] >= min(shown.max() - 1, there[group])


def test_a_grid_without_images_or_of_two_sizes_is_refused(tmp_path):
    image = np.zeros((2, 8, 8, 3), np.uint8)
    two = ["a", "b"]
    for before, after, captions in (
        (image[:0], [image[:0]], []), (image, [image, image[:1]], two), (image, [image], ["a"]), (image, [], two),
    ):  # fmt: skip
        with pytest.raises(CellError, match="a grid needs"):
            draw_grid(tmp_path / "x.png", before, after, captions, "t")
    assert list(tmp_path.iterdir()) == []


def test_a_strip_shows_the_image_and_then_each_method(tmp_path):
    """The three colours stand side by side in the order they are handed in."""
    colours = [np.full((1, 20, 20, 3), c, np.uint8) for c in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    draw_grid(tmp_path / "x.png", colours[0], colours[1:], ["a"], "t", 1)
    with Image.open(tmp_path / "x.png") as drawn:
        seen = np.asarray(drawn.convert("RGB")).astype(int)
    places = [np.flatnonzero((np.abs(seen - c[0, 0, 0]).sum(2) < 30).any(0)) for c in colours]
    assert all(len(place) > 50 for place in places)
    assert places[0].max() < places[1].min()
    assert places[1].max() < places[2].min()


# -- files -------------------------------------------------------------------------------------


def pictures(folder, ending):
    folder.mkdir()
    better = margin({0: Score(45.0, (2.0, 2.1))}, noise(0, (50.0, (10.0, 10.0)), (40.0, (6.0, 6.0))))
    points = [
        Point("original", 50.0, 10.0, 0.5, 0.4), Point("noise(sigma=1.0)", 40.0, 6.0, noise=True),
        Point("adv$x^", 45.0, 2.05, None, 0.3, margin=better), Point("blur", 44.0, 9.0),
        Point("a-1", 43.0, 8.0, family="$a", level="1"), Point("a-2", 42.0, 7.0, family="$a", level="$2"),
    ]  # fmt: skip
    draw_frontier(folder / f"frontier.{ending}", points, "Δ on $data\x1b")
    truth, wrong = multilabel(n=200)
    after = wrong(0.05)
    after[:, 0] = 0
    draw_labels(folder / f"labels.{ending}", label_changes(["$a", *"bcde"], truth, [(truth, after)]), "t", "x", "y")
    images = np.arange(5 * 8 * 8 * 3, dtype=np.uint8).reshape(5, 8, 8, 3)
    draw_grid(folder / f"grid.{ending}", images, [images[::-1], images], list("mwmw$"), "t $ " * 40, 2)
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_the_same_content_gives_the_same_bytes(tmp_path, ending):
    first, second = pictures(tmp_path / "a", ending), pictures(tmp_path / "b", ending)
    assert first == second
    assert len(first) == 3
    if ending == "svg":
        assert all(ElementTree.fromstring(text).tag.endswith("svg") for text in first.values())


def test_names_from_data_start_no_formula_in_the_curve(tmp_path):
    curve = Curve("flips", (100.0, 50.0), (LeakageFigure(np.array([70.0, 72.0])),) * 2, ())
    report = LeakageReport("quick", "a$b^", ("x", "y"), {"lambda_D": LeakageFigure(np.array([70.0]))}, {})
    draw_curve(tmp_path / "x.svg", curve, report, "data $x^ here")
    assert ElementTree.parse(tmp_path / "x.svg").getroot().tag.endswith("svg")


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        draw_frontier(tmp_path / "file" / "x.svg", [Point("original", 1.0, 1.0)], "t")
