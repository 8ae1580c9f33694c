"""Bias amplification, gaps between groups and the worst group, from decoded labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from biasbench import (
    CellError,
    Column,
    Measurement,
    Metric,
    Predictions,
    bias_amplification,
    demographic_parity_gap,
    directional_amplification,
    equalised_odds_gap,
    multi_attribute_amplification,
    printable,
    worst_group,
)

if TYPE_CHECKING:
    import pandas as pd


class Amplification(Metric):
    """What decoded labels say of bias, where leakage reads the scores.

    The reference of every amplification is the truth of the rows that the model was trained on, after
    resampling. Labels are counted under the predicted attribute where the model has an output of the attribute's
    name (its argmax), else under the true one; `directional_ta` exists only with such an output. Examples whose
    attribute is unknown are left out.

    Details: `attribute` ("true" or "predicted": what labels were counted under), `unknown` (examples left out, by
    split), `absent` (groups without an example), `undefined` (by figure, how many labels, pairs, combinations or
    groups have no value and are left out), `combinations` (of labels, in `multi_mals`), `worst` (name and n of
    each worst group and pair), `reasons` (why a figure is undefined).
    """

    name = "amplification"
    columns = (
        Column(
            "mals",
            "BA",
            "zero",
            help="bias amplification (MALS), signed: above 0, a label leans further to its group than in training",
        ),
        Column(
            "directional_at", "BA A→T", "zero", help="directional bias amplification, attribute to task", board=False
        ),
        Column(
            "directional_ta", "BA T→A", "zero", help="directional bias amplification, task to attribute", board=False
        ),
        Column(
            "multi_mals",
            "Multi_MALS",
            "lower",
            help="bias amplification over label combinations, absolute",
            board=False,
        ),
        Column(
            "multi_mals_variance",
            "var Multi_MALS",
            "lower",
            unit="",
            help="variance of the changes in Multi_MALS, points²",
            board=False,
        ),
        Column(
            "demographic_parity_gap",
            "DP gap",
            "lower",
            help="highest less lowest rate of predictions of a group, mean over labels",
            board=False,
        ),
        Column(
            "equalised_odds_gap",
            "EO gap",
            "lower",
            help="the larger of a label's TPR and FPR gaps, mean over labels",
            board=False,
        ),
        Column(
            "true_positive_gap",
            "TPR gap",
            "lower",
            help="highest less lowest true positive rate of a group, mean over labels",
            board=False,
        ),
        Column(
            "false_positive_gap",
            "FPR gap",
            "lower",
            help="highest less lowest false positive rate of a group, mean over labels",
            board=False,
        ),
        Column("worst_group_f1", "worst F1", "higher", help="lowest macro F1 of a group, over the labels it has"),
        Column("worst_group_accuracy", "worst acc.", "higher", help="lowest accuracy of a group", board=False),
        Column("worst_pair_f1", "worst pair F1", "higher", help="lowest F1 of a label in a group", board=False),
        Column(
            "worst_pair_accuracy",
            "worst pair acc.",
            "higher",
            help="lowest accuracy of a group's examples that have a label",
            board=False,
        ),
    )
    splits = ("train", "test")
    source = (
        "Zhao et al. 2017; Wang and Russakovsky 2021; Zhao, Andrews and Xiang 2023; Hardt et al. 2016; "
        "Agarwal et al. 2018; Sagawa et al. 2020"
    )

    def measure(
        self,
        predictions: Mapping[str, Predictions],
        tables: Mapping[str, pd.DataFrame],
        context: Measurement,
    ) -> Mapping[str, Any]:
        train, test = predictions["train"], predictions["test"]
        group, guessed = test.attributes[context.attribute], _predicted(test, context)
        names: dict[str, Any] = {"label_names": context.label_names, "groups": context.groups or None}
        learnt: dict[str, Any] = {
            "reference": (train.targets, train.attributes[context.attribute]),
            "attribute_predictions": guessed,
        }
        mals = bias_amplification(test.targets, test.labels, group, **learnt, **names)
        directional = directional_amplification(test.targets, test.labels, group, **learnt, **names)
        odds = equalised_odds_gap(test.targets, test.labels, group, **names)
        worst = worst_group(test.targets, test.labels, group, **names)
        figures: dict[str, _Figure] = {
            "mals": mals,
            "directional_at": directional.attribute_to_task,
            "directional_ta": directional.task_to_attribute,
            "demographic_parity_gap": demographic_parity_gap(test.labels, group, **names),
            "equalised_odds_gap": odds,
            "true_positive_gap": odds.true_positive,
            "false_positive_gap": odds.false_positive,
            "worst_group_f1": worst.f1,
            "worst_group_accuracy": worst.accuracy,
            "worst_pair_f1": worst.pair_f1,
            "worst_pair_accuracy": worst.pair_accuracy,
        }
        variance, combinations = math.nan, None
        try:
            multi = multi_attribute_amplification(test.targets, test.labels, group, **learnt, **names)
            variance, combinations, figures["multi_mals"] = multi.variance, len(multi.combinations), multi
        except CellError as error:  # too many combinations: the other figures stand
            figures["multi_mals"] = _Missing(str(error))
        reasons = {key: figure.reason for key, figure in figures.items() if figure.reason}
        return {
            **{key: figure.value for key, figure in figures.items()},
            "multi_mals_variance": variance,
            "attribute": "true" if guessed is None else "predicted",
            "unknown": {"test": mals.unknown[0], "train": mals.unknown[1]},
            "absent": list(mals.absent),
            "undefined": {key: figure.undefined for key, figure in figures.items()},
            "combinations": combinations,
            "worst": {key: str(figures[key]) for key in figures if key.startswith("worst_")},
            "reasons": reasons,
            "flags": _flags(reasons, guessed is not None),
        }


def _flags(reasons: Mapping[str, str], guessed: bool) -> list[str]:
    """What a reader of the row must know. That a model predicts no attribute is no defect of the row."""
    found = [f"{key} undefined: {why}" for key, why in reasons.items() if guessed or key != "directional_ta"]
    return [*found, "amplification under the predicted attribute"] if guessed else found


class _Figure(Protocol):
    @property
    def value(self) -> float: ...

    @property
    def reason(self) -> str: ...

    @property
    def undefined(self) -> int: ...


@dataclass(frozen=True)
class _Missing:
    reason: str
    value: float = math.nan
    undefined: int = 0


def _predicted(test: Predictions, context: Measurement) -> NDArray[np.int64] | None:
    """[N] the attribute as the model's own output of that name says it, if it has one."""
    scores = test.scores.get(context.attribute)
    if scores is None:
        return None
    if scores.ndim != 2 or (context.groups and scores.shape[1] != len(context.groups)):
        raise CellError(f"the output {printable(context.attribute)!r} has shape {scores.shape}, not one column a group")
    codes: NDArray[np.int64] = scores.argmax(1).astype(np.int64)
    return codes
