"""The curve of dataset leakage against F1, and its picture."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biasbench import CellError, leakage
from biasbench.measures.curve import LEVELS, Curve, leakage_curve
from biasbench.measures.figure import Figure, LeakageReport
from tests.measures.leaks import ONCE, TINY, Kept, agree, everywhere, splits

pytestmark = pytest.mark.torch
CLASSES = {"0": (100, 0), "1": (0, 100)}


def curve_of(f1, *rounds):
    return Curve("flips", tuple(f1), tuple(Figure(np.array(r, float)) for r in zip(*rounds, strict=True)), ())


# -- reading a curve -----------------------------------------------------------------------
def test_each_round_is_interpolated_on_its_own():
    curve = curve_of([100.0, 80.0, 40.0], [70.0, 60.0, 50.0], [70.0, 66.0, 50.0])
    assert curve.at(90).rounds.tolist() == [65.0, 68.0]
    assert (curve.at(90).mean, curve.at(90).std) == (66.5, 1.5)
    assert curve.at(80).rounds.tolist() == [60.0, 66.0]
    assert curve.at(60).rounds.tolist() == [55.0, 58.0]
    for outside in (39.99, 100.01, -1.0):
        assert np.isnan(curve.at(outside).rounds).tolist() == [True, True]
        assert np.isnan(curve.at(outside).mean)
    assert curve.at(40).rounds.tolist() == [50.0, 50.0]  # its ends belong to it
    assert curve.at(100).rounds.tolist() == [70.0, 70.0]


@given(st.lists(st.tuples(st.integers(1, 99), st.floats(50, 100)), min_size=2, max_size=8, unique_by=lambda p: p[0]),
       st.floats(0, 1))  # fmt: skip
def test_between_two_levels_lies_the_straight_line(points, share):
    points.sort(reverse=True)
    f1, y = zip(*points, strict=True)
    curve = curve_of(f1, y)
    for (x0, y0), (x1, y1) in pairwise(points):
        between = curve.at(x0 + share * (x1 - x0)).mean
        assert between == pytest.approx(y0 + share * (y1 - y0), abs=1e-6)


def test_a_curve_as_json_and_table():
    curve = curve_of([100.0, 80.0], [70.0, 60.0], [72.0, 60.0])
    points = curve.to_json()["points"]
    assert [(p["f1"], p["mean"], p["std"], p["n"]) for p in points] == [(100.0, 71.0, 1.0, 2), (80.0, 60.0, 0.0, 2)]
    frame = curve.to_frame()
    assert frame.columns.tolist() == ["f1", "mean", "std", "n"]
    assert frame["mean"].tolist() == [71.0, 60.0]


# -- measuring one -------------------------------------------------------------------------
def test_there_are_22_levels():
    assert len(LEVELS) == len(set(LEVELS)) == 22
    assert list(LEVELS) == sorted(LEVELS, reverse=True)
    assert (LEVELS[0], LEVELS[-1]) == (1.0, 0.025)


def test_attackers_are_shared_with_leakage():
    """Clean labels are those of lambda_D, and a model's F1 is a level like another."""
    samples, memo = everywhere(agree(90)), Kept()
    report = leakage(samples, TINY, f1=0.8, nulls=1, threads=1, memo=memo)
    known = memo.puts
    curve = leakage_curve(samples, TINY, levels=(1.0, 0.8), threads=1, memo=memo)
    assert memo.puts == known
    assert curve.figures[0].rounds.tolist() == report.figures["lambda_D"].rounds.tolist()
    assert curve.figures[1].rounds.tolist() == report.figures["lambda_D_F1"].rounds.tolist()
    leakage_curve(samples, TINY, levels=(1.0, 0.8, 0.7), threads=1, memo=memo)
    assert memo.puts == known + TINY.rounds
    assert [a.rate for a in curve.aims[1]] == report.details["perturbation_rate"]
    assert curve.aims[0] == ()


def test_an_interrupted_curve_goes_on():
    samples = everywhere(agree(90))
    whole = leakage_curve(samples, TINY, levels=(1.0, 0.8, 0.7), threads=1)
    memo = Kept(stop=3)
    with pytest.raises(KeyboardInterrupt):
        leakage_curve(samples, TINY, levels=(1.0, 0.8, 0.7), threads=1, memo=memo)
    memo.stop = None
    told = []
    again = leakage_curve(
        samples, TINY, levels=(1.0, 0.8, 0.7), threads=1, memo=memo, progress=lambda *step: told.append(step)
    )
    assert again.to_json() == whole.to_json()
    assert told[-1] == (3 * TINY.epochs,) * 2


def test_levels_out_of_reach_are_left_out():
    """Labels of which half of all rows have 1 keep an F1 of one half however many bits are flipped."""
    curve = leakage_curve(everywhere(agree(90)), ONCE, levels=(1.0, 0.6, 0.45, 0.1), threads=1)
    assert curve.f1 == pytest.approx((100.0, 60.0))
    assert len(curve.figures) == len(curve.aims) == 2


@pytest.mark.parametrize(("single", "kind"), [(False, "flips"), (True, "replacement")])
def test_labels_are_perturbed_by_the_kind_of_the_data(single, kind):
    curve = leakage_curve(everywhere(CLASSES, single=single), ONCE, levels=(1.0, 0.75), threads=1)
    assert curve.kind == curve.to_json()["perturbation"] == kind
    assert curve.figures[0].mean == 100.0
    assert 75 - 4 * 3.1 < curve.figures[1].mean < 75 + 4 * 3.1  # four standard errors of 200 rows


def test_flips_of_one_hot_labels():
    curve = leakage_curve(everywhere(CLASSES, single=True), ONCE, levels=(1.0, 0.75), threads=1, perturbation="flips")
    assert curve.kind == "flips"
    assert curve.figures[0].mean == 100.0


def test_an_absent_group_has_no_curve():
    lacking = splits(agree(90), {"0": (50, 0), "1": (50, 0)}, agree(90))
    with pytest.raises(CellError, match=r"the curve is undefined: no example of 1 \(val\)"):
        leakage_curve(lacking, ONCE, threads=1)
    with pytest.raises(CellError, match=r"no example of 2 \(train\), 2 \(val\), 2 \(test\)"):
        leakage_curve(everywhere(agree(90)), ONCE, groups=("0", "1", "2"), minimum=0, threads=1)


# -- drawing one ---------------------------------------------------------------------------
REPORT = LeakageReport(
    "quick", "gender", ("man", "woman"),
    {name: Figure(np.array([f])) for name, f in (("lambda_D", 71.0), ("null_all", 51.25), ("null_train", 53.5))}, {},
)  # fmt: skip
CURVE = curve_of([100.0, 80.0, 40.0], [70.0, 60.0, 50.0], [72.0, 61.0, 50.0])
SVG = "{http://www.w3.org/2000/svg}"


def drawn(path):
    """The path, with the picture of `CURVE` on it."""
    pytest.importorskip("matplotlib")
    from biasbench.plots.curve import draw_curve

    draw_curve(path, CURVE, REPORT, "data <set> & more, original")
    return path


def test_a_vector_picture_holds_the_points(tmp_path):
    root = ElementTree.parse(drawn(tmp_path / "curve.svg")).getroot()
    assert root.tag == f"{SVG}svg"
    marked = {(use.get("x"), use.get("y")) for use in root.iter(f"{SVG}use") if use.get("x")}
    lines = [path.get("d").split() for path in root.iter(f"{SVG}path") if path.get("clip-path")]
    # The mean is a line of three points with markers on them; F1 grows to the right, leakage upwards.
    (line,) = [list(zip(d[1::3], d[2::3], strict=True)) for d in lines if d.count("L") == 2 and "z" not in d]
    assert set(line) <= marked
    (x0, x1, x2), (y0, y1, y2) = np.array(line, float).T
    assert x0 > x1 > x2
    assert y0 < y1 < y2
    assert (x1 - x2) / (x0 - x1) == pytest.approx(40 / 20, rel=1e-3)
    assert (y2 - y1) / (y1 - y0) == pytest.approx(10.5 / 10.5, rel=1e-3)


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG\r\n"), ("pdf", b"%PDF-"), ("svg", b"<?xml")])
def test_pictures_are_of_the_kind_that_their_name_tells(tmp_path, ending, start):
    path = drawn(tmp_path / f"curve.{ending}")
    assert path.read_bytes().startswith(start)
    assert path.stat().st_size > 3000
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_picture_that_fails_leaves_the_former_one(tmp_path):
    path = tmp_path / "curve.xyz"  # no kind of picture: noticed when it is written
    path.write_bytes(b"before")
    with pytest.raises(ValueError, match="xyz"):
        drawn(path)
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
