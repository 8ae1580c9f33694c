"""The paper's tables, and measured figures beside them."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from biasbench.benchmark import load_benchmark
from biasbench.derived import delta_reduction, derive, derived_columns
from biasbench.errors import UsageError
from biasbench.grammar import parse
from biasbench.leaderboard import Figure, aggregate, standard_error
from biasbench.metric import Column
from biasbench.published import compare, find_tables

ROOT = Path(__file__).resolve().parents[1]
PAPER = ROOT.parent / "shared" / "papers" / "wang2019-balanced-datasets-are-not-enough.txt"
FILES = sorted((ROOT / "benchmarks").glob("wang2019-table*.toml"))
TABLES = {file.stem: load_benchmark(file) for file in FILES}
ROWS = [(name, row) for name, table in TABLES.items() for row in table.rows]
ORDER = ("train_men", "train_women", "lambda_d", "lambda_m", "lambda_d_f1", "delta", "map", "f1")  # as printed
ACCURACY = Column("accuracy", "acc.", "higher")
F1, DELTA = Column("f1", "F1", "higher"), Column("delta", "Δ", "lower")
COLUMNS = (F1, Column("map", "mAP", "higher"), Column("lambda_m", "λ_M", "lower"), DELTA)
KEYS = [c.key for c in COLUMNS]


def printed(key, figure):
    if key.startswith("train_"):
        return f"{figure.mean:,.0f}"
    return f"{figure.mean:.2f}" + (f"±{figure.std:.2f}" if figure.std is not None else "")


def lines_of_paper():
    if not PAPER.exists():
        pytest.skip("the text of the paper is not here")
    text = re.sub(r"[ \t]", "", PAPER.read_text())
    return text.splitlines()


def test_every_row_of_the_five_tables_is_there():
    sizes = {"table1-coco": 5, "table1-imsitu": 5, "table2": 1, "table3": 3, "table4": 10, "table5": 8}
    assert {name.removeprefix("wang2019-"): len(t.rows) for name, t in TABLES.items()} == sizes
    assert len(TABLES["wang2019-table2"].rows[0].published) == 7


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[f"{n}-{r.method}" for n, r in ROWS])
def test_every_figure_is_printed_in_the_paper(name, row):
    lines = lines_of_paper()
    if name.endswith("table2"):
        wanted = [printed(key, figure) for key, figure in row.published.items()]
        start = next(i for i, line in enumerate(lines) if line.endswith("AttackerλM"))
        assert [line.split("data", 1)[1] for line in lines[start + 1 : start + 8]] == wanted
        return
    assert list(row.published) == [key for key in ORDER if key in row.published]
    figures = "".join(printed(key, figure) for key, figure in row.published.items())
    found = [line for line in lines if line.endswith(figures)]
    assert found, figures
    if name[-1] in "45":  # the start of the line names the row
        words = {"original": "original", "adv-conv4": "adv@conv4", "adv-conv5": "adv@conv5", "adv-image": "adv@image"}
        first = parse(row.method)[-1].name
        expected = "(α=1)" if first == "alpha-1" else words.get(first, first)  # noqa: RUF001
        assert any(line.startswith(expected) for line in found), found


def test_delta_is_the_difference_in_all_31_cells():
    cells = [row.published for _, row in ROWS if "delta" in row.published]
    assert len(cells) == 31
    for cell in cells:
        assert cell["delta"].mean == pytest.approx(cell["lambda_m"].mean - cell["lambda_d_f1"].mean, abs=1e-9)


def test_only_the_known_figures_differ_between_tables():
    seen: dict[tuple[str, str, str], set[float]] = {}
    for name, row in ROWS:
        for key, figure in row.published.items():
            seen.setdefault((TABLES[name].datasets[0], row.method, key), set()).add(figure.mean)
    assert {k: v for k, v in seen.items() if len(v) > 1} == {("coco", "crf", "f1"): {52.52, 52.53}}


def test_counts_and_sizes_are_those_of_the_text():
    lines_of_paper()
    text = re.sub(r"\s", "", PAPER.read_text())
    for name, table in TABLES.items():
        assert table.paper is not None
        assert ",".join(map(str, table.paper.examples.values())) in text, name
        full = [row.published for row in table.rows if "train_men" in row.published and row.method == "original"]
        for cell in full:
            assert cell["train_men"].mean + cell["train_women"].mean == table.paper.examples["train"]


def test_the_published_reductions_follow_from_the_tables():
    for table, reduction, cost in (("wang2019-table4", "53.98", "1.21"), ("wang2019-table5", "67.61", "2.26")):
        rows = {r.method: r.published for r in TABLES[table].rows}
        adv = next(cell for method, cell in rows.items() if method.startswith("adv-conv5"))
        pair = [record(m, 0, cell["f1"].mean, cell["delta"].mean) for m, cell in (("original", rows["original"]),
                                                                                   ("adv-conv5", adv))]  # fmt: skip
        _, row = aggregate(derive(pair), [*COLUMNS, *derived_columns(COLUMNS)])
        found = row.figures["delta_reduction"].mean, row.figures["f1_cost"].mean
        assert [f"{v:.2f}" for v in found] == [reduction, cost]


# -- derived columns -----------------------------------------------------------------------


def record(method, seed, f1, delta, **fields):
    values = {"f1": {"mean": f1, "std": None, "n": 1}, "delta": {"mean": delta, "std": 0.1, "n": 5}}
    return {
        "key": f"{method}{seed}", "status": "ok", "reason": None, "method": method, "dataset": "coco",
        "backbone": "resnet50", "profile": "paper", "seed": seed, "weights": "w", "flags": [],
        "attribute": "gender", "protocol": "wang2019", "order": 0, "values": values, **fields,
    }  # fmt: skip


def test_pairs_are_made_within_a_seed():
    made = derive([
        record("original", 0, 50.0, 10.0), record("original", 1, 60.0, 20.0),
        record("adv", 0, 49.0, 4.0), record("adv", 1, 57.0, 5.0), record("adv", 2, 1.0, 1.0),
    ])  # fmt: skip
    _, adv = aggregate(made, derived_columns(COLUMNS))
    # by hand: 60 % and 75 %, 1 and 3 points; seed 2 has no partner
    assert adv.figures["delta_reduction"] == Figure(67.5, pytest.approx(math.sqrt(112.5)), 2, "seeds", 2)
    assert adv.figures["f1_cost"] == Figure(2.0, pytest.approx(math.sqrt(2)), 2, "seeds", 2)
    assert adv.seeds == (0, 1, 2)


@pytest.mark.parametrize(
    "other",
    [{"dataset": "x"}, {"backbone": "x"}, {"profile": "x"}, {"weights": "x"}, {"attribute": "x"}, {"protocol": "x"},
     {"flags": ["recipe: crop=96"]}, {"flags": ["limit=9"]}, {"flags": ["precision=bf16"]}, {"status": "failed"}],
)  # fmt: skip
def test_what_was_made_differently_is_no_pair(other):
    made = derive([record("original", 0, 50.0, 10.0, **other), record("adv", 0, 49.0, 4.0)])
    assert "f1_cost" not in made[1]["values"]


def test_the_plain_model_and_doubled_partners_have_no_figure():
    twice = derive([record("original", 0, 50.0, 10.0), record("original", 0, 51.0, 9.0), record("adv", 0, 49.0, 4.0)])
    assert all("f1_cost" not in r["values"] for r in twice)


def test_nothing_can_be_taken_from_no_amplification():
    assert math.isnan(delta_reduction(-1.0, 0.0))
    _, adv = aggregate(derive([record("original", 0, 50.0, -1.0), record("adv", 0, 49.0, -3.0)]),
                       derived_columns(COLUMNS))  # fmt: skip
    assert adv.figures["delta_reduction"] == Figure(None, None, 0, None, 0)
    assert adv.figures["f1_cost"].mean == 1.0


def test_without_the_columns_there_is_nothing_to_derive():
    assert derived_columns([F1]) == []


# -- comparison ----------------------------------------------------------------------------


def rows(*records):
    return aggregate(records, COLUMNS)


def against(*records, examples=None):
    return compare(rows(*records), find_tables("published"), KEYS, lambda _: examples or {})


def test_standard_errors_by_hand():
    assert standard_error(Figure(1.0, 4.0, 4, "seeds", 4)) == 2.0
    assert standard_error(Figure(1.0, 4.0, 5, "rounds", 1)) == 2.0
    assert standard_error(Figure(1.0, None, 1, None, 1)) is None


def test_one_line_a_figure_with_its_difference_in_errors():
    made = [record("original", s, f1, 10.0) for s, f1 in ((0, 53.0), (1, 55.0), (2, 54.0))]
    for one, leak in zip(made, (69.0, 71.0, 73.0), strict=True):
        one["values"]["lambda_m"] = {"mean": leak, "std": 0.5, "n": 5}
    found = {line.column: line for line in against(*made).lines}
    assert list(found) == ["f1", "map", "lambda_m", "delta"]
    leak = found["lambda_m"]
    # printed in Tables 1 and 4; the ± of Table 1 serves both: √(4/3 + 0.36²/4)
    assert leak.sources == ("Wang et al. 2019, Table 1", "Wang et al. 2019, Table 4")
    assert (leak.published.mean, leak.published.std) == (70.46, 0.36)
    assert leak.difference == pytest.approx(0.54)
    assert leak.error == pytest.approx(math.sqrt(4 / 3 + 0.18**2))
    assert leak.in_errors == pytest.approx(0.54 / math.sqrt(4 / 3 + 0.18**2))
    assert found["f1"].error == pytest.approx(1 / math.sqrt(3))  # no ± printed: the measured one alone
    assert found["delta"].in_errors is None  # three equal seeds: an error of 0 measures nothing
    assert (found["map"].difference, found["map"].error) == (None, None)


def test_a_figure_that_two_tables_print_differently_is_two_lines():
    found = [line for line in against(record("crf", 0, 52.5, 12.0)).lines if line.column == "f1"]
    assert [(line.published.mean, line.sources[0][-7:]) for line in found] == [(52.52, "Table 1"), (52.53, "Table 3")]


def test_equal_conditions_need_no_remark():
    said = against(record("blur-segm", 0, 50.0, 8.0), examples={"val": 5367, "test": 5473}).remarks
    assert said == {"blur-segm on coco": ()}


def test_each_difference_is_told():
    made = record(
        "adv-conv5", 0, 50.0, 8.0, dataset="coco(year='2017')", profile="short", backbone="resnet18", protocol="quick",
        weights="random", flags=["weights=random", "recipe: crop=96", "limit=10"],
    )  # fmt: skip
    found = against(made, examples={"val": 10, "test": 5473})
    said = "\n".join(found.remarks["adv-conv5 on coco(year='2017')"])
    for part in (
        "method: adv-conv5 here, adv-conv5(weight=2.0, update='reversal', task_stream='balanced') in the table",
        "data: coco(year='2017') here, coco in the table", "recipe: short here, paper in the table",
        "backbone: resnet18 here, resnet50 in the table", "protocol: quick here, wang2019 in the table",
        "weights: random here, ImageNet in the paper", "recipe: crop=96 here", "data: limit=10 rows of each split here",
        "data: images val 10, test 5,473 here, val 5,367, test 5,473 in the paper",
    ):  # fmt: skip
        assert part in said
    assert found.lines


def test_other_data_and_other_methods_are_not_compared():
    found = against(record("original", 0, 1.0, 1.0, dataset="scenes"), record("mine", 0, 1.0, 1.0))
    assert found.lines == ()
    assert {row.method for row in found.unmatched} == {"original", "mine"}


def test_components_must_agree_in_order():
    found = against(record("alpha-1+adv-conv5", 0, 40.0, 2.5), record("adv-conv5+alpha-1", 0, 40.0, 2.5))
    assert {line.row.method for line in found.lines} == {"alpha-1+adv-conv5"}


def test_a_row_without_a_score_is_left_out():
    found = against(record("original", 0, 1.0, 1.0, status="failed", reason="x"))
    assert (found.lines, found.unmatched) == ((), ())


def test_a_benchmark_file_serves_too(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "mine"\ndatasets = ["coco"]\n[[rows]]\nmethod = "original"\npublished = { f1 = 3, odd = 2.5 }\n'
    )
    found = compare(rows(record("original", 0, 5.0, 1.0)), find_tables(str(file)), KEYS, lambda _: {})
    (line,) = found.lines
    assert (line.difference, line.error, line.sources) == (2.0, None, ("mine",))
    assert found.without_column == ("odd",)


def test_no_such_table_is_one_clear_line(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        find_tables(str(tmp_path / "publisched"))


@pytest.mark.parametrize("bad", ["{ mean = nan }", "{ mean = 1.0, std = -1.0 }", "{ std = 1.0 }", '"1"', "true"])
def test_a_published_figure_must_be_one(tmp_path, bad):
    file = tmp_path / "mine.toml"
    file.write_text(f'name = "m"\ndatasets = ["coco"]\n[[rows]]\nmethod = "original"\npublished = {{ f1 = {bad} }}\n')
    with pytest.raises(UsageError, match="published"):
        load_benchmark(file)


# -- Alvi et al. 2018 ------------------------------------------------------------------------
ALVI = PAPER.parent / "alvi2018-turning-a-blind-eye.txt"
PRIMARY = {"age": "Age", "ancestry": "Ancestral Origin", "gender": "Gender", "pose": "Pose"}


@pytest.mark.parametrize("task", PRIMARY)
def test_every_figure_of_table_1_is_printed(task):
    if not ALVI.exists():
        pytest.skip("the text of the paper is not here")
    lines = ALVI.read_text().split("Primary\tSpurious")[1].splitlines()[1:]
    start = next(i for i, line in enumerate(lines) if line.split("\t")[0] == PRIMARY[task])
    primary = lines[start].split("\t")
    spurious = {line.split("\t")[1]: line.split("\t")[2:4] for line in lines[start + 1 : start + 4]}
    plain, blind = load_benchmark(ROOT / "benchmarks" / f"alvi2018-table1-{task}.toml").rows
    (key,) = plain.published
    assert [100 * float(x) for x in primary[2:4]] == pytest.approx(
        [plain.published[key].mean, blind.published[key].mean]
    )
    named = {PRIMARY[name.split(":")[-1]]: name for name in plain.by_attribute}
    assert set(named) == set(spurious)
    for name, printed in spurious.items():
        figures = [row.by_attribute[named[name]]["embedding"].mean for row in (plain, blind)]
        assert figures == pytest.approx([100 * float(x) for x in printed])


def test_the_row_of_another_bias_is_not_compared():
    """Options that a table sets must be set: EB1's figures are not EB2's."""
    found = {}
    for bias in ("eb1", "eb2"):
        values = {"accuracy": {"mean": 80.0, "std": None, "n": 1}}
        one = record("original", 0, 0.0, 0.0, dataset=f"imdb(task='gender', bias='{bias}', min_score=2.0)")
        rows = aggregate([{**one, "attribute": "age", "values": values}], [ACCURACY])
        lines = compare(rows, find_tables("published"), ["accuracy"], lambda _: {}).lines
        found[bias] = [line.published.mean for line in lines]
    assert found == {"eb1": [70], "eb2": [62]}


def test_figures_by_attribute_stand_beside_their_own():
    values = {"embedding": {"mean": 80.0, "std": None, "n": 1}, "within_one": {"mean": 77.0, "std": None, "n": 1}}
    columns = [Column("embedding", "emb.", "lower"), Column("within_one", "acc.", "higher")]
    found = {}
    for name in ("laofiw:ancestry", "gender", "aflw:pose"):
        one = record("original", 0, 0.0, 0.0, dataset="imdb(task='age')")
        row = aggregate([{**one, "attribute": name, "values": values}], columns)
        table = [load_benchmark(ROOT / "benchmarks" / "alvi2018-table1-age.toml")]
        lines = compare(row, table, [c.key for c in columns], lambda _: {}).lines
        found[name] = {line.column: line.published.mean for line in lines}
    assert found == {
        "laofiw:ancestry": {"embedding": 83, "within_one": 79},
        "gender": {"embedding": 99},
        "aflw:pose": {"embedding": 66},
    }
