"""Leakage as a metric: `biasbench.leakage` on a cell's stored predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from biasbench import (
    LEAKAGE_PROTOCOLS,
    SPLITS,
    CellError,
    Column,
    DataError,
    Measurement,
    Metric,
    Predictions,
    Sample,
    Split,
    attribute,
    leakage,
    targets,
)

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = {
    "lambda_m": "lambda_M",
    "lambda_d": "lambda_D",
    "lambda_d_f1": "lambda_D_F1",
    "delta": "delta",
    "null": "null_train",
    "null_all": "null_all",
    "lambda_m_decoded": "lambda_M_decoded",
    "delta_decoded": "delta_decoded",
}


class Leakage(Metric):
    """Dataset leakage, model leakage and bias amplification under a named protocol.

    Protocols: `wang2019` (the released constants: 5 rounds of 100 epochs, the attacker of COCO for
    multi-label data and of imSitu for single-label data; `wang2019-coco` and `wang2019-imsitu` name
    them outright), `certified` (an ensemble of attackers with a certificate), `quick` (3 rounds of
    25 epochs with a larger step: for demos), `smoke` (1 round of 3 epochs: runs the code, no more).

    Details: what `biasbench.leakage` reports beside its figures: draw sizes, the perturbation and its
    calibration, selected epochs, last-epoch figures, controls, the share of examples without attribute.
    """

    name = "leakage"
    columns = (
        Column("lambda_m", "λ_M", "lower", help="model leakage: attribute from raw logits, balanced test draw"),
        Column("lambda_d", "λ_D", "none", help="dataset leakage: attribute from the true labels"),
        Column(
            "lambda_d_f1",
            "λ_D(F1)",
            "none",
            help="dataset leakage of labels perturbed until their macro F1 is the model's"
            " (bit flips for multi-label, replaced labels for single-label data)",
        ),
        Column(
            "delta",
            "Δ",
            "lower",
            help="bias amplification λ_M - λ_D(F1), points; below 0: the scores tell less than equally wrong labels",
        ),
        Column("null", "null", "none", help="λ_M with the attribute shuffled in training: chance plus selection"),
        Column("null_all", "null (all)", "none", help="λ_M with the attribute shuffled everywhere", board=False),
        Column("lambda_m_decoded", "λ_M decoded", "lower", help="attribute from the decoded labels", board=False),
        Column("delta_decoded", "Δ decoded", "lower", help="λ_M decoded - λ_D(F1), points", board=False),
    )
    splits = ("train", "val", "test")
    protocols = LEAKAGE_PROTOCOLS
    source = "Wang et al. 2019, section 3"

    def measure(
        self,
        predictions: Mapping[str, Predictions],
        tables: Mapping[str, pd.DataFrame],
        context: Measurement,
    ) -> Mapping[str, Any]:
        report = leakage(
            samples_of(predictions, tables, context.attribute),
            context.protocol,
            attribute=context.attribute,
            groups=context.groups,
            seed=context.seed,
            memo=context.memo,
            threads=context.threads,
        )
        rounds = {key: report.figures[name].rounds.tolist() for key, name in _COLUMNS.items()}
        if report.details["undefined"]:
            rounds = dict.fromkeys(rounds, float("nan"))
        shown = {name: figure.to_json() for name, figure in report.figures.items()}
        return {**rounds, **report.details, "figures": shown, "flags": list(report.flags)}


def samples_of(
    predictions: Mapping[str, Predictions], tables: Mapping[str, pd.DataFrame], name: str
) -> dict[Split, Sample]:
    """Train, val and test as leakage reads them.

    Raises:
        CellError: When there are no scores to attack.
        DataError: When predictions and tables are not of the same examples.
    """
    return {split: _sample(predictions[split], tables[split], name, split) for split in SPLITS}


def _sample(said: Predictions, table: pd.DataFrame, name: str, split: str) -> Sample:
    """One split as leakage reads it, checked to be of the same examples."""
    if list(said.ids) != table["id"].tolist():
        raise DataError("predictions and table are not of the same examples in the same order", where=split)
    if "label" not in said.scores:
        raise CellError("no scores [N, K] named 'label' to attack", where=split)
    views = [view["label"] for view in said.views]
    return Sample(targets(table), attribute(table, name), said.scores["label"], said.labels, views)
