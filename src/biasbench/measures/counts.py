"""How often each label occurs in each group: checked arrays and exact counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasbench.errors import DataError
from biasbench.scoring import one_hot

IntArray = NDArray[np.int64]
Reference = tuple[ArrayLike, ArrayLike]
"""Targets and attribute of the data that a model was trained on."""


@dataclass(frozen=True)
class Rows:
    """Examples of one split whose protected attribute is known.

    Attributes:
        codes: [n] group of each example.
        labels: Label arrays by name, each [n, K] in {0, 1}; single-label ones as one-hot.
        extra: Further codes by name, each [n], such as predicted groups.
        unknown: How many examples were left out because their attribute is -1.
    """

    codes: IntArray
    labels: Mapping[str, NDArray[np.uint8]]
    extra: Mapping[str, IntArray]
    unknown: int


@dataclass(frozen=True)
class Scope:
    """The K labels and G groups that a measure runs over, by name.

    Counts are indexed by code: a group or label that does not occur keeps its place and counts 0.
    """

    label_names: tuple[str, ...]
    groups: tuple[str, ...]

    @classmethod
    def of(
        cls,
        labels: Iterable[ArrayLike],
        codes: Iterable[ArrayLike],
        label_names: Sequence[str] | None,
        groups: Sequence[str] | None,
    ) -> Scope:
        """As named, else as many as the arrays need, named by their numbers.

        Args:
            labels: All label arrays of a measurement, [N, K] or [N] classes.
            codes: All attribute arrays, [N].
            label_names: K names; None counts them.
            groups: G names; None counts them.

        Raises:
            DataError: When some label arrays are classes and others are not.
        """
        arrays = [np.asarray(a) for a in labels]
        if {1, 2} <= {a.ndim for a in arrays}:
            raise DataError("some labels are classes [N], others are of shape [N, K]")
        needed = max((_width(a) for a in arrays), default=0)
        found = max((_past(np.asarray(a)) for a in codes), default=0)
        return cls(_names(label_names, needed), _names(groups, found))

    def rows(
        self,
        attribute: ArrayLike,
        labels: Mapping[str, ArrayLike],
        extra: Mapping[str, ArrayLike] | None = None,
        split: str = "",
    ) -> Rows:
        """The examples whose attribute is known, checked.

        Args:
            attribute: [N] codes, -1 where unknown.
            labels: By name, [N, K] in {0, 1} or [N] classes.
            extra: Further codes by name, [N], of known groups only.
            split: What the arrays are called in messages, such as "reference".

        Raises:
            DataError: When an array has another shape, type or range.
        """
        name = f"{split} attribute".strip()
        codes = _codes(attribute, name, -1, len(self.groups))
        known = codes >= 0
        hot = {what: self._hot(array, f"{split} {what}".strip(), len(codes))[known] for what, array in labels.items()}
        more = {what: _codes(array, what, 0, len(self.groups)) for what, array in (extra or {}).items()}
        for what, array in more.items():
            if len(array) != len(codes):
                raise DataError(f"{len(array)} values for {len(codes)} examples", where=what)
        return Rows(codes[known], hot, {k: v[known] for k, v in more.items()}, int((~known).sum()))

    def count(self, labels: NDArray[np.uint8], codes: IntArray) -> IntArray:
        """[G, K] examples that have label k, in group g."""
        counts = [labels[codes == g].sum(0, dtype=np.int64) for g in range(len(self.groups))]
        return np.array(counts, np.int64).reshape(len(self.groups), len(self.label_names))

    def sizes(self, codes: IntArray) -> IntArray:
        """[G] examples in group g."""
        return np.bincount(codes, minlength=len(self.groups)).astype(np.int64)

    def named(self, chosen: NDArray[np.bool_]) -> tuple[str, ...]:
        """Names of the groups where `chosen` [G] holds."""
        return tuple(name for name, yes in zip(self.groups, chosen, strict=True) if yes)

    def _hot(self, array: ArrayLike, what: str, n: int) -> NDArray[np.uint8]:
        labels = np.asarray(array)
        k = len(self.label_names)
        if labels.ndim not in (1, 2) or (labels.size and labels.dtype.kind not in "biu"):
            raise DataError(f"must be integers of shape [N, K] or [N], not {labels.dtype} {labels.shape}", where=what)
        if len(labels) != n:
            raise DataError(f"{len(labels)} rows, the attribute has {n}", where=what)
        if labels.ndim == 2 and labels.shape[1] != k:
            raise DataError(f"{labels.shape[1]} labels, expected {k}", where=what)
        top = 1 if labels.ndim == 2 else k - 1
        if labels.size and not 0 <= labels.min() <= labels.max() <= top:
            raise DataError(f"a value is outside 0..{top}", where=what)
        return one_hot(labels.astype(np.uint8 if labels.ndim == 2 else np.int64), k)


def _width(labels: NDArray[Any]) -> int:
    return labels.shape[1] if labels.ndim == 2 else _past(labels)


def _past(codes: NDArray[Any]) -> int:
    """One more than the largest code; what is no code at all is refused where it is read."""
    return 1 + max(-1, int(codes.max())) if codes.size and codes.dtype.kind in "biu" else 0


def _names(given: Sequence[str] | None, n: int) -> tuple[str, ...]:
    return tuple(map(str, range(n))) if given is None else tuple(given)


def _codes(array: ArrayLike, what: str, lowest: int, groups: int) -> IntArray:
    codes = np.asarray(array)
    if codes.ndim != 1 or (codes.size and codes.dtype.kind not in "biu"):
        raise DataError(f"must be integer codes of shape [N], not {codes.dtype} {codes.shape}", where=what)
    if codes.size and codes.min() < lowest:
        raise DataError(f"a code is below {lowest}", where=what)
    if codes.size and codes.max() >= groups:
        raise DataError(f"code {codes.max()} has no name: there are {groups} groups", where=what)
    return codes.astype(np.int64)


def read_splits(
    targets: ArrayLike,
    labels: ArrayLike,
    attribute: ArrayLike,
    reference: Reference | None,
    attribute_predictions: ArrayLike | None,
    label_names: Sequence[str] | None,
    groups: Sequence[str] | None,
) -> tuple[Scope, Rows, Rows]:
    """What the measures of bias amplification read: names, the measured split and the reference.

    The measured rows have "targets" and "labels" and, where given, the extra codes "attribute_predictions"; the
    reference rows have "targets", the measured ones when no reference is given.
    """
    ref_targets, ref_attribute = (targets, attribute) if reference is None else reference
    extra = {} if attribute_predictions is None else {"attribute_predictions": attribute_predictions}
    scope = Scope.of((targets, labels, ref_targets), (attribute, ref_attribute, *extra.values()), label_names, groups)
    test = scope.rows(attribute, {"targets": targets, "labels": labels}, extra)
    return scope, test, scope.rows(ref_attribute, {"targets": ref_targets}, split="reference")
