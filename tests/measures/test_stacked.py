"""Stacked attackers against one plain network each: weights, losses, gradients, statistics, answers."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from biasbench import torch_generator
from biasbench.measures.batch import distinct_rows, every_row
from biasbench.measures.stacked import Shape, Stack, padded

pytestmark = pytest.mark.torch
PLAIN = SimpleNamespace(**run_path(str(Path(__file__).parents[1] / "helpers" / "plain_attacker.py")))
CPU = torch.device("cpu")


@pytest.fixture
def double():
    """Stack and networks in float64: what is left of a difference is no rounding."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def made(shape, count, seed=0):
    """A stack and its networks, with scales and shifts that say something."""
    stack = Stack(shape, [torch_generator(seed, a) for a in range(count)], CPU)
    nets = [PLAIN.network(shape, torch_generator(seed, a)) for a in range(count)]
    rng = torch_generator(seed, "norms")
    for a, net in enumerate(nets):
        for scale, shift, norm in zip(stack.scales, stack.shifts, norms(net), strict=True):
            nn.init.uniform_(norm.weight, 0.5, 1.5, generator=rng)
            nn.init.uniform_(norm.bias, -0.5, 0.5, generator=rng)
            scale[a, 0, : norm.num_features] = norm.weight.detach()
            shift[a, 0, : norm.num_features] = norm.bias.detach()
    return stack, nets


def norms(net):
    return [m for m in net if isinstance(m, nn.BatchNorm1d)]


def linears(net):
    return [m for m in net if isinstance(m, nn.Linear)]


def parts(stack, nets):
    """Each trained tensor of a stack, [A, ...], with the same of every network, padded with zeros to the same shape."""
    groups = zip(
        [stack.weights, stack.biases, stack.scales, stack.shifts],
        [[*zip(*map(linears, nets), strict=True)]] * 2 + [[*zip(*map(norms, nets), strict=True)]] * 2,
        ["weight", "bias"] * 2,
        strict=True,
    )
    for tensors, modules, name in groups:
        for tensor, same in zip(tensors, modules, strict=True):
            yield tensor, [getattr(m, name) for m in same]


def fill(values, like):
    """[A, ...] one value an attacker, zeros where the stack is padded."""
    out = torch.zeros_like(like)
    for a, value in enumerate(values):
        rows = value.detach().t() if value.ndim == 2 else value.detach().unsqueeze(0)
        out[(a, *map(slice, rows.shape))] = rows
    return out


def batch(rng, shape, count, rows, classes):
    """Features as the stack takes them, the same for one network each, and codes."""
    codes = torch.from_numpy(rng.integers(0, shape.outputs, (rows, count)))
    if classes:
        features = rng.integers(0, shape.inputs, (rows, count))
        features[0], features[1] = 0, shape.inputs - 1  # of equal rows nothing is left but rounding, many times over
        wide = [PLAIN.dense(features[:, a], shape.inputs) for a in range(count)]
        return torch.from_numpy(features), wide, codes
    wide = [PLAIN.dense(rng.normal(1, 3, (rows, shape.inputs)), shape.inputs) for _ in range(count)]
    more = (0, padded(shape.inputs) - shape.inputs)
    return torch.stack([nn.functional.pad(x, more) for x in wide], 1), wide, codes


def learnt(stack, features, codes):
    """Losses of one batch; equal classes are one row."""
    shape, rows = stack.shape, len(codes)
    if features.ndim == 3:
        return stack.learn(every_row(features, codes, shape.outputs))
    (one,) = distinct_rows(features, codes, rows, padded(shape.inputs), shape.outputs)
    return stack.learn(one)


def check_learning(shape, count, sizes, classes, rel, seed=0):
    """Losses, gradients and running statistics after each of some batches."""
    stack, nets = made(shape, count, seed)
    rng = np.random.default_rng(seed)
    for rows in sizes:
        features, wide, codes = batch(rng, shape, count, rows, classes)
        losses = learnt(stack, features, codes)
        for a, net in enumerate(nets):
            net.train().zero_grad()
            loss = cross_entropy(net(wide[a]), codes[:, a])
            loss.backward()
            assert losses[a].item() == pytest.approx(loss.item(), rel=rel)
        for mine, theirs in parts(stack, nets):
            expected = fill([p.grad for p in theirs], mine)
            # Biases before a BatchNorm have gradient 0, in both ways but for rounding.
            torch.testing.assert_close(mine.grad, expected, rtol=rel, atol=rel)
            assert (mine.grad[fill([torch.ones_like(p) for p in theirs], mine) == 0] == 0).all()
    for i, same in enumerate(zip(*map(norms, nets), strict=True)):
        for mine, name in ((stack.means[i], "running_mean"), (stack.variances[i], "running_var")):
            for a, norm in enumerate(same):
                torch.testing.assert_close(mine[a, 0, : norm.num_features], getattr(norm, name), rtol=rel, atol=rel)
    return stack, nets


# -- architecture --------------------------------------------------------------------------
@pytest.mark.parametrize(("inputs", "layers", "count"), [(79, 4, 207_160), (211, 5, 337_924)])
def test_attackers_have_the_released_number_of_parameters(inputs, layers, count):
    shape = Shape(inputs, layers=layers)
    assert shape.parameters == count
    assert sum(p.numel() for p in PLAIN.network(shape, torch_generator(0)).parameters()) == count


def test_attacker_is_built_as_released():
    net = PLAIN.network(Shape(79), torch_generator(0))
    hidden = [nn.Linear, nn.BatchNorm1d, nn.LeakyReLU]
    assert [type(m) for m in net] == [nn.BatchNorm1d, *hidden * 3, nn.Linear]
    assert all(m.negative_slope == 0.01 for m in net if isinstance(m, nn.LeakyReLU))
    assert all(m.affine and m.track_running_stats for m in norms(net))
    for mine in linears(net):
        theirs = nn.Linear(mine.in_features, mine.out_features)
        assert float(mine.weight.detach().std()) == pytest.approx(float(theirs.weight.detach().std()), rel=0.15)
        assert float(mine.weight.detach().abs().max()) <= mine.in_features**-0.5


@pytest.mark.parametrize("shape", [Shape(79), Shape(5, 3, layers=2, width=7), Shape(3, layers=1)])
def test_initial_weights_are_those_of_the_plain_network(shape):
    stack = Stack(shape, [torch_generator(a) for a in range(3)], CPU)
    nets = [PLAIN.network(shape, torch_generator(a)) for a in range(3)]
    for mine, theirs in [*parts(stack, nets)][: 2 * shape.layers]:  # weights and biases
        assert torch.equal(mine, fill(theirs, mine))
    assert all((p == 1).all() for p in [*stack.scales, *stack.variances])
    assert all((p == 0).all() for p in [*stack.shifts, *stack.means])


# -- learning ------------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(
    st.builds(Shape, st.integers(2, 40), st.sampled_from([2, 3, 5, 16]), st.integers(1, 5), st.integers(1, 40)),
    st.integers(1, 3),
    st.lists(st.integers(3, 12), min_size=1, max_size=4),
    st.booleans(),
)
def test_gradients_and_statistics_equal_autograd(shape, count, sizes, classes):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        check_learning(shape, count, sizes, classes, 1e-8)
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_a_batch_of_two_rows(double, layers, classes):
    check_learning(Shape(6, 3, layers=layers, width=18), 2, [2, 5, 2], classes, 1e-6)


@pytest.mark.parametrize(("inputs", "layers", "classes"), [(79, 4, False), (211, 5, True)])
def test_gradients_of_the_published_sizes_in_float32(inputs, layers, classes):
    check_learning(Shape(inputs, layers=layers), 2, [128, 112], classes, 2e-6)


def test_slope_is_the_protocols(double):
    check_learning(Shape(4, layers=3, width=5, slope=0.3), 2, [9], False, 1e-9)


def test_padding_stays_zero_while_weights_decay():
    shape = Shape(5, layers=3, width=9)
    stack, nets = made(shape, 2)
    adam = torch.optim.Adam([stack.trained], lr=1e-2, weight_decay=0.1, fused=True)
    rng = np.random.default_rng(0)
    for _ in range(20):
        features, _, codes = batch(rng, shape, 2, 8, classes=False)
        learnt(stack, features, codes)
        adam.step()
    for mine, theirs in [*parts(stack, nets)][: 2 * shape.layers]:
        real = fill([torch.ones_like(p) for p in theirs], mine) == 1
        assert (mine[real] != 0).all()
        assert (mine[~real] == 0).all()


# -- reading -------------------------------------------------------------------------------
@settings(max_examples=25, deadline=None)
@given(
    st.builds(Shape, st.integers(2, 40), st.sampled_from([2, 3]), st.integers(1, 5), st.integers(1, 40)),
    st.lists(st.integers(2, 9), min_size=1, max_size=3),
    st.booleans(),
)
def test_reading_equals_networks_in_evaluation_mode(shape, sizes, classes):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        stack, nets = check_learning(shape, 2, [5, 7, 4], classes, 1e-6)
        rng = np.random.default_rng(1)
        slabs = [batch(rng, shape, 2, n, classes)[:2] for n in sizes]
        kept = [t.clone() for t in stack.state]
        said = [z.clone() for z in stack.read(features for features, _ in slabs)]
        for (_, wide), z in zip(slabs, said, strict=True):
            for a, net in enumerate(nets):
                torch.testing.assert_close(z[:, a], net.eval()(wide[a]).detach(), rtol=1e-6, atol=1e-6)
        assert all(map(torch.equal, stack.state, kept))
    finally:
        torch.set_default_dtype(before)
