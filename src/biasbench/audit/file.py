"""A checked file of a model's outputs: what an audit measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench.audit.scores import Kind
from biasbench.data import Split, Task
from biasbench.errors import DataError, UsageError, did_you_mean, printable
from biasbench.measures.cells import intersect
from biasbench.measures.sample import Sample

MAX_GROUPS = 50
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class AuditSplit:
    """One split; row i of each array is the same example, in the order of the file.

    Attributes:
        ids: N ids.
        targets: True labels, [N, K] uint8 in {0, 1} (several labels) or [N] int64 classes (one).
        scores: [N, K] what an attacker reads: float32 or float64 logits; log-odds or
            log-probabilities, float64, where the file has probabilities.
        labels: The model's decoded labels, shaped as `targets`.
        attributes: Protected attributes by name, [N] int64 codes, -1 = unknown.
    """

    ids: tuple[str, ...]
    targets: NDArray[Any]
    scores: NDArray[Any]
    labels: NDArray[Any]
    attributes: Mapping[str, IntArray]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class AuditFile:
    """A file of outputs, read and checked by `read_audit_file`.

    Attributes:
        path: Where it was read.
        sha256: Of its bytes.
        format: `npz`, `parquet` or `csv`.
        task: `"multilabel"` or `"multiclass"`.
        splits: Train, val and test.
        label_names: K labels, in the order of the scores.
        group_names: Names of an attribute's groups in the order of their codes, by attribute.
        score_kind: What the file's scores are: `"logits"` or `"probabilities"`.
        threshold: A score from which on a label was decoded, 0 for logits, 0.5 for
            probabilities; None where the likeliest class was taken or the file has labels.
        decoded: Whether labels were decoded here; False: the file has them.
        ends: How near to 0 and to 1 a probability was taken to be at most; None for logits.
        clipped: Probabilities that were nearer, such as 0 and 1 themselves, by split.
        ignored: Columns or arrays that mean nothing to an audit.
        notes: What was taken for granted or looks odd, a sentence each.
    """

    path: str
    sha256: str
    format: str
    task: Task
    splits: Mapping[Split, AuditSplit]
    label_names: tuple[str, ...]
    group_names: Mapping[str, tuple[str, ...]]
    score_kind: Kind
    threshold: float | None
    decoded: bool
    ends: tuple[float, float] | None
    clipped: Mapping[Split, int]
    ignored: tuple[str, ...]
    notes: tuple[str, ...]

    def codes(self, name: str) -> dict[Split, IntArray]:
        """[N] codes of an attribute or an intersection `a*b` by split, -1 = unknown."""
        return self._coded(name)[0]

    def groups(self, name: str) -> tuple[str, ...]:
        """Names of the groups of an attribute or an intersection, in the order of their codes."""
        return self._coded(name)[1]

    def _coded(self, name: str) -> tuple[dict[Split, IntArray], tuple[str, ...]]:
        first, *others = [name] if name in self.group_names else name.split("*")
        codes = {split: part.attributes[first] for split, part in self.splits.items()}
        names = self.group_names[first]
        for other in others:
            pairs = {
                split: intersect(codes[split], part.attributes[other], names, self.group_names[other])
                for split, part in self.splits.items()
            }
            codes, names = {split: both for split, (both, _) in pairs.items()}, pairs["test"][1]
        return codes, names

    def unknown(self, attribute: str) -> dict[Split, int]:
        """Examples of each split whose group is unknown."""
        return {split: int((codes < 0).sum()) for split, codes in self.codes(attribute).items()}

    def group_counts(self, attribute: str) -> dict[Split, dict[str, int]]:
        """Examples of each group by split."""
        codes, names = self._coded(attribute)
        return {
            split: dict(zip(names, np.bincount(c[c >= 0], minlength=len(names)).tolist(), strict=True))
            for split, c in codes.items()
        }

    def attribute(self, name: str | None = None) -> str:
        """A protected attribute that can be measured: the one named, an intersection `a*b`, or the only one.

        Raises:
            DataError: When there is none of that name, or it has fewer than two groups or more than 50.
            UsageError: When there are several and none is named.
        """
        known = list(self.group_names)
        listed = ", ".join(printable(k) for k in known)
        if name is None and len(known) > 1:
            raise UsageError("the file has several attributes", where=self.path, fix=f"Name one of: {listed}")
        name = known[0] if name is None else name
        for part in [name] if name in known else name.split("*"):
            if part not in known:
                fix = f"{did_you_mean(part, known)} Attributes of the file: {listed}".strip()
                raise DataError(f"there is no attribute {printable(part)!r}", where=self.path, fix=fix)
        groups = self.groups(name)
        if len(groups) < 2:
            held = f"one group only, {printable(groups[0])!r}" if groups else "no example whose group is known"
            raise DataError(f"attribute {printable(name)!r} has {held}", where=self.path, fix="Bias needs two groups")
        if len(groups) > MAX_GROUPS:
            fix = f"At most {MAX_GROUPS} can be measured: merge groups, or name another attribute"
            raise DataError(f"attribute {printable(name)!r} has {len(groups)} groups", where=self.path, fix=fix)
        return name

    def samples(self, attribute: str) -> dict[Split, Sample]:
        """What the measures of `biasbench.measures` read, by split."""
        codes = self.codes(self.attribute(attribute))
        return {s: Sample(part.targets, codes[s], part.scores, part.labels) for s, part in self.splits.items()}
