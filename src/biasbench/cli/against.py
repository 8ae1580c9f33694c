"""Measured figures beside published ones, as text: rich table, Markdown, LaTeX, HTML, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from biasbench.cli.boards import UNDEFINED, escape, harmless
from biasbench.errors import printable

if TYPE_CHECKING:
    from biasbench.cli.pages import Sheet
    from biasbench.metric import Column
    from biasbench.published import Compared, Comparison

HEAD = ("method", "dataset", "figure", "measured", "published", "difference", "standard error", "in errors", "source")


@dataclass(frozen=True)
class Beside:
    """A comparison with what is needed to show it."""

    comparison: Comparison
    columns: Sequence[Column]

    def column(self, key: str) -> Column:
        """The declared column of a key."""
        return next(c for c in self.columns if c.key == key)


def table(beside: Beside) -> list[list[str]]:
    """The cells under `HEAD`: two decimals, as the paper prints them."""
    return [_cells(line, beside.column(line.column)) for line in beside.comparison.lines]


def _cells(line: Compared, column: Column) -> list[str]:
    figure, printed = line.measured, line.published
    measured = _pair(figure.mean, figure.std) + (" (r)" if figure.spread == "rounds" else "")
    signed = [UNDEFINED if v is None else f"{v:+.2f}" for v in (line.difference, line.in_errors)]
    error = UNDEFINED if line.error is None else f"{line.error:.2f}"
    sources = _joined(line.sources)
    return [
        line.row.method, line.row.dataset, f"{column.title} {column.unit}".strip(), measured,
        _pair(printed.mean, printed.std), signed[0], error, signed[1], sources,
    ]  # fmt: skip


def _pair(mean: float | None, std: float | None) -> str:
    if mean is None:
        return UNDEFINED
    return f"{mean:.2f}" if std is None else f"{mean:.2f} ± {std:.2f}"


def _joined(sources: Sequence[str]) -> str:
    """Sources that share their first words, said once: `Wang et al. 2019, Table 1, Table 4`."""
    first, _, _ = sources[0].partition(", ")
    rest = [s.removeprefix(f"{first}, ") for s in sources[1:]]
    return ", ".join([sources[0], *rest])


def legend(beside: Beside) -> Iterator[str]:
    """How the difference is counted, what was made differently, and what is left out."""
    found = beside.comparison
    if not found.lines:
        yield "No row has a published figure."
    else:
        yield "difference: measured - published."
        yield (
            "standard error: √(e² + p²), e that of the measured mean over seeds (s/√n), or over the attackers of the "
            "only seed (r, s/√(n - 1)); p the published ± over √(attackers - 1), 0 where none is printed."
        )
        yield (
            "The paper trained each model once: how another training would differ is not in the error, "
            "which is therefore too small, most of all where no ± is printed or one seed was run."
        )
    yield from (f"{note}." for note in found.notes)
    for name, said in found.remarks.items():
        for sentence in said:
            yield f"{printable(name)}: {sentence}."
    if found.unmatched:
        names = ", ".join(dict.fromkeys(f"{printable(r.method)} on {printable(r.dataset)}" for r in found.unmatched))
        yield f"Without a published figure: {names}."
    if found.without_column:
        yield f"Published, but measured by no metric: {', '.join(map(printable, found.without_column))}."


def rich_text(beside: Beside) -> str:
    """A table for the terminal, with its legend."""
    from biasbench.cli.output import grid, render

    return render(grid(HEAD, table(beside))) + "\n\n" + "".join(f"{line}\n" for line in legend(beside))


def markdown(beside: Beside) -> str:
    """A Markdown table, names escaped."""
    rows = [list(HEAD), ["---"] * len(HEAD), *([escape(c) for c in cells] for cells in table(beside))]
    text = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return text + "\n" + "".join(f"{escape(line)}  \n" for line in legend(beside))


def sheets(beside: Beside) -> list[Sheet]:
    """The comparison for LaTeX and HTML."""
    from biasbench.cli.pages import Sheet

    return [Sheet(HEAD, table(beside), below=list(legend(beside)))]


FIELDS = (
    "method", "dataset", "backbone", "profile", "protocol", "weights", "column", "measured_mean", "measured_std",
    "measured_n", "spread", "published_mean", "published_std", "published_rounds", "difference", "standard_error",
    "in_errors", "sources", "remarks",
)  # fmt: skip


def lines(beside: Beside) -> list[dict[str, Any]]:
    """One flat record a figure, full precision, by `FIELDS`; None where undefined."""
    found = []
    for line in beside.comparison.lines:
        row, own, printed = line.row, line.measured, line.published
        said = beside.comparison.remarks[f"{row.method} on {row.dataset}"]
        values = (
            *(getattr(row, name) for name in FIELDS[:6]), line.column, own.mean, own.std, own.n, own.spread,
            printed.mean, printed.std, line.rounds, line.difference, line.error, line.in_errors,
            list(line.sources), list(said),
        )  # fmt: skip
        found.append(dict(zip(FIELDS, values, strict=True)))
    return found


def csv_text(beside: Beside) -> str:
    """Full precision, one line a figure."""
    out = io.StringIO()
    writer = csv.DictWriter(out, FIELDS, lineterminator="\n")
    writer.writeheader()
    for line in lines(beside):
        writer.writerow({k: _plain(v) for k, v in line.items()})
    return out.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        value = "; ".join(value)
    return harmless(value) if isinstance(value, str) else "" if value is None else value


def document(beside: Beside) -> Mapping[str, Any]:
    """For JSON."""
    found = beside.comparison
    return {
        "columns": [asdict(c) for c in beside.columns if any(line.column == c.key for line in found.lines)],
        "lines": lines(beside),
        "notes": list(found.notes),
        "unmatched": [f"{r.method} on {r.dataset}" for r in found.unmatched],
        "without_column": list(found.without_column),
    }
