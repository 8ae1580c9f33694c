"""Table 2 of Wang et al. 2019 as a metric: model leakage by weaker and stronger attackers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from biasbench import Column, Measurement, Metric, Predictions, leakage_by_attacker
from biasbench.builtin.metrics.leakage import Leakage, samples_of

if TYPE_CHECKING:
    import pandas as pd

_NAMES = {
    "attacker_1": "1 layer, all data",
    "attacker_2_100": "2 layers, 100 units, all data",
    "attacker_2_300": "2 layers, 300 units, all data",
    "attacker_4_300": "4 layers, 300 units, all data",
    "attacker_4_300_75": "4 layers, 300 units, 75 % of data",
    "attacker_4_300_50": "4 layers, 300 units, 50 % of data",
    "attacker_4_300_25": "4 layers, 300 units, 25 % of data",
}


class Attackers(Metric):
    """Model leakage by attackers of other depth, width and share of the training draw.

    Only computed when it is named: `biasbench measure --metric attackers`.
    """

    name = "attackers"
    columns = tuple(Column(key, title, "lower", help=f"model leakage: {title}") for key, title in _NAMES.items())
    splits = ("train", "val", "test")
    protocols = Leakage.protocols
    source = "Wang et al. 2019, Table 2"
    on_request = True

    def measure(
        self,
        predictions: Mapping[str, Predictions],
        tables: Mapping[str, pd.DataFrame],
        context: Measurement,
    ) -> Mapping[str, Any]:
        found = leakage_by_attacker(
            samples_of(predictions, tables, context.attribute),
            context.protocol,
            groups=context.groups,
            seed=context.seed,
            memo=context.memo,
            threads=context.threads,
        )
        return {key: found[name].rounds.tolist() for key, name in _NAMES.items()}
