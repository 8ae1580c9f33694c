"""Reducing bias amplification: predictions whose labels keep the training data's share of each group."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from biasbench import Head, Method, Outputs, UsageError, attribute, one_hot, targets
from biasbench.builtin.methods.crf import CrfHead
from biasbench.builtin.methods.rba_lagrange import Constraints, Relaxed, relax


class Rba(Method):
    """Corpus-level constraints on a CRF's predictions (RBA), by Lagrangian relaxation.

    Among the pictures predicted to carry a label, the share of each *predicted* group must stay
    within `margin` of that group's share among the training pictures with the label. The multipliers
    found for a split are taken off its potentials, and labels and all scores are those of the field
    that results; a split that obeys to begin with is left alone.

    Transductive: what is said of one picture depends on the split it comes in, though on no label or
    attribute of it. Each split, and each view of the training split, has its own multipliers.

    Differences from the released code, which lowers only the potentials that are part of the present
    prediction, takes steps in numbers of pictures and stops after 100 iterations with constraints
    left (28 of 132 at the last count printed for COCO): here the whole potential is lowered, which is
    what the published Lagrangian says, and steps do not depend on the number of pictures. The released
    lists of labels to constrain are not used; `support` is.

    Args:
        margin: Largest distance from the training share; 0.05 as published.
        support: Labels with at most this many training pictures of known group are left free; 100 is
            the released value for COCO (50 for imSitu).
        step: Size of the first step of a multiplier, in units of the potentials.
        iterations: Decodings at most.

    Attributes:
        found: What the relaxation found on the split that was changed last.

    Example:
        >>> Rba(margin=0.1).stage
        'predict'
    """

    name = "rba"
    source = "Zhao et al., EMNLP 2017, section 5; Wang et al., ICCV 2019, Table 3"
    stage = "predict"
    requires = frozenset({"pairwise"})
    transductive = True

    def __init__(self, margin: float = 0.05, support: int = 100, step: float = 0.5, iterations: int = 200) -> None:
        super().__init__()
        if not (math.isfinite(margin) and margin >= 0):
            raise UsageError(f"rba: margin must be at least 0, not {margin}")
        if not (math.isfinite(step) and step > 0):
            raise UsageError(f"rba: step must be above 0, not {step}")
        for option, value, least in (("support", support, 0), ("iterations", iterations, 1)):
            if value < least:
                raise UsageError(f"rba: {option} must be at least {least}, not {value}")
        self.margin, self.support, self.step, self.iterations = margin, support, step, iterations
        self.found: Relaxed | None = None

    def postprocess(self, outputs: Outputs, reference: pd.DataFrame, head: Head) -> Outputs:
        """The outputs of the constrained field.

        Raises:
            UsageError: When the head is no CRF.
        """
        if not isinstance(head, CrfHead):
            raise UsageError("rba: the head does not predict the attribute", fix="Write crf+rba")
        shares = training_shares(reference, head.attribute, head.groups, head.class_weights.shape[0], self.support)
        constrained = 1 if head.groups == 2 else head.groups
        scores = {name: torch.from_numpy(np.array(outputs.scores[name], np.float64)) for name in head.potential_scores}
        field = head.field(scores)
        constraints = Constraints(torch.from_numpy(shares[:, :constrained].copy()), self.margin)
        self.found = relax(field, constraints, self.step, self.iterations)
        if not self.found.penalty.any():
            return outputs
        lowered = field.lowered(self.found.penalty)
        labels = lowered.decode()[0].numpy().astype(outputs.labels.dtype)
        told = {name: _float32(score) for name, score in head.scores(lowered).items()}
        return replace(outputs, scores={**outputs.scores, **told}, labels=labels)

    def report(self) -> Mapping[str, float]:
        """How the relaxation of the last split ended.

        `constraints` (two for each share), `violated_before` and `violated_after` (how many of them),
        `beyond_before` and `beyond_after` (how far outside its margin the worst share lies, 0 to 1; NaN
        where no constrained label is predicted), `iterations`.
        """
        if self.found is None:
            return {}
        return {
            "constraints": self.found.constraints,
            "violated_before": self.found.before,
            "violated_after": self.found.after,
            "beyond_before": self.found.beyond_before,
            "beyond_after": self.found.beyond_after,
            "iterations": self.found.iterations,
        }


def _float32(x: Tensor) -> NDArray[np.float32]:
    out: NDArray[np.float32] = x.numpy().astype(np.float32)
    return out


def training_shares(table: pd.DataFrame, name: str, groups: int, num_labels: int, support: int) -> NDArray[np.float64]:
    """[K, G] share of each group among a table's pictures with a label.

    Args:
        table: Pictures of unknown group do not count.
        name: The protected attribute.
        groups: G.
        num_labels: K.
        support: Labels with at most this many pictures of known group are NaN.

    Example:
        >>> table = pd.DataFrame({"id": ["a", "b", "c"], "label": [0, 0, 1], "attribute/gender": [0, 1, -1]})
        >>> training_shares(table, "gender", 2, 2, 0)
        array([[0.5, 0.5],
               [nan, nan]])
    """
    codes = attribute(table, name)
    hot = one_hot(targets(table), num_labels).astype(np.float64)  # [N, K]
    counts = hot.T @ (codes[:, None] == np.arange(groups))  # [K, G]
    total = counts.sum(1, keepdims=True)
    return np.where(total > support, counts / np.maximum(total, 1), np.nan)
