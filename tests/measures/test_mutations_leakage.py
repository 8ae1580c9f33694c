"""The conformance scenarios of leakage notice planted bugs."""

from __future__ import annotations

import pytest

from tests.measures.mutations import Mutation, loaded
from tests.measures.test_leakage import CASES, HOME, MODULES

pytestmark = pytest.mark.torch
# Module, the mistake, what stands there, what is planted, the scenario that must notice.
PLANTED = (
    (
        "draws",
        "draws are not balanced",
        "np.flatnonzero(codes == g))[:n]",
        "np.flatnonzero(codes == g))",
        "groups of 40 and 160",
    ),
    (
        "draws",
        "the first rows, not drawn ones",
        "rng.permutation(np.flatnonzero(codes == g))",
        "np.flatnonzero(codes == g)",
        "draws differ between rounds and splits",
    ),
    ("figure", "no fold", "if groups == 2 else", "if groups == 0 else", "the fold mirrors at chance"),
    ("figure", "a fold for any number of groups", "if groups == 2 else", "if True else", "three groups are not folded"),
    (
        "figure",
        "sample deviation",
        "self.rounds.std()",
        "np.sqrt(np.square(self.rounds - self.mean).sum() / max(1, self.n - 1))",
        "each round trains on its view",
    ),
    (
        "figure",
        "rounds of a difference are not paired",
        "Figure(self.rounds - other.rounds,",
        "Figure(self.rounds - other.rounds[::-1],",
        "differences are taken round by round",
    ),
    (
        "figure",
        "signs turned",
        "Figure(self.rounds - other.rounds,",
        "Figure(other.rounds - self.rounds,",
        "logits tell more than labels",
    ),
    (
        "rounds",
        "training and test swapped",
        "draws = {split: self._draw(attack, split) for split in SPLITS}",
        'draws = {split: self._draw(attack, at) for split, at in zip(SPLITS, ("test", "val", "train"))}',
        "each split is read as what it is",
    ),
    (
        "rounds",
        "tested on validation",
        "draws = {split: self._draw(attack, split) for split in SPLITS}",
        'draws = {split: self._draw(attack, at) for split, at in zip(SPLITS, ("train", "val", "val"))}',
        "each split is read as what it is",
    ),
    (
        "rounds",
        "one cap for all",
        "self.protocol.caps[SPLITS.index(split)]",
        "self.protocol.caps[0]",
        "caps are by split",
    ),
    (
        "rounds",
        "the same draw in every round",
        'return (self.seed, "leakage", round_, *purpose)',
        'return (self.seed, "leakage", *purpose)',
        "draws differ between rounds and splits",
    ),
    (
        "rounds",
        "the same stream for every split",
        ", split))\n        return perturb(",
        "))\n        return perturb(",
        "labels of every split and round are perturbed, each anew",
    ),
    (
        "rounds",
        "a null without shuffling",
        "drawn = generator(*stream).permutation(drawn)",
        "drawn = drawn",
        "nulls where the labels tell",
    ),
    (
        "rounds",
        "the wrong split is shuffled",
        "attack.shuffled == split:",
        '(attack.shuffled and split == "test"):',
        "nulls where the labels tell",
    ),
    (
        "rounds",
        "noise after the draw",
        "balanced_rows(codes, self.groups",
        "balanced_rows(self.samples[split].attribute, self.groups",
        "noise comes before the draw",
    ),
    (
        "rounds",
        "noise in training alone",
        "if noise else codes",
        'if noise and split == "train" else codes',
        "noise on labels that tell all",
    ),
    (
        "rounds",
        "perturbed in test alone",
        "if attack.perturbed is not None:",
        'if attack.perturbed is not None and split == "test":',
        "labels of every split and round are perturbed, each anew",
    ),
    (
        "rounds",
        "perturbed in training alone",
        "if attack.perturbed is not None:",
        'if attack.perturbed is not None and split == "train":',
        "flips to an F1",
    ),
    (
        "rounds",
        "the first view in every round",
        "attack.round_ % len(sample.views)",
        "0",
        "each round trains on its view",
    ),
    (
        "rounds",
        "kept without what is read",
        '"reads": self._digests[attack.reads],',
        "",
        "what is kept is found again by all that it depends on",
    ),
    (
        "rounds",
        "kept without the labels",
        '"truth": self._digests["targets"],',
        "",
        "what is kept is found again by all that it depends on",
    ),
    (
        "rounds",
        "kept without the seed",
        '"seed": self.seed,',
        "",
        "what is kept is found again by all that it depends on",
    ),
    (
        "run",
        "the last epoch, not the selected",
        "Known(outcome.accuracy,",
        "Known(outcome.last,",
        "the selected epoch counts",
    ),
    (
        "aim",
        "calibrated on training labels",
        'rounds.samples["val"].targets[rounds.rows(round_, "val")]',
        'rounds.samples["train"].targets[rounds.rows(round_, "train")]',
        "the rate is that of the validation split",
    ),
    (
        "aim",
        "F1 of the validation split",
        'test = samples["test"]',
        'test = samples["val"]',
        "F1 is that of the test split",
    ),
    (
        "aim",
        "targets out of reach are not told",
        "found.f1, realised, found.out_of_reach",
        "found.f1, realised, False",
        "an F1 out of reach",
    ),
    (
        "perturb",
        "half the rate",
        "(rng.random((len(labels), width)) < p)",
        "(rng.random((len(labels), width)) < p / 2)",
        "flips to an F1",
    ),
    (
        "perturb",
        "half the rate of replacement",
        "rng.random(len(labels)) < p,",
        "rng.random(len(labels)) < p / 2,",
        "replacement to an F1",
    ),
    (
        "perturb",
        "expected F1 of one kind",
        'if kind == "flips" else (1 - p + p / width, p / width)',
        "if True else (0, 0)",
        "replacement to an F1",
    ),
    (
        "noise",
        "codes stay",
        "out[wrong] = (codes[wrong]",
        "out[wrong] = (0 * step[: len(wrong)] + codes[wrong] - step[: len(wrong)]",
        "noise on labels that tell all",
    ),
    (
        "checks",
        "99 rows are enough",
        "min(n.values()) < FEW",
        "min(n.values()) < FEW - 1",
        "99 rows of a group are few",
    ),
    ("checks", "100 rows are few", "min(n.values()) < FEW", "min(n.values()) <= FEW", "100 rows of a group are enough"),
    (
        "checks",
        "the largest draw decides",
        "min(n.values()) < FEW",
        "max(n.values()) < FEW",
        "99 rows of a group are few",
    ),
    ("checks", "a p-value from 98 nulls", "ENOUGH = 99", "ENOUGH = 98", "no p-value from 98"),
    ("checks", "no p-value from 99 nulls", "len(null) >= ENOUGH", "len(null) > ENOUGH", "a p-value from 99 nulls"),
    ("checks", "a p-value of 0", "(1 + higher) / (1 + len(null))", "higher / len(null)", "a p-value from 99 nulls"),
    ("checks", "equal nulls are lower", "(null >= figures", "(null > figures", "a p-value of nothing"),
    ("checks", "constant scores are shrunk", "(variance > 0) & (variance", "(variance", "constant scores tell less"),
    (
        "checks",
        "training and test rule swapped",
        "train.targets, train.attribute, s.targets, s.attribute",
        "s.targets, s.attribute, train.targets, train.attribute",
        "the majority rule is that of training",
    ),
    ("control", "the planted leak is not scaled", "* self.scale.size", "", "scores too small to read"),
    (
        "control",
        "found whatever was measured",
        "return bool(measured >=",
        "return bool(0 * measured <=",
        "scores too small to read",
    ),
    (
        "leakage",
        "difference from clean labels",
        'figures[of].minus(figures["lambda_D_F1"],',
        'figures[of].minus(figures["lambda_D"],',
        "differences are from perturbed labels",
    ),
    (
        "leakage",
        "decoded labels are the true ones",
        'Attack(r, "labels")',
        "Attack(r)",
        "decoded labels tell more than logits",
    ),
    (
        "leakage",
        "nulls of labels beside a model's",
        '("", first, self.nulls)',
        '("", "targets", self.nulls)',
        "nulls of labels beside a model",
    ),
    (
        "leakage",
        "noise on labels beside a model's",
        "Attack(r, first, noise=q)",
        "Attack(r, noise=q)",
        "noise on scores",
    ),
    ("leakage", "every null is the same draw", "shuffle=i // count", "shuffle=0", "nulls are drawn anew"),
    ("checks", "small groups stay", "FEW if len(names) > 2 else 0", "0", "a small intersection is left out and named"),
    (
        "curve",
        "levels out of reach stay",
        "if level >= 1 or not any(a.out_of_reach for a in aims[level])",
        "if True",
        "the curve",
    ),
    (
        "curve",
        "flat beyond its ends",
        "np.interp(f1, x, column, np.nan, np.nan)",
        "np.interp(f1, x, column)",
        "the curve",
    ),
    (
        "curve",
        "F1 backwards",
        "y = np.stack([figure.rounds for figure in self.figures])[::-1]",
        "y = np.stack([figure.rounds for figure in self.figures])",
        "the curve",
    ),
)
BUGS = [(Mutation(f"{HOME}.{module}", what, old, new), scenario) for module, what, old, new, scenario in PLANTED]


@pytest.mark.parametrize(("mutation", "scenario"), BUGS, ids=[str(mutation) for mutation, _ in BUGS])
def test_a_planted_bug_is_noticed(mutation: Mutation, scenario: str) -> None:
    with loaded(MODULES, mutation) as measures:
        assert CASES[scenario].wrong(measures)  # a crash would prove nothing


def test_without_a_bug_nothing_is_noticed() -> None:
    with loaded(MODULES) as measures:
        assert CASES["the curve"].wrong(measures) == CASES["the truth amplifies nothing"].wrong(measures) == ""
    assert len({str(mutation) for mutation, _ in BUGS}) == len(BUGS) >= 10
