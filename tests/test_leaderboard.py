"""Aggregation against figures worked out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biasbench.errors import PluginError, UsageError
from biasbench.leaderboard import MARKS, Figure, aggregate, distinct, find_column, rank, sort_rows
from biasbench.metric import Column

COLUMNS = (
    Column("map", "mAP", "higher"),
    Column("lambda_m", "λ_M", "lower"),
    Column("delta", "Δ", "zero"),
    Column("n", "n", "none", unit="", board=False),
)
counter = itertools.count()


def record(method="original", seed=1, status="ok", values=None, **fields):
    """A record as the store yields it; values: column to mean or (mean, std, n)."""
    made = {}
    for key, value in (values or {}).items():
        mean, std, n = value if isinstance(value, tuple) else (value, None, 1)
        made[key] = {"mean": mean, "std": std, "n": n}
    return {
        "key": f"k{next(counter)}",
        "status": status,
        "reason": None,
        "method": method,
        "dataset": "scenes",
        "backbone": "b0",
        "profile": "short",
        "seed": seed,
        "weights": "random",
        "flags": [],
        "attribute": "gender",
        "protocol": "quick",
        "order": 0,
        "values": made,
        **fields,
    }


def test_mean_and_sample_deviation_over_seeds():
    values = [(1, 70.0, (64.0, 2.0, 3)), (2, 73.0, (66.0, 9.0, 3)), (3, 73.0, (71.0, 0.0, 3))]
    (row,) = aggregate([record(seed=s, values={"map": m, "lambda_m": leak}) for s, m, leak in values], COLUMNS)
    assert row.figures["map"].mean == pytest.approx(72.0)
    assert row.figures["map"].std == pytest.approx(math.sqrt(3))  # (4 + 1 + 1) / (3 - 1)
    # Rounds within a seed do not enter the spread over seeds: (9 + 1 + 16) / 2.
    assert row.figures["lambda_m"] == Figure(pytest.approx(67.0), pytest.approx(math.sqrt(13)), 3, "seeds", 3)
    assert (row.seeds, row.planned, row.status) == ((1, 2, 3), (1, 2, 3), "ok")


def test_one_seed_shows_the_spread_over_its_rounds():
    (row,) = aggregate([record(values={"map": 70.0, "lambda_m": (64.0, 2.5, 5)})], COLUMNS)
    assert row.figures["lambda_m"] == Figure(64.0, 2.5, 5, "rounds", 1)
    assert row.figures["map"] == Figure(70.0, None, 1, None, 1)


def test_undefined_is_never_a_number():
    nan = [record(seed=1, values={"map": float("nan"), "lambda_m": None}), record(seed=2, values={"map": 60.0})]
    (row,) = aggregate(nan, COLUMNS)
    assert row.figures["map"] == Figure(60.0, None, 1, None, 1)
    assert row.figures["lambda_m"] == Figure(None, None, 0, None, 0)
    assert row.figures["delta"] == Figure(None, None, 0, None, 0)


def test_two_defined_seeds_of_three():
    (row,) = aggregate([record(seed=s, values={"map": m}) for s, m in ((1, 60.0), (2, None), (3, 64.0))], COLUMNS)
    assert row.figures["map"] == Figure(62.0, pytest.approx(math.sqrt(8)), 2, "seeds", 2)
    assert row.seeds == (1, 2, 3)


def test_failed_and_absent_cells_are_rows_with_reasons():
    rows = aggregate(
        [
            record("blackout", status="n/a", reason="needs masks:person", order=1, weights=""),
            record("adv", seed=1, order=2, values={"map": 60.0}),
            record("adv", seed=2, order=3, status="failed", reason="NaN at\x1b[2J epoch 3"),
            record("adv", seed=3, order=4, status="missing", reason="not run yet"),
            record("crf", seed=1, order=5, status="failed", reason="a"),
            record("crf", seed=2, order=6, status="missing", reason="b"),
        ],
        COLUMNS,
    )
    assert [(r.method, r.status) for r in rows] == [("blackout", "n/a"), ("adv", "partial"), ("crf", "failed")]
    assert rows[0].reasons == ("n/a: needs masks:person",)
    assert rows[0].figures == {}
    assert rows[1].reasons == ("failed: NaN at\\x1b[2J epoch 3", "missing: not run yet")
    assert (rows[1].seeds, rows[1].planned) == ((1,), (1, 2, 3))
    assert rows[1].figures["map"].mean == 60.0
    assert rows[2].seeds == ()


def test_a_failure_that_a_later_run_repaired_is_not_shown():
    (row,) = aggregate([record(seed=1, status="failed", reason="full disk"), record(values={"map": 1.0})], COLUMNS)
    assert (row.status, row.reasons, row.planned) == ("ok", (), (1,))


@pytest.mark.parametrize("field", ["method", "dataset", "backbone", "profile", "attribute", "protocol"])
def test_what_differs_is_never_averaged(field):
    rows = aggregate([record(values={"map": 1.0}), record(values={"map": 3.0}, **{field: "other"}, seed=2)], COLUMNS)
    assert sorted(r.figures["map"].mean for r in rows) == [1.0, 3.0]


def test_two_scores_of_one_seed_are_variants():
    made = [record(seed=s, values={"map": m}) for s, m in ((1, 10.0), (2, 12.0), (1, 50.0))]
    rows = aggregate(made, COLUMNS)
    assert [(r.seeds, r.flags) for r in rows] == [((1, 2), ("variant 1 of 2",)), ((1,), ("variant 2 of 2",))]
    assert [r.figures["map"].mean for r in rows] == [11.0, 50.0]


def test_other_weights_are_another_row():
    rows = aggregate(
        [record(values={"map": 1.0}), record(seed=2, order=1, values={"map": 3.0}, weights="file")], COLUMNS
    )
    assert [(r.weights, r.figures["map"].mean) for r in rows] == [("random", 1.0), ("file", 3.0)]


def test_mixed_hardware_is_flagged():
    same = [record(seed=s, values={"map": 1.0}, environment="e1") for s in (1, 2)]
    assert aggregate(same, COLUMNS)[0].flags == ()
    assert aggregate([*same, record(seed=3, values={"map": 1.0}, environment="e2")], COLUMNS)[0].flags == (
        "mixed environments",
    )


def test_flags_of_all_seeds_each_once():
    made = [record(seed=1, values={"map": 1.0}, flags=["views=1", "underpowered"]),
            record(seed=2, values={"map": 1.0}, flags=["underpowered", "x"])]  # fmt: skip
    assert aggregate(made, COLUMNS)[0].flags == ("views=1", "underpowered", "x")


def test_the_plain_model_leads_its_block_and_blocks_follow_the_plan():
    made = [
        record("adv", dataset="coco", order=0, values={"map": 1.0}),
        record("alpha-1", order=1, values={"map": 1.0}),
        record("original", order=2, values={"map": 1.0}),
        record("original", dataset="coco", order=3, values={"map": 1.0}),
        record("aaa", order=4, values={"map": 1.0}),
    ]
    rows = aggregate(reversed(made), COLUMNS)
    assert [(r.dataset, r.method) for r in rows] == [
        ("coco", "original"), ("coco", "adv"), ("scenes", "original"), ("scenes", "alpha-1"), ("scenes", "aaa"),
    ]  # fmt: skip


def marked():
    """Rows of which some were told more than the picture, with an n/a row among them."""
    flags = {"rba": ["x", "transductive"], "box": ["privileged: region person"], "adv": ["underpowered"],
             "both": ["privileged: attribute gender", "transductive"], "original": []}  # fmt: skip
    means = {"rba": 90.0, "box": 80.0, "adv": 10.0, "both": 99.0, "original": 50.0}
    made = [
        record(m, seed=s, order=i, flags=f, values={"map": means[m] + s})
        for i, (m, f) in enumerate(flags.items())
        for s in (1, 2)
    ]
    return [*made, record("face", status="n/a", reason="needs masks:face", flags=["privileged: region face"], order=9)]


def test_rows_that_were_told_more_are_marked_and_stand_apart():
    rows = aggregate(marked(), COLUMNS)
    assert [(r.method, r.marks) for r in rows] == [
        ("original", ()), ("adv", ()), ("rba", ("transductive",)), ("both", ("transductive", "privileged")),
        ("box", ("privileged",)), ("face", ("privileged",)),
    ]  # fmt: skip
    assert [rank(r) for r in rows] == [(), (), (0,), (0, 1), (1,), (1,)]
    assert rows[4].flags == ("privileged: region person",)
    assert list(MARKS) == ["transductive", "privileged", "degenerate"]


@pytest.mark.parametrize(("by", "order"), [("map", "original adv"), ("-map", "adv original")])
def test_marked_rows_are_sorted_among_themselves(by, order):
    rows = aggregate([*marked(), record("box2", order=8, flags=["privileged: x"], values={"map": 95.0})], COLUMNS)
    last = ["box2", "box"] if by == "map" else ["box", "box2"]
    assert [r.method for r in sort_rows(rows, COLUMNS, by)] == [*order.split(), "rba", "both", *last, "face"]


def test_one_marked_seed_marks_the_row():
    made = [record(seed=1, values={"map": 1.0}), record(seed=2, values={"map": 1.0}, flags=["transductive"])]
    assert aggregate(made, COLUMNS)[0].marks == ("transductive",)


def test_notes_are_kept_by_seed():
    said = {"test": {"1.rba/violated_after": 3.0, "1.rba/beyond_after": None}}
    made = [record(seed=1, values={"map": 1.0}, notes=said), record(seed=2, values={"map": 1.0}, notes={}),
            record(seed=3, status="failed", reason="x")]  # fmt: skip
    assert aggregate(made, COLUMNS)[0].notes == {1: said}
    assert aggregate([record(values={"map": 1.0})], COLUMNS)[0].notes == {}


@pytest.mark.parametrize("name", ["marks", "notes"])
def test_a_column_may_not_be_called_as_what_a_row_tells(name):
    with pytest.raises(PluginError, match=name):
        aggregate([], [Column(name, "x", "none")])


def test_a_column_may_not_hide_a_field_of_the_row():
    with pytest.raises(PluginError, match="'seeds'"):
        aggregate([], [Column("seeds", "seeds", "none")])


def test_sorting_is_best_first_with_absent_figures_last():
    figures = {"a": (50.0, 60.0, -9.0), "b": (70.0, 80.0, 5.0), "c": (60.0, 70.0, 8.0)}
    made = [
        record(m, order=i, values=dict(zip(("map", "lambda_m", "delta"), v, strict=True)))
        for i, (m, v) in enumerate(figures.items())
    ]
    rows = aggregate([*made, record("z", status="n/a", order=9)], COLUMNS)

    def order(by):
        return "".join(r.method for r in sort_rows(rows, COLUMNS, by))

    assert order("map") == "bcaz"
    assert order("-map") == "acbz"
    assert order("λ_M") == "acbz"
    assert order("Delta") == "bcaz"  # |5| < |8| < |-9|


@pytest.mark.parametrize("by", ["map", "-map", "delta"])
def test_a_row_that_lacks_a_seed_never_outranks_a_complete_one(by):
    made = [record("full", seed=s, order=0, values={"map": 60.0, "delta": 5.0}) for s in range(5)]
    made += [record("lucky", seed=s, order=1, values={"map": m, "delta": d})
             for s, m, d in zip(range(4), (99, 98, 1, 2), (0, 0, 9, -9), strict=True)]  # fmt: skip
    made.append(record("lucky", seed=4, order=1, status="failed", reason="a loss is not finite"))
    made += [record("undefined", seed=s, order=2, values={"map": None if s else 99.0, "delta": 0.0}) for s in (0, 1)]
    rows = sort_rows(aggregate(made, COLUMNS), COLUMNS, by)
    assert [r.method for r in rows].index("full") < [r.method for r in rows].index("lucky")
    assert by == "delta" or [r.method for r in rows].index("full") < [r.method for r in rows].index("undefined")
    assert [(len(r.seeds), len(r.planned), r.status) for r in rows if r.method == "lucky"] == [(4, 5, "partial")]


def test_a_row_that_says_the_same_of_everything_stands_apart():
    made = [record("flat", flags=["degenerate: the same is said of every test picture"], values={"lambda_m": 0.0}),
            record("real", order=1, values={"lambda_m": 60.0})]  # fmt: skip
    assert [r.method for r in sort_rows(aggregate(made, COLUMNS), COLUMNS, "lambda_m")] == ["real", "flat"]


def test_an_unknown_column_names_the_nearest():
    with pytest.raises(UsageError, match=r"no column 'lambda_n'. Did you mean 'lambda_m'\? Columns: map, lambda_m"):
        find_column(COLUMNS, "lambda_n")


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((75.0, 3.0), (69.9, 4.0), True),  # 5.1 > √(9 + 16) = 5
        ((75.0, 3.0), (70.1, 4.0), False),
        ((75.0, None), (10.0, 1.0), False),  # without a spread nothing is known
        ((75.0, 3.0), (None, None), True),
    ],
)
def test_distinct(a, b, expected):
    first, second = (Figure(mean, std, 3, "seeds", 3) for mean, std in (a, b))
    assert distinct(first, second) is expected
    assert distinct(second, first) is expected


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8), st.randoms())
def test_figures_equal_numpy_and_do_not_depend_on_the_order_of_records(means, random):
    made = [record(seed=i, values={"map": m}) for i, m in enumerate(means)]
    random.shuffle(made)
    figure = aggregate(made, COLUMNS)[0].figures["map"]
    assert figure.mean == pytest.approx(np.mean(means), abs=1e-9)
    assert figure.std == pytest.approx(np.std(means, ddof=1), abs=1e-9)
    assert figure.n == figure.seeds == len(means)
