"""Leakage of a model, and of labels made as inaccurate as it, with answers in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tests.measures.conformance_leakage import Table, Within, facts, near
from tests.measures.leaks import ONCE, TINY, agree, betrays, everywhere, part, silent, splits, truth

CASES = Table()
case = CASES.measured
LARGE = replace(ONCE, caps=(500, 1000, 1000), batch_size=128)
PAIR = {"10": (75, 25), "01": (25, 75)}  # either label has one half of all rows
MIRRORED = {"01": (75, 25), "10": (25, 75)}


def spoilt(hot: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Decoded labels that are the group, not the truth."""
    return np.stack([1 - codes, codes], 1).astype(np.uint8)


def ones(targets: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Decoded labels that are all there."""
    return np.ones_like(targets)


def wrong(targets: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Decoded labels that are all wrong."""
    return 1 - targets


# -- logits, decoded labels and their differences -------------------------------------------------------------------
NAMES = ["lambda_D", "lambda_D_F1", "lambda_M", "lambda_M_decoded", "delta", "delta_decoded"]
case(
    "logits tell more than labels",
    everywhere(PAIR, scores=betrays),
    expect={
        "lambda_D": 75.0,
        "lambda_D_F1": 75.0,
        "lambda_M": 100.0,
        "lambda_M_decoded": 75.0,
        "delta": 25.0,
        "delta low": Within(17, 21),
        "delta high": Within(29, 33),  # a quarter of 200 rows: 1.96 errors of 3.06
        "delta_decoded": 0.0,
        "f1_target": 100.0,
        "perturbation_rate": [0.0, 0.0],
        "figures": [*NAMES, "null_all", "null_train", "null_all_D", "null_train_D"],
    },
)
case(
    "constant scores tell less",
    everywhere(PAIR, scores=silent),
    expect={"lambda_M": 50.0, "delta": -25.0, "lambda_M_decoded": 75.0, "delta_decoded": 0.0, "shrunk_scores": 0},
)
case(
    "the truth amplifies nothing",
    everywhere(PAIR, scores=truth),
    expect={"lambda_M": 75.0, "delta": 0.0, "delta low": Within(-2, 0), "delta high": Within(0, 2)},
)
# F1 is 3/4, hence a quarter of all bits is flipped (see below). Of two bits that are each right 3 times of 4 the best
# rule is right 3 times of 4 about the label, which is 3 times of 4 right about the group.
case(
    "decoded labels tell more than logits",
    everywhere(PAIR, scores=silent, said=spoilt),
    expect={"lambda_M": 50.0, "lambda_M_decoded": 100.0, "f1_target": 75.0, "lambda_D_F1": near(62.5, 200)},
)


def differences(m: Any) -> Mapping[str, Any]:
    """Both differences, with what is taken off added again."""
    f = facts(m.leakage(everywhere(PAIR, scores=silent, said=spoilt), ONCE, nulls=1, threads=1))
    return {"lambda_M": f["delta"] + f["lambda_D_F1"], "lambda_M_decoded": f["delta_decoded"] + f["lambda_D_F1"]}


CASES.called("differences are from perturbed labels", differences, {"lambda_M": 50.0, "lambda_M_decoded": 100.0})
case(
    "a model without decoded labels, given an F1",
    {s: replace(p, labels=None) for s, p in everywhere(PAIR, scores=truth).items()},
    f1=1.0,
    expect={
        "lambda_M": 75.0,
        "delta": 0.0,
        "figures": [
            "lambda_D",
            "lambda_D_F1",
            "lambda_M",
            "delta",
            "null_all",
            "null_train",
            "null_all_D",
            "null_train_D",
        ],
    },
)


def more_and_more(m: Any) -> Mapping[str, Any]:
    said = (silent, truth, betrays)
    found = [facts(m.leakage(everywhere(PAIR, scores=s), ONCE, nulls=1, threads=1)) for s in said]
    labels = [facts(m.leakage(everywhere(agree(rate)), ONCE, nulls=1, threads=1)) for rate in (50, 65, 80, 95)]
    return {key: [f[key] for f in found] for key in ("lambda_M", "delta")} | {
        "lambda_D": [f["lambda_D"] for f in labels]
    }


CASES.called(
    "a more biased input scores worse",
    more_and_more,
    {"lambda_M": [50.0, 75.0, 100.0], "delta": [-25.0, 0.0, 25.0], "lambda_D": [50.0, 65.0, 80.0, 95.0]},
)
# Twice as many rows as a draw takes: rounds differ, and a model that answers the truth differs with them.
PART = {"10": (150, 50), "01": (50, 150)}


def paired(m: Any) -> Mapping[str, Any]:
    """Whether rounds differ, and their differences."""
    report = m.leakage(everywhere(PART, scores=truth), TINY, nulls=1, threads=1)
    delta = report.figures["delta"].rounds.tolist()
    return {"apart": len(set(report.figures["lambda_M"].rounds)) > 1, "delta": delta}


CASES.called("differences are taken round by round", paired, {"apart": True, "delta": [0.0, 0.0]})
VIEWED = everywhere(PAIR, scores=betrays)
VIEWS = (VIEWED["train"].scores, -VIEWED["train"].scores)
# Round 0 trains on what val and test show, round 1 on the opposite and is always wrong.
case(
    "each round trains on its view",
    {**VIEWED, "train": replace(VIEWED["train"], views=VIEWS)},
    replace(TINY, fold=False, epochs=1, lr=2e-2, batch_size=8),
    expect={"lambda_M rounds": [100.0, 0.0], "lambda_M": 50.0, "lambda_M std": 50.0, "training_views": 2},
)
case(
    "classes and scores",
    everywhere({"0": (60, 20), "1": (20, 60), "2": (20, 20)}, single=True, scores=betrays),
    expect={
        "lambda_D": 70.0,
        "lambda_D_F1": 70.0,
        "lambda_M": 100.0,
        "lambda_M_decoded": 70.0,
        "delta": 30.0,
        "majority_rule test": 70.0,
    },
)
# -- the F1 of a model ----------------------------------------------------------------------------------------------
MODEL = everywhere(PAIR, scores=truth)
# Recall 1, precision 1/2, on the test split alone.
case(
    "F1 is that of the test split",
    {**MODEL, "test": part(PAIR, scores=truth, said=ones)},
    expect={"f1_target": 200 / 3, "f1_out_of_reach": False},
)
STRANGERS = part(PAIR, scores=truth, said=wrong)
case(
    "F1 counts examples of unknown attribute, and nothing else does",
    {
        **MODEL,
        "test": replace(
            MODEL["test"],
            **{
                name: np.concatenate([getattr(MODEL["test"], name), getattr(STRANGERS, name)])
                for name in ("targets", "scores", "labels")
            },
            attribute=np.append(MODEL["test"].attribute, np.full(200, -1)),
        ),
    },
    expect={"f1_target": 50.0, "lambda_M": 75.0, "lambda_D": 75.0, "lambda_M_decoded": 75.0},
)
case(
    "a model that is always wrong",
    everywhere(PAIR, scores=truth, said=wrong),
    expect={
        "f1_target": 0.0,
        "f1_out_of_reach": True,
        "perturbation_rate": [0.5, 0.5],
        "flags": ["F1 out of reach of perturbed labels"],
    },
)
# -- labels of a wanted F1: with half of all rows positive, a share p of flipped bits leaves F1 = 1 - p ---------------
case(
    "flips to an F1",
    everywhere(agree(1000, 1000)),
    LARGE,
    f1=0.8,
    expect={
        "f1_target": 80.0,
        "f1_expected": [80.0],
        "perturbation_rate 0": Within(0.199, 0.201),
        "lambda_D_F1": near(80, 2000),
        "f1_realised 0": near(80, 2000),
        "lambda_D": 100.0,
        "f1_out_of_reach": False,
    },
)
# Replaced by either of two classes: wrong half of the time. F1 = 1 - p / 2.
case(
    "replacement to an F1",
    everywhere({"0": (1000, 0), "1": (0, 1000)}, single=True),
    LARGE,
    f1=0.7,
    expect={"f1_expected": [70.0], "perturbation_rate 0": Within(0.599, 0.601), "lambda_D_F1": near(70, 2000)},
)
# Where every row has the label there are no false alarms: 2 (1 - p) / (2 - p) = 0.8 at one third.
case(
    "the rate is that of the validation split",
    splits(agree(100), {"1": (100, 100)}, agree(100)),
    f1=0.8,
    expect={"perturbation_rate 0": Within(0.33, 0.337), "f1_expected": [80.0, 80.0]},
)
case(
    "flips of one-hot labels",
    everywhere({"0": (1000, 0), "1": (0, 1000)}, single=True),
    LARGE,
    f1=0.8,
    perturbation="flips",
    expect={"perturbation": "flips", "f1_expected": [80.0], "lambda_D": 100.0},
)
case(
    "an F1 out of reach",
    everywhere(agree(100)),
    f1=0.01,
    expect={"f1_out_of_reach": True, "flags": ["F1 out of reach of perturbed labels"]},
)
case(
    "an F1 of 1 perturbs nothing",
    everywhere(agree(75)),
    f1=1.0,
    expect={"lambda_D_F1": 75.0, "perturbation_rate": [0.0, 0.0], "f1_realised": [100.0, 100.0]},
)


def flipped(m: Any) -> Mapping[str, Any]:
    """Shares of bits that differ from the clean ones, by split, and how many of six perturbations are different."""
    samples = everywhere({"0000": (50, 50), "1111": (50, 50)})
    rounds = m.Rounds(samples, 4, 2, TINY, 3, "flips")
    changed = {}
    for r in range(2):
        for split, draw in rounds.job(m.Attack(r, perturbed=0.3)).draws.items():
            clean = samples[split].targets[rounds.rows(r, split)]
            changed[split, r] = draw.table()[draw.rows] ^ clean
    shares = {f"{split} {r}": 100 * float(c.mean()) for (split, r), c in changed.items()}
    return {**shares, "different": len({c.tobytes() for c in changed.values()})}


CASES.called(
    "labels of every split and round are perturbed, each anew",
    flipped,
    {f"{split} {r}": near(30, 800) for split in ("train", "val", "test") for r in (0, 1)} | {"different": 6},
)
