"""`biasbench leakage` on prepared lists, without a picture."""

from __future__ import annotations

import json
from pathlib import Path
from runpy import run_path
from xml.etree import ElementTree

import pytest

pytestmark = pytest.mark.torch
FILES = run_path(str(Path(__file__).parents[1] / "helpers" / "imsitu_files.py"))
LISTS = ("--plugin", Path(__file__).parent / "label_lists.py")
SHORT = "smoke(rounds=2, epochs=4, lr=1e-2, width=16, caps=(200, 100, 100), batch_size=32)"
# How often a man and a woman do what: the majority rule is right 60 + 60 + 20 times of 200.
VERBS = {"jumping": (60, 20), "rowing": (20, 60), "cooking": (20, 20)}


@pytest.fixture
def imsitu(tmp_path):
    """Arguments that name lists in the format of imSitu; there is no image."""
    rows = [(verb, gender) for verb, counts in VERBS.items() for gender, n in enumerate(counts) for _ in range(n)]
    lists = {
        split: [(f"{verb}_{first + i}.jpg", verb, gender) for i, (verb, gender) in enumerate(rows)]
        for split, first in (("train", 0), ("val", 1000), ("test", 2000))
    }
    FILES["write_lists"](tmp_path / "data" / "imsitu", lists=lists)
    return ("leakage", "-d", "imsitu", "--data-root", tmp_path / "data", "--protocol", SHORT, "--threads", 1)


def memos(tmp_path):
    return sorted(p.name for p in tmp_path.glob("cache/**/memo/*.json"))


# -- what it says --------------------------------------------------------------------------
def test_a_table_for_people(cli, imsitu):
    said = cli(*imsitu)
    assert (said.code, said.err) == (0, "")
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert lines[0].startswith("imsitu(")
    assert lines[0].endswith("original: gender (man, woman)")
    assert lines[1] == f"protocol {SHORT}, chance 50"
    assert any(line.startswith("λ_D, from the labels 70.00 ± 0.00 70.00 ") for line in lines)
    for how in ("everywhere", "in training"):
        assert any(line.startswith(f"null, shuffled {how} ") for line in lines)
    for percent in (1, 5, 10):
        assert any(line.startswith(f"λ_D, {percent} % wrong attributes ") for line in lines)
    assert "rows drawn of each group: train 100, val 100, test 100" in lines
    assert "rows of unknown attribute: train 0.00 %, val 0.00 %, test 0.00 %" in lines
    assert "majority rule of the balanced training draw, closed form: val 70.00, test 70.00" in lines
    assert any(line.startswith("planted leak of 90 in the targets: found, ") for line in lines)


def test_json_on_standard_output_and_in_a_file(cli, imsitu, tmp_path):
    said = cli(*imsitu, "--json", "--output", tmp_path / "out.json", "--quiet")
    assert (said.code, said.err) == (0, "")
    found = json.loads(said.out)
    assert json.loads((tmp_path / "out.json").read_text()) == found
    assert (found["schema"], found["schema_version"]) == ("biasbench/leakage", 1)
    assert (found["method"], found["seed"], found["attribute"], found["protocol"]) == ("original", 0, "gender", SHORT)
    assert (found["groups"], found["chance"], found["flags"]) == (["man", "woman"], 50.0, [])
    for name in ("lambda_D", "null", "last_epoch"):
        assert {"mean", "std", "n"} <= set(found[name])
    assert (found["lambda_D"]["mean"], found["lambda_D"]["std"], found["lambda_D"]["n"]) == (70.0, 0.0, 2)
    assert found["null"] == found["null_train"]
    assert found["last_epoch"] == found["lambda_D"]["last_epoch"] == {"mean": 70.0, "std": 0.0, "n": 2}
    assert 50 <= found["null"]["mean"] <= 70
    assert found["details"]["majority_rule"] == pytest.approx({"val": 70.0, "test": 70.0})
    assert found["details"]["perturbation"] == "replacement"


def test_the_second_time_nothing_is_trained(cli, imsitu, tmp_path):
    first = cli(*imsitu, "--json")
    kept = memos(tmp_path)
    assert len(kept) == 13  # two rounds of lambda_D, two nulls and three noises; one control
    files = {p: p.stat().st_ino for p in tmp_path.glob("cache/**/memo/*.json")}
    assert cli(*imsitu, "--json") == first
    assert {p: p.stat().st_ino for p in tmp_path.glob("cache/**/memo/*.json")} == files
    assert cli(*imsitu, "--json", "--no-noise").code == 0
    assert memos(tmp_path) == kept
    assert cli(*imsitu, "--json", "--seed", 1, "--no-noise").code == 0
    assert len(memos(tmp_path)) == 13 + 7


def test_labels_of_a_wanted_f1_and_the_curve(cli, imsitu, tmp_path):
    plot = tmp_path / "figure4.svg"
    said = cli(*imsitu, "--json", "--f1", 70, "--plot", plot, "--no-noise")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["details"]["f1_target"] == pytest.approx(70)
    assert found["details"]["f1_expected"] == pytest.approx([70, 70], abs=1e-3)
    assert 50 <= found["lambda_D_F1"]["mean"] < 70
    points = found["curve"]["points"]
    assert found["curve"]["perturbation"] == "replacement"
    assert points[0]["f1"] == 100.0
    assert points[0]["rounds"] == found["lambda_D"]["rounds"]
    f1 = [point["f1"] for point in points]
    assert f1 == sorted(f1, reverse=True)
    assert 100 / 3 - 5 < f1[-1] < 40  # of three classes drawn at random a third is right; the rest is out of reach
    level = next(point for point in points if point["f1"] == pytest.approx(70, abs=1e-6))
    assert level["rounds"] == found["lambda_D_F1"]["rounds"]
    assert found["curve"]["at_f1"]["mean"] == pytest.approx(level["mean"], abs=1e-3)
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")
    shown = cli(*imsitu, "--f1", 70, "--curve", "--no-noise").out
    assert "F1 70.00 by replacement: rates " in shown
    assert " 70.00 " in shown.partition("λ_D(F1)")[2]


def test_rows_that_a_method_chooses(cli, imsitu):
    """With alpha = 1 each verb keeps 20 of either gender: nothing is left to learn."""
    found = json.loads(cli(*imsitu, "--json", "--method", "alpha-1", "--no-noise").out)
    assert found["method"].startswith("alpha")
    assert found["details"]["per_group"] == {"train": 60, "val": 100, "test": 100}
    assert found["details"]["majority_rule"] == pytest.approx({"val": 50.0, "test": 50.0})
    assert found["flags"] == ["underpowered"]


# -- attributes ----------------------------------------------------------------------------
def ask(cli, *more, code=0):
    said = cli("leakage", "-d", "lists", *LISTS, "--protocol", SHORT, "--threads", 1, "--no-noise", *more)
    assert said.code == code, said.err
    return said


def test_several_attributes(cli):
    found = json.loads(ask(cli, "--json", "-a", "gender", "-a", "tone", "-a", "gender*tone").out)
    gender, tone, both = found["attributes"]
    assert [part["attribute"] for part in found["attributes"]] == ["gender", "tone", "gender*tone"]
    assert gender["lambda_D"]["mean"] == 100.0
    assert tone["groups"] == ["dark", "light"]  # 12 of 412 are of the third
    assert tone["lambda_D"]["mean"] == pytest.approx(50, abs=4)
    assert tone["details"]["dropped_groups"] == {"else": {"train": 12, "val": 12, "test": 12}}
    assert both["groups"] == ["man*dark", "man*light", "woman*dark", "woman*light"]
    assert both["lambda_D"]["mean"] == pytest.approx(50, abs=4)
    assert both["chance"] == 25.0
    assert tone["details"]["unknown_share"] == dict.fromkeys(("train", "val", "test"), 0.0)
    assert tone["details"]["dropped_share"] == pytest.approx(dict.fromkeys(("train", "val", "test"), 12 / 412))
    text = ask(cli, "-a", "gender", "-a", "tone").out
    assert "gender (man, woman)" in text
    assert "left out: else" in text
    assert "rows of groups left out: train 2.91 %, val 2.91 %, test 2.91 %" in text
    assert text.count("rows of unknown attribute: train 0.00 %") == 2


def test_a_minimum_asked_for(cli):
    found = json.loads(ask(cli, "--json", "-a", "tone", "--minimum", 12).out)
    assert found["groups"] == ["dark", "light", "else"]
    assert found["details"]["per_group"]["test"] == 12
    assert found["flags"][0] == "underpowered"


def test_an_absent_group_is_undefined_and_says_so(cli):
    found = json.loads(ask(cli, "--json", "-a", "age").out)
    assert found["lambda_D"]["mean"] is found["null"]["mean"] is found["last_epoch"]["mean"] is None
    assert found["flags"] == ["leakage undefined: no example of old (val)"]
    text = ask(cli, "-a", "age").out
    assert "undefined" in text
    assert "! leakage undefined: no example of old (val)" in text


def test_the_curve_leaves_out_the_groups_that_the_figures_leave_out(cli):
    found = json.loads(ask(cli, "--json", "-a", "tone", "--curve").out)
    assert found["groups"] == ["dark", "light"]
    assert found["curve"]["points"][0]["rounds"] == found["lambda_D"]["rounds"]


def test_a_picture_for_each_attribute(cli, tmp_path):
    ask(cli, "-a", "gender", "-a", "gender*tone", "--plot", tmp_path / "curve.png")
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["curve-gender-tone.png", "curve-gender.png"]


def test_a_p_value_and_no_nulls(cli):
    shown = ask(cli, "--nulls", 99, "--protocol", "smoke(epochs=1, layers=1, width=4, caps=(20, 20, 20))").out
    assert "p-value against null_all: " in shown
    found = json.loads(ask(cli, "--json", "--nulls", 0).out)
    assert "null_all" not in found
    assert found["null"]["mean"] is None


def test_the_options_are_those_of_the_audit():
    """What decides how leakage is measured is declared once, and reads the same in both commands."""
    from biasbench.cli.audit import audit_command
    from biasbench.cli.leakage import leakage_command

    options = [{p.name: p for p in command.params} for command in (leakage_command, audit_command)]
    names = ("protocol", "minimum", "attackers", "nulls", "no_noise", "seed", "threads", "device")
    for name in names:
        first, second = (each[name] for each in options)
        assert first.to_info_dict() == second.to_info_dict()
    for each in options:
        assert [n for n in each if n in names] == list(names)


# -- what is refused -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--protocol", "wang2018"), 2, "no leakage protocol 'wang2018'. Did you mean 'wang2019'?"),
        (("--protocol", "quick(epoch=3)"), 2, "no constant 'epoch'"),
        (("--attribute", "gendre"), 4, "no protected attribute 'gendre'"),
        (("--attribute", "gender*shape"), 4, "no protected attribute 'shape'"),
        (("--method", "alpah-1"), 2, "Did you mean 'alpha"),
        (("--method", "adv"), 2, "chooses no training rows: its labels are those of the data set"),
        (("--plot", "curve.jpg"), 2, "Let it end in .svg, .png, .pdf"),
        (("--perturbation", "replacement", "--f1", "80"), 2, "replacement needs one label an example"),
        (("--device", "nowhere"), 2, "nowhere"),
    ],
)
def test_what_cannot_be_meant_is_one_line(cli, arguments, code, text):
    said = cli("leakage", "-d", "lists", *LISTS, "--protocol", SHORT, "--quiet", *arguments)
    assert (said.code, said.out) == (code, "")
    (line,) = said.err.splitlines()
    assert line.startswith("biasbench: error[")
    assert text in line


def test_a_missing_data_set_says_how_to_get_it(cli, tmp_path):
    said = cli("leakage", "-d", "imsitu", "--data-root", tmp_path, "--quiet")
    assert (said.code, said.out) == (4, "")
    (line,) = said.err.splitlines()
    assert "the data set 'imsitu' was not found. Looked in: " in line
    assert "https://github.com/my89/imSitu" in line


@pytest.mark.parametrize("arguments", [("--f1", "101"), ("--nulls", "-1"), ("--perturbation", "x"), ("--minimum", "0")])
def test_options_out_of_range_are_usage_errors(cli, arguments):
    said = cli("leakage", "-d", "lists", *LISTS, *arguments)
    assert said.code == 2
    assert arguments[0] in said.err
