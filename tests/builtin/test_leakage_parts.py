"""Draws, perturbation and attacker, each against an independent reference."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from biasbench import CellError, UsageError, generator, torch_generator
from biasbench.builtin.metrics.draws import balanced_rows, per_group
from biasbench.builtin.metrics.perturb import calibrate, expected_f1, flip
from biasbench.builtin.metrics.protocol import PROTOCOLS, Protocol, protocol_named

pytestmark = pytest.mark.torch
seeds = st.integers(0, 2**32 - 1)


# -- draws ---------------------------------------------------------------------------------
@settings(max_examples=50, deadline=None)
@given(seeds, st.lists(st.integers(-1, 1), max_size=80), st.integers(1, 30))
def test_draws_are_balanced_capped_distinct_and_repeatable(seed, codes, cap):
    codes = np.array(codes, np.int64)
    rows = balanced_rows(codes, 2, cap, np.random.default_rng(seed))
    n = per_group(codes, 2, cap)
    assert n == min(cap, (codes == 0).sum(), (codes == 1).sum())
    assert codes[rows].tolist() == [0] * n + [1] * n
    assert len(set(rows.tolist())) == len(rows)
    assert (rows == balanced_rows(codes, 2, cap, np.random.default_rng(seed))).all()


def test_every_row_of_a_group_can_be_drawn():
    codes = np.array([0, 1] * 10)
    seen = {int(r) for s in range(60) for r in balanced_rows(codes, 2, 3, np.random.default_rng(s))}
    assert seen == set(range(20))


# -- perturbation --------------------------------------------------------------------------
@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.data(), st.floats(0, 1))
def test_expected_f1_equals_enumeration(n, data, p):
    positives = data.draw(st.integers(0, n))
    total = 0.0
    for flips in product([0, 1], repeat=n):  # the first `positives` rows carry the label
        hits, alarms = positives - sum(flips[:positives]), sum(flips[positives:])
        f1 = 2 * hits / (positives + hits + alarms) if positives else 0.0
        total += p ** sum(flips) * (1 - p) ** (n - sum(flips)) * f1
    assert expected_f1(np.array([positives]), n, p) == pytest.approx(total, abs=1e-9)


def rare_and_common(rng, n=800, k=12):
    labels = (rng.random((n, k)) < np.geomspace(0.004, 0.5, k)).astype(np.uint8)
    labels[:, 3] = 0  # a label that this draw lacks
    return labels


@pytest.mark.parametrize("target", [0.85, 0.6, 0.35])
def test_calibration_hits_the_target_by_brute_force(target):
    clean = rare_and_common(np.random.default_rng(5))
    found = calibrate(clean.sum(0), len(clean), target)
    rng = np.random.default_rng(6)
    drawn = [
        f1_score(clean, clean ^ (rng.random(clean.shape) < found.p), average="macro", zero_division=0)
        for _ in range(80)
    ]
    error = np.std(drawn) / len(drawn) ** 0.5
    assert found.f1 == pytest.approx(target, abs=1e-6)
    assert not found.out_of_reach
    assert np.mean(drawn) == pytest.approx(target, abs=max(1e-3, 3.5 * error))


def test_expected_f1_falls_with_p():
    clean = rare_and_common(np.random.default_rng(5))
    curve = [expected_f1(clean.sum(0), len(clean), p) for p in np.linspace(0, 0.5, 60)]
    assert (np.diff(curve) < 0).all()
    assert curve[0] == pytest.approx(11 / 12)  # the empty label counts 0 also without flips


def test_targets_out_of_reach_are_clamped_and_flagged():
    clean = rare_and_common(np.random.default_rng(5))
    above, below = calibrate(clean.sum(0), 800, 0.99), calibrate(clean.sum(0), 800, 0.01)
    assert (above.p, above.out_of_reach) == (0.0, True)
    assert (below.p, below.out_of_reach) == (0.5, True)
    exact = calibrate(clean.sum(0), 800, 11 / 12)
    assert (exact.p, exact.out_of_reach) == (0.0, False)


def test_flips_are_independent_with_rate_p_and_nested():
    zero = np.zeros((4000, 50), np.uint8)
    few, many = (flip(zero, p, np.random.default_rng(1)) for p in (0.03, 0.05))
    assert few.mean() == pytest.approx(0.03, abs=4 * (0.03 / zero.size) ** 0.5)
    assert (few <= many).all()
    assert abs(np.corrcoef(many[:, 0], many[:, 1])[0, 1]) < 4 / 4000**0.5
    assert (flip(zero, 0.05, np.random.default_rng(1)) ^ many == 0).all()


# -- protocol ------------------------------------------------------------------------------
def test_wang2019_has_the_published_constants():
    p = PROTOCOLS["wang2019"]
    assert (p.rounds, p.epochs, p.lr, p.weight_decay, p.batch_size) == (5, 100, 5e-5, 1e-5, 128)
    assert (p.layers, p.width, p.slope, p.caps) == (4, 300, 0.01, (3000, 1500, 1500))
    imsitu = PROTOCOLS["wang2019-imsitu"]
    assert (imsitu.layers, imsitu.caps, imsitu.epochs, imsitu.lr) == (5, (7300, 3000, 3000), 100, 5e-5)
    assert (PROTOCOLS["quick"].rounds, PROTOCOLS["quick"].epochs) == (3, 25)


def test_protocols_are_checked():
    with pytest.raises(UsageError, match=r"Did you mean 'quick'\?"):
        protocol_named("quik")
    with pytest.raises(UsageError, match=r"rounds must be at least 1; lr must be above 0"):
        Protocol("bad", rounds=0, lr=float("nan"))


# -- attacker ------------------------------------------------------------------------------
def examples(seed, n, k=5, shift=1.0):
    from biasbench.builtin.metrics.attacker import Examples

    rng = np.random.default_rng(seed)
    codes = np.repeat([0, 1], n // 2)
    x = rng.normal(size=(n, k))
    x[:, 0] += shift * (codes - 0.5)
    return Examples.of(x, codes)


@pytest.mark.parametrize(("inputs", "name", "count"), [(79, "wang2019", 207_160), (211, "wang2019-imsitu", 337_924)])
def test_attackers_have_the_released_number_of_parameters(inputs, name, count):
    from biasbench.builtin.metrics.attacker import attacker

    net = attacker(inputs, PROTOCOLS[name], torch_generator(0))
    assert sum(p.numel() for p in net.parameters()) == count


def test_attacker_is_built_as_released():
    from torch import nn

    from biasbench.builtin.metrics.attacker import attacker

    net = attacker(79, PROTOCOLS["wang2019"], torch_generator(0))
    hidden = [nn.Linear, nn.BatchNorm1d, nn.LeakyReLU]
    assert [type(m) for m in net] == [nn.BatchNorm1d, *hidden * 3, nn.Linear]
    assert all(m.negative_slope == 0.01 for m in net if isinstance(m, nn.LeakyReLU))
    assert all(m.affine and m.track_running_stats for m in net if isinstance(m, nn.BatchNorm1d))
    for mine in (m for m in net if isinstance(m, nn.Linear)):
        theirs = nn.Linear(mine.in_features, mine.out_features)
        assert float(mine.weight.detach().std()) == pytest.approx(float(theirs.weight.detach().std()), rel=0.15)
        assert float(mine.weight.detach().abs().max()) <= mine.in_features**-0.5


def test_training_equals_a_loop_written_from_the_paper():
    """Same start and batch orders; PyTorch's plain Adam, evaluation and selection by hand."""
    import torch

    from biasbench.builtin.metrics.attacker import attack, attacker

    protocol = Protocol("test", epochs=4, lr=1e-3, weight_decay=1e-2, width=20, batch_size=32)
    train, val, test = examples(1, 200), examples(2, 100), examples(3, 400)
    net = attacker(5, protocol, torch_generator("s", "init"))
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-2, foreach=False, fused=False)
    order, history = generator("s", "order"), []
    for _ in range(4):
        rows = order.permutation(200)
        net.train()
        for at in range(0, 200, 32):
            piece = rows[at : at + 32]
            loss = -torch.log_softmax(net(train.features[piece]), 1)[range(len(piece)), train.codes[piece]].mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        net.eval()
        with torch.no_grad():
            history.append([float((net(e.features).argmax(1) == e.codes).double().mean()) for e in (val, test)])
    chosen = int(np.argmax([v for v, _ in history]))  # the earliest of the best
    got = attack(train, val, test, protocol, ("s",))
    assert got.epoch == chosen + 1
    assert got.accuracy == pytest.approx(history[chosen][1], abs=1 / 400)
    assert got.last == pytest.approx(history[-1][1], abs=1 / 400)


def test_the_selected_epoch_is_read_not_the_last():
    from biasbench.builtin.metrics.attacker import attack

    train, val, test = examples(1, 60, shift=0.8), examples(2, 200, shift=0.8), examples(3, 400, shift=0.8)
    long = attack(train, val, test, Protocol("t", epochs=30, lr=3e-3, width=30), (1,))
    assert long.epoch < 30
    short = attack(train, val, test, Protocol("t", epochs=long.epoch, lr=3e-3, width=30), (1,))
    assert short == type(short)(long.accuracy, long.accuracy, long.epoch)
    assert long.accuracy != long.last


def test_the_earliest_of_equally_good_epochs_is_selected():
    from biasbench.builtin.metrics.attacker import attack

    train, val, test = (examples(i, 200, shift=40.0) for i in range(3))  # all right from some epoch on
    long, short = (attack(train, val, test, Protocol("t", epochs=n, lr=1e-2, width=30), (1,)) for n in (20, 8))
    assert long.epoch == short.epoch < 8
    assert short.last == long.last == 1.0


def test_attacks_repeat_and_leave_global_generators_alone():
    import torch

    from biasbench.builtin.metrics.attacker import attack

    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    protocol = Protocol("t", epochs=2, width=20)
    parts = examples(1, 129 * 2), examples(2, 50), examples(3, 300)
    assert attack(*parts, protocol, (1,)) == attack(*parts, protocol, (1,))
    assert torch.equal(state, torch.get_rng_state())
    assert (numpy_state == np.random.get_state()[1]).all()  # noqa: NPY002


def test_a_last_batch_of_one_row_is_not_lost():
    from biasbench.builtin.metrics.attacker import Examples, attack

    train = examples(1, 10)
    odd = Examples(train.features[:9], train.codes[:9])
    got = attack(odd, examples(2, 20), examples(3, 20), Protocol("t", epochs=1, width=4, batch_size=4), (1,))
    assert 0 <= got.accuracy <= 1


def test_numbers_that_overflow_are_refused():
    from biasbench.builtin.metrics.attacker import Examples, attack

    parts = [examples(i, 40) for i in range(3)]
    huge = [Examples(e.features * 1e25, e.codes) for e in parts]
    with pytest.raises(CellError, match="overflowed"):
        attack(*huge, Protocol("t", epochs=1, width=4), (1,))
    with pytest.raises(CellError, match="not finite"):
        Examples.of(np.array([[np.inf]]), np.array([0]))
