"""Leakage: every scenario with an answer in closed form, and what may not matter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from statistics import NormalDist
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from biasbench import CellError, DataError, Sample, UsageError, leakage
from biasbench.measures.protocol import Protocol
from tests.measures import conformance_leakage, conformance_leakage_checks, conformance_leakage_models
from tests.measures.conformance_leakage import Case, Within, fits
from tests.measures.leaks import ONCE, TINY, Kept, agree, betrays, everywhere, part, splits, truth

pytestmark = pytest.mark.torch
HOME = "biasbench.measures"
# Each after those it imports.
NAMES = (
    "draws",
    "perturb",
    "noise",
    "figure",
    "control",
    "rounds",
    "run",
    "aim",
    "checks",
    "prepared",
    "leakage",
    "curve",
)
MODULES = tuple(f"{HOME}.{name}" for name in NAMES)
CASES: Mapping[str, Case] = {
    **conformance_leakage.CASES,
    **conformance_leakage_models.CASES,
    **conformance_leakage_checks.CASES,
}
SHIPPED = SimpleNamespace(**{k: v for name in MODULES for k, v in vars(import_module(name)).items()})
PAIR = {"10": (75, 25), "01": (25, 75)}


@pytest.mark.parametrize("case", CASES.values(), ids=str)
def test_answer(case: Case) -> None:
    assert case.wrong(SHIPPED) == ""


def test_there_are_enough_scenarios_and_the_check_can_fail() -> None:
    tables = (conformance_leakage, conformance_leakage_models, conformance_leakage_checks)
    assert len(CASES) == sum(len(table.CASES) for table in tables) >= 60
    assert fits(1.0, 1.0000001)
    assert fits(2.0, Within(1, 2))
    for got, want in (
        (1.0, 1.00001), (float("nan"), 0.0), (0.0, float("nan")), ([1.0], [1.0, 2.0]), (2.1, Within(1, 2)),
        (float("nan"), Within(1, 2)), (None, Within(1, 2)), (1, True), (["a"], ["b"]),
    ):  # fmt: skip
        assert not fits(got, want)
    assert Case("x", lambda _: {"y": 1.0}, {"y": 2.0}).wrong(None) == "x: y is 1.0, not 2.0"


# -- scores that overlap: no table of counts, but a best rule ---------------------------------
@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_model_leakage_finds_what_gaussian_logits_hold(shift):
    """Two unit Gaussians `shift` apart: the best rule is right with probability Phi(shift / 2)."""
    samples = {}
    for i, (split, n) in enumerate({"train": 2000, "val": 2000, "test": 4000}.items()):
        rng = np.random.default_rng((4, i))
        codes = np.arange(n) % 2
        scores = rng.normal(size=(n, 3))
        scores[:, 1] += shift * (codes - 0.5)
        labels = (rng.random((n, 3)) < 0.5).astype(np.uint8)
        samples[split] = Sample(labels, codes, scores.astype(np.float32), labels)
    protocol = Protocol("t", rounds=1, epochs=3, lr=3e-3, width=24, caps=(1000, 1000, 2000))
    best = 100 * NormalDist().cdf(shift / 2)
    found = leakage(samples, protocol, nulls=1, threads=1).figures["lambda_M"].mean
    assert best - 2.5 <= found <= best + 4 * 100 * (0.25 / 4000) ** 0.5


# -- what may not matter -------------------------------------------------------------------
def noisy(scale=1.0):
    """Logits and labels that hold something, differently in every row."""
    samples = {}
    for i, (split, n) in enumerate({"train": 500, "val": 260, "test": 240}.items()):
        rng = np.random.default_rng(i)
        codes = (rng.random(n) < 0.45).astype(np.int64)
        labels = (rng.random((n, 4)) < 0.3).astype(np.uint8)
        labels[:, 0] = codes ^ (rng.random(n) < 0.2)
        scores = (scale * (rng.normal(size=(n, 4)) + 2.0 * labels - 1)).astype(np.float32)
        samples[split] = Sample(labels, codes, scores, (scores >= 0).astype(np.uint8))
    return samples


def document(samples, protocol=TINY, **options):
    return json.dumps(leakage(samples, protocol, **{"nulls": 1, "threads": 1, **options}).to_json(), allow_nan=False)


def test_the_same_call_gives_the_same_bits_whatever_the_threads():
    one = document(noisy(), noises=(0.05,))
    assert document(noisy(), noises=(0.05,)) == one
    assert document(noisy(), noises=(0.05,), threads=2) == one
    assert document(noisy(), noises=(0.05,), seed=1) != one


def test_an_interrupted_measurement_goes_on_where_it_stopped():
    """Attackers that are known are not trained again, and the result is that of one go."""
    whole = Kept()
    uninterrupted = document(noisy(), memo=whole)
    memo = Kept(stop=5)
    with pytest.raises(KeyboardInterrupt):
        document(noisy(), memo=memo)
    assert memo.puts == len(memo.values) == 5
    memo.stop = None
    told = []
    assert document(noisy(), memo=memo, progress=lambda done, due: told.append((done, due))) == uninterrupted
    assert memo.puts == len(memo.values) == whole.puts  # none was put twice
    assert told[-1] == ((whole.puts - 5) * TINY.epochs,) * 2
    assert memo.values == whole.values
    told.clear()
    assert document(noisy(), memo=memo, progress=lambda *step: told.append(step)) == uninterrupted
    assert memo.puts == whole.puts
    assert told == []


def test_dataset_leakage_is_the_same_for_every_model_and_is_computed_once():
    one = noisy()
    two = {s: replace(p, scores=-p.scores[:, ::-1], labels=1 - p.labels) for s, p in one.items()}
    none = {s: replace(p, scores=None, labels=None) for s, p in one.items()}
    memo = Kept()
    reports = [leakage(samples, TINY, nulls=2, threads=1, memo=memo) for samples in (one, two, none)]
    figures = [report.figures["lambda_D"].rounds.tolist() for report in reports]
    assert figures[0] == figures[1] == figures[2]
    assert min(figures[0]) > 65  # of 80: they are not equal for being at chance
    assert reports[0].figures["lambda_M"].rounds.tolist() != reports[1].figures["lambda_M"].rounds.tolist()
    assert reports[2].figures["null_train"].rounds.tolist() == reports[0].figures["null_train_D"].rounds.tolist()
    # Two rounds of lambda_D and four nulls of labels and a control are shared; each model has nine more, and two
    # rounds of lambda_D(F1) at its F1.
    assert memo.puts == 7 + 2 * (2 + 2 + 4 + 1 + 2)
    assert leakage(one, TINY, nulls=2, threads=1).figures["lambda_D"].rounds.tolist() == figures[0]


def test_names_of_protocols_and_rounds_share_attackers():
    samples, memo = noisy(), Kept()
    document(samples, memo=memo)
    before = memo.puts
    document(samples, replace(TINY, name="alias", fold=False), memo=memo)
    assert memo.puts == before
    document(samples, replace(TINY, rounds=3), memo=memo)  # a third round of four figures and of two nulls of labels
    assert memo.puts == before + 6
    document(samples, replace(TINY, lr=2e-3), memo=memo)
    assert memo.puts == 2 * before + 6


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_changed_label_or_attribute_of_any_split_is_measured_anew(split):
    samples = {s: replace(p, scores=None, labels=None) for s, p in noisy().items()}
    memo = Kept()
    document(samples, ONCE, memo=memo)
    first = memo.puts
    labels, codes = samples[split].targets.copy(), samples[split].attribute.copy()
    labels[3, 2] ^= 1
    codes[5] = -1
    for count, changed in enumerate(({"targets": labels}, {"attribute": codes}), start=2):
        document({**samples, split: replace(samples[split], **changed)}, ONCE, memo=memo)
        assert memo.puts == count * first


def test_groups_by_another_code_score_alike():
    samples = noisy()
    swapped = {s: replace(p, attribute=1 - p.attribute) for s, p in samples.items()}
    one, other = (leakage(s, TINY, nulls=1, threads=1).figures for s in (samples, swapped))
    for name in ("lambda_D", "lambda_D_F1", "lambda_M", "lambda_M_decoded"):
        assert one[name].mean == pytest.approx(other[name].mean, abs=4 * 100 * (0.25 / 400) ** 0.5)
    mirrored = leakage(everywhere({"10": (25, 75), "01": (75, 25)}, scores=betrays), TINY, nulls=1, threads=1).figures
    assert (mirrored["lambda_D"].mean, mirrored["lambda_M"].mean) == (75.0, 100.0)


def test_order_of_rows_moves_figures_within_noise_alone():
    samples = noisy()
    shuffled = {}
    for split, p in samples.items():
        order = np.random.default_rng(1).permutation(len(p))
        shuffled[split] = Sample(p.targets[order], p.attribute[order], p.scores[order], p.labels[order])
    one, other = (leakage(s, TINY, nulls=1, threads=1).figures for s in (samples, shuffled))
    for name in ("lambda_D", "lambda_M"):
        assert one[name].mean == pytest.approx(other[name].mean, abs=4 * 100 * (0.25 / 400) ** 0.5)
    exact = everywhere(PAIR, scores=truth)
    backwards = {
        s: Sample(p.targets[::-1], p.attribute[::-1], p.scores[::-1], p.labels[::-1]) for s, p in exact.items()
    }
    assert leakage(backwards, TINY, nulls=1, threads=1).figures["lambda_M"].mean == 75.0


def test_scores_of_examples_without_attribute_are_not_read():
    samples = {}
    for split, p in noisy().items():
        codes = np.where(np.arange(len(p)) % 2, p.attribute, -1)
        samples[split] = replace(p, attribute=codes)
    wild = {
        s: replace(p, scores=np.where(p.attribute[:, None] < 0, np.float32(77), p.scores)) for s, p in samples.items()
    }
    one, other = (leakage(s, TINY, nulls=1, threads=1) for s in (samples, wild))
    assert one.figures["lambda_M"].rounds.tolist() == other.figures["lambda_M"].rounds.tolist()
    assert one.details["per_group"] == other.details["per_group"]


# -- protocols -----------------------------------------------------------------------------
def test_wang2019_takes_the_constants_of_the_data():
    """Of 4,000 of each group, as many as the released code of imSitu and of COCO draws."""
    text = "wang2019(rounds=1, epochs=1, width=4, layers=1, batch_size=1000)"
    single = part({"0": (2400, 1600), "1": (1600, 2400)}, single=True)
    multi = part({"0": (2400, 1600), "1": (1600, 2400)})
    found = [leakage(dict.fromkeys(("train", "val", "test"), p), text, nulls=1, threads=1) for p in (single, multi)]
    assert found[0].details["per_group"] == {"train": 4000, "val": 3000, "test": 3000}
    assert found[1].details["per_group"] == {"train": 3000, "val": 1500, "test": 1500}
    assert {report.protocol for report in found} == {text}


def test_a_share_of_the_training_draw():
    """One half of either group is kept: the attacker sees 50 of 100, and the test draw stays."""
    samples, told = everywhere(agree(80)), []
    report = leakage(samples, replace(ONCE, share=0.5), nulls=1, threads=1, progress=lambda *s: told.append(s))
    assert report.figures["lambda_D"].mean == 80.0
    assert told[-1] == (4 * ONCE.epochs, 4 * ONCE.epochs)  # lambda_D, two nulls, the control


# -- what is refused -----------------------------------------------------------------------
def test_scores_that_are_not_numbers_are_refused_not_fair():
    p = part(PAIR, scores=truth)
    for value in (np.nan, np.inf):
        scores = p.scores.copy()
        scores[7, 1] = value
        with pytest.raises(DataError, match="row 7: a score is not finite"):
            replace(p, scores=scores)
        with pytest.raises(DataError, match="row 7: a score is not finite"):
            replace(p, views=(p.scores, scores))
    with pytest.raises(CellError, match="overflowed"):
        leakage(noisy(scale=1e25), ONCE, nulls=1, threads=1)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"protocol": "wang2018"}, UsageError, "no leakage protocol 'wang2018'. Did you mean 'wang2019'"),
        ({"protocol": "quick(epoch=3)"}, UsageError, "no constant 'epoch'. Did you mean 'epochs'"),
        ({"groups": ("one",)}, DataError, "codes up to 1, and 1 groups are named"),
        ({"noises": (1.5,)}, UsageError, "a share of 1.5 is outside 0..1"),
        ({"f1": 50.0}, UsageError, "f1 must be from 0 to 1, not 50"),
        ({"nulls": -1}, UsageError, "nulls"),
        ({"perturbation": "replacement"}, UsageError, "replacement needs one label an example"),
    ],
)
def test_wrong_options_are_told(options: Mapping[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        leakage(everywhere(agree(75)), **{"protocol": ONCE, "nulls": 1, "threads": 1, "f1": 0.9, **options})


def test_a_model_without_decoded_labels_has_no_f1():
    samples = {s: replace(p, labels=None) for s, p in everywhere(PAIR, scores=truth).items()}
    with pytest.raises(CellError, match="without decoded labels has no F1"):
        leakage(samples, ONCE, nulls=1, threads=1)


def test_an_undefined_measurement_is_still_a_document():
    """One label an example and a group that a split lacks: no figure, and no NaN in JSON."""
    lacking = splits({"0": (60, 20), "1": (20, 60)}, {"0": (60, 0)}, {"0": (60, 20)}, single=True)
    said = json.loads(document(lacking, ONCE))
    assert said["lambda_D"]["mean"] is None
    assert said["flags"] == ["leakage undefined: no example of 1 (val)"]
    assert said["details"]["majority_rule"]["val"] is None
