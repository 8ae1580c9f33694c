"""Training in stacks against one plain attacker after another, and by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from runpy import run_path
from threading import Lock
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from biasbench import SPLITS, CellError
from biasbench.measures.attackers import Job, train_attackers, train_stack
from biasbench.measures.protocol import PROTOCOLS, Protocol
from biasbench.measures.reader import Draw

pytestmark = pytest.mark.torch
PLAIN = SimpleNamespace(**run_path(str(Path(__file__).parents[1] / "helpers" / "plain_attacker.py")))
SMALL = Protocol("small", epochs=3, lr=3e-3, weight_decay=1e-3, width=20, batch_size=32)


def leak(seed, n, k=5, groups=2, kind="scores", shift=1.0, scale=1.0):
    """A draw that leaks the group, in column 0 or in the class."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % groups
    if kind == "scores":
        table = rng.normal(size=(n, k))
        table[:, 0] += shift * (codes - 0.5)
        table = scale * table
    elif kind == "labels":
        table = (rng.random((n, k)) < 0.2 + 0.4 * (np.arange(k) % groups == codes[:, None])).astype(np.uint8)
    else:
        table = np.where(rng.random(n) < 0.5, codes, rng.integers(0, k, n))
    return Draw(lambda: table, np.arange(n), codes, kind)


def job(seed=0, sizes=(200, 100, 400), k=5, groups=2, **how):
    draws = {s: leak((seed, i), n, k, groups, **how) for i, (s, n) in enumerate(zip(SPLITS, sizes, strict=True))}
    return Job(("test", seed), draws, k, groups)


def same_bits(one, other):
    assert (one.epoch, one.accuracy, one.last) == (other.epoch, other.accuracy, other.last)
    for name in ("right", "val", "losses"):
        assert (getattr(one, name) == getattr(other, name)).all()


# -- against the plain way -----------------------------------------------------------------
CASES = {
    "scores": (job(1), SMALL),
    "labels": (job(2, kind="labels", k=9), SMALL),
    "classes": (job(3, kind="classes", k=17), SMALL),
    "three groups": (job(4, groups=3, kind="classes"), SMALL),
    "one layer": (job(5), Protocol("t", epochs=3, lr=1e-2, layers=1)),
    "five layers": (job(6, kind="labels"), Protocol("t", epochs=3, lr=1e-3, layers=5, width=17, slope=0.2)),
    "a last batch of one row": (job(7, sizes=(65, 40, 40)), SMALL),
    "a last batch of two rows": (job(8, sizes=(66, 40, 40)), SMALL),
    "less than a batch": (job(9, sizes=(11, 40, 40), kind="labels"), SMALL),
    "COCO's sizes": (job(10, sizes=(1500, 300, 300), k=79, kind="labels"), Protocol("t", epochs=2)),
    "imSitu's sizes": (job(11, sizes=(1500, 300, 300), k=211, kind="classes"), Protocol("t", epochs=2, layers=5)),
}


@pytest.mark.parametrize(("one", "protocol"), CASES.values(), ids=CASES)
def test_training_equals_the_plain_way(one, protocol):
    (got,), plain = train_attackers([one], protocol), PLAIN.attack(one, protocol)
    assert got.losses == pytest.approx(plain.losses, rel=1e-5)
    assert got.val == pytest.approx(plain.val, abs=1.01 / len(one.draws["val"].rows))  # one row by rounding
    assert got.last == pytest.approx(plain.last, abs=1.01 / len(one.draws["test"].rows))
    if got.epoch == plain.epoch:
        assert (got.right == plain.right).mean() > 1 - 1.01 / len(got.right)
    assert got.accuracy == got.right.mean()


@pytest.mark.parametrize("kind", ["scores", "labels", "classes"])
def test_one_layer_gives_the_plain_ways_epoch_and_every_row(kind):
    """Of one layer every gradient is more than rounding, of which Adam would make steps of the full size."""
    jobs, protocol = [job(seed, kind=kind) for seed in range(3)], replace(SMALL, layers=1, lr=1e-2, epochs=10)
    for got, one in zip(train_attackers(jobs, protocol), jobs, strict=True):
        plain = PLAIN.attack(one, protocol)
        assert (got.epoch, got.accuracy, got.last) == (plain.epoch, plain.accuracy, plain.last)
        assert (got.val == plain.val).all()
        assert (got.right == plain.right).all()


def test_easy_data_give_the_plain_ways_epoch_and_accuracy():
    jobs, protocol = [job(seed, shift=40.0) for seed in range(3)], replace(SMALL, epochs=8, lr=1e-2)
    for got, one in zip(train_attackers(jobs, protocol), jobs, strict=True):
        plain = PLAIN.attack(one, protocol)
        assert got.epoch == plain.epoch < 8
        assert got.accuracy == plain.accuracy > 0.95
        assert got.last == plain.last == 1


# -- alone and together --------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["scores", "labels", "classes"])
@pytest.mark.parametrize(("k", "layers", "width"), [(5, 4, 20), (33, 1, 7), (16, 3, 300)])
def test_neither_neighbours_nor_threads_move_a_bit(kind, k, layers, width):
    protocol = Protocol("t", epochs=2, lr=3e-3, layers=layers, width=width, batch_size=15)
    jobs = [job(seed, sizes=(67, 50, 50), k=k, kind=kind) for seed in range(5)]
    alone = [train_attackers([one], protocol, threads=1)[0] for one in jobs]
    for threads in (1, 2, 4):
        for got, expected in zip(train_attackers(jobs, protocol, threads=threads), alone, strict=True):
            same_bits(got, expected)


@pytest.mark.parametrize("kind", ["scores", "labels", "classes"])
def test_a_stack_of_several_trains_each_as_alone(kind):
    """What an accelerator does, here; classes differ in how many a batch has."""
    jobs = [job(seed, sizes=(97, 50, 50), k=24, kind=kind) for seed in range(3)]
    together = train_stack(jobs, SMALL, torch.device("cpu"), lambda _: None)
    for got, alone in zip(together, train_attackers(jobs, SMALL), strict=True):
        assert got.losses == pytest.approx(alone.losses, rel=1e-5)
        assert got.val == pytest.approx(alone.val, abs=1.01 / 50)  # one row by rounding


def test_jobs_of_any_shape_may_stand_in_one_call():
    """Widths, groups, rows and kinds of table differ; scores, labels and classes of one shape too."""
    jobs = [
        job(1),
        job(2, k=7),
        job(3, groups=3),
        job(4, sizes=(60, 30, 30)),
        job(5),
        job(6, kind="labels"),
        job(7, kind="classes"),
    ]
    for got, one in zip(train_attackers(jobs, SMALL, threads=2), jobs, strict=True):
        same_bits(got, train_attackers([one], SMALL)[0])


def test_draws_may_share_a_table_across_splits_and_attackers():
    whole = leak(0, 300)
    parts = np.split(np.random.default_rng(1).permutation(300), [100, 200])

    def of(rows, table):
        return Draw(table, rows, whole.codes[rows])

    shared = {s: of(rows, whole.table) for s, rows in zip(SPLITS, parts, strict=True)}
    own = {s: of(np.arange(100), lambda rows=rows: whole.table()[rows]) for s, rows in zip(SPLITS, parts, strict=True)}
    own = {s: Draw(d.table, d.rows, whole.codes[rows]) for (s, d), rows in zip(own.items(), parts, strict=True)}
    one, other = (Job(("same",), draws, 5) for draws in (shared, own))
    turned = Job(("turned",), {s: shared[t] for s, t in zip(SPLITS, ("val", "test", "train"), strict=True)}, 5)
    got = train_attackers([one, turned], SMALL)
    same_bits(got[0], train_attackers([other], SMALL)[0])
    same_bits(got[1], train_attackers([turned], SMALL)[0])


def test_training_repeats_and_leaves_global_state_alone():
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    threads, inside = torch.get_num_threads(), set()
    torch.set_num_threads(2)
    try:
        jobs = [job(1), job(2)]
        once = train_attackers(jobs, SMALL, progress=lambda *_: inside.add(torch.get_num_threads()))
        assert torch.get_num_threads() == 2
        with pytest.raises(CellError):
            train_attackers([job(1, scale=np.inf)], SMALL)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(once, train_attackers(jobs, SMALL), strict=True):
        same_bits(one, other)
    assert inside == {1}
    assert torch.equal(state, torch.get_rng_state())
    assert (numpy_state == np.random.get_state()[1]).all()  # noqa: NPY002


def test_streams_make_attackers_differ():
    one = job(1)
    got = train_attackers([one, Job(("another",), one.draws, one.width)], SMALL)
    assert (got[0].losses != got[1].losses).all()


# -- selection -----------------------------------------------------------------------------
def test_the_selected_epoch_is_read_not_the_last():
    one = job(0, sizes=(60, 200, 400), shift=0.8)
    (got,) = train_attackers([one], Protocol("t", epochs=30, lr=3e-3, width=30))
    assert got.epoch < 30
    assert got.accuracy != got.last
    short = Protocol("t", epochs=got.epoch, lr=3e-3, width=30)
    (until,) = train_attackers([one], short)
    assert (until.epoch, until.accuracy, until.last) == (got.epoch, got.accuracy, got.accuracy)
    assert (until.right == got.right).all()
    assert (got.val[: got.epoch] == until.val).all()


def test_every_attacker_of_a_stack_has_its_own_epoch():
    jobs = [job(seed, sizes=(60, 200, 400), shift=0.8) for seed in range(4)]
    got = train_stack(jobs, Protocol("t", epochs=20, lr=3e-3, width=30), torch.device("cpu"), lambda _: None)
    assert len({o.epoch for o in got}) > 1
    for o in got:
        assert o.epoch == int(np.argmax(o.val)) + 1
        assert o.accuracy == o.right.mean()


def test_the_earliest_of_equally_good_epochs_is_selected():
    one = job(1, sizes=(200, 200, 200), shift=40.0)  # all right from some epoch on
    long, short = (train_attackers([one], Protocol("t", epochs=n, lr=1e-2, width=30))[0] for n in (20, 8))
    assert long.epoch == short.epoch < 8
    assert (long.val[long.epoch - 1 :] == 1).all()
    assert short.last == long.last == 1.0


# -- what is refused and told --------------------------------------------------------------
@pytest.mark.parametrize("scale", [1e19, 1e25, 1e37])
def test_numbers_that_overflow_are_refused(scale):
    """The same scores leak at scale 1: 0.5 would be taken for fairness."""
    assert train_attackers([job(1, shift=3.0)], SMALL)[0].accuracy > 0.7
    with pytest.raises(CellError, match="overflowed"):
        train_attackers([job(1, shift=3.0, scale=scale)], SMALL)


@pytest.mark.parametrize("split", SPLITS)
def test_a_score_that_is_not_finite_is_refused_in_every_split(split):
    one = job(1)
    table = one.draws[split].table().copy()
    table[3, 2] = np.nan
    broken = {**one.draws, split: Draw(lambda: table, one.draws[split].rows, one.draws[split].codes)}
    with pytest.raises(CellError, match="not finite"):
        train_attackers([job(0), Job(one.stream, broken, one.width)], SMALL)


def test_an_error_stops_the_stacks_that_have_not_begun():
    due = []
    with pytest.raises(CellError):
        train_attackers(
            [job(0, scale=np.inf, sizes=(40, 20, 20)), *(job(i) for i in range(24))],
            SMALL,
            threads=1,
            progress=lambda done, _: due.append(done),
        )
    assert max(due, default=0) <= SMALL.epochs  # at most the attacker that was next


def test_progress_and_outcomes_are_told_as_they_come():
    seen, told, lock = {}, [], Lock()

    def done(number, outcome):
        with lock:
            assert number not in seen
            seen[number] = outcome

    jobs = [job(i, sizes=(40, 20, 20)) for i in range(5)]
    got = train_attackers(jobs, SMALL, threads=2, done=done, progress=lambda *counts: told.append(counts))
    assert all(seen[i] is o for i, o in enumerate(got))
    assert [d for d, _ in told] == sorted(d for d, _ in told)
    assert {due for _, due in told} == {5 * 3}
    assert told[-1] == (15, 15)


def test_published_protocols_reach_the_network():
    """Epochs and shapes of a protocol are those of what is trained."""
    one = job(1, sizes=(40, 20, 20))
    (got,) = train_attackers([one], PROTOCOLS["smoke"])
    assert len(got.val) == len(got.losses) == PROTOCOLS["smoke"].epochs
