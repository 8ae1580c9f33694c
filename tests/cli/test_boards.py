"""The leaderboard's four formats."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biasbench.cli.boards import UNDEFINED, Board, cell, csv_text, document, legend, markdown, number, rich_text, table
from biasbench.leaderboard import Figure, aggregate, sort_rows
from biasbench.metric import Column

MAP, LEAK, N = Column("map", "mAP", "higher"), Column("lambda_m", "λ_M", "lower"), Column("n", "n", "none", unit="")
HIDDEN = Column("hidden", "Hidden", "zero", board=False)
COLUMNS = (MAP, LEAK, N, HIDDEN)
counter = itertools.count()


def record(method, seed=1, status="ok", reason=None, **values):
    named = {"dataset": "scenes", "backbone": "b0", "profile": "short", "attribute": "gender", "protocol": "quick"}
    figures = {k: dict(zip(("mean", "std", "n"), v, strict=True)) for k, v in values.items()}
    return {
        **named, "key": f"k{next(counter)}", "method": method, "seed": seed, "status": status, "reason": reason,
        "weights": "random", "flags": [], "order": next(counter), "values": figures,
    }  # fmt: skip


def board(*records, **options):
    return Board(aggregate(records, COLUMNS), COLUMNS, **options)


@pytest.mark.parametrize(
    ("figure", "planned", "expected"),
    [
        (Figure(72.34, 0.36, 3, "seeds", 3), 3, "72.3 ± 0.4"),
        (Figure(72.34, 0.36, 4, "seeds", 4), 5, "72.3 ± 0.4 (4/5)"),
        (Figure(64.0, 1.25, 5, "rounds", 1), 1, "64.0 ± 1.2 (r)"),
        (Figure(64.0, 1.25, 5, "rounds", 1), 2, "64.0 ± 1.2 (r) (1/2)"),
        (Figure(-0.04, None, 1, None, 1), 1, "0.0"),
        (Figure(None, None, 0, None, 0), 3, UNDEFINED),
    ],
)
def test_cells(figure, planned, expected):
    assert cell(figure, MAP, planned) == expected


def test_numbers_without_a_unit():
    assert [number(v, "") for v in (1200.0, 0.5, -3.0)] == ["1200", "0.500", "-3"]


def test_the_table_says_what_it_shows():
    made = board(
        record("original", 1, map=(70.0, None, 1), lambda_m=(64.0, 2.0, 3)),
        record("original", 2, map=(72.0, None, 1), lambda_m=(66.0, 2.0, 3)),
        record("adv", 1, map=(60.0, None, 1), lambda_m=(55.0, 2.0, 3)),
        record("adv", 2, "failed", "NaN"),
        record("blackout", 1, "n/a", "n/a: needs masks:person"),
    )
    head, lines = table(made)
    assert head == ["method", "dataset", "backbone", "seeds", "mAP % ↑", "λ_M % ↓", "notes"]
    assert [line[:1] + line[3:] for line in lines] == [
        ["original", "2", "71.0 ± 1.4", "65.0 ± 1.4", ""],
        ["adv", "1/2", "60.0 (1/2)", "55.0 ± 2.0 (r) (1/2)", "failed: NaN"],
        ["blackout", "0/1", "n/a", "", "n/a: needs masks:person"],
    ]
    said = " ".join(legend(made))
    assert "All rows: profile short, protocol quick, attribute gender, weights random." in said
    for part in ("ddof = 1", "ddof = 0", "(k/n)", "nothing is known of its spread", "not of merit"):
        assert part in said
    assert "≈" not in said


@pytest.fixture
def apart():
    """Two rows of each kind: plain, transductive, privileged."""
    flags = {"original": [], "adv": [], "rba": ["transductive"], "rba2": ["transductive"],
             "box": ["privileged: region person"], "segm": ["privileged: region person"]}  # fmt: skip
    return [
        {**record(m, s, map=(70.0 + i, None, 1), lambda_m=(60.0, 2.0, 3)), "flags": f}
        for i, (m, f) in enumerate(flags.items())
        for s in (1, 2)
    ]


def test_marked_rows_have_a_sign_a_rule_above_and_a_legend(apart):
    made = board(*apart)
    assert [line[0] for line in table(made)[1]] == ["original", "adv", "rba (t)", "rba2 (t)", "box (p)", "segm (p)"]
    assert made.rules == [2, 4]
    lines = rich_text(made).splitlines()
    ruled = [i for i, line in enumerate(lines) if set(line.strip()) == {"─"}]
    assert [lines[i + 1].split()[0] for i in ruled] == ["original", "rba", "box"]
    said = "\n".join(legend(made))
    assert "(t) transductive: what is said of one picture depends on the others of its split." in said
    assert "(p) privileged: predictions rest on what nobody knows of a new picture" in said
    assert "Marked rows stand apart, by kind" in said
    parts = markdown(made).split("\n\n")
    assert [part.splitlines()[2].split(" |")[0] for part in parts[:3]] == ["| original", "| rba (t)", "| box (p)"]
    plain = board(*apart[:4])
    assert plain.rules == []
    assert not any(word in "\n".join(legend(plain)) for word in ("transductive", "privileged", "apart"))


def test_marks_are_a_column_of_csv_and_json(apart):
    rows = list(csv.DictReader(io.StringIO(csv_text(board(*apart)))))
    assert [row["marks"] for row in rows] == ["", "", "transductive", "transductive", "privileged", "privileged"]
    assert [row["marks"] for row in document(board(*apart))["rows"]][::2] == [(), ("transductive",), ("privileged",)]


def test_rows_of_two_kinds_are_never_told_to_be_near(apart):
    made = aggregate(apart, COLUMNS)
    shown = table(Board(sort_rows(made, COLUMNS, "lambda_m"), COLUMNS, LEAK))
    assert [line[5].startswith("≈") for line in shown[1]] == [False, True] * 3


def test_notes_are_in_the_json():
    said = {"test": {"1.rba/violated_after": 2.0}}
    (row,) = document(board({**record("rba", 3, map=(1.0, None, 1)), "notes": said}))["rows"]
    assert row["notes"] == {3: said}


def test_what_differs_gets_a_column():
    other = {**record("adv", map=(1.0, None, 1)), "profile": "paper"}
    made = board(record("adv", map=(1.0, None, 1)), other)
    assert table(made)[0][:5] == ["method", "dataset", "backbone", "profile", "seeds"]
    assert "profile" not in made.context


def test_sorted_rows_that_the_noise_does_not_part_are_marked():
    rows = [
        record(m, s, map=(v + d, None, 1)) for m, v in (("a", 70), ("b", 71), ("c", 80)) for s, d in ((1, -2), (2, 2))
    ]
    plain = board(*rows)
    made = Board(sort_rows(plain.rows, COLUMNS, "map"), COLUMNS, sorted_by=MAP)
    # Each spread is √8 = 2.8, two combined make 4: 80 and 71 are apart, 71 and 70 are not.
    assert [line[4] for line in table(made)[1]] == ["80.0 ± 2.8", "71.0 ± 2.8", "≈ 70.0 ± 2.8"]
    assert any("≈" in line for line in legend(made))


def test_a_hidden_column_is_shown_when_sorted_by():
    made = board(record("a", map=(1.0, None, 1), hidden=(2.0, None, 1)))
    assert [c.key for c in made.shown] == ["map"]
    assert [c.key for c in Board(made.rows, COLUMNS, sorted_by=HIDDEN).shown] == ["map", "hidden"]


def test_figures_without_a_metric_are_named():
    assert any("no loaded metric declares them: other" in line for line in legend(board(unknown=["other"])))


def test_names_never_drive_the_terminal_or_the_markup():
    made = board(record("[red]adv[/red]\x1b[2J|x", map=(1.0, None, 1)))
    said = rich_text(made)
    assert "[red]adv[/red]\\x1b[2J|x" in said
    assert "\x1b" not in said
    line = markdown(made).splitlines()[2]
    assert line.startswith("| \\[red\\]adv\\[/red\\]\\\\x1b\\[2J\\|x | scenes | b0 | 1 | 1.0 |")


def test_markdown_has_as_many_cells_in_each_line():
    made = board(record("a|b", map=(1.0, None, 1)), record("c", 1, "failed", "x | y"))
    lines = [line for line in markdown(made).splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert len(lines) == 4


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\t=1", " =1", "\n=1"])
def test_csv_holds_no_formula(name):
    made = board(record(name, map=(-1.5, None, 1)))
    (row,) = csv.DictReader(io.StringIO(csv_text(made)))
    assert row["method"].startswith("'")
    assert float(row["map_mean"]) == -1.5  # numbers stay numbers


def test_csv_is_exact_and_empty_where_undefined():
    made = board(record("a", 1, map=(1 / 3, None, 1)), record("a", 2, map=(2 / 3, None, 1)), record("b", 1, "failed"))
    first, second = csv.DictReader(io.StringIO(csv_text(made)))
    assert float(first["map_mean"]) == 0.5
    assert (first["map_n"], first["seeds"], first["lambda_m_mean"], first["lambda_m_n"]) == ("2", "1; 2", "", "0")
    assert (second["status"], second["map_mean"], second["reasons"]) == ("failed", "", "failed")


def test_json_rows_carry_each_column():
    made = board(record("a", 1, map=(50.0, None, 1), lambda_m=(60.0, 2.0, 3)), record("b", 3, "n/a", "why"))
    said = json.loads(json.dumps(document(made), allow_nan=False))
    first, second = said["rows"]
    assert {k: first[k] for k in ("method", "dataset", "backbone", "seeds")} == {
        "method": "a", "dataset": "scenes", "backbone": "b0", "seeds": [1],
    }  # fmt: skip
    assert first["map"] == {"mean": 50.0, "std": None, "n": 1, "spread": None, "seeds": 1}
    assert first["lambda_m"] == {"mean": 60.0, "std": 2.0, "n": 3, "spread": "rounds", "seeds": 1}
    assert first["hidden"]["mean"] is None
    assert (second["status"], second["reasons"], second["map"]["mean"]) == ("n/a", ["n/a: why"], None)
    assert [c["key"] for c in said["columns"]] == ["map", "lambda_m", "n", "hidden"]


def test_flags_of_all_rows_stand_below_and_others_in_their_row():
    def flagged(method, *flags):
        return {**record(method, map=(1.0, None, 1)), "flags": ["weights=random", *flags]}

    made = board(flagged("a", "smoke", "underpowered"), flagged("b", "smoke"))
    assert [line[-1] for line in table(made)[1]] == ["underpowered", ""]
    assert "Flags of all rows: smoke." in list(legend(made))
    alone = board(flagged("a", "underpowered"))
    assert [line[-1] for line in table(alone)[1]] == ["underpowered"]
    assert not any("Flags" in line for line in legend(alone))
    assert document(made)["rows"][0]["flags"] == ("weights=random", "smoke", "underpowered")


@pytest.mark.parametrize("width", [40, 60, 200])
def test_a_narrow_terminal_loses_no_digit(monkeypatch, width):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    seeds = ((1, 71.5), (2, 98.7))
    rows = [record("adv-conv5(weight=2.0)", s, map=(v, None, 1), lambda_m=(v, None, 1)) for s, v in seeds]
    drawn = re.sub("\x1b\\[[0-9;]*m", "", rich_text(board(*rows)).split("All rows")[0])
    assert max(map(len, drawn.splitlines())) <= width
    # The column of mAP, read downwards: mean 85.1, spread 19.2, perhaps on several lines.
    lines = drawn.splitlines()
    start, end = lines[0].index("mAP"), lines[0].index("λ_M")
    rule = next(i for i, line in enumerate(lines) if "─" in line)
    assert "".join(line[start:end] for line in lines[rule + 1 :]).replace(" ", "") == "85.1±19.2"


def test_an_empty_board_is_no_crash():
    made = board()
    assert "method" in rich_text(made)
    assert markdown(made).startswith("| method | dataset | backbone | seeds |")
    assert len(csv_text(made).splitlines()) == 1
    assert document(made)["rows"] == []


@given(st.text(), st.text())
def test_any_names_make_whole_tables(method, reason):
    made = board(record(method, map=(1.0, None, 1)), record(method, 2, "failed", reason))
    lines = markdown(made).splitlines()
    assert all(line.replace("\\\\", "").replace("\\|", "").count("|") == 7 for line in lines[:3])
    assert len(list(csv.reader(io.StringIO(csv_text(made))))) == 2
    assert all(c.isprintable() or c == "\n" for c in rich_text(made))
