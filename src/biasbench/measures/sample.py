"""What measures read of one split: truth, a protected attribute, and what a model says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench.data import SPLITS, Split
from biasbench.errors import CellError, DataError

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    """One split, as arrays; row i of each is the same example.

    Attributes:
        targets: True labels: [N, K] in {0, 1} (multi-label) or [N] classes 0..K-1 (single-label).
        attribute: [N] codes of the protected attribute, 0..G-1; -1 where it is unknown.
        scores: [N, K] logits of a model; None where only the data set is measured.
        labels: The model's decoded labels, shaped as `targets`; None without a model.
        views: Further [N, K] logits of the same rows under augmentation (training split): round r of
            an attacker trains on view r, as published.

    Raises:
        DataError: When lengths or widths disagree, labels are not in range or scores are not finite.

    Example:
        >>> len(Sample(np.array([[1, 0], [0, 1]]), np.array([0, -1])))
        2
    """

    targets: NDArray[Any]
    attribute: IntArray
    scores: NDArray[Any] | None = None
    labels: NDArray[Any] | None = None
    views: Sequence[NDArray[Any]] = field(default=())

    def __post_init__(self) -> None:
        n = len(self.targets)
        if self.targets.ndim not in (1, 2) or self.targets.dtype.kind not in "biu":
            raise DataError("targets must be integers of shape [N, K] or [N]")
        if self.targets.ndim == 2 and self.targets.size and not 0 <= self.targets.min() <= self.targets.max() <= 1:
            raise DataError("multi-label targets must be 0 or 1")
        if self.targets.ndim == 1 and n and self.targets.min() < 0:
            raise DataError("a class in the targets is negative")
        if self.attribute.shape != (n,) or self.attribute.dtype.kind not in "iu":
            raise DataError(f"the attribute must be {n} integer codes")
        if n and self.attribute.min() < -1:
            raise DataError("a code of the attribute is below -1")
        if self.labels is not None and self.labels.shape != self.targets.shape:
            raise DataError(f"labels of shape {self.labels.shape} do not fit targets of shape {self.targets.shape}")
        for scores in (self.scores, *self.views):
            if scores is None:
                continue
            if scores.ndim != 2 or len(scores) != n or self.targets.shape[1:] not in ((), scores.shape[1:]):
                raise DataError(f"scores of shape {scores.shape} do not fit targets of shape {self.targets.shape}")
            if not np.isfinite(scores).all():  # an attacker would find nothing and the model would look fair
                row = int((~np.isfinite(scores)).any(1).argmax())
                raise DataError("a score is not finite", where=f"row {row}")

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def single(self) -> bool:
        """Whether an example has exactly one label."""
        return self.targets.ndim == 1

    def training_scores(self, round_: int) -> NDArray[Any]:
        """[N, K] scores that the attacker of a round trains on: its view, else the plain ones."""
        if self.views:
            return self.views[round_ % len(self.views)]
        if self.scores is None:
            raise CellError("no scores to attack")
        return self.scores


Samples = Mapping[Split, Sample]


def check_samples(samples: Samples) -> tuple[int, int]:
    """K labels and G groups of train, val and test that belong together.

    Raises:
        DataError: When a split is missing, or splits differ in kind, width or in having scores.

    Example:
        >>> one = Sample(np.array([0, 2]), np.array([0, 1]))
        >>> check_samples({"train": one, "val": one, "test": one})
        (3, 2)
    """
    if lacking := [split for split in SPLITS if split not in samples]:
        raise DataError(f"no {', '.join(lacking)} split", fix="Leakage needs train, val and test")
    parts = [samples[split] for split in SPLITS]
    if len({part.single for part in parts}) > 1:
        raise DataError("some splits are single-label, others multi-label")
    if len({part.scores is None for part in parts}) > 1 or len({part.labels is None for part in parts}) > 1:
        raise DataError("some splits have scores or decoded labels, others have none")
    widths = {scores.shape[1] for part in parts for scores in (part.scores, *part.views) if scores is not None}
    if not parts[0].single:
        widths |= {part.targets.shape[1] for part in parts}
    if len(widths) > 1:
        raise DataError(f"splits differ in their number of labels: {sorted(widths)}")
    if parts[0].single:
        coded = [a for part in parts for a in (part.targets, part.labels) if a is not None]
        top = 1 + max(map(_largest, coded))
        labels = max(widths, default=top)
        if labels < top:
            raise DataError(f"class {top - 1} has no score: there are {labels} columns of scores")
    else:
        (labels,) = widths
    return labels, 1 + max(_largest(part.attribute) for part in parts)


def _largest(codes: NDArray[Any]) -> int:
    return int(codes.max()) if codes.size else -1
