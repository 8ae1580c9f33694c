"""Can what an extreme bias costs be had back from frozen features? `python benchmarks/erase_ages.py RESULTS`.

A diagnosis, not a method: age is erased from the features by a closed form (LEACE; Belrose et al. 2023, Theorem 4.3),
which is fitted on other faces without the bias, and then gender is trained on the biased faces as in faces-eb1 and
faces-eb2: the same body and optimiser, no unlearning. If accuracy returns, the features hold what a classifier needs,
and it is the unlearning that does not get it. As a control the same is fitted on the biased faces themselves.

RESULTS is a folder that `biasbench run faces-features` has filled. Gains are paired within a seed; intervals are
Student's t over seeds, 95 %.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import torch
from claims import judged
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.functional import cross_entropy

from biasbench import BiasBenchError, DataError, Split, torch_generator
from biasbench.store import Store
from biasbench.truth import read_predictions

PLAIN, OTHER = "faces(task='gender')", "faces(task='gender', seed=7)"
BIASED = {"EB1": "faces(task='gender', bias='eb1')", "EB2": "faces(task='gender', bias='eb2')"}
EPOCHS, RATE, BATCH, BODY = 20, 1e-3, 64, (256, 128)  # of faces-eb1.toml

Array = NDArray[np.float64]
Erasure = Callable[[Array], Array]


class Faces(NamedTuple):
    """One split: features [N, D], and codes [N]."""

    features: Array
    gender: NDArray[np.int64]
    age: NDArray[np.int64]


Sets = Mapping[str, Mapping[Split, Faces]]


def read(store: Store) -> Sets:
    """Data set to split to faces.

    Raises:
        DataError: When one is missing.
    """
    found: dict[str, dict[Split, Faces]] = {}
    for record in store.records():
        if record["status"] == "ok" and record["backbone"] == "tf_efficientnet_lite0":
            predictions, _ = read_predictions(store.run(record["key"]))
            found[record["dataset"]] = {
                split: Faces(next(iter(p.embeddings.values())).astype(float), p.targets, p.attributes["age"])
                for split, p in predictions.items()
            }
    missing = {PLAIN, OTHER, *BIASED.values()} - found.keys()
    if missing:
        raise DataError(
            f"no features of {', '.join(sorted(missing))}", fix="biasbench run faces-features --results RESULTS"
        )
    return found


def leace(features: Array, codes: NDArray[np.int64]) -> Erasure:
    """The affine map that moves features least, as they vary, so that no linear classifier tells the classes.

    r(x) = x - W^-1 P W (x - mean), with P the projection on the span of the whitened class means. Any invertible W
    erases exactly on these features; the covariance is that of Ledoit and Wolf, as they are few for their width.

    Args:
        features: [N, D].
        codes: [N].
    """
    mean = features.mean(0)
    values, vectors = np.linalg.eigh(LedoitWolf().fit(features).covariance_)
    whiten, back = ((vectors * values**power) @ vectors.T for power in (-0.5, 0.5))
    means = np.stack([features[codes == k].mean(0) - mean for k in np.unique(codes)], 1)  # [D, K], of rank K - 1
    basis = np.linalg.svd(whiten @ means, full_matrices=False)[0][:, : means.shape[1] - 1]
    taken = whiten @ basis @ basis.T @ back  # row vectors: (x - mean) W P W^-1
    return lambda x: x - (x - mean) @ taken


def train(data: Mapping[Split, Faces], erase: Erasure, seed: int) -> tuple[float, Callable[[Array], Array]]:
    """Gender from features behind an erasure.

    Returns:
        Percent right of the test split, whose genders are balanced within ages; and the learned embedding.
    """
    rng = torch_generator("erase ages", seed)
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=rng)))  # of the initial weights
        width = data["train"].features.shape[1]
        body = nn.Sequential(nn.Linear(width, BODY[0]), nn.ReLU(), nn.Linear(*BODY), nn.ReLU())
        head = nn.Linear(BODY[1], 2)
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=RATE)
    x, y = torch.from_numpy(erase(data["train"].features)).float(), torch.tensor(data["train"].gender)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x), generator=rng).split(BATCH):
            optimizer.zero_grad()
            cross_entropy(head(body(x[rows])), y[rows]).backward()
            optimizer.step()

    @torch.no_grad()
    def embed(features: Array) -> Array:
        return np.asarray(body(torch.from_numpy(erase(features)).float()).double())

    with torch.no_grad():
        said = head(torch.from_numpy(embed(data["test"].features)).float()).argmax(1).numpy()
    return 100 * float((said == data["test"].gender).mean()), embed


def told(embed: Callable[[Array], Array], plain: Mapping[Split, Faces]) -> float:
    """Percent of ages that a logistic regression reads from the embedding, learnt and tested on faces without bias."""
    scaler = StandardScaler().fit(embed(plain["train"].features))
    fit, test = (scaler.transform(embed(plain[split].features)) for split in ("train", "test"))
    reader = LogisticRegression(C=0.01, max_iter=1000).fit(fit, plain["train"].age)
    return 100 * float(reader.score(test, plain["test"].age))


@click.command(help=__doc__)
@click.argument("folder", metavar="RESULTS", type=click.Path(path_type=Path))
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(2), help="Trainings of each.")
def main(folder: Path, seeds: int) -> None:
    """See the text of this file."""
    try:
        data = read(Store(folder))
    except BiasBenchError as error:
        click.echo(f"erase_ages: {error}", err=True)
        sys.exit(error.exit_code)
    other = data[OTHER]["train"]
    elsewhere = leace(other.features, other.age)

    def trained(name: str, erase: Erasure) -> tuple[Array, Array]:
        runs = [train(data[name], erase, seed) for seed in range(seeds)]
        return np.array([right for right, _ in runs]), np.array([told(embed, data[PLAIN]) for _, embed in runs])

    def say(what: str, accuracy: Array, age: Array) -> None:
        spread = f"{accuracy.mean():.1f} ± {accuracy.std(ddof=1):.1f}"
        click.echo(f"{what}: accuracy {spread}, age from the embedding {age.mean():.1f} ± {age.std(ddof=1):.1f}")

    unbiased, age = trained(PLAIN, lambda x: x)
    say("no bias", unbiased, age)
    say("no bias, age erased", *trained(PLAIN, elsewhere))
    for bias, name in BIASED.items():
        raw, age = trained(name, lambda x: x)
        say(bias, raw, age)
        own = data[name]["train"]
        fits = {"other faces": elsewhere, "the biased faces": leace(own.features, own.age)}
        for source, erase in fits.items():
            right, age = trained(name, erase)
            say(f"{bias}, age erased, fitted on {source}", right, age)
            gain = judged("", right - raw).figure
            share = 100 * (right - raw).mean() / (unbiased - raw).mean()
            click.echo(f"  gain {gain}: {share:.0f} % of the loss")


if __name__ == "__main__":
    main()
