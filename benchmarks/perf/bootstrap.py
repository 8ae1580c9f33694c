"""The paired bootstrap of mean average precision, against resampling rows and calling scikit-learn.

Two models' scores for COCO's test split after the selection of Wang et al. 2019 (5,473 pictures, 79 labels, drawn from
random numbers with COCO's shares). For every resample, the plain way takes the rows that were drawn and calls
`average_precision_score(average="macro")` for each model. Both get the same resamples and have to find the same mAP.

Wanted: 25.
"""

from __future__ import annotations

import warnings

import click
import numpy as np
from numpy.typing import NDArray
from sides import by_turns, ratio, tell, timed
from sklearn.metrics import average_precision_score

from biasbench import generator
from biasbench.measures.paired_map import map_difference, resampled_map


def scores(rows: int, labels: int) -> tuple[NDArray[np.uint8], list[NDArray[np.float32]]]:
    """Labels as frequent as COCO's, and two models that see most of them."""
    rng = generator("perf", "bootstrap")
    share = rng.lognormal(-4, 1, labels).clip(0.002, 0.3)
    targets = (rng.random((rows, labels)) < share).astype(np.uint8)
    return targets, [(2 * targets + rng.normal(0, spread, targets.shape)).astype(np.float32) for spread in (1.0, 1.1)]


@click.command(help=__doc__)
@click.option("--rows", type=click.IntRange(min=10), default=5473, show_default=True)
@click.option("--labels", type=click.IntRange(min=1), default=79, show_default=True)
@click.option("--plain", type=click.IntRange(min=1), default=3, show_default=True, help="Resamples of the plain way.")
@click.option("--draws", type=click.IntRange(min=1), default=512, show_default=True, help="Resamples of ours.")
@click.option("--turns", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--small", is_flag=True, help="200 rows of 4 labels: does it run at all?")
def main(rows: int, labels: int, plain: int, draws: int, turns: int, *, small: bool) -> None:
    """See the text of this file."""
    if small:
        rows, labels, plain, draws, turns = 200, 4, 2, 64, 1
    targets, (one, other) = scores(rows, labels)
    found: list[float] = []

    def resample_and_call() -> None:
        found.clear()
        rng = generator("perf", "resamples")
        for _ in range(plain):
            drawn = rng.integers(0, rows, rows)
            pair = [average_precision_score(targets[drawn], s[drawn], average="macro") for s in (one, other)]
            found.append(pair[0] - pair[1])

    sides = {
        "scikit-learn": lambda: timed(resample_and_call),
        "biasbench": lambda: timed(
            lambda: map_difference(one, other, targets, "multilabel", generator("perf", "resamples"), draws=draws)
        ),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of a class without a positive and counts 0, as here
        took = by_turns(sides, turns)
    click.echo(f"{rows} pictures, {labels} labels, two models")
    per = {"scikit-learn": float(plain), "biasbench": float(draws)}
    tell(took, per, "a resample")
    ratio(took, per, "scikit-learn", "biasbench", 25)
    rng = generator("perf", "resamples")
    drawn = [np.bincount(rng.integers(0, rows, rows), minlength=rows) for _ in range(plain)]
    times = np.array(drawn, np.float32).T
    own = np.subtract(*(resampled_map(s, targets, "multilabel", times) for s in (one, other)))
    apart = float(np.abs(own - np.array(found)).max())
    click.echo(f"differences at most {apart:.1e} apart")
    if not apart < 1e-9:
        raise click.ClickException("the two ways do not find the same figures")


if __name__ == "__main__":
    main()
