"""What Alvi et al. 2018 claim of JLU, checked on faces: `python benchmarks/claims_faces.py RESULTS`.

RESULTS is a folder that `biasbench run faces-unbiased`, `faces-eb1` and `faces-eb2` have filled, or the same of
`utkface`. Differences are taken within a seed; intervals are Student's t over seeds, 95 %. A claim holds or fails
where its interval says so, and is else undecided.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from claims import Finding, judged, say
from numpy.typing import NDArray

from biasbench import BiasBenchError, UsageError
from biasbench.grammar import parse
from biasbench.store import Store

METHOD, METRIC = "jlu", "embedding"
HALF = 0.5
"""Of the loss through bias that JLU is to recover, and of what the embedding tells above chance that it is to take."""
POINTS = 3.0
"""What JLU may cost the task."""

Seeds = Mapping[int, Mapping[str, float]]


def read(store: Store, protocol: str | None = None) -> dict[str, dict[str, Seeds]]:
    """Data set to method to seed to figures.

    Args:
        store: Of results.
        protocol: Whose attackers' figures are read; None stands for the only one there.

    Raises:
        UsageError: When it is not said which of several protocols, or another than is there.
    """
    records = [record for record in store.records() if record["status"] == "ok"]
    embeddings = {
        record["key"]: [m for m in store.metrics(record["key"]) if m["metric"] == METRIC] for record in records
    }
    there = sorted({m["protocol"] for measured in embeddings.values() for m in measured})
    if (protocol is None and len(there) > 1) or (protocol is not None and protocol not in there):
        raise UsageError(
            f"embeddings have been measured by {' and '.join(there) or 'none'}", fix="Choose by --protocol"
        )
    found: dict[str, dict[str, dict[int, dict[str, float]]]] = {}
    for record in records:
        seeds = found.setdefault(record["dataset"], {}).setdefault(record["method"], {})
        figures = seeds.setdefault(record["seed"], {})  # of all protocols: they do not change what a model predicts
        figures.update({name: v["mean"] for name, v in record["values"].items() if v and v["mean"] is not None})
        for measured in embeddings[record["key"]]:
            if protocol in (None, measured["protocol"]):
                value, name = measured["values"][METRIC]["mean"], measured["attribute"]
                figures[f"{METRIC} {name}"] = np.nan if value is None else value
                figures[f"chance {name}"] = measured["details"]["chance"]
    return found  # type: ignore[return-value]


def column(runs: Seeds, name: str, seeds: list[int]) -> NDArray[Any]:
    """One figure, by seed."""
    return np.array([runs[s].get(name, np.nan) for s in seeds])


def unbiased(dataset: str) -> str | None:
    """The data set without the extreme bias, as it is written there; None: this one has none.

    Example:
        >>> unbiased("faces(task='gender', bias='eb1')"), unbiased("faces(task='gender')")
        ("faces(task='gender')", None)
    """
    call = parse(dataset)[-1]
    options = ", ".join(f"{k}={v!r}" for k, v in call.kwargs.items() if k != "bias")
    return f"{call.name}({options})" if "bias" in call.kwargs else None


def recovered(runs: Mapping[str, Seeds], plain: Seeds) -> Iterator[Finding]:
    """Accuracy on the balanced test split: what the bias costs, and how much of that comes back."""
    original = runs["original"]
    seeds = sorted(original.keys() & plain.keys())
    cost = column(plain, "accuracy", seeds) - column(original, "accuracy", seeds)
    found = judged("accuracy falls through the bias", -cost, below=0)
    yield found
    for method, mine in runs.items():
        if method.startswith(METHOD):
            both = [s for s in seeds if s in mine]
            gain = column(mine, "accuracy", both) - column(original, "accuracy", both)
            yield judged(f"accuracy of {method} minus original's", gain)
            lost = column(plain, "accuracy", both) - column(original, "accuracy", both)
            verdict = judged("", HALF * lost - gain, below=0).verdict
            share = f"{100 * gain.mean() / lost.mean():.0f} % of the loss" if lost.size else "not run"
            yield Finding(f"{method} recovers at least half", share, verdict)


def unlearned(runs: Mapping[str, Seeds]) -> Iterator[Finding]:
    """What a classifier that is trained afterwards reads from the frozen embedding."""
    original = runs["original"]
    for method, mine in runs.items():
        if method.startswith(METHOD):
            seeds = sorted(original.keys() & mine.keys())
            for name in sorted({k for s in seeds for k in original[s] if k.startswith(f"{METRIC} ")}):
                read = [s for s in seeds if name in original[s] and name in mine[s]]  # by attackers of the protocol
                if not read:
                    continue
                before, after = column(original, name, read), column(mine, name, read)
                share = (before - after) / (before - column(original, name.replace(METRIC, "chance"), read))
                found = judged(f"percent of {name.split()[1]} unlearned by {method}", 100 * share)
                yield Finding(f"{found.claim}, at least 50", found.figure, judged("", HALF - share, below=0).verdict)
            cost = column(original, "accuracy", seeds) - column(mine, "accuracy", seeds)
            found = judged("", cost, below=POINTS)
            yield Finding(f"{method} costs the task less than {POINTS:g} points", found.figure, found.verdict)


@click.command(help=__doc__)
@click.argument("folder", metavar="RESULTS", type=click.Path(path_type=Path))
@click.option("--protocol", metavar="NAME", help="Whose attackers read the embeddings, where there are several.")
def main(folder: Path, protocol: str | None) -> None:
    """See the text of this file."""
    try:
        every = read(Store(folder), protocol)
    except BiasBenchError as error:
        click.echo(f"claims_faces: {error}", err=True)
        sys.exit(error.exit_code)
    for dataset, runs in every.items():
        if "original" in runs and any(method.startswith(METHOD) for method in runs):
            plain = every.get(unbiased(dataset) or "", {}).get("original")
            if plain is not None:
                say(f"{dataset}: what the bias costs", recovered(runs, plain))
            say(f"{dataset}: what the embedding tells", unlearned(runs))


if __name__ == "__main__":
    main()
