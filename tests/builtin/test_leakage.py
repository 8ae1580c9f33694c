"""Leakage against planted leaks whose best possible attacker is known in closed form."""

from __future__ import annotations

import json
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest

from biasbench import CellError, DataError, Measurement, Predictions, macro_f1
from biasbench.builtin.metrics.leakage import Leakage, leakage
from biasbench.builtin.metrics.protocol import PROTOCOLS, Protocol
from biasbench.builtin.metrics.rounds import Rounds

pytestmark = pytest.mark.torch
SHORT = Protocol("short", rounds=2, epochs=4, lr=1e-3, width=40, caps=(1500, 800, 2000))
TINY = replace(SHORT, epochs=4, lr=5e-3, width=16, batch_size=32, caps=(200, 100, 100))
SIZES = {"train": 3600, "val": 2000, "test": 5000}
SMALL = {"train": 500, "val": 260, "test": 240}


@pytest.fixture(autouse=True)
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cell(make_labels, make_scores, sizes=SIZES, seed=0, unknown=0.0):
    """Predictions and tables: `make_labels(gender, rng)`, then `make_scores(labels, gender, rng)`."""
    predictions, tables = {}, {}
    for i, (split, n) in enumerate(sizes.items()):
        rng = np.random.default_rng((seed, i))
        gender = (rng.random(n) < 0.45).astype(np.int64)
        y = make_labels(gender, rng)
        scores = np.float32(make_scores(y, gender, rng))
        gender = np.where(rng.random(n) < unknown, -1, gender)
        ids = [f"{split}/{j}" for j in range(n)]
        multi = y.ndim == 2
        columns = {f"label/{k}": y[:, k] for k in range(y.shape[1])} if multi else {"label": y}
        tables[split] = pd.DataFrame({"id": ids, "path": ids, **columns, "attribute/gender": gender})
        decoded = (scores >= 0).astype(np.uint8) if multi else scores.argmax(1)
        predictions[split] = Predictions({"label": scores}, decoded, y, {"gender": gender}, ids)
    return predictions, tables


def bits(rate, k=4):
    """k label bits; the first agrees with gender with probability `rate`."""

    def make(gender, rng):
        y = (rng.random((len(gender), k)) < 0.3).astype(np.uint8)
        y[:, 0] = gender ^ (rng.random(len(gender)) >= rate)
        return y

    return make


def logits(y, gender, rng, shift=0.0):
    """Right three times of four and more; the last logit moves with gender by `shift` standard deviations."""
    s = rng.normal(size=y.shape) + 2.0 * y - 1.0
    s[:, -1] = rng.normal(size=len(y)) + shift * (gender - 0.5)
    return s


def only_shift(shift):
    def make(y, gender, rng):
        s = rng.normal(size=y.shape)
        s[:, 1] += shift * (gender - 0.5)
        return s

    return make


# -- what is measured ----------------------------------------------------------------------
@pytest.mark.parametrize("rate", [0.5, 0.75, 1.0])
def test_dataset_leakage_reaches_and_does_not_pass_the_planted_leak(rate):
    result = leakage(*cell(bits(rate), logits), SHORT, 3)
    noise = 100 * (rate * (1 - rate) / 4000) ** 0.5  # of one round's test draw
    assert result.lambda_d.max() <= 100 * rate + 4 * noise + (1.5 if rate == 0.5 else 0)  # folding lifts chance
    assert result.lambda_d.min() >= 100 * rate - 4 * noise - 1.5


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_model_leakage_finds_what_the_logits_hold(shift):
    bayes = 100 * NormalDist().cdf(shift / 2)  # two unit Gaussians `shift` apart
    result = leakage(*cell(bits(0.5), only_shift(shift)), SHORT, 4)
    noise = 100 * (0.25 / 4000) ** 0.5
    assert bayes - 3 <= result.lambda_m.min()
    assert result.lambda_m.max() <= bayes + 4 * noise
    assert result.delta == pytest.approx(result.lambda_m - result.lambda_d_f1)


def test_one_hot_labels_reach_the_majority_rule_of_the_balanced_draw():
    given_man, given_woman = np.array([0.5, 0.3, 0.1, 0.1]), np.array([0.1, 0.2, 0.3, 0.4])

    def classes(gender, rng):
        return (rng.random(len(gender))[:, None] > np.stack([given_man, given_woman]).cumsum(1)[gender]).sum(1)

    result = leakage(*cell(classes, lambda y, _g, rng: np.eye(4)[y] * 3 + rng.normal(size=(len(y), 4))), SHORT, 5)
    closed = 50 * np.maximum(given_man, given_woman).sum()  # 75
    assert result.lambda_d == pytest.approx(closed, abs=3)
    assert 50 < result.lambda_d_f1.mean() < result.lambda_d.mean()
    assert result.details["perturbation"] == "bit flips"


def test_a_model_that_answers_the_truth_amplifies_nothing():
    """Its logits are the labels and its F1 needs no flip: all three attackers are one."""
    result = leakage(*cell(bits(0.8), lambda y, _g, _r: y * 2.0 - 1, SMALL), TINY, 6)
    assert result.details["flip_p"] == [0.0, 0.0]
    assert not result.details["f1_out_of_reach"]
    assert result.lambda_d.min() > 65
    assert (result.lambda_d == result.lambda_d_f1).all()
    centred = leakage(*cell(bits(0.8), lambda y, _g, _r: y.astype(float), SMALL), TINY, 6)
    assert (centred.lambda_m == centred.lambda_d).all()


def test_a_model_that_is_always_wrong_is_flagged():
    predictions, tables = cell(bits(0.9), lambda y, _g, _r: 1.0 - 2.0 * y, SMALL)
    result = leakage(predictions, tables, TINY, 7)
    assert result.details["f1_target"] == 0
    assert result.details["f1_out_of_reach"]
    assert result.details["flip_p"] == [0.5, 0.5]


def test_labels_are_made_as_inaccurate_as_the_model():
    predictions, tables = cell(bits(0.9), logits, SIZES)
    details = leakage(predictions, tables, replace(TINY, caps=(200, 800, 200)), 8).details
    test = predictions["test"]
    assert details["f1_target"] == pytest.approx(100 * macro_f1(test.labels, test.targets, "multilabel", 4))
    assert details["f1_expected"] == pytest.approx([details["f1_target"]] * 2, abs=0.01)
    assert details["f1_realised"] == pytest.approx([details["f1_target"]] * 2, abs=3)
    assert 0 < min(details["flip_p"]) < max(details["flip_p"]) < 0.5


# -- what may not matter -------------------------------------------------------------------
def test_dataset_leakage_is_the_same_for_every_model_and_is_computed_once():
    one, tables = cell(bits(0.8), logits, SMALL)
    two, same = cell(bits(0.8), only_shift(2.0), SMALL)
    assert all(tables[s].equals(same[s]) for s in tables)
    kept, computed = {}, []

    def memo(key, compute):
        if key not in kept:
            computed.append(key)
            kept[key] = json.loads(json.dumps(compute(), allow_nan=False))
        return kept[key]

    first = leakage(one, tables, TINY, 9)
    again = leakage(one, tables, TINY, 9, memo=memo)
    other = leakage(two, tables, TINY, 9, memo=memo)
    assert first.lambda_d.min() > 65  # of 80: the figures compared are not all chance
    assert (first.lambda_d == again.lambda_d).all()
    assert (first.lambda_d == other.lambda_d).all()
    assert not (first.lambda_m == other.lambda_m).all()
    assert len(computed) == 3  # lambda_D once, lambda_D(F1) for each F1
    assert leakage(one, tables, TINY, 9).details == first.details
    leakage(one, tables, replace(TINY, name="alias"), 9, memo=memo)
    assert len(computed) == 3
    leakage(one, tables, TINY, 10, memo=memo)
    leakage(one, tables, replace(TINY, lr=2e-3), 9, memo=memo)
    changed = {**tables, "val": tables["val"].assign(**{"label/2": 1 - tables["val"]["label/2"]})}
    leakage(one, changed, TINY, 9, memo=memo)
    recoded = {
        **tables,
        "train": tables["train"].assign(**{"attribute/gender": 1 - tables["train"]["attribute/gender"]}),
    }
    leakage(one, recoded, TINY, 9, memo=memo)
    assert len(computed) == 11


def test_round_r_trains_on_view_r():
    predictions, tables = cell(bits(0.8), only_shift(1.5), SMALL)
    train = predictions["train"]
    noise = np.random.default_rng(1).normal(size=(500, 4)).astype(np.float32)
    plain = leakage(predictions, tables, TINY, 11)
    views = {**predictions, "train": replace(train, views=({"label": train.scores["label"]}, {"label": noise}))}
    viewed = leakage(views, tables, TINY, 11)
    assert plain.lambda_m.min() > 65
    assert viewed.lambda_m[0] == plain.lambda_m[0]
    assert viewed.lambda_m[1] != plain.lambda_m[1]
    assert (plain.details["training_views"], viewed.details["training_views"]) == (0, 2)


def test_an_attacker_worse_than_chance_counts_as_far_above_it():
    predictions, tables = cell(bits(0.5), only_shift(2.0), SMALL)
    train = predictions["train"]
    reverse = {**predictions, "train": replace(train, views=({"label": -train.scores["label"]},))}
    # It trains on the opposite of what val and test say, so it is wrong where it should be right.
    assert leakage(reverse, tables, TINY, 11).lambda_m.min() > 65


def test_flips_differ_between_splits_and_rounds(monkeypatch):
    read = {}
    attack = Rounds.attack

    def remembered(self, memo, what, features):
        if what["flip_p"]:
            rows = np.arange(100)
            clean = {s: t.labels[rows] for s, t in self.truth.items()}
            read.update({(r, s): features(r, s, rows) ^ clean[s] for r in range(2) for s in clean})
        return attack(self, features)

    monkeypatch.setattr(Rounds, "remembered", remembered)
    leakage(*cell(bits(0.8), logits, SMALL), TINY, 13)
    assert len(read) == len({flips.tobytes() for flips in read.values()}) == 6


def test_unknown_attributes_take_no_part_save_in_the_models_f1():
    predictions, tables = cell(bits(1.0), logits, {k: v * 2 for k, v in SMALL.items()}, unknown=0.5)
    before = leakage(predictions, tables, TINY, 12)
    for split in ("train", "val", "test"):
        unknown = (tables[split]["attribute/gender"] < 0).to_numpy()
        predictions[split].scores["label"][unknown] = 77.0
    after = leakage(predictions, tables, TINY, 12)
    assert before.lambda_m.min() > 65
    assert (before.lambda_m == after.lambda_m).all()
    assert before.details["per_group"] == after.details["per_group"]
    test = predictions["test"]
    assert after.details["f1_target"] == pytest.approx(100 * macro_f1(test.labels, test.targets, "multilabel", 4))


# -- what is refused or flagged ------------------------------------------------------------
def test_small_and_absent_groups():
    predictions, tables = cell(bits(0.8), logits, SMALL)
    n = leakage(predictions, tables, TINY, 1).details
    assert n["per_group"] == {"train": 200, "val": 100, "test": 100}
    assert not n["underpowered"]
    assert leakage(predictions, tables, replace(TINY, caps=(200, 99, 100)), 1).details["underpowered"]
    tables["val"]["attribute/gender"] = 0
    nobody = leakage(predictions, tables, TINY, 1)
    assert nobody.details["undefined"] == "no example of one group in val"
    assert all(np.isnan(getattr(nobody, c.key)).all() for c in Leakage.columns)


def test_scores_that_are_not_numbers_are_refused_not_fair():
    predictions, tables = cell(bits(0.8), logits, SMALL)
    predictions["train"].scores["label"][:, 2] = np.nan
    with pytest.raises(CellError, match="not finite"):
        leakage(predictions, tables, TINY, 1)
    predictions, tables = cell(bits(0.8), lambda *a: logits(*a) * 1e25, SMALL)
    with pytest.raises(CellError, match="overflowed"):
        leakage(predictions, tables, TINY, 1)


def test_scores_shrunk_below_the_input_normalisation_are_counted():
    predictions, tables = cell(bits(0.8), lambda *a: logits(*a) * 1e-4, SMALL)
    assert leakage(predictions, tables, TINY, 1).details["shrunk_scores"] == 4


def test_more_than_two_groups_are_refused_with_the_reason():
    predictions, tables = cell(bits(0.8), logits, SMALL)
    for table in tables.values():
        table["attribute/tone"] = np.arange(len(table)) % 6
    with pytest.raises(CellError, match=r"attribute with 6 groups \('tone'\)"):
        leakage(predictions, tables, TINY, 1, attribute="tone")
    with pytest.raises(CellError, match=r"12 groups"):
        leakage(predictions, tables, TINY, 1, attribute="gender*tone")
    with pytest.raises(DataError, match=r"no protected attribute 'gendre'.*Did you mean 'gender'"):
        leakage(predictions, tables, TINY, 1, attribute="gendre")


def test_tables_of_other_examples_are_refused():
    predictions, tables = cell(bits(0.8), logits, SMALL)
    tables["test"] = tables["test"].iloc[::-1].reset_index(drop=True)
    with pytest.raises(DataError, match=r"test: predictions and table are not of the same examples"):
        leakage(predictions, tables, TINY, 1)


# -- the metric ----------------------------------------------------------------------------
def test_metric_gives_a_list_per_column_and_json_details(monkeypatch):
    predictions, tables = cell(bits(0.8), logits, SMALL)
    monkeypatch.setitem(PROTOCOLS, "tiny", TINY)
    context = Measurement("multilabel", ("a", "b", "c", "d"), "gender", ("man", "woman"), "tiny", 2)
    row = Leakage().measure(predictions, tables, context)
    result = leakage(predictions, tables, TINY, 2)
    for column in Leakage.columns:
        assert row[column.key] == getattr(result, column.key).tolist()
        assert len(row[column.key]) == 2
    assert json.loads(json.dumps(dict(row), allow_nan=False)) == dict(row)
    assert row["protocol"] == "short"
    assert set(row["epochs"]) == set(row["last_epoch"]) == {"lambda_m", "lambda_d", "lambda_d_f1"}
    tables["test"]["attribute/gender"] = -1
    assert np.isnan(Leakage().measure(predictions, tables, context)["delta"])
    with pytest.raises(CellError, match="6 groups"):
        Leakage().measure(predictions, tables, replace(context, groups=("a", "b", "c", "d", "e", "f")))
