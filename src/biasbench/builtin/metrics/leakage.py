"""Leakage: how well an attacker tells a protected attribute from labels or from a model's scores.

Wang, Zhao, Yatskar, Chang and Ordonez, "Balanced Datasets Are Not Enough", ICCV 2019,
section 3, by the protocol of the released code. Multi-label and multi-class targets (as
one-hot vectors), attributes of two groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasbench import Column, Measurement, Metric, Predictions, generator, macro_f1, one_hot
from biasbench.builtin.metrics.draws import IntArray
from biasbench.builtin.metrics.perturb import Calibration, calibrate, flip
from biasbench.builtin.metrics.protocol import PROTOCOLS, Protocol, protocol_named
from biasbench.builtin.metrics.rounds import Figure, Memo, Rounds
from biasbench.builtin.metrics.truth import check_groups, read_truth

FEW = 100
"""Fewer rows per group than this make a figure `underpowered`."""
BATCH_NORM_EPS = 1e-5


def _no_memo(_key: str, compute: Any) -> Any:
    return compute()


@dataclass(frozen=True)
class LeakageResult:
    """Leakage in percent, one entry a round; spreads over rounds are population ones (ddof 0).

    Attributes:
        lambda_m: [R] model leakage: the attribute from the model's raw logits.
        lambda_d: [R] dataset leakage: the attribute from the true labels.
        lambda_d_f1: [R] dataset leakage from labels flipped until they are as inaccurate
            as the model.
        delta: [R] bias amplification, `lambda_m - lambda_d_f1`, paired by round.
        details: Draw sizes, calibration, selected epochs and flags; JSON values only.
    """

    lambda_m: NDArray[np.float64]
    lambda_d: NDArray[np.float64]
    lambda_d_f1: NDArray[np.float64]
    delta: NDArray[np.float64]
    details: Mapping[str, Any] = field(default_factory=dict)


def leakage(
    predictions: Mapping[str, Predictions],
    tables: Mapping[str, pd.DataFrame],
    protocol: Protocol,
    rng: int,
    attribute: str = "gender",
    memo: Memo = _no_memo,
) -> LeakageResult:
    """Model leakage, dataset leakage and bias amplification: a pure function of its arguments.

    Each round draws equal numbers of both groups from train, val and test anew, and trains
    one attacker per figure. For `lambda_m` it reads raw logits (round r trains on augmented
    view r where the predictions carry views); for `lambda_d` label vectors; for
    `lambda_d_f1` label vectors whose bits are flipped with a probability at which their
    expected macro F1 on the round's validation draw is the model's on the full test split.
    Examples whose attribute is -1 take no part, save in the model's F1.

    Args:
        predictions: Of train, val and test.
        tables: Of train, val and test, rows in the order of `predictions`.
        protocol: Rounds, draws and attacker; see `PROTOCOLS`.
        rng: Base seed of every random stream. No stream depends on the model.
        attribute: Name of a protected attribute with two groups.
        memo: As in `Measurement.memo`; finds figures that no model changes.

    Returns:
        Four figures by round; NaN throughout, with `details["undefined"]` saying why, when
        a split has no example of a group. The same arguments give the same bits on the CPU
        for the same number of torch threads, which the caller sets.

    Raises:
        CellError: When the attribute has more than two groups, scores are not finite or the
            attacker overflows.
        DataError: When tables and predictions are of different examples.
    """
    truth = read_truth(predictions, tables, attribute)
    rounds = Rounds(truth, protocol, rng)
    details = {"protocol": protocol.name, **_about_draws(rounds), **_about_scores(predictions["train"])}
    if details["undefined"]:
        nan = np.full(protocol.rounds, np.nan)
        return LeakageResult(nan, nan, nan, nan, details)

    target = _f1(one_hot(predictions["test"].labels, truth["test"].labels.shape[1]), truth["test"].labels)
    rates = [_calibration(rounds, r, target) for r in range(protocol.rounds)]

    def scores(r: int, split: str, rows: IntArray) -> NDArray[Any]:
        said = predictions[split]
        return (said.training_scores(r) if split == "train" else said.scores["label"])[rows]

    def labels(_r: int, split: str, rows: IntArray) -> NDArray[Any]:
        return truth[split].labels[rows]

    def flipped(r: int, split: str, rows: IntArray) -> NDArray[Any]:
        return flip(truth[split].labels[rows], rates[r].p, generator(*rounds.stream(r, "flip", split)))

    figures = {
        "lambda_m": rounds.attack(scores),
        "lambda_d": rounds.remembered(memo, {"flip_p": None}, labels),
        "lambda_d_f1": rounds.remembered(memo, {"flip_p": [c.p for c in rates]}, flipped),
    }
    realised = [
        _f1(flipped(r, "val", rows), truth["val"].labels[rows])
        for r, rows in ((r, rounds.rows(r, "val")) for r in range(protocol.rounds))
    ]
    details |= _about_flips(rates, realised) | _about_epochs(figures)
    percent = {name: figure.percent for name, figure in figures.items()}
    return LeakageResult(**percent, delta=percent["lambda_m"] - percent["lambda_d_f1"], details=details)


def _f1(labels: NDArray[np.uint8], clean: NDArray[np.uint8]) -> float:
    """Macro F1 of [n, K] label vectors, one-hot ones included."""
    return macro_f1(labels, clean, "multilabel", clean.shape[1])


def _calibration(rounds: Rounds, round_: int, target: float) -> Calibration:
    rows = rounds.rows(round_, "val")
    return calibrate(rounds.truth["val"].labels[rows].sum(0, dtype=np.int64), len(rows), target)


def _about_draws(rounds: Rounds) -> dict[str, Any]:
    n = rounds.per_group()
    absent = [split for split, count in n.items() if count == 0]
    return {
        "per_group": n,
        "underpowered": min(n.values()) < FEW,
        "undefined": f"no example of one group in {', '.join(absent)}" if absent else None,
    }


def _about_scores(train: Predictions) -> dict[str, Any]:
    """How many views the attacker trains on, and how many logits its input BatchNorm shrinks towards 0.

    Scores scaled down far enough hide from the published attacker without being any fairer.
    """
    variance = train.training_scores(0).astype(np.float64).var(0) if len(train) else np.zeros(0)
    shrunk = (variance > 0) & (variance < BATCH_NORM_EPS)
    return {"training_views": len(train.views), "shrunk_scores": int(shrunk.sum())}


def _about_flips(rates: list[Calibration], realised: list[float]) -> dict[str, Any]:
    return {
        "perturbation": "bit flips",
        "flip_p": [c.p for c in rates],
        "f1_target": 100 * rates[0].target,
        "f1_expected": [100 * c.f1 for c in rates],
        "f1_realised": [100 * f1 for f1 in realised],
        "f1_out_of_reach": any(c.out_of_reach for c in rates),
    }


def _about_epochs(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {
        "epochs": {name: list(figure.epochs) for name, figure in figures.items()},
        "last_epoch": {name: figure.last.tolist() for name, figure in figures.items()},
    }


class Leakage(Metric):
    """Dataset leakage, model leakage and bias amplification under a named protocol.

    Protocols: `wang2019` (the released COCO constants: 5 rounds of 100 epochs),
    `wang2019-imsitu` (5 linear layers and larger draws), `quick` (3 rounds of 25 epochs
    with a larger step: for demos), `smoke` (1 round of 3 epochs: runs the code, no more).

    Present limits: attributes of two groups; bit flips as the only perturbation, also for
    one-hot labels.

    Details: `per_group` (rows drawn per group and split), `underpowered` (any below 100),
    `flip_p`, `f1_target` (the model's macro F1 on the full test split), `f1_expected` and
    `f1_realised` (of the flipped labels, balanced validation draw), `f1_out_of_reach`
    (no flip rate gives the target: the nearest was taken), `epochs` (selected), `last_epoch`
    (the figures without selection), `training_views`, `shrunk_scores` (logits whose variance
    is below 1e-5: the published attacker cannot read them well), `undefined`.
    """

    name = "leakage"
    columns = (
        Column(
            "lambda_m",
            "λ_M",
            "lower",
            help="model leakage: attribute (two groups) from raw logits, balanced test draw; chance is 50",
        ),
        Column("lambda_d", "λ_D", "none", help="dataset leakage: attribute (two groups) from the true labels"),
        Column(
            "lambda_d_f1",
            "λ_D(F1)",
            "none",
            help="dataset leakage of labels with bits flipped until their macro F1 is the model's",
        ),
        Column(
            "delta",
            "Δ",
            "lower",
            help="bias amplification λ_M - λ_D(F1), points; below 0: the scores tell less than equally wrong labels",
        ),
    )
    splits = ("train", "val", "test")
    protocols = tuple(PROTOCOLS)
    source = "Wang et al. 2019, section 3"

    def measure(
        self,
        predictions: Mapping[str, Predictions],
        tables: Mapping[str, pd.DataFrame],
        context: Measurement,
    ) -> Mapping[str, Any]:
        check_groups(context.attribute, len(context.groups))
        protocol = protocol_named(context.protocol)
        result = leakage(predictions, tables, protocol, context.seed, context.attribute, context.memo)
        rows = {column.key: getattr(result, column.key).tolist() for column in self.columns}
        if result.details["undefined"]:
            rows = dict.fromkeys(rows, float("nan"))
        return {**rows, **result.details, "flags": _flags(result.details)}


def _flags(details: Mapping[str, Any]) -> list[str]:
    """What a reader of the row must know."""
    found = ["underpowered"] if details.get("underpowered") else []
    if details["undefined"]:
        found.append(f"leakage undefined: {details['undefined']}")
    if details.get("f1_out_of_reach"):
        found.append("F1 out of reach of label flips")
    if details.get("shrunk_scores"):
        found.append(f"{details['shrunk_scores']} logits too small for the attacker to read")
    return found
