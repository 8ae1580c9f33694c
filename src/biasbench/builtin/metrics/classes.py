"""Accuracy of class predictions by group, and how far the groups' predictions lie apart."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np

from biasbench import CellError, Column, Measurement, Metric, Predictions, group_accuracy, prediction_divergence

if TYPE_CHECKING:
    import pandas as pd


class Classes(Metric):
    """What Alvi et al. 2018 report of a classifier: accuracy overall and by group, and a divergence.

    Only computed when it is named. `within_one` counts a prediction one class away as right, as the paper does
    for ages; it means something for ordered classes only.

    Details: `exact_by_group`, `within_one_by_group`, `n_by_group`, `unknown` (examples of unknown group, which
    count in overall figures alone), `absent_classes`, `divergence_by_pair` ("woman || man": KL in nats).
    """

    name = "classes"
    columns = (
        Column("accuracy", "acc.", "higher", help="exact class"),
        Column("within_one", "acc. ±1", "higher", help="at most one class away", board=False),
        Column("class_mean", "class mean", "higher", help="mean over classes of their accuracy", board=False),
        Column("group_gap", "acc. gap", "lower", help="highest less lowest exact accuracy of a group, points"),
        Column(
            "divergence",
            "KL",
            "lower",
            unit="",
            help="mean KL divergence between two groups' distributions of predictions, nats, both directions",
        ),
    )
    source = "Alvi et al. 2018, sections 5.4 and 6.1"
    on_request = True

    def measure(
        self,
        predictions: Mapping[str, Predictions],
        tables: Mapping[str, pd.DataFrame],
        context: Measurement,
    ) -> Mapping[str, Any]:
        if context.task != "multiclass":
            raise CellError("accuracy of classes is defined where an image has one label", fix="Use metric accuracy")
        test, k = predictions["test"], len(context.label_names)
        codes, names = test.attributes[context.attribute], context.groups
        found = group_accuracy(test.targets, test.labels, codes, num_labels=k, groups=names)
        pairs = {
            f"{names[a]} || {names[b]}": prediction_divergence(test.labels, codes, a, b, num_labels=k)
            for a, b in permutations(range(len(names)), 2)
        }
        known = found.group_exact[~np.isnan(found.group_exact)]
        values = [value for value in pairs.values() if not np.isnan(value)]
        return {
            "accuracy": found.exact,
            "within_one": found.within,
            "class_mean": found.class_mean,
            "group_gap": float(np.ptp(known)) if len(known) > 1 else float("nan"),
            "divergence": float(np.mean(values)) if values else float("nan"),
            "exact_by_group": dict(zip(names, found.group_exact.tolist(), strict=True)),
            "within_one_by_group": dict(zip(names, found.group_within.tolist(), strict=True)),
            "n_by_group": dict(zip(names, found.n.tolist(), strict=True)),
            "unknown": found.unknown,
            "absent_classes": found.absent_classes,
            "divergence_by_pair": pairs,
        }
