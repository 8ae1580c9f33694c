"""mAP and macro F1 on the whole test split (Wang et al. 2019, section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from biasbench import Column, Measurement, Metric, Predictions, macro_f1, mean_average_precision

_EMPTY = "a class without a positive counts 0"


class Accuracy(Metric):
    """Mean average precision and macro F1 over all K classes.

    mAP ranks by probability; F1 takes the decoded labels (probability 0.5 for multi-label,
    argmax for multi-class, unless a method decodes otherwise). Both are computed on the
    full test split, neither gender-balanced nor averaged over batches.

    Details: `empty_classes`, the number of classes without a positive in the split.
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
        present = test.targets.any(0).sum() if context.task == "multilabel" else len(set(test.targets.tolist()))
        return {
            "map": 100 * mean_average_precision(test.scores["label"], test.targets, context.task),
            "f1": 100 * macro_f1(test.labels, test.targets, context.task, k),
            "empty_classes": k - int(present),
        }
