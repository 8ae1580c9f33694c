"""Promises on leakage whose truth is planted: the labels of `scenes`, and leaks in scores."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from promises import HERE, SRC, Kept, Parts, Promise

from biasbench import SPLITS, Sample, Split, generator
from biasbench.builtin.datasets.scene.labels import label_tables
from biasbench.builtin.datasets.scene.model import Model
from biasbench.builtin.datasets.scene.truth import best_rule
from biasbench.measures.figure import Figure
from biasbench.measures.named import protocol_named
from biasbench.measures.rounds import Attack, Rounds, Shuffled
from biasbench.measures.run import Known, figure_of, run
from biasbench.measures.sample import Samples, check_samples
from biasbench.metric import NoMemo

Sizes = Mapping[Split, int]

CERTIFIED = "certified(rounds=1, folds=3, plateau=False)"
"""All kinds of attacker at full size; more rounds and folds would only steady the figures."""
QUICK = "certified-quick(rounds=1, plateau=False)"
"""All kinds, smaller: a null band needs hundreds of attackers."""
NOISE = 0.03
"""Label noise, as `scenes` has it by default."""


def promises() -> list[Promise]:
    """All of this file."""
    scene = SRC / "builtin" / "datasets" / "scene"
    truth = (scene / "labels.py", scene / "model.py", scene / "truth.py")
    code = (SRC / "measures", SRC / "rng.py", SRC / "scoring.py", *truth, HERE / "leakage.py")
    return [
        Promise("leakage-bayes", bayes, code),
        Promise("leakage-zero", zero, code),
        Promise("leakage-scale", scale, code),
    ]


# -- the closed form of scenes ------------------------------------------------------------------
DIALS = (0.05, 0.06, 0.08, 0.1, 0.3, 0.5, 0.7, 1.0)
"""Settings of the bias. With the first four the best rule has 51.4 to 52.9 %: near chance, but an attacker that
finds nothing is more than a point off."""
LARGE: Sizes = {"train": 64_000, "val": 32_000, "test": 64_000}
"""Four tenths are women: the balanced draw of test has about 51,200 rows, a standard error of 0.22 points."""


def bayes(parts: Parts, dials: Sequence[float] = DIALS, sizes: Sizes = LARGE, protocol: str = CERTIFIED) -> Kept:
    """Certified lambda_D is within a point of the best that any attacker can do, which is a closed form."""
    text, ok = [], 0
    for bias in dials:
        part = parts(beside_bayes, bias=bias, sizes=dict(sizes), protocol=protocol)
        off = part["found"] - part["bayes"]
        ok += abs(off) <= 1
        text.append(
            f"bias {bias:g}: Bayes {part['bayes']:.2f}, the best rule on the {part['rows']:,} rows of the test draw "
            f"{part['drawn']:.2f}, certified {part['found']:.2f} ({part['kind']}): {off:+.2f}"
        )
    return Kept(ok, len(dials), "\n".join(text))


def beside_bayes(bias: float, sizes: Sizes, protocol: str) -> dict[str, Any]:
    """The closed form, what the best rule scores on the very test draw, and what was measured."""
    model = Model(bias, NOISE)
    rounds = rounds_of(scenes(model, sizes, 0), protocol, 0)
    rows, test = rounds.rows(0, "test"), rounds.samples["test"]
    drawn = best_rule(model, list(zip(test.attribute[rows], test.targets[rows], strict=True)))
    ((found, known),) = attacked(rounds, Attack(0))
    kind = known[0].details.get("kind", "network")
    return {"bayes": model.leakage(), "drawn": drawn, "rows": len(rows), "found": found.mean, "kind": kind}


SMALL: Sizes = {"train": 3_000, "val": 1_500, "test": 3_000}


def zero(
    parts: Parts, seeds: int = 20, nulls: int = 10, needed: int = 17, sizes: Sizes = SMALL, protocol: str = QUICK
) -> Kept:
    """Without bias, leakage lies where it lies with a shuffled attribute: in the middle 95 % of all null draws.

    One in twenty figures should lie outside; more than three do with probability 0.016.
    """
    tried = [parts(beside_nulls, seed=s, nulls=nulls, sizes=dict(sizes), protocol=protocol) for s in range(seeds)]
    null = np.concatenate([part["null"] for part in tried])
    low, high = np.quantile(null, [0.025, 0.975])
    ok = sum(bool(low <= part["found"] <= high) for part in tried)
    found = [part["found"] for part in tried]
    text = f"{len(null)} null draws: {low:.2f} to {high:.2f} (95 %)\nat bias 0: {shown(found)}"
    return Kept(ok, seeds, text, needed)


def beside_nulls(seed: int, nulls: int, sizes: Sizes, protocol: str) -> dict[str, Any]:
    """lambda_D at bias 0, and null draws of the same labels."""
    rounds = rounds_of(scenes(Model(0.0, NOISE), sizes, seed), protocol, seed)
    attacks = Attack(0), *(Attack(0, shuffled="all", shuffle=i) for i in range(nulls))
    found, *null = (figure.mean for figure, _ in attacked(rounds, *attacks))
    return {"found": found, "null": null}


def scenes(model: Model, sizes: Sizes, seed: int) -> Samples:
    """Label tables as measures read them."""
    tables = label_tables(model, sizes, seed)
    return {split: Sample(tables[split].annotated, tables[split].gender) for split in SPLITS}


# -- leaks planted in scores --------------------------------------------------------------------
SCALES = (1e-12, 1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e9, 1e12)
STRENGTHS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SCORES: Sizes = {"train": 3_000, "val": 1_500, "test": 6_000}
"""3 points are more than 4 standard errors of 6,000 test rows."""


def scale(
    parts: Parts,
    scales: Sequence[float] = SCALES,
    strengths: Sequence[float] = STRENGTHS,
    seeds: int = 5,
    sizes: Sizes = SCORES,
    protocol: str = CERTIFIED,
) -> Kept:
    """Certified lambda_M ignores the scale of scores, finds what is planted, and nothing once that is shuffled."""

    def found(strength: float, seed: int, scale: float = 1.0, pair: bool = False, shuffled: Shuffled = "") -> float:
        case = {"strength": strength, "seed": seed, "scale": scale, "pair": pair, "shuffled": shuffled}
        return float(parts(of_planted, **case, sizes=dict(sizes), protocol=protocol))

    base, scaled = found(0.75, 0, pair=True), [found(0.75, 0, s, pair=True) for s in scales]
    ok = sum(abs(value - base) <= 0.01 for value in scaled)
    text = ["at scale " + ", ".join(f"{s:g}: {value:.3f}" for s, value in zip(scales, scaled, strict=True))]
    for strength in strengths:
        values = [found(strength, seed) for seed in range(seeds)]
        ok += sum(abs(value - 100 * strength) <= 3 for value in values)
        text.append(f"planted {100 * strength:g}: {shown(values)}")
    values = [found(strengths[-1], seed, shuffled="all") for seed in range(seeds)]
    ok += sum(abs(value - 50) <= 3 for value in values)
    text.append(f"planted {100 * strengths[-1]:g}, then shuffled: {shown(values)}")
    return Kept(ok, len(scales) + seeds * (len(strengths) + 1), "\n".join(text))


def of_planted(
    strength: float, seed: int, scale: float, pair: bool, shuffled: Shuffled, sizes: Sizes, protocol: str
) -> float:
    """lambda_M of planted scores, or its null."""
    rounds = rounds_of(planted(strength, seed, scale, pair, sizes), protocol, seed)
    ((figure, _),) = attacked(rounds, Attack(0, "scores", shuffled=shuffled))
    return figure.mean


def planted(strength: float, seed: int, scale: float, pair: bool, sizes: Sizes) -> Samples:
    """Scores of eight labels: with a probability one tells the group, or two do together and neither alone."""
    samples = {}
    for split in SPLITS:
        n, rng = sizes[split], generator("planted scores", seed, split)
        group = np.arange(n) % 2
        told = np.where(rng.random(n) < strength, 1.0, -1.0) * (2 * group - 1)
        scores = rng.normal(size=(n, 8))
        scores[:, 2] = told * (np.sign(scores[:, 5]) if pair else 1)
        samples[split] = Sample(np.zeros((n, 8), np.uint8), group, scale * scores)
    return samples


# -- attackers ----------------------------------------------------------------------------------
def rounds_of(samples: Samples, protocol: str, seed: int) -> Rounds:
    """Draws and attackers of a protocol, as `biasbench.leakage` has them."""
    width, groups = check_samples(samples)
    return Rounds(samples, width, groups, protocol_named(protocol, single=False), seed, "flips")


def attacked(rounds: Rounds, *attacks: Attack) -> list[tuple[Figure, list[Known]]]:
    """Figures of attacks in all rounds, as `biasbench.leakage` finds them, with their attackers; no other is fitted."""
    every = [replace(attack, round_=r) for attack in attacks for r in range(rounds.protocol.rounds)]
    known = run(rounds, every, NoMemo(), None, os.cpu_count() or 1, "cpu")
    parts = [slice(i, i + rounds.protocol.rounds) for i in range(0, len(every), rounds.protocol.rounds)]
    return [(figure_of(known[part], every[part], rounds), known[part]) for part in parts]


def shown(values: Sequence[float]) -> str:
    """Figures side by side."""
    return " ".join(f"{value:.2f}" for value in values)
