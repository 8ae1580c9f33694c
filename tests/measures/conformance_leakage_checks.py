"""Nulls, attribute noise, controls, what is kept and the curve of leakage, with answers in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tests.measures.conformance_leakage import NAN, Table, Within, facts, near
from tests.measures.leaks import ONCE, TINY, Kept, agree, betrays, everywhere, silent, splits, truth

CASES = Table()
case = CASES.measured
LARGE = replace(ONCE, caps=(500, 1000, 1000), batch_size=128)
PAIR = {"10": (75, 25), "01": (25, 75)}
HALF = {"0": (50, 50), "1": (50, 50)}
# Shuffled codes agree with a bit in 50 % of 200 rows, give or take 3.5, which the fold turns into 52.8 on average with
# a deviation of 2.1 points: at most 56 in the mean of eight draws.
CHANCE = Within(50, 56)


def faint(hot: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The truth, scaled down."""
    return 1e-8 * hot


# -- nulls ----------------------------------------------------------------------------------------------------------
# Shuffled in training, the bit means either group: right or wrong of all, which is one after the fold. Half of these
# rules score 100 on test, and selection on val finds more.
case(
    "nulls where the labels tell",
    everywhere(agree(100)),
    nulls=8,
    expect={"lambda_D": 100.0, "null_all": CHANCE, "null_train": Within(60, 100), "null_all n": 8},
)
# Training is balanced, as with alpha = 1, and validation and test are skewed alike: an attacker that learnt nothing
# has two rules to choose from, and selection chooses.
case(
    "nulls of balanced training",
    splits(HALF, agree(80), agree(80)),
    nulls=8,
    expect={"null_all": CHANCE, "null_train": Within(60, 80)},
)
case("nulls of balanced splits", everywhere(HALF), nulls=4, expect={"null_train": 50.0, "lambda_D": 50.0})
case(
    "nulls are of what is attacked first",
    everywhere(PAIR, scores=silent),
    nulls=4,
    expect={"null_train": 50.0, "null_train n": 4, "null_train_D n": 2, "null_all_D n": 2},
)
case(
    "nulls of labels beside a model",
    everywhere(agree(100), scores=silent),
    replace(TINY, rounds=8),
    nulls=8,
    expect={"null_all_D": CHANCE, "null_train_D": Within(60, 100), "null_train": 50.0},
)


def drawn(m: Any) -> Mapping[str, Any]:
    """Whether six nulls of one round differ."""
    report = facts(m.leakage(everywhere(agree(100)), ONCE, nulls=6, threads=1))
    return {"differ": len(set(report["null_all rounds"])) > 1}


CASES.called("nulls are drawn anew", drawn, {"differ": True})
MANY = replace(ONCE, epochs=3, lr=0.1, layers=1, batch_size=10, caps=(30, 20, 20))
case(
    "a p-value from 99 nulls",
    everywhere(agree(100)),
    MANY,
    nulls=99,
    expect={"lambda_D": 100.0, "p_value null_all": 0.01},
)
# Every null is at 50, as is the figure.
case(
    "a p-value of nothing",
    everywhere({"1": (100, 100)}),
    MANY,
    nulls=99,
    expect={"p_value null_all": 1.0, "p_value null_train": 1.0},
)
case(
    "no p-value from 98",
    everywhere({"1": (100, 100)}),
    MANY,
    nulls=98,
    expect={"p_value": {"null_all": None, "null_train": None}},
)
case("no nulls", everywhere(agree(75)), nulls=0, expect={"lambda_D": 75.0, "figures": ["lambda_D"]})
# -- wrong attributes: a share q of codes wrong leaves q + (1 - 2q) of an accuracy -----------------------------------
case(
    "noise on labels that tell all",
    everywhere(agree(1000, 1000)),
    LARGE,
    noises=(0.05, 0.1, 0.25),
    expect={"lambda_D": 100.0, "noise_5": near(95, 1900), "noise_10": near(90, 1900), "noise_25": near(75, 1900)},
)
case(
    "noise on labels that tell some",
    everywhere(agree(700, 1000)),
    LARGE,
    noises=(0.1, 0.5),
    expect={"noise_10": near(66, 1900), "noise_50": Within(50, 53)},
)
case(
    "noise on scores",
    everywhere({"10": (500, 500), "01": (500, 500)}, scores=betrays),
    LARGE,
    noises=(0.1,),
    expect={"lambda_M": 100.0, "lambda_D": 50.0, "noise_10": near(90, 1900)},
)
# A draw that is balanced by the codes that are read gives every constant rule one half.
case(
    "noise comes before the draw",
    everywhere({"1": (60, 200)}),
    noises=(0.1, 0.25),
    expect={"noise_10": 50.0, "noise_25": 50.0},
)
# -- controls -------------------------------------------------------------------------------------------------------
case(
    "a planted leak is found",
    everywhere(PAIR, scores=truth),
    expect={"flags": [], "control found": {"scores": True, "targets": True}},
)
case(
    "scores too small to read",
    everywhere(PAIR, scores=faint),
    expect={
        "lambda_M": 50.0,
        "shrunk_scores": 2,
        "control found": {"scores": False, "targets": True},
        "flags": ["2 logits too small for the attacker to read", "the attacker missed a leak planted in the scores"],
    },
)
case(
    "a leak that the test split lacks",
    splits(agree(100), agree(100), agree(0)),
    expect={"control found": {"targets": False}},
)


# -- rounds and what is kept ----------------------------------------------------------------------------------------
def draws(m: Any) -> Mapping[str, Any]:
    """How many of six draws are different, their sizes, and the rows of either group in them."""
    samples = everywhere({"0": (150, 200), "1": (150, 300)})
    rounds = m.Rounds(samples, 1, 2, TINY, 0, "flips")
    rows = {(r, s): rounds.rows(r, s) for r in range(2) for s in samples}
    sets = {frozenset(drawn.tolist()) for drawn in rows.values()}
    return {
        "different": len(sets),
        "distinct rows": sorted({len(s) for s in sets}),
        "second group": sorted({int(samples[s].attribute[drawn].sum()) for (_, s), drawn in rows.items()}),
    }


CASES.called(
    "draws differ between rounds and splits",
    draws,
    {"different": 6, "distinct rows": [200, 400], "second group": [100, 200]},
)


def shared(m: Any) -> Mapping[str, Any]:
    """Two models, another attribute of the second one's rows, and another seed, through one memo."""
    memo = Kept()
    one, two = (everywhere(PAIR, scores=scores) for scores in (betrays, truth))
    other = {split: replace(p, attribute=np.arange(len(p)) % 2) for split, p in two.items()}
    found = [facts(m.leakage(s, ONCE, nulls=1, threads=1, memo=memo)) for s in (one, two, other)]
    known = memo.puts
    m.leakage(two, ONCE, nulls=1, threads=1, memo=memo, seed=1)
    return {
        "lambda_M": [f["lambda_M"] for f in found],
        "lambda_D": [f["lambda_D"] for f in found],
        "new": memo.puts - known,
    }


# With another seed all ten: four figures, two nulls and a control of scores and of labels.
CASES.called(
    "what is kept is found again by all that it depends on",
    shared,
    {"lambda_M": [100.0, 75.0, 50.0], "lambda_D": [75.0, 75.0, 50.0], "new": 10},
)


def selected(m: Any) -> Mapping[str, Any]:
    """Accuracies kept, less the shares of rows that were right at the selected epoch; long training on weak scores."""
    rng = np.random.default_rng(0)
    weak = everywhere(agree(65), scores=lambda hot, codes: rng.normal(size=(len(hot), 1)) + codes[:, None])
    memo = Kept()
    m.leakage(weak, replace(ONCE, rounds=3, epochs=10), nulls=1, threads=1, memo=memo)
    kept = [m.Known.from_json(value) for value in memo.values.values()]
    return {
        "off": sorted({float(k.accuracy - k.right.mean()) for k in kept}),
        "differ": any(k.accuracy != k.last for k in kept),
    }


CASES.called("the selected epoch counts", selected, {"off": [0.0], "differ": True})


# -- the curve: on one bit that tells all, half of all rows positive, leakage is F1 ----------------------------------
def curve(m: Any) -> Mapping[str, Any]:
    memo = Kept()
    found = m.leakage_curve(
        everywhere(agree(1000, 1000)), replace(LARGE, rounds=2), levels=(1.0, 0.9, 0.7, 0.6, 0.3), threads=1, memo=memo
    )
    clean, next_, *_ = found.figures
    return {
        "f1": list(found.f1),
        "n": [figure.n for figure in found.figures],
        **{f"at {round(f1)}": figure.mean for f1, figure in zip(found.f1, found.figures, strict=True)},
        "interpolated": (found.at(95.0).rounds - (clean.rounds + next_.rounds) / 2).tolist(),
        "below": found.at(50.0).mean,
        "above": found.at(100.1).mean,
        "puts": memo.puts,
    }


CASES.called(
    "the curve",
    curve,
    {
        "f1": [100.0, 90.0, 70.0, 60.0],
        "at 100": 100.0,
        "at 90": near(90, 2000),
        "at 70": near(70, 2000),
        "at 60": near(60, 2000),
        "n": [2, 2, 2, 2],
        "interpolated": [0.0, 0.0],
        "below": NAN,
        "above": NAN,
        "puts": 8,
    },
)
