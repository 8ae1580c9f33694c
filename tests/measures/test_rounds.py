"""What the attackers of a measurement share: draws, streams, tables and keys."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from biasbench import SPLITS, Sample
from biasbench.measures.certified import CERTIFIED
from biasbench.measures.rounds import Attack, Rounds
from biasbench.measures.run import Known, figure_of
from tests.measures.leaks import TINY, agree, everywhere, truth

pytestmark = pytest.mark.torch
PAIR = {"10": (150, 50), "01": (50, 250)}
SCORED = everywhere(PAIR, scores=truth)


def rounds(samples=SCORED, protocol=TINY, seed=0, kind="flips", width=2, groups=2):
    return Rounds(samples, width, groups, protocol, seed, kind)


def draw(attack, split, **how):
    return rounds(**how).job(attack).draws[split]


def test_draws_and_streams_are_those_of_the_round_whatever_is_attacked():
    shared = rounds()
    jobs = {
        attack: shared.job(attack)
        for attack in (
            Attack(1), Attack(1, "scores"), Attack(1, "labels"), Attack(1, perturbed=0.1),
            Attack(1, "scores", shuffled="train"), Attack(1, shuffled="all", shuffle=3),
        )
    }  # fmt: skip
    assert len({job.stream for job in jobs.values()}) == 1
    for split in SPLITS:
        rows = shared.rows(1, split)
        for attack, job in jobs.items():
            if attack.perturbed is None:
                assert (job.draws[split].rows == rows).all()
            if not attack.shuffled:
                assert (job.draws[split].codes == SCORED[split].attribute[rows]).all()
    assert shared.job(Attack(0)).stream != shared.job(Attack(1)).stream != rounds(seed=1).job(Attack(1)).stream


def test_draws_do_not_depend_on_the_model_or_on_the_labels():
    other = {s: Sample(1 - p.targets, p.attribute) for s, p in SCORED.items()}
    for r in range(2):
        for split in SPLITS:
            assert (rounds().rows(r, split) == rounds(other).rows(r, split)).all()
            assert (rounds().rows(r, split) == rounds(protocol=replace(TINY, lr=1.0)).rows(r, split)).all()
            assert (rounds().rows(r, split) != rounds(seed=1).rows(r, split)).any()


@pytest.mark.parametrize(("reads", "expected"), [("targets", "targets"), ("scores", "scores"), ("labels", "labels")])
def test_what_is_read(reads, expected):
    for split in SPLITS:
        found = draw(Attack(0, reads), split)
        assert found.table() is getattr(SCORED[split], expected)


def test_rounds_train_on_their_view_and_are_tested_on_the_plain_scores():
    views = tuple(SCORED["train"].scores + i for i in (1, 2, 3))
    viewed = {**SCORED, "train": replace(SCORED["train"], views=views)}
    for r, view in ((0, 0), (1, 1), (2, 2), (3, 0)):
        assert draw(Attack(r, "scores"), "train", samples=viewed).table() is views[view]
        assert draw(Attack(r, "scores"), "test", samples=viewed).table() is viewed["test"].scores
        assert draw(Attack(r), "train", samples=viewed).table() is viewed["train"].targets


@pytest.mark.parametrize(("shuffled", "changed"), [("", ()), ("train", ("train",)), ("all", SPLITS)])
def test_shuffles_move_the_codes_of_a_draw_and_keep_it_balanced(shuffled, changed):
    for split in SPLITS:
        plain, found = draw(Attack(0), split), draw(Attack(0, shuffled=shuffled), split)
        assert (found.rows == plain.rows).all()
        assert np.bincount(found.codes).tolist() == np.bincount(plain.codes).tolist()
        assert (found.codes != plain.codes).any() == (split in changed)
    one, two, again = (
        draw(Attack(0, shuffled="all", shuffle=i), "test").codes.tolist() for i in (0, 1, 0)
    )  # fmt: skip
    assert one == again != two
    assert (
        draw(Attack(0, shuffled="train"), "train").codes.tolist()
        == draw(Attack(0, shuffled="all"), "train").codes.tolist()
    )


def test_wrong_attributes_are_the_same_in_every_round_and_figure():
    """An image that an annotator got wrong is wrong; at a larger share, more are."""
    shared = rounds()
    wrong = {}
    for q in (0.05, 0.2):
        found = {}
        for r in range(3):
            for reads in ("targets", "scores"):
                d = shared.job(Attack(r, reads, noise=q)).draws["test"]
                assert np.bincount(d.codes).tolist() == [100, 100]
                for row, code in zip(d.rows.tolist(), d.codes.tolist(), strict=True):
                    assert found.setdefault(row, code) == code
        wrong[q] = {row for row, code in found.items() if code != SCORED["test"].attribute[row]}
    assert wrong[0.05]
    assert len(wrong[0.2]) > len(wrong[0.05])


def test_a_share_keeps_the_first_of_either_group():
    half, whole = rounds(protocol=replace(TINY, share=0.5)), rounds()
    codes = SCORED["train"].attribute
    for g in (0, 1):
        of_half, of_whole = ([row for row in r.rows(0, "train") if codes[row] == g] for r in (half, whole))
        assert of_half == of_whole[: len(of_whole) // 2]
    assert (half.rows(0, "test") == whole.rows(0, "test")).all()
    few = rounds(protocol=replace(TINY, share=0.001))
    assert np.bincount(codes[few.rows(0, "train")]).tolist() == [1, 1]


def test_no_caps_take_all_that_balance_allows():
    assert rounds(protocol=CERTIFIED["certified"]).per_group() == {"train": 200, "val": 200, "test": 200}


# -- keys ----------------------------------------------------------------------------------
CHANGED = {
    "round": (Attack(1), {}),
    "what is read": (Attack(0, "scores"), {}),
    "rate": (Attack(0, perturbed=0.2), {}),
    "shuffle": (Attack(0, shuffled="all"), {}),
    "its number": (Attack(0, shuffled="all", shuffle=1), {}),
    "noise": (Attack(0, noise=0.1), {}),
    "control": (Attack(0, planted=0.9), {}),
    "seed": (Attack(0), {"seed": 1}),
    "a constant": (Attack(0), {"protocol": replace(TINY, epochs=7)}),
    "kind of protocol": (Attack(0), {"protocol": CERTIFIED["certified"]}),
    "groups": (Attack(0), {"groups": 3}),
    "width": (Attack(0), {"width": 3}),
    "labels": (Attack(0), {"samples": everywhere({"10": (150, 50), "01": (51, 250)}, scores=truth)}),
    "kind of perturbation": (Attack(0, perturbed=0.2), {"kind": "replacement"}),
}


def test_keys_name_everything_that_an_outcome_depends_on():
    keys = [rounds().key(Attack(0)), *(rounds(**how).key(attack) for attack, how in CHANGED.values())]
    same = [name for i, name in enumerate(CHANGED, 1) if keys[i] in keys[:i]]
    assert same == []


def test_keys_do_not_name_what_cannot_matter():
    key = rounds().key(Attack(0))
    moved = {s: replace(p, scores=p.scores + 1) for s, p in SCORED.items()}
    narrow = {
        s: replace(p, targets=p.targets.astype(np.int64), attribute=p.attribute.astype(np.int8))
        for s, p in SCORED.items()
    }
    for how in (
        {"protocol": replace(TINY, name="other", fold=False, rounds=9)}, {"kind": "replacement"},
        {"samples": moved}, {"samples": narrow},
    ):  # fmt: skip
        assert rounds(**how).key(Attack(0)) == key
    assert rounds(moved).key(Attack(0, "scores")) != rounds().key(Attack(0, "scores"))
    views = {**SCORED, "train": replace(SCORED["train"], views=(SCORED["train"].scores,))}
    assert rounds(views).key(Attack(0, "scores")) != rounds().key(Attack(0, "scores"))


# -- outcomes ------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 200])
def test_outcomes_survive_json(n):
    right = np.random.default_rng(n).random(n) < 0.5
    for last in (0.25, float("nan")):
        known = Known(0.75, last, 3, right, {"kind": "logistic"})
        found = Known.from_json(known.to_json())
        assert (found.accuracy, found.epoch, found.details) == (0.75, 3, {"kind": "logistic"})
        assert np.array_equal(found.last, last, equal_nan=True)
        assert found.right.dtype == bool
        assert found.right.tolist() == right.tolist()


def test_a_figure_of_outcomes():
    shared = rounds(everywhere(agree(80)))
    rights = [np.arange(200) % 5 > 0, np.arange(200) % 5 == 0]  # 80 % right, and as often wrong
    known = [Known(float(r.mean()), last, i, r) for i, (r, last) in enumerate(zip(rights, (0.6, 0.3), strict=True), 1)]
    attacks = [Attack(0), Attack(1)]
    figure = figure_of(known, attacks, shared)
    assert figure.rounds == pytest.approx([80.0, 80.0])
    assert figure.last == pytest.approx([60.0, 70.0])
    assert figure.epochs == (1, 2)
    assert figure.interval is not None
    assert figure.interval[0] < 80 < figure.interval[1]
    plain = figure_of(known, attacks, rounds(everywhere(agree(80)), replace(TINY, fold=False)))
    assert plain.rounds == pytest.approx([80.0, 20.0])
    unselected = figure_of([Known(0.8, float("nan"), 0, rights[0])], attacks[:1], shared)
    assert (unselected.last, unselected.epochs) == (None, ())
    shuffled = figure_of(known, [Attack(0, shuffled="all"), Attack(1, shuffled="all")], shared)
    assert shuffled.interval is None  # there is no attribute of an image
