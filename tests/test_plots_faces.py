"""The figures of Alvi et al. 2018: what they are computed from against pandas, scipy and by hand, and what is drawn."""

from __future__ import annotations

from itertools import permutations
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure as Picture
from PIL import Image
from scipy.stats import entropy
from sklearn.neighbors import KNeighborsClassifier

from biasbench.errors import CellError, DataError, UsageError
from biasbench.plots.distribution import distribution, draw_distribution
from biasbench.plots.embedding import draw_embedding, project
from biasbench.plots.groups import Page, look
from biasbench.plots.histogram import draw_histogram, histogram
from biasbench.plots.training import Attribute, Training, curve, diagnosed, draw_training

AGES, GENDERS = ("young", "middle", "old"), ("woman", "man")
rows = st.lists(st.tuples(st.integers(-1, 2), st.integers(-1, 1)), min_size=1, max_size=60)


@pytest.fixture
def drawn(monkeypatch):
    """The pictures that were saved, to look at what is on them."""
    pictures, save = [], Picture.savefig
    monkeypatch.setattr(Picture, "savefig", lambda self, *a, **k: (pictures.append(self), save(self, *a, **k))[1])
    return pictures


def heights(axes, look_of):
    """Heights of the bars of one group, from left to right."""
    bars = [p for p in axes.patches if (p.get_hatch() or "") == look_of.hatch]
    return [p.get_height() for p in sorted(bars, key=lambda p: p.get_x())]


# -- histograms ------------------------------------------------------------------------------
@given(rows)
def test_counts_and_shares_are_those_of_a_cross_table(cells):
    values, codes = np.array(cells).T
    found = histogram(values, codes, AGES, GENDERS)
    known = pd.DataFrame({"v": values, "g": codes}).query("v >= 0 and g >= 0")
    table = pd.crosstab(known["g"], known["v"]).reindex(index=range(2), columns=range(3), fill_value=0)
    assert found.counts.tolist() == table.to_numpy().tolist()
    assert found.unknown == len(cells) - len(known)
    for g in range(2):
        mine = known["v"][known["g"] == g]
        share = mine.value_counts(normalize=True).reindex(range(3), fill_value=0).to_numpy() * 100
        if len(mine):
            assert found.share[g] == pytest.approx(share)
        else:
            assert np.isnan(found.share[g]).all()


def test_labels_of_several_a_picture_count_each_and_leave_no_example_out():
    values = np.array([[1, 1], [0, 0], [1, 0], [1, 1]], np.uint8)
    found = histogram(values, np.array([0, 0, 1, -1]), ("dog", "cat"), GENDERS)
    assert found.counts.tolist() == [[1, 1], [1, 0]]
    assert found.share.tolist() == [[50, 50], [100, 0]]
    assert (found.sizes.tolist(), found.unknown) == ([2, 1], 1)


def test_differences_of_two_groups_and_of_more():
    values, codes = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 0, 0, 1, 1, 2])
    three = histogram(values, codes, AGES, ("a", "b", "c"))
    assert three.difference == pytest.approx(three.share - three.share.mean(0))
    two = histogram(values[:5], codes[:5], AGES, GENDERS)
    assert two.difference == pytest.approx(np.array([[200 / 3, 100 / 3, -100]]))
    absent = histogram(values, codes, AGES, ("a", "b", "c", "d"))
    assert absent.difference[:3] == pytest.approx(three.difference)  # a group without examples shifts nothing
    assert np.isnan(absent.difference[3]).all()
    assert np.isnan(histogram(values[:3], codes[:3], AGES, GENDERS).difference).all()


@pytest.mark.parametrize(
    ("values", "codes"), [([0, 1], [0]), ([0, 3], [0, 1]), ([0, 1], [0, 2])], ids=["lengths", "class", "group"]
)
def test_codes_that_do_not_fit_are_refused(values, codes):
    with pytest.raises(DataError):
        histogram(np.array(values), np.array(codes), AGES, GENDERS)


def test_the_bars_are_the_shares_and_their_difference(tmp_path, drawn):
    rng = np.random.default_rng(0)
    splits = {s: histogram(rng.integers(0, 3, 80), rng.integers(0, 2, 80), AGES, GENDERS) for s in ("train", "test")}
    draw_histogram(tmp_path / "x.png", splits, "t", "age", "gender")
    above, below = drawn[0].axes[:2], drawn[0].axes[2:]
    for axis, under, found in zip(above, below, splits.values(), strict=True):
        assert [heights(axis, look(g)) for g in (0, 1)] == [pytest.approx(found.share[g]) for g in (0, 1)]
        assert np.add(*(heights(under, look(g)) for g in (0, 1))) == pytest.approx(found.difference[0])
        assert [t.get_text() for t in under.get_xticklabels()] == list(AGES)


# -- distributions ---------------------------------------------------------------------------
def smoothed(values, codes, k):
    """Mean KL over ordered pairs of groups by scipy, half an example added to each class."""
    counts = [np.bincount(values[codes == g], minlength=k) + 0.5 for g in (0, 1)]
    return np.mean([entropy(counts[a], counts[b]) for a, b in permutations((0, 1))])


def test_figure_6_is_predictions_by_group_over_seeds():
    rng = np.random.default_rng(1)
    codes, truth = rng.integers(0, 2, 200), rng.integers(0, 3, 200)
    seeds = [rng.integers(0, 3, 200) for _ in range(3)]
    found = distribution([(said, codes) for said in seeds], (truth, codes), AGES, GENDERS)
    frame = pd.DataFrame({"g": codes, **{str(i): said for i, said in enumerate(seeds)}})
    expected = [pd.crosstab(frame["g"], frame[str(i)], normalize="index").to_numpy() * 100 for i in range(3)]
    assert found.share == pytest.approx(np.array(expected))
    assert found.mean == pytest.approx(np.mean(expected, 0))
    assert found.truth == pytest.approx(pd.crosstab(codes, truth, normalize="index").to_numpy() * 100)
    assert found.divergence == pytest.approx([smoothed(said, codes, 3) for said in seeds])
    assert found.truth_divergence == pytest.approx(smoothed(truth, codes, 3))
    assert found.words == f"KL {found.divergence.mean():.3f} ± {found.divergence.std(ddof=1):.3f}"


def test_figure_7_is_ages_by_predicted_class_and_leaves_unknown_ages_out():
    ages, said, truth = np.array([0, 0, 1, 2, 2, -1]), np.array([0, 0, 0, 1, 0, 1]), np.array([0, 1, 0, 1, 0, 1])
    found = distribution([(ages, said)], (ages, truth), AGES, GENDERS)
    assert found.mean == pytest.approx(np.array([[50, 25, 25], [0, 0, 100]]))
    assert found.truth == pytest.approx(np.array([[100 / 3] * 3, [50, 0, 50]]))
    assert found.unknown == 1


def test_a_class_that_is_never_predicted_has_no_distribution(tmp_path, drawn):
    ages, truth = np.array([0, 1, 2, 0]), np.array([0, 0, 1, 1])
    found = distribution([(ages, 0 * ages), (ages, truth)], (ages, truth), AGES, GENDERS)
    assert np.isnan(found.share[0, 1]).all()
    assert found.mean[1] == pytest.approx([50, 0, 50])  # of the seed that has one
    assert np.isnan(found.divergence[0])
    assert found.words == f"KL {found.divergence[1]:.3f}"
    none = distribution([(ages, 0 * ages)], (ages, truth), AGES, GENDERS)
    draw_distribution(tmp_path / "x.png", {"original": none}, "t", "age", "%")
    assert drawn[0].axes[0].get_title() == "original\nKL undefined; none: man"
    with pytest.raises(CellError, match="predictions of a run"):
        distribution([], (ages, truth), AGES, GENDERS)


@pytest.mark.parametrize("balanced", [True, False])
def test_the_truth_is_one_line_only_where_groups_do_not_differ(tmp_path, drawn, balanced):
    codes = np.repeat([0, 1], 30)
    truth = np.arange(60) % 3 if balanced else np.where(np.arange(60) < 20, 0, np.arange(60) % 3)
    found = distribution([(truth[::-1].copy(), codes)], (truth, codes), AGES, GENDERS)
    draw_distribution(tmp_path / "x.png", {"original": found}, "t", "predicted class", "% of each gender")
    lines = {line.get_label(): line.get_ydata() for line in drawn[0].axes[0].lines}
    assert [name for name in lines if "truth" in name] == (["truth"] if balanced else ["woman, truth", "man, truth"])
    assert lines["woman"] == pytest.approx(found.mean[0])
    assert next(iter(lines.values())) == pytest.approx(found.truth[0])


# -- embeddings ------------------------------------------------------------------------------
def clouds(n=120, apart=6.0):
    rng = np.random.default_rng(2)
    codes = np.arange(n) % 2
    return rng.normal(size=(n, 16)) + apart * codes[:, None] * rng.normal(size=16), codes


def test_groups_that_lie_apart_stay_apart_and_others_do_not():
    """By the neighbours in the plane, as scikit-learn finds them."""
    for apart, low, high in ((6.0, 0.99, 1.0), (0.0, 0.2, 0.7)):
        x, codes = clouds(apart=apart)
        points = project(x, 20.0)
        assert points.shape == (120, 2)
        score = KNeighborsClassifier(5).fit(points[:80], codes[:80]).score(points[80:], codes[80:])
        assert low <= score <= high


def test_the_same_embedding_gives_the_same_bits_and_leaves_the_global_stream_alone():
    x = np.random.default_rng(6).normal(size=(60, 600))  # wide: its components are found by random projections
    np.random.seed(3)  # noqa: NPY002 - the global stream is what is watched
    expected = np.random.RandomState(3).random()
    assert project(x, 10.0).tobytes() == project(x.copy(), 10.0).tobytes()
    assert np.random.random() == expected  # noqa: NPY002


@pytest.mark.parametrize(
    ("x", "perplexity", "error", "match"),
    [
        (np.eye(6), 6.0, UsageError, "a perplexity of 6 needs more points than that; there are 6"),
        (np.full((9, 3), np.nan), 2.0, DataError, "not finite"),
        (np.ones((9, 3)), 2.0, CellError, "does not vary"),
        (np.arange(9.0)[:, None], 2.0, CellError, "a single number"),
    ],
)
def test_what_cannot_be_projected_is_one_clear_line(x, perplexity, error, match):
    with pytest.raises(error, match=match):
        project(x, perplexity, "jlu")


def test_every_point_is_drawn_once_in_its_groups_look(tmp_path, drawn):
    points, codes = np.random.default_rng(4).normal(size=(50, 2)), np.arange(50) % 3 % 2
    draw_embedding(tmp_path / "x.png", {"original": points, "jlu": -points}, codes, GENDERS, "t")
    for axis, sign in zip(drawn[0].axes, (1, -1), strict=True):
        for g, name in enumerate(GENDERS):
            mine = [c for c in axis.collections if _colour(c) == look(g).colour]
            shown = np.concatenate([np.asarray(c.get_offsets()).reshape(-1, 2) for c in mine])
            expected = sign * points[codes == g]
            assert shown[np.argsort(shown[:, 0])] == pytest.approx(expected[np.argsort(expected[:, 0])])
            assert f"{name} ({(codes == g).sum()})" in [c.get_label() for c in mine]


def _colour(collection):
    from matplotlib.colors import to_hex

    return to_hex(collection.get_facecolor()[0])


# -- training --------------------------------------------------------------------------------
def test_curves_are_percent_and_rescaled_by_equation_6():
    log = [{"val_f1": 0.5}, {"val_f1": 0.6, "a": 1.0}, {"val_f1": 0.7, "a": 0.25}, {"val_f1": 0.7, "a": 0.7}]
    assert curve(log, "val_f1").tolist() == [50, 60, 70, 70]
    scores = curve(log, "a", 4)
    assert np.isnan(scores[0])
    assert scores[1:] == pytest.approx([100, 0, 100 * (0.7 - 0.25) / 0.75])


def test_accuracies_find_their_attribute():
    names = ["val_f1", "loss_0.jlu/confusion", "val_0.jlu/accuracy skin tone", "val_1.adv/accuracy",
             "val_2.adv/accuracy", "val_3.other/accuracy", "val_1.adv/distance",
             "val_0.jlu/training score wiki:gender"]  # fmt: skip
    components = [("jlu", None), ("adv", "gender"), ("adv", "constant")]
    found, lost = diagnosed(names, components, {"gender": 2, "skin tone": 5, "constant": 1})
    assert found == (Attribute(names[2], "skin tone", 5, "jlu"), Attribute(names[3], "gender", 2, "adv"),
                     Attribute(names[-1], "wiki:gender", None, "jlu"))  # fmt: skip
    assert lost == ("val_2.adv/accuracy", "val_3.other/accuracy")


def training(seeds=2):
    rng = np.random.default_rng(5)
    attributes = (Attribute("a", "gender", 2, "jlu"), Attribute("b", "po$e", None, "jlu"))
    accuracy = {a.key: 100 * rng.random((seeds, 6)) for a in attributes}
    accuracy["a"][:, :2] = np.nan
    accuracy["b"][0, 4] = np.nan
    return Training(100 * rng.random((seeds, 6)), attributes, accuracy, (4,) * seeds, (3,), np.array([60.0, 70.0]))


@pytest.mark.parametrize("seeds", [1, 3])
def test_lines_are_means_over_seeds(tmp_path, drawn, seeds):
    given = training(seeds)
    draw_training(tmp_path / "x.png", given, "t", "jlu", "original")
    axes = drawn[0].axes[0]
    lines = {line.get_label(): np.asarray(line.get_ydata(), float) for line in axes.lines}
    assert lines["task, F1"] == pytest.approx(given.f1.mean(0))
    assert np.isnan(lines["gender, rescaled"][:2]).all()
    assert lines["gender, rescaled"][2:] == pytest.approx(given.accuracy["a"].mean(0)[2:])
    assert np.flatnonzero(np.isnan(lines["po\\$e, in training, rescaled"])).tolist() == [
        4
    ]  # a mean of other seeds is another mean
    assert lines["original, F1: 65.0"].tolist() == [65, 65]
    assert ("epoch kept" in lines) == (seeds == 1)
    levels = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() != "-" and len(line.get_ydata()) == 2]
    assert levels == [65]
    assert [line.get_xdata()[0] for line in axes.lines if line.get_label() == "next stage"] == [2.5]


def test_a_training_without_epochs_is_refused(tmp_path):
    with pytest.raises(CellError, match="no epoch"):
        draw_training(
            tmp_path / "x.png", Training(np.zeros((1, 0)), (), {}, (0,), (), np.zeros(0)), "t", "jlu", "original"
        )
    assert list(tmp_path.iterdir()) == []


# -- files -----------------------------------------------------------------------------------
def test_forty_groups_look_different_and_panels_stand_where_they_fit():
    assert len({look(i) for i in range(40)}) == 40
    assert (Page.of(3, 12).rows, Page.of(3, 12).columns) == (1, 3)
    assert (Page.of(3, 80).rows, Page.of(3, 80).columns) == (3, 1)
    assert (Page.of(4, 12).rows, Page.of(4, 12).columns) == (2, 3)


def pictures(folder, ending):
    folder.mkdir()
    rng = np.random.default_rng(0)
    names, groups = ("$x^", "b\x1b[2J", *(f"a class with a very long name {i}" for i in range(18))), ("wo$man", "man")
    values, codes = rng.integers(0, 20, 300), rng.integers(0, 2, 300)
    splits = dict.fromkeys(("train", "val", "test"), histogram(values, codes, names, groups))
    draw_histogram(folder / f"histogram.{ending}", splits, "a $data^ set", "$of", "by")
    x, sides = clouds(40)
    draw_embedding(folder / f"embedding.{ending}", {"$m^": project(x, 5.0)}, sides, groups, "t" * 300)
    found = distribution([(values, codes)], (values[::-1].copy(), codes), names, groups)
    draw_distribution(folder / f"distribution.{ending}", dict.fromkeys(("a$b", "c", "d", "e"), found), "t", "$", "%")
    draw_training(folder / f"training.{ending}", training(1), "$t^", "$jlu^", "$original")
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_the_same_content_gives_the_same_bytes(tmp_path, ending):
    first, second = pictures(tmp_path / "a", ending), pictures(tmp_path / "b", ending)
    assert first == second
    assert len(first) == 4
    if ending == "svg":
        assert all(ElementTree.fromstring(text).tag.endswith("svg") for text in first.values())
    if ending == "png":
        for name in first:
            with Image.open(tmp_path / "a" / name) as image:
                assert np.asarray(image.convert("L")).std() > 5
