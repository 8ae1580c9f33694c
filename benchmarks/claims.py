"""What Wang et al. 2019 claim of their methods, checked on `scenes`: `python benchmarks/claims.py RESULTS`.

RESULTS is a folder that `biasbench run scenes-figure5 --results RESULTS` has filled. Differences are taken within a
seed; intervals are Student's t over seeds, 95 %. A claim holds or fails where its interval says so, and is else
undecided. With --tuned, the strength of every method is chosen on the validation split as well; --figures writes the
figures of every run to a file.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy import stats

from biasbench import BiasBenchError, Sample, leakage
from biasbench.cli.pictures import by_seed, is_noise, score_of
from biasbench.grammar import parse
from biasbench.measure import Memo
from biasbench.measures.intervals import rounds_interval
from biasbench.plots.families import levels
from biasbench.plots.margin import Margin, Scores, gain, margin
from biasbench.store import Store
from biasbench.truth import read_predictions

CONTROL = "adv-conv5(weight=0.0)"
PUSHED = ("adv-conv5", "adv-conv4", "adv-image")
ORDER = ("original", "blackout-face", "blur-segm(radius=10.0)", "blackout-segm", "blackout-box")
"""Leakage falls in this order in Table 4."""
NULL_POINTS = 3.0
F1_POINTS = 2.0
"""What a strength may cost on validation to be chosen."""


@dataclass(frozen=True)
class Finding:
    """A figure and what it says of a claim.

    Attributes:
        claim: What is claimed.
        figure: Estimate with its spread.
        verdict: `holds`, `fails`, `undecided`, or empty for a figure that claims nothing.
    """

    claim: str
    figure: str
    verdict: str = ""


class Results:
    """The runs of one picture: one data set, recipe, attribute and protocol.

    Args:
        store: Where they are.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.records = by_seed([r for r in store.records() if r["status"] == "ok"])

    def column(self, method: str, column: str) -> dict[int, float]:
        """A figure by seed, where it is defined."""
        found = {s: (r["values"].get(column) or {}).get("mean") for s, r in self.records.get(method, {}).items()}
        return {seed: float(value) for seed, value in found.items() if value is not None}

    def details(self, method: str, figure: str) -> dict[int, float]:
        """A figure of leakage that is no column, by seed."""
        found = {}
        for seed, record in self.records.get(method, {}).items():
            for measured in self.store.metrics(record["key"]):
                figures = measured["details"].get("figures", {})
                if figure in figures and measured["protocol"] == record["protocol"]:
                    found[seed] = float(figures[figure]["mean"])
        return found

    def scores(self, method: str) -> Scores:
        """F1 and rounds of Δ by seed."""
        every = {s: score_of(self.store, r) for s, r in self.records.get(method, {}).items()}
        return {seed: score for seed, score in every.items() if score is not None}

    def noisy(self, plain: str) -> list[str]:
        """A plain method and its levels of noise, the weakest first."""

        def sigma(method: str) -> float:
            last = parse(method)[-1]
            return float((*last.args, *last.kwargs.values(), 0)[0])

        return [plain, *sorted((m for m in self.records if m != plain and is_noise(m, plain)), key=sigma)]

    def pairs(self, one: dict[int, float], other: dict[int, float]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Differences within a seed."""
        return np.array([one[s] - other[s] for s in sorted(one.keys() & other.keys())])


def judged(claim: str, values: Sequence[float] | np.ndarray[Any, Any], *, below: float | None = None) -> Finding:
    """A mean over seeds with its interval; `below`: the claim is that it lies under this."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return Finding(claim, f"{values.mean():+.2f} (one seed)" if len(values) else "not run")
    ends = rounds_interval(values)
    verdict = ""
    if below is not None:
        verdict = "holds" if ends.high < below else "fails" if ends.low > below else "undecided"
    return Finding(claim, f"{values.mean():+.2f} ({ends.low:+.2f} to {ends.high:+.2f}, {len(values)} seeds)", verdict)


def order(results: Results) -> Iterator[Finding]:
    """Model leakage falls as more of the person is hidden."""
    for less, more in pairwise(ORDER):
        values = results.pairs(results.column(more, "lambda_m"), results.column(less, "lambda_m"))
        yield judged(f"λ_M of {more} lies below that of {less}", values, below=0)


def noise(results: Results) -> Iterator[Finding]:
    """Leakage falls with the level of noise."""
    for plain in ("original", CONTROL):
        rows = results.noisy(plain)
        for column, name in (("lambda_m", "λ_M"), ("delta", "Δ")):
            figures = [results.column(row, column) for row in rows]
            means = [np.mean(list(found.values())) if found else np.nan for found in figures]
            if len(rows) < 3 or not np.isfinite(means).all():
                continue
            rank = float(stats.spearmanr(np.arange(len(rows)), means).statistic)
            steps = [results.pairs(after, before) for before, after in pairwise(figures)]
            if min(len(step) for step in steps) < 2:
                yield Finding(f"{name} of {plain} falls with its noise", f"Spearman {rank:+.2f} (one seed)")
                continue
            rises = sum(bool(step.mean() > 2 * stats.sem(step)) for step in steps)
            said = f"Spearman {rank:+.2f} over {len(rows) - 1} levels, {rises} rises above two standard errors"
            verdict = ("holds" if rank <= -0.9 and not rises else "fails") if name == "λ_M" else ""
            yield Finding(f"{name} of {plain} falls with its noise", said, verdict)


def pushed(results: Results) -> Iterator[Finding]:
    """Adversarial removal costs less F1 than noise of equal Δ."""
    for plain in ("original", CONTROL):
        curve = [results.scores(row) for row in results.noisy(plain)]
        for method in results.records:
            if method != CONTROL and "noise" not in method and method.startswith(PUSHED):
                scores = results.scores(method)
                for name, found in (("F1", gain(scores, curve)), ("Δ", margin(scores, curve))):
                    claim = f"{name} of {method} against noise of {plain}"
                    yield Finding(claim, shown(found), VERDICTS[found.verdict])
                yield bounded(f"F1 of {method} against noise of {plain}, at least", scores, curve)


def bounded(claim: str, method: Scores, curve: Sequence[Scores]) -> Finding:
    """As `gain`, over all seeds: noise that never gets down to the method's Δ has at most its lowest F1 there."""
    values, beyond = [], 0
    for seed, score in sorted(method.items()):
        points = [c[seed] for c in curve if seed in c]
        if len(points) > 1:
            difference = gain({seed: score}, [{seed: point} for point in points]).difference
            unreached = not np.isfinite(difference)
            values.append(score.f1 - min(p.f1 for p in points) if unreached else difference)
            beyond += unreached
    found = judged("", -np.array(values), below=0)
    figure = judged("", values).figure + (f", {beyond} of them below all noise" if beyond else "")
    return Finding(claim, figure, found.verdict)


VERDICTS = {"better": "holds", "worse": "fails", "not told apart": "undecided", "unknown": ""}


def shown(found: Margin) -> str:
    """A difference with its interval, or why there is none."""
    if not np.isfinite(found.low):
        return f"undefined: {found.reason}"
    return f"{found.difference:+.2f} ({found.low:+.2f} to {found.high:+.2f}, {found.n} {found.over})"


def balanced(results: Results) -> Iterator[Finding]:
    """Equal label frequencies take the data set's leakage away and leave amplification."""
    own, null = results.column("alpha-1", "lambda_d"), results.details("alpha-1", "null_train_D")
    yield judged("λ_D of alpha-1 lies within 3 points of its null", results.pairs(own, null), below=NULL_POINTS)
    delta = np.array(list(results.column("alpha-1", "delta").values()))
    found = judged("Δ of alpha-1 stays above 0", -delta, below=0)
    yield Finding(found.claim, judged("", delta).figure, found.verdict)


RBA = {"mals": "bias amplification of Zhao et al. 2017", "lambda_m": "λ_M", "delta": "Δ"}


def corpus(results: Results) -> Iterator[Finding]:
    """RBA lowers its own measure and not leakage."""
    for method, runs in results.records.items():
        if method.startswith("crf+rba"):
            notes = [results.store.notes(r["key"])["test"] for r in runs.values()]
            fewer = [n["1.rba/violated_after"] - n["1.rba/violated_before"] for n in notes]  # type: ignore[operator]
            yield judged(f"constraints violated by {method}, after minus before", fewer, below=0)
            for column, name in RBA.items():
                values = results.pairs(results.column(method, column), results.column("crf", column))
                yield judged(f"{name} of {method} minus that of crf", values)


def tuned(results: Results, memo: Memo) -> Iterator[Finding]:
    """Every method at the strength that validation chooses: least Δ among those that cost at most two points of F1."""
    names = [m for m in results.records if "noise" not in m]
    kept: dict[str, list[str]] = {}
    for name, level in zip(names, levels(names), strict=True):
        kept.setdefault(level.family, []).append(name)
    seen = {name: validated(results, name, memo) for rows in kept.values() for name in ["original", *rows]}
    plain = float(np.mean([f1 for f1, _ in seen["original"].values()]))
    for family, rows in kept.items():
        if len(rows) < 2:
            continue
        cheap = [r for r in rows if np.mean([f1 for f1, _ in seen[r].values()]) >= plain - F1_POINTS]
        if not cheap:
            yield Finding(
                f"{family}, tuned", f"every strength costs more than {F1_POINTS:g} points of F1 on validation"
            )
            continue
        best = min(cheap, key=lambda r: float(np.mean([delta for _, delta in seen[r].values()])))
        for column, name in (("delta", "Δ"), ("f1", "F1")):
            values = results.pairs(results.column(best, column), results.column("original", column))
            yield judged(f"{name} on test of {best}, of {len(rows)} strengths, minus original's", values)


def validated(results: Results, method: str, memo: Memo) -> dict[int, tuple[float, float]]:
    """F1 and Δ on the validation split by seed: one half selects the attackers, the other is read, and the reverse."""
    found = {}
    for seed, record in results.records[method].items():
        key = f"claims validation/1 {record['key']} {record['protocol']}"
        found[seed] = tuple(memo(key, lambda record=record, seed=seed: list(halves(results.store, record, seed))))
    return found  # type: ignore[return-value]


def halves(store: Store, record: dict[str, Any], seed: int) -> tuple[float, float]:
    """F1 and Δ of one run on validation."""
    predictions, _ = read_predictions(store.run(record["key"]))
    name = record["attribute"]

    def part(split: str, rows: slice) -> Sample:
        p = predictions[split]
        return Sample(p.targets[rows], p.attributes[name][rows], p.scores["label"][rows], p.labels[rows])

    train, first, second = part("train", slice(None)), part("val", slice(0, None, 2)), part("val", slice(1, None, 2))
    reports = [
        leakage({"train": train, "val": a, "test": b}, record["protocol"], seed=seed, nulls=0)
        for a, b in ((first, second), (second, first))
    ]
    f1 = float(np.mean([r.details["f1_target"] for r in reports]))
    return f1, float(np.mean([r.figures["delta"].mean for r in reports]))


FIGURES = ("map", "f1", "mals", "lambda_m", "lambda_d", "lambda_d_f1", "delta", "null")


def write_figures(results: Results, file: Path) -> None:
    """The figures of every run, a line each: what a page of results is made from."""
    rows = []
    for method, runs in results.records.items():
        found = {column: results.column(method, column) for column in FIGURES}
        rows += [
            [method, seed, *(f"{found[c][seed]:.3f}" if seed in found[c] else "" for c in FIGURES)]
            for seed in sorted(runs)
        ]
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([["method", "seed", *FIGURES], *rows])


CLAIMS: dict[str, Callable[[Results], Iterator[Finding]]] = {
    "Leakage falls in the order face, blur, segments, boxes": order,
    "Noise": noise,
    "Adversarial removal against randomisation": pushed,
    "Balanced labels": balanced,
    "Corpus-level constraints": corpus,
}


@click.command(help=__doc__)
@click.argument("folder", metavar="RESULTS", type=click.Path(path_type=Path))
@click.option("--tuned", "tune", is_flag=True, help="Also choose strengths on validation: two measurements a run.")
@click.option("--figures", type=click.Path(path_type=Path), metavar="FILE", help="CSV: the figures of every run.")
def main(folder: Path, tune: bool, figures: Path | None) -> None:
    """See the text of this file."""
    try:
        results = Results(Store(folder))
        if figures:
            write_figures(results, figures)
        for title, claim in CLAIMS.items():
            say(title, claim(results))
        if tune:
            say("Strengths chosen on validation", tuned(results, Memo(folder / "work" / "claims")))
    except BiasBenchError as error:
        click.echo(f"claims: {error}", err=True)
        sys.exit(error.exit_code)


def say(title: str, found: Iterator[Finding]) -> None:
    """A claim's findings, a line each."""
    click.echo(f"\n{title}")
    for one in found:
        click.echo(f"  {one.claim}: {one.figure}{f': {one.verdict}' if one.verdict else ''}")


if __name__ == "__main__":
    main()
