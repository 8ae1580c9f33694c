"""mAP and macro F1 on the whole test split (Wang et al. 2019, section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biasbench import Column, Measurement, Metric, Predictions, macro_f1, mean_average_precision

if TYPE_CHECKING:
    import pandas as pd

_EMPTY = "a class without a positive counts 0"


class Accuracy(Metric):
    """Mean average precision and macro F1 over all K classes.

    mAP ranks by probability; F1 takes the decoded labels (probability 0.5 for multi-label,
    argmax for multi-class, unless a method decodes otherwise). Both are computed on the
    full test split, neither gender-balanced nor averaged over batches.

    Details: `empty_classes`, the number of classes without a positive in the split;
    `map_by_group`, the mAP in percent of each group's rows alone, by the group's name, as the
    released code prints it for men and women (undefined for a group without rows), and
    `empty_classes_by_group`, how many classes have no positive there and so count 0.
    """

    name = "accuracy"
    columns = (
        Column("map", "mAP", "higher", help=f"mean average precision, test split; {_EMPTY}"),
        Column("f1", "F1", "higher", help=f"macro F1 of the decoded labels, test split; {_EMPTY}"),
    )
    source = "Wang et al. 2019, section 5; scikit-learn's average_precision_score and f1_score, average='macro'"

    def measure(
        self,
        predictions: Mapping[str, Predictions],
        tables: Mapping[str, pd.DataFrame],
        context: Measurement,
    ) -> Mapping[str, Any]:
        test = predictions["test"]
        k = len(context.label_names)
        return {
            "map": 100 * mean_average_precision(test.scores["label"], test.targets, context.task),
            "f1": 100 * macro_f1(test.labels, test.targets, context.task, k),
            "empty_classes": _empty(test.targets, k),
            **_by_group(test, context),
        }


def _empty(targets: NDArray[Any], k: int) -> int:
    """How many of K classes have no positive."""
    return k - int(targets.any(0).sum() if targets.ndim == 2 else len(np.unique(targets)))


def _by_group(test: Predictions, context: Measurement) -> dict[str, Any]:
    codes = test.attributes.get(context.attribute)
    if codes is None:
        return {}
    scores, targets, k = test.scores["label"], test.targets, len(context.label_names)
    rows = {name: codes == group for group, name in enumerate(context.groups)}
    return {
        "map_by_group": {n: 100 * mean_average_precision(scores[r], targets[r], context.task) for n, r in rows.items()},
        "empty_classes_by_group": {n: _empty(targets[r], k) for n, r in rows.items()},
    }
