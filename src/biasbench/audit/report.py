"""An audit: everything that can be measured of a model's outputs, for one protected attribute."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biasbench.audit.figures import Line, accuracy_figures, group_figures
from biasbench.audit.file import AuditFile
from biasbench.audit.read import read_audit_file
from biasbench.data import Progress
from biasbench.measures.figure import Figure, LeakageReport
from biasbench.measures.leakage import NOISES, leakage
from biasbench.metric import Better, Memo

if TYPE_CHECKING:
    import pandas as pd

TITLES = {
    "lambda_D": "λ_D: from true labels",
    "lambda_D_F1": "λ_D(F1): from labels as wrong as the model's",
    "lambda_M": "λ_M: from the model's scores",
    "lambda_M_decoded": "λ_M of decoded labels",
    "delta": "Δ = λ_M less λ_D(F1)",
    "delta_decoded": "Δ of decoded labels",
    "null_all": "null of λ_M: attribute shuffled everywhere",
    "null_train": "null of λ_M: shuffled in training",
    "null_all_D": "null of λ_D: shuffled everywhere",
    "null_train_D": "null of λ_D: shuffled in training",
}


@dataclass(frozen=True)
class AuditReport:
    """What an audit found.

    Attributes:
        file: What was measured.
        attribute: The protected attribute.
        seed: Base of all random streams.
        leakage: Leakage with its controls.
        lines: Every figure in the order to show: accuracy, leakage, amplification, gaps, the worst group.
    """

    file: AuditFile
    attribute: str
    seed: int
    leakage: LeakageReport
    lines: tuple[Line, ...]

    @property
    def notes(self) -> list[str]:
        """What a reader must know, a sentence each."""
        return list(_notes(self))

    def to_json(self) -> dict[str, Any]:
        """JSON values. Leakage stands at the top level as `LeakageReport.to_json` has it, other figures by key."""
        file = self.file
        return {
            **{line.key: line.to_json() for line in self.lines},
            **self.leakage.to_json(),
            "seed": self.seed,
            "counts": self.counts(),
            "notes": self.notes,
            "file": {
                "path": file.path,
                "sha256": file.sha256,
                "format": file.format,
                "task": file.task,
                "labels": list(file.label_names),
                "score_kind": file.score_kind,
                "decoded": file.decoded,
                "threshold": file.threshold,
                "ends": None if file.ends is None else list(file.ends),
                "clipped": dict(file.clipped),
                "ignored": list(file.ignored),
            },
        }

    def counts(self) -> dict[str, dict[str, Any]]:
        """Examples of each split: all, those of unknown group with their share in percent, and by group."""
        unknown, groups = self.file.unknown(self.attribute), self.file.group_counts(self.attribute)
        return {
            split: {
                "examples": len(part),
                "unknown": unknown[split],
                "unknown_percent": 100 * unknown[split] / len(part),
                "groups": groups[split],
            }
            for split, part in self.file.splits.items()
        }

    def to_frame(self) -> pd.DataFrame:
        """A row for each figure: attribute, protocol, figure, mean, std, n, unit, better, note."""
        import pandas as pd

        rows = [
            {
                "attribute": self.attribute, "protocol": self.leakage.protocol, "figure": line.key, "mean": line.mean,
                "std": line.std, "n": line.n, "unit": line.unit, "better": line.better, "note": line.note,
            }
            for line in self.lines
        ]  # fmt: skip
        return pd.DataFrame(rows).astype({"std": "float64"})

    def __str__(self) -> str:
        wide = max(len(line.title) for line in self.lines)
        groups = ", ".join(self.leakage.groups)
        rows = [f"{line.title:<{wide}}  {line.shown:>16}  {line.note}".rstrip() for line in self.lines]
        return "\n".join([f"{self.attribute} ({groups}), protocol {self.leakage.protocol}", *rows, *self.notes])


def audit_file(
    file: AuditFile | str | Path,
    attribute: str | None = None,
    protocol: str = "wang2019",
    *,
    seed: int = 0,
    noises: Sequence[float] = NOISES,
    nulls: int | None = None,
    minimum: int | None = None,
    memo: Memo | None = None,
    threads: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> AuditReport:
    r"""Measure a model from a file of its outputs, for one protected attribute.

    Args:
        file: A file, or what `read_audit_file` read of one.
        attribute: A protected attribute, or an intersection `a*b`; None takes the file's only one.
        protocol: Leakage protocol: `wang2019`, `certified`, `quick`, …
        seed: Base of all random streams: the same call gives the same bits on the CPU.
        noises: Shares of wrong attributes to measure leakage under; () for none.
        nulls: Null draws, as in `leakage`.
        minimum: Groups with fewer rows in a split are left out of leakage, as in `leakage`.
        memo: Keeps what attackers found by content, so that the same audit again trains none of them.
        threads: Threads of the attackers; None lets torch decide.
        device: Where attackers are trained.
        progress: Called with steps done and due.

    Returns:
        Accuracy, leakage with its controls, bias amplification, gaps and the worst group, in percent or points.
        What cannot be measured is NaN and says why.

    Raises:
        DataError: When the file is not as docs/audit.md describes, or lacks the attribute.
        UsageError: When no attribute is named and there are several, or there is no such protocol.
        CellError: When the attackers' numbers overflow.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> rows = [f"{i},{'train val test test'.split()[i % 4]},{i % 8 - 3.5},{i % 3 % 2},{i % 2}" for i in range(80)]
        >>> with TemporaryDirectory() as folder:
        ...     outputs = Path(folder) / "outputs.csv"
        ...     _ = outputs.write_text("\n".join(["id,split,logit/dog,target/dog,attribute/gender", *rows]))
        ...     report = audit_file(outputs, "gender", "smoke")
        >>> report.attribute, report.counts()["test"]["groups"], report.leakage.figures["lambda_M"].n
        ('gender', {'0': 20, '1': 20}, 1)
    """
    read = file if isinstance(file, AuditFile) else read_audit_file(file)
    name = read.attribute(attribute)
    found = leakage(
        read.samples(name),
        protocol,
        seed=seed,
        attribute=name,
        groups=read.groups(name),
        noises=noises,
        nulls=nulls,
        minimum=minimum,
        memo=memo,
        threads=threads,
        device=device,
        progress=progress,
    )
    lines = (*accuracy_figures(read), *_leakage_lines(found), *group_figures(read, name))
    return AuditReport(read, name, seed, found, lines)


def _leakage_lines(report: LeakageReport) -> Iterator[Line]:
    """The figures of leakage, and λ_M without selection."""
    why = report.details.get("undefined") or ""
    for key, figure in report.figures.items():
        unit, note = ("points", "") if key.startswith("delta") else ("%", f"chance {report.chance:.0f}")
        if figure.interval is not None:
            low, high = figure.interval
            note = f"95 % interval {low:.2f} to {high:.2f}"
        better: Better = "lower" if key.startswith(("lambda_M", "delta")) else "none"
        title = TITLES.get(key) or f"λ_M with {key.removeprefix('noise_')} % wrong attributes"
        yield _line(key, title, figure, unit, better, why or note)
        if key == "lambda_M" and figure.last is not None:
            last = Figure(figure.last)
            yield _line("last_epoch", "λ_M at the attackers' last epoch", last, "%", "none", why or note)


def _line(key: str, title: str, figure: Figure, unit: str, better: Better, note: str) -> Line:
    n = 0 if math.isnan(figure.mean) else figure.n
    return Line(key, title, figure.mean, figure.std, n, unit, better, note)


def _notes(report: AuditReport) -> Iterator[str]:
    yield from report.leakage.flags
    yield from report.file.notes
    if report.file.ends is not None and (count := sum(report.file.clipped.values())):
        total = sum(part.scores.size for part in report.file.splits.values())
        low, high = report.file.ends
        taken = f"{low:.2g}" if report.file.task == "multiclass" else f"{low:.2g} or 1 - {high:.2g}"
        yield f"{count} of {total} probabilities are rounded to 0 or 1 and were taken for {taken}; logits tell more"
    for name, about in report.counts().items():
        if about["unknown"]:
            yield (
                f"{name}: the group of {about['unknown']} of {about['examples']} examples is unknown "
                f"({about['unknown_percent']:.1f} %)"
            )
    if report.file.ignored:
        yield f"passed over in the file: {', '.join(report.file.ignored)}"
