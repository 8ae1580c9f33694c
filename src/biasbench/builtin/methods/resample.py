"""Methods that choose or balance the training rows; they read labels, never pixels."""

from __future__ import annotations

import numpy as np
import pandas as pd

from biasbench import CellError, Method, UsageError, attribute, targets
from biasbench.builtin.methods._options import named
from biasbench.builtin.methods._ratios import cap_classes, thin


class Alpha(Method):
    """Training rows chosen so that no label goes with one group more than `ratio` times as often as with another.

    With one label per row the rule is exact and every label stays (`cap_classes`). With
    several it is the paper's heuristic (`thin`): rows with few labels go first; a label
    that cannot be balanced loses all its rows; at ratios below 1.08 a label may reach
    1.08, as in the published subsets, while the groups as a whole obey `ratio` itself.
    Rows whose attribute is unknown are left out. Validation and test stay as they are.

    Args:
        ratio: Largest ratio of group counts, at least 1.
        attribute: The protected attribute; `a*b` for an intersection.

    Example:
        >>> table = pd.DataFrame({"label": [0, 0, 0, 1, 1], "attribute/gender": [0, 0, 1, 1, 0]})
        >>> Alpha(1.0, "gender").resample(table, np.random.default_rng(0)).label.tolist()
        [0, 0, 1, 1]
    """

    name = "alpha"
    source = "Wang et al., ICCV 2019, section 3"

    def __init__(self, ratio: float = 1.0, attribute: str | None = None) -> None:
        super().__init__()
        if not 1 <= ratio < float("inf"):
            raise UsageError(f"alpha: ratio must be at least 1, not {ratio}")
        self.ratio, self.attribute = float(ratio), attribute

    def resample(self, table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        """The chosen rows, in the table's order, index kept.

        Raises:
            CellError: When fewer than two groups occur, or no row can stay.
        """
        name = named(self.attribute, "alpha")
        codes = attribute(table, name)  # [N]
        known = np.flatnonzero(codes >= 0)
        present, groups = np.unique(codes[known], return_inverse=True)
        if len(present) < 2:
            raise CellError(
                f"alpha needs rows of at least two groups of {name!r}, the training rows have {len(present)}",
                fix="Choose another attribute or data set",
            )
        y = targets(table)[known]
        rule = thin if y.ndim == 2 else cap_classes
        chosen = known[rule(y, groups.astype(np.int64), self.ratio, rng)]
        if not len(chosen):
            raise CellError(
                f"no training row is left at a ratio of {self.ratio:g} between the groups of {name!r}",
                fix="Choose a larger ratio or more data",
            )
        return table.iloc[chosen]


class Balance(Method):
    """Task batches with equal shares of every group (the released code's `--batch_balanced`).

    Args:
        attribute: The protected attribute; `a*b` for an intersection.

    Example:
        >>> Balance("gender").balance_by()
        'gender'
    """

    name = "balance"
    source = "Wang et al., ICCV 2019, section 5.3"

    def __init__(self, attribute: str | None = None) -> None:
        super().__init__()
        self.attribute = attribute

    def balance_by(self) -> str:
        return named(self.attribute, "balance")
