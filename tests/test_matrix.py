"""Methods by attributes, against arithmetic by hand and by scipy."""

from __future__ import annotations

import importlib.util
import math
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from biasbench import IntegrityError
from biasbench.matrix import AT_CHANCE, NO_CHANCE, NO_FIGURE, NO_PAIR, Near, matrices, totals
from biasbench.metric import Column
from biasbench.pairs import difference
from biasbench.plugins import load_plugins
from biasbench.runfolder import RunFolder, components, same, without_targets
from biasbench.store import Store

spec = importlib.util.spec_from_file_location(
    "biasbench_test_matrix_store", Path(__file__).parent / "cli" / "matrix_store.py"
)
made = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made)

EMBEDDING = Column("embedding", "emb.", "lower")
POSES = ("up", "ahead", "down")
PLUGINS = load_plugins()


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def found(results, column=EMBEDDING):
    store = Store(results)
    return matrices(store.records(), column, cache(lambda key: RunFolder(store, key, PLUGINS)))


def lines(results, column=EMBEDDING):
    (matrix,) = found(results, column)
    return {line.row.method: line for line in matrix.lines}


# ------------------------------------------------------------------ differences
def test_differences_are_paired_by_seed_with_students_interval(results):
    before, after = [90.0, 96.0, 93.0, 88.0], [60.0, 58.0, 71.0, 55.0]
    for seed, value in enumerate(before):
        made.commit(results, "original", seed, {"gender": value})
    for seed in (3, 0, 2, 1):  # in whatever order they were run
        made.commit(results, "adv", seed, {"gender": after[seed]})
    change = lines(results)["adv"].entries["gender"].difference
    apart = [a - b for a, b in zip(after, before, strict=True)]  # -30, -38, -22, -33
    mean = sum(apart) / 4
    spread = math.sqrt(sum((d - mean) ** 2 for d in apart) / 3)
    reach = stats.t.ppf(0.975, 3) * spread / 2
    assert change.mean == pytest.approx(-30.75)
    assert (change.std, change.n) == (pytest.approx(spread), 4)
    assert (change.low, change.high) == (pytest.approx(mean - reach), pytest.approx(mean + reach))


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=2, max_size=12))
def test_the_interval_is_that_of_the_paired_t_test(pairs):
    own, other = zip(*pairs, strict=True)
    apart = [a - b for a, b in pairs]
    change = difference(apart)
    if max(apart) - min(apart) < 1e-6:  # scipy warns of precision there
        assert change.high - change.low < 1e-4
        return
    low, high = stats.ttest_rel(own, other).confidence_interval(0.95)
    assert (change.low, change.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


def test_percent_unlearned_is_made_by_seed(results):
    for seed, (before, after) in enumerate([(90.0, 60.0), (70.0, 65.0)]):
        made.commit(results, "original", seed, {"gender": before})
        made.commit(results, "adv", seed, {"gender": after})
    entry = lines(results)["adv"].entries["gender"]
    # 30 of 40 points and 5 of 20: 75 and 25 %.
    assert entry.unlearned.mean == pytest.approx(50)
    assert entry.unlearned.std == pytest.approx(math.sqrt(2 * 25**2))
    assert (entry.unlearned.n, entry.undefined, entry.chance) == (2, {}, 50)


def test_the_plain_model_is_compared_with_nothing(results):
    made.commit(results, "original", 0, {"gender": 90.0})
    entry = lines(results)["original"].entries["gender"]
    assert (entry.difference, entry.unlearned, entry.undefined, entry.near) == (None, None, {}, False)


# ------------------------------------------------------------------ what is missing
def test_missing_seeds_leave_pairs_only(results):
    for seed, value in ((0, 90.0), (1, 80.0), (2, None)):
        made.commit(results, "original", seed, {"gender": value})
    for seed, value in ((0, 70.0), (2, 50.0), (3, 51.0), (4, None)):
        made.commit(results, "adv", seed, {"gender": value})
    line = lines(results)["adv"]
    entry = line.entries["gender"]
    assert entry.figure.mean == pytest.approx(57)  # over its own three seeds
    assert (entry.difference.mean, entry.difference.n, entry.difference.low) == (-20, 1, None)
    assert (entry.unlearned.mean, entry.unlearned.n) == (50, 1)
    assert entry.undefined == {NO_PAIR: 2, NO_FIGURE: 1}
    assert line.row.planned == (0, 2, 3, 4)


def test_without_the_plain_model_there_is_no_difference(results):
    made.commit(results, "adv", 0, {"gender": 70.0})
    entry = lines(results)["adv"].entries["gender"]
    assert (entry.difference, entry.unlearned.mean, entry.undefined) == (None, None, {NO_PAIR: 1})
    assert entry.near is False


@pytest.mark.parametrize(
    ("before", "groups", "reason"),
    [(50.0, ("a", "b"), AT_CHANCE), (33.0, POSES, AT_CHANCE), (90.0, ("a",), NO_CHANCE), (90.0, (), NO_CHANCE)],
)
def test_percent_unlearned_is_undefined_for_a_reason(results, before, groups, reason):
    for method, value in (("original", before), ("adv", 30.0)):
        made.commit(results, method, 0, {"gender": value}, groups={"gender": groups})
    entry = lines(results)["adv"].entries["gender"]
    assert (entry.unlearned.mean, entry.undefined) == (None, {reason: 1})
    assert entry.difference.mean == pytest.approx(30 - before)


def test_of_several_seeds_only_the_undefined_one_is_left_out(results):
    for seed, before in enumerate([90.0, 49.0, 70.0]):
        made.commit(results, "original", seed, {"gender": before})
        made.commit(results, "adv", seed, {"gender": 50.0})
    entry = lines(results)["adv"].entries["gender"]
    assert (entry.unlearned.mean, entry.unlearned.n, entry.undefined) == (100, 2, {AT_CHANCE: 1})
    assert entry.difference.n == 3


def test_rows_without_a_score_have_a_status_and_no_figures(results):
    made.commit(results, "original", 0, {"gender": 90.0, "age": 60.0})
    made.unscored(results, "crf", "n/a", "n/a: needs masks:person")
    made.unscored(results, "adv", "failed", "NaN")
    got = lines(results)
    assert (got["crf"].row.status, got["crf"].row.reasons) == ("n/a", ("n/a: needs masks:person",))
    assert (got["adv"].row.status, got["adv"].entries) == ("failed", {})
    assert got["adv"].near(named=False) == Near()


def test_a_measurement_that_failed_leaves_the_other_attributes(results):
    key = made.commit(results, "original", 0, {"gender": 90.0})
    made.commit(results, "adv", 0, {"gender": 70.0})
    failed = {"metric": "all", "attribute": "age", "protocol": "certified", "values": {}, "rounds": {}, "details": {},
              "flags": [], "error": "no room"}  # fmt: skip
    Store(results).write_metrics(key, [failed])
    row = lines(results)["original"].row
    assert (row.status, row.figures["attribute/gender"].mean, row.figures["attribute/age"].mean) == ("ok", 90.0, None)
    assert "age failed: no room" in row.flags


# ------------------------------------------------------------------ one seed
def test_one_seed_has_the_interval_that_its_metric_stored(results):
    stored = {
        "gender": {"intervals": {"embedding": [88.0, 92.0], "null_train": [49.0, 51.0]}},
        "age": {"figures": {"lambda_M": {"interval_95": [61.0, 65.0]}, "delta": {"interval_95": [1.0, 2.0]}}},
        "pose": {"intervals": {"embedding": None}},
    }
    three = {"gender": (90.0, 1.0, 3), "age": 63.0, "pose": 40.0}
    made.commit(results, "original", 0, three, details=stored, lambda_m=three)
    entries = lines(results)["original"].entries
    assert {name: entry.stored for name, entry in entries.items()} == {"gender": (88, 92), "age": None, "pose": None}
    assert entries["gender"].figure.spread == "rounds"
    entries = lines(results, Column("lambda_m", "λ_M", "lower"))["original"].entries
    assert {name: entry.stored for name, entry in entries.items()} == {"gender": None, "age": (61, 65), "pose": None}


def test_two_seeds_have_no_stored_interval(results):
    for seed in (0, 1):
        made.commit(
            results, "original", seed, {"gender": 90.0}, details={"gender": {"intervals": {"embedding": [1, 2]}}}
        )
    assert lines(results)["original"].entries["gender"].stored is None


# ------------------------------------------------------------------ chance
@pytest.mark.parametrize(
    ("groups", "sizes", "expected"),
    [
        (POSES, None, 100 / 3),  # nothing is known of their sizes
        (POSES, (150, 150, 150), 100 / 3),
        (POSES, (150, 150, 99), 50),  # leakage leaves groups of fewer than 100 rows out, of more than two
        (("a", "b"), (150, 3), 50),
    ],
)
def test_chance_counts_the_groups_that_were_measured(results, groups, sizes, expected):
    beside = [("posed", {"pose": groups})]
    stored = {} if sizes is None else {"posed:pose": sizes}
    made.commit(results, "original", 0, {"posed:pose": 60.0}, beside=beside, sizes=stored)
    assert lines(results)["original"].entries["posed:pose"].chance == pytest.approx(expected)


def test_the_groups_left_out_are_those_of_the_measurement(tmp_path):
    """The same rows through what every measurement begins with."""
    import numpy as np

    from biasbench import Sample
    from biasbench.measures.prepared import prepare

    sizes = (400, 99, 100, 250, 12)
    codes = np.repeat(np.arange(5), sizes)
    splits = {split: Sample(np.zeros(len(codes), np.int64), codes) for split in ("train", "val", "test")}
    left = prepare(splits, "smoke", tuple("abcde"), None).names
    made.commit(tmp_path / "r", "original", 0, {"gender": 60.0}, groups={"gender": "abcde"}, sizes={"gender": sizes})
    assert lines(tmp_path / "r")["original"].entries["gender"].chance == 100 / len(left) == pytest.approx(100 / 3)


def test_other_groups_than_the_plain_models_have_no_percent_unlearned(results):
    for method, sizes in (("original", (150, 150, 150)), ("alpha", (150, 150, 20))):
        made.commit(results, method, 0, {"gender": 60.0}, groups={"gender": POSES}, sizes={"gender": sizes})
    assert lines(results)["alpha"].entries["gender"].undefined == {NO_CHANCE: 1}


def test_damaged_labels_are_told_of(results):
    key = made.commit(results, "original", 0, {"gender": 60.0}, groups={"gender": POSES}, sizes={"gender": (9, 9, 9)})
    (Store(results).run(key) / "truth" / "val.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(IntegrityError, match=r"truth/val\.parquet: the file is damaged"):
        found(results)


@pytest.mark.parametrize("key", ["accuracy", "embedding_null", "embedding_rescaled", "delta"])
def test_a_figure_that_is_no_guess_has_no_chance(results, key):
    made.commit(results, "original", 0, {"gender": 90.0})
    made.commit(results, "adv", 0, {"gender": 60.0})
    entry = lines(results, Column(key, key, "none"))["adv"].entries["gender"]
    assert (entry.chance, entry.near, entry.unlearned, entry.undefined) == (None, None, None, {NO_FIGURE: 1})


# ------------------------------------------------------------------ what a method was told
BESIDE = (
    ("laofiw", {"ancestry": "abcd"}),
    ("imdb(task='gender')", {"age": "abc", "gender": "ab"}),
    ("odd", {"x": "ab"}),
)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("original", set()),
        ("noise(std=1.0)", set()),
        ("adv(at='conv5', attribute='gender')", {"gender"}),
        ("alpha(ratio=1.0, attribute='age')+adv(at='conv5', attribute='gender')", {"age", "gender"}),
        ("jlu(attributes=(), data=(), attribute='gender')", {"gender"}),
        ("jlu(attributes=('age',), data=(), attribute='gender')", {"age"}),
        ("jlu(attributes=(), data=('laofiw:ancestry',), attribute='gender')", {"laofiw:ancestry"}),
        ("jlu(attributes=(), data=('laofiw',), attribute='gender')", {"laofiw:ancestry"}),
        ("jlu(attributes=('age',), data=('imdb(task=\"gender\")',))", {"age", "imdb(task='gender'):age"}),
        ("jlu(data=('imdb( task=\"gender\" ):gender',))", {"imdb(task='gender'):gender"}),
        ("jlu(data=('imdb',))", set()),  # with other options it is another data set, not measured here
        ("not[readable", set()),
    ],
)
def test_attributes_that_the_method_names(results, text, named):
    key = made.commit(results, "m", 0, {"gender": 90.0}, text=text, beside=BESIDE)
    folder = RunFolder(Store(results), key, PLUGINS)
    assert (folder.named, folder.unresolved) == (named, ())


def test_a_data_set_that_no_plugin_offers_keeps_its_primary_attribute_to_itself(results):
    made.commit(results, "m", 0, {"odd:x": 90.0, "laofiw:ancestry": 30.0}, beside=BESIDE,
                text="jlu(data=('odd', 'laofiw'))")  # fmt: skip
    line = lines(results)["m"]
    assert line.unresolved == ("odd",)
    assert {name: entry.named for name, entry in line.entries.items()} == {"odd:x": False, "laofiw:ancestry": True}


def test_texts_that_mean_the_same():
    assert same("a(x=1, y='b')", 'a( y="b",x=1 )')
    assert not same("a", "b")
    assert same("?!", "?!")
    assert not same("?!", "!?")
    assert without_targets("jlu('gender')") == "jlu('gender')"  # a value without a name says nothing here
    assert components("a+b")[1].name == "b"


# ------------------------------------------------------------------ who is compared with whom
@pytest.mark.parametrize(("second", "pairs"), [(90.0, 1), (80.0, 0)])
def test_two_plain_models_of_one_seed_pair_if_they_agree(results, second, pairs):
    made.commit(results, "original", 0, {"gender": 90.0})
    made.commit(results, "original", 0, {"gender": second}, unlike="secondary data added")
    made.commit(results, "adv", 0, {"gender": 70.0})
    (matrix,) = found(results)
    assert [line.row.method for line in matrix.lines] == ["original", "original", "adv"]
    assert [line.row.flags[-1] for line in matrix.lines[:2]] == ["variant 1 of 2", "variant 2 of 2"]
    entry = matrix.lines[2].entries["gender"]
    assert (0 if entry.difference is None else entry.difference.n) == pairs
    assert entry.undefined == ({} if pairs else {NO_PAIR: 1})


def test_runs_on_other_data_of_the_same_name_are_no_pair(results):
    made.commit(results, "original", 0, {"gender": 90.0}, fingerprint="before the data changed")
    made.commit(results, "original", 0, {"gender": 80.0})
    made.commit(results, "adv", 0, {"gender": 70.0})
    (adv,) = (line for matrix in found(results) for line in matrix.lines if line.row.method == "adv")
    assert adv.entries["gender"].difference.mean == -10


def test_what_was_made_differently_stands_in_a_matrix_of_its_own(results):
    made.commit(results, "original", 0, {"gender": 90.0})
    made.commit(results, "original", 0, {"gender": 80.0}, flags=["recipe: crop=32"])
    made.commit(results, "adv", 0, {"gender": 70.0}, flags=["recipe: crop=32"])
    made.commit(results, "adv", 0, {"gender": 60.0}, protocol="quick")
    parts = {(m.protocol, m.changes): [line.row.method for line in m.lines] for m in found(results)}
    assert parts == {
        ("certified", ()): ["original"],
        ("certified", ("recipe: crop=32",)): ["original", "adv"],
        ("quick", ()): ["adv"],
    }
    changes = [
        line.entries["gender"].difference for m in found(results) for line in m.lines if line.row.method == "adv"
    ]
    assert [c and c.mean for c in changes] == [-10, None]


def test_own_attributes_come_first_and_marked_rows_last(results):
    beside = [("aa", {"b": "xy"})]
    made.commit(results, "original", 0, {"aa:b": 60.0, "gender": 60.0, "age": 60.0}, beside=beside)
    made.commit(results, "a-rba", 0, {"gender": 60.0}, flags=["transductive"])
    made.commit(results, "b-adv", 0, {"gender": 60.0})
    (matrix,) = found(results)
    assert matrix.attributes == ("age", "gender", "aa:b")
    assert [line.row.method for line in matrix.lines] == ["original", "b-adv", "a-rba"]


def test_flags_of_some_attributes_name_them(results):
    made.commit(results, "original", 0, {"gender": 60.0, "age": 50.0}, extra={"age": ["underpowered"]})
    assert lines(results)["original"].row.flags == ("weights=random", "age: underpowered")


# ------------------------------------------------------------------ near chance
def test_how_many_are_near_chance(results):
    values = {"gender": 55.0, "age": 55.1, "pose": 20.0, "x": None, "y": 50.0}
    groups = {"gender": "ab", "age": "ab", "pose": "abcde", "x": "ab"}
    made.commit(results, "jlu", 0, values, groups=groups, text="jlu(attributes=('age', 'gender', 'x'))")
    line = lines(results)["jlu"]
    assert line.near(named=False) == Near(near=2, known=3, unknown=2)  # x has no figure, y no known chance
    assert line.near(named=True) == Near(near=1, known=2, unknown=1)


def test_lines_are_counted_together_when_only_data_and_attributes_differ(results):
    for dataset, told, value in (("one", "gender", 54.0), ("two", "age", 60.0), ("three", "age", 51.0)):
        made.commit(results, f"jlu({told})", 0, {told: value}, dataset=dataset, groups={told: "ab"},
                    text=f"jlu(attributes=('{told}',), weight=0.1)")  # fmt: skip
    made.commit(results, "jlu(5)", 0, {"age": 50.0}, dataset="one", groups={"age": "ab"}, text="jlu(weight=5.0)")
    made.commit(results, "jlu(5)", 0, {"age": 50.0}, dataset="two", groups={"age": "ab"}, text="jlu(weight=5.0)")
    made.commit(results, "jlu(g)", 0, {"age": 50.0}, dataset="one", text="jlu(weight=0.1)", protocol="quick")
    one, other = sorted(totals(found(results)), key=lambda total: total.method)
    assert (one.method, one.datasets, one.lines) == ("jlu(weight=0.1)", ("one", "three", "two"), 3)
    assert (one.every.near, one.every.known, one.named) == (2, 3, Near(2, 3))
    assert (other.method, other.lines, other.named) == ("jlu(weight=5.0)", 2, Near())
