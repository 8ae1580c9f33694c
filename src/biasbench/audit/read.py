"""Reading a file of outputs: every check it has to pass before anything is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench import io
from biasbench.audit import codes
from biasbench.audit.cells import Cells
from biasbench.audit.file import AuditFile, AuditSplit
from biasbench.audit.layout import Layout, recognise
from biasbench.audit.scores import Kind, check_scores, decode, doubts, log_scores
from biasbench.audit.source import Source, open_source
from biasbench.data import Task
from biasbench.errors import DataError, printable


def read_audit_file(path: str | Path) -> AuditFile:
    r"""Read and check a file with a row for each example: id, split, scores, targets, attributes.

    `.npz` holds arrays, `.parquet`, `.csv` and `.csv.gz` hold columns; docs/audit.md describes
    them. Nothing in the file is unpickled or run.

    Args:
        path: The file.

    Returns:
        Splits train, val and test with what was inferred. Probabilities are turned into
        log-odds (several labels) or log-probabilities (one), float64, after clipping.

    Raises:
        DataError: When anything is missing, out of range, of the wrong shape or not finite,
            naming file, column, row and id.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> rows = ["id,split,logit/dog,target/dog,attribute/gender", "a,train,1.5,1,man", "b,val,-2,0,woman"]
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder) / "outputs.csv"
        ...     _ = file.write_text("\n".join([*rows, "c,test,0.5,0,", ""]))
        ...     read = read_audit_file(file)
        >>> read.task, read.group_names["gender"], read.splits["test"].labels.tolist(), read.unknown("gender")["test"]
        ('multilabel', ('man', 'woman'), [[1]], 1)
    """
    source = open_source(Path(path))
    try:
        return _Reader(source, recognise(source)).file(Path(path))
    except MemoryError as error:
        raise DataError("does not fit into memory", where=source.where, fix="Audit fewer examples") from error


class _Reader:
    """Checks a source role by role; once ids are read, every check can name a row by its id."""

    def __init__(self, source: Source, layout: Layout) -> None:
        self.source, self.layout = source, layout
        self.ids: tuple[str, ...] = ()
        self.ids = self._ids()

    def file(self, path: Path) -> AuditFile:
        """Everything of the source, checked."""
        rows = codes.split_rows(self._cells("split"))
        kind: Kind = "logits" if "logit" in {*self.layout.whole, *self.layout.parts} else "probabilities"
        scores, names = self._scores(kind)
        targets, given = self._labels("target", names), self._labels("label", names)
        assert targets is not None
        if given is not None and given.shape != targets.shape:
            what = f"labels are of shape {list(given.shape)}, targets of {list(targets.shape)}"
            raise DataError(what, where=self.source.where, fix="Give both in one shape")
        task: Task = "multilabel" if targets.ndim == 2 else "multiclass"
        labels = decode(scores, kind, task) if given is None else given
        turned = log_scores(scores, task) if kind == "probabilities" else None
        logits, clipped = (scores, np.zeros(scores.shape, bool)) if turned is None else (turned.values, turned.clipped)
        attributes = {name: codes.groups(self._read(column)) for name, column in self._attributes().items()}
        splits = {
            split: AuditSplit(
                ids=tuple(self.ids[i] for i in at),
                targets=targets[at],
                scores=logits[at],
                labels=labels[at],
                attributes={name: found[at] for name, (found, _) in attributes.items()},
            )
            for split, at in rows.items()
        }
        return AuditFile(
            path=self.source.where,
            sha256=io.hash_file(path),
            format=self.source.format,
            task=task,
            splits=splits,
            label_names=names,
            group_names={name: groups for name, (_, groups) in attributes.items()},
            score_kind=kind,
            threshold=None if given is not None or task == "multiclass" else 0.0 if kind == "logits" else 0.5,
            decoded=given is None,
            ends=None if turned is None else turned.ends,
            clipped={split: int(clipped[at].sum()) for split, at in rows.items()},
            ignored=self.layout.ignored,
            notes=tuple(doubts(scores, kind, task)),
        )

    def _cells(self, role: str) -> Cells:
        return self._read(self.layout.whole[role])

    def _read(self, name: str, ndims: tuple[int, ...] = (1,)) -> Cells:
        """An array of as many rows as there are ids."""
        cells = Cells(self.source.read(name), name, self.source.where, self.ids)
        shape = list(cells.values.shape)
        if len(shape) not in ndims:
            expected = " or ".join({1: "[N]", 2: "[N, K]"}[n] for n in ndims)
            raise cells.error(None, f"has shape {shape}, where {expected} is expected", "N examples, K labels")
        if self.ids and shape[0] != len(self.ids):
            raise cells.error(None, f"has {shape[0]} rows, but there are {len(self.ids)} ids", "Give one of each a row")
        return cells

    def _ids(self) -> tuple[str, ...]:
        cells = self._cells("id")
        ids = tuple(cells.texts())
        if not ids:
            raise cells.error(None, "has no row", "Write a row for each example")
        seen: dict[str, int] = {}
        for row, text in enumerate(ids):
            if not text.strip():
                raise cells.error(row, "holds nothing", "Every example needs an id of its own")
            if (other := seen.setdefault(text, row)) != row:
                fix = "Every example stands once, in one split: what was trained on cannot be a test"
                raise cells.error(row, f"holds {printable(text, 80)!r}, as row {other} does", fix)
        return ids

    def _scores(self, kind: Kind) -> tuple[NDArray[Any], tuple[str, ...]]:
        """[N, K] scores and the names of the K labels."""
        role = "logit" if kind == "logits" else "score"
        if role in self.layout.parts:
            names = tuple(self.layout.parts[role])
            return np.stack([check_scores(c, kind) for c in self._columns(role, names)], axis=1), names
        cells = self._read(self.layout.whole[role], (2,))
        if not (count := cells.values.shape[1]):
            raise cells.error(None, "has no column", "Give scores of at least one label")
        return check_scores(cells, kind), self._label_names(count)

    def _label_names(self, count: int) -> tuple[str, ...]:
        if "label_names" not in self.layout.whole:
            return tuple(str(k) for k in range(count))
        name = self.layout.whole["label_names"]
        cells = Cells(self.source.read(name), name, self.source.where)
        names = tuple(text.strip() for text in cells.texts())
        if len(names) != count:
            raise cells.error(None, f"has {len(names)} names, but the scores have {count} columns", "Name each")
        if len(set(names)) < count or "" in names:
            raise cells.error(None, "has an empty name or one twice", "Every label needs a name of its own")
        return names

    def _columns(self, role: str, names: tuple[str, ...]) -> list[Cells]:
        """A role's columns in the order of `names`."""
        parts = self.layout.parts[role]
        fix = "Labels are matched by name: write a score and a target for each"
        if lacking := [name for name in names if name not in parts]:
            what = f"there is a score of {printable(lacking[0])!r}, but no {role}/{printable(lacking[0])}"
            raise DataError(what, where=self.source.where, fix=fix)
        if extra := [column for name, column in parts.items() if name not in names]:
            raise DataError(f"there is no score for {printable(extra[0])!r}", where=self.source.where, fix=fix)
        return [self._read(parts[name]) for name in names]

    def _labels(self, role: str, names: tuple[str, ...]) -> NDArray[Any] | None:
        """Targets or decoded labels: [N, K] uint8 or [N] classes; None where the file has none."""
        if role in self.layout.parts:
            return np.stack([c.bits() for c in self._columns(role, names)], axis=1)
        if role not in self.layout.whole:
            return None
        cells = self._read(self.layout.whole[role], (1, 2))
        if cells.values.ndim == 1:
            return codes.classes(cells, names)
        if (count := cells.values.shape[1]) != len(names):
            raise cells.error(None, f"has {count} labels, but the scores have {len(names)}", "Give one for each score")
        return cells.bits()

    def _attributes(self) -> dict[str, str]:
        """Columns of the attributes by name."""
        alone = {"attribute": self.layout.whole["attribute"]} if "attribute" in self.layout.whole else {}
        return {**alone, **self.layout.parts.get("attribute", {})}
