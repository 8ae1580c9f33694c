"""The CRF heads: every sum and maximum against all states, the loss against closed forms, and learning."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biasbench import Batch, BuildInfo, MultiClassHead, MultiLabelHead, UsageError
from biasbench.builtin.methods.crf import Crf, JointHead, StarHead
from biasbench.builtin.methods.crf_fields import JointField, StarField
from biasbench.plugins import load_plugins

pytestmark = pytest.mark.torch


@st.composite
def potentials(draw, most_labels=4):
    """[B, G] and [B, K, G] float64, from near 0 to where a softmax saturates."""
    b, k, g = draw(st.integers(1, 3)), draw(st.integers(1, most_labels)), draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([0.1, 1.0, 5.0, 30.0]))
    return torch.tensor(rng.normal(0, scale, (b, g))), torch.tensor(rng.normal(0, scale, (b, k, g)))


def star_states(unary, pairwise):
    """All (y, g) and the potential of each, for every picture: [S, K], [S], [B, S]."""
    k, g = pairwise.shape[1:]
    states = [(y, j) for y in itertools.product((0, 1), repeat=k) for j in range(g)]
    y = torch.tensor([s[0] for s in states], dtype=torch.float64)
    group = torch.tensor([s[1] for s in states])
    values = unary[:, group] + torch.einsum("sk,bks->bs", y, pairwise[:, :, group])
    return y, group, values


def batch(targets, codes, name="gender"):
    n = len(targets)
    return Batch(torch.zeros(n, 3, 0, 0), targets, {name: torch.as_tensor(codes)}, {}, torch.arange(n))


# ------------------------------------------------------------------ several labels
@settings(max_examples=40, deadline=None)
@given(potentials())
def test_star_against_all_states(given_):
    unary, pairwise = given_
    y, group, values = star_states(unary, pairwise)
    field = StarField(unary, pairwise)
    log_p = values - torch.logsumexp(values, 1, keepdim=True)
    for j in range(pairwise.shape[2]):
        expected = torch.logsumexp(log_p[:, group == j], 1)
        torch.testing.assert_close(field.group_scores()[:, j], expected)
    for k in range(pairwise.shape[1]):
        odds = torch.logsumexp(log_p[:, y[:, k] == 1], 1) - torch.logsumexp(log_p[:, y[:, k] == 0], 1)
        torch.testing.assert_close(field.label_scores()[:, k], odds)
    best, where = values.max(1)
    labels, groups, value = field.decode()
    torch.testing.assert_close(value, best)
    assert torch.equal(groups, group[where])
    assert torch.equal(labels.double(), y[where])
    ones = torch.ones(pairwise.shape[1], dtype=torch.float64)
    for s in range(0, len(y), 3):
        joint = field.log_joint(y[s].expand(len(unary), -1), ones)
        torch.testing.assert_close(joint[:, group[s]], log_p[:, s])


@settings(max_examples=40, deadline=None)
@given(potentials(most_labels=3), st.integers(0, 2**32))
def test_star_loss_is_the_likelihood_over_k_and_unknown_groups_are_summed_out(given_, seed):
    unary, pairwise = given_
    rng = np.random.default_rng(seed)
    b, k, g = pairwise.shape
    y, group, values = star_states(unary, pairwise)
    log_p = values - torch.logsumexp(values, 1, keepdim=True)
    targets, codes = torch.tensor(rng.integers(0, 2, (b, k))).double(), rng.integers(-1, g, b)
    losses = StarHead(2, torch.ones(k), "gender", g).loss({"unary": unary, "pairwise": pairwise}, batch(targets, codes))
    for i in range(b):
        same = (y == targets[i]).all(1) & ((group == codes[i]) if codes[i] >= 0 else torch.ones(len(y), dtype=bool))
        assert losses[i].item() == pytest.approx(-torch.logsumexp(log_p[i, same], 0).item() / k, rel=1e-9, abs=1e-9)


def test_a_group_that_does_not_matter_leaves_the_plain_head():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    scores = {"unary": torch.zeros(5, 4), "pairwise": logits[:, :, None].expand(-1, -1, 4)}
    weights = torch.tensor([1.0, 3.0, 0.5])
    head, plain = StarHead(2, weights, "gender", 4), MultiLabelHead(2, weights)
    data = batch((logits > 0.3).float(), [0, 1, 2, 3, 0])
    torch.testing.assert_close(head.field(scores).label_scores(), logits)
    assert torch.equal(head.decode(scores), plain.decode({"label": logits}))
    torch.testing.assert_close(head.loss(scores, data), plain.loss({"label": logits}, data) + math.log(4) / 3)


# ------------------------------------------------------------------ one label
@settings(max_examples=40, deadline=None)
@given(potentials(), st.integers(0, 2**32))
def test_joint_against_all_states(given_, seed):
    _, pairwise = given_
    b, k, g = pairwise.shape
    rng = np.random.default_rng(seed)
    log_p = pairwise - torch.logsumexp(pairwise.reshape(b, -1), 1)[:, None, None]
    field = JointField(pairwise)
    torch.testing.assert_close(field.label_scores().exp(), log_p.exp().sum(2))
    torch.testing.assert_close(field.group_scores().exp(), log_p.exp().sum(1))
    labels, groups, value = field.decode()
    for i in range(b):
        states = {(j, h): pairwise[i, j, h].item() for j in range(k) for h in range(g)}
        assert states[labels[i].item(), groups[i].item()] == max(states.values()) == value[i].item()
    targets, codes = torch.tensor(rng.integers(0, k, b)), rng.integers(-1, g, b)
    losses = JointHead(2, torch.ones(k), "gender", g).loss({"pairwise": pairwise}, batch(targets, codes))
    for i in range(b):
        p = log_p[i, targets[i]].exp()
        expected = -(log_p[i, targets[i], codes[i]] if codes[i] >= 0 else p.sum().log())
        assert losses[i].item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-9)


def test_one_label_is_weighted_as_in_the_plain_head():
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    weights, data = torch.tensor([1.0, 4.0, 0.5]), batch(torch.tensor([0, 1, 2, 2, 1, 0]), [-1] * 6)
    scores = {"pairwise": logits[:, :, None].expand(-1, -1, 2)}
    plain = MultiClassHead(2, weights).loss({"label": logits}, data)
    torch.testing.assert_close(JointHead(2, weights, "gender", 2).loss(scores, data), plain)


# ------------------------------------------------------------------ gradients and learning
@pytest.mark.parametrize("codes", [[0, 1, 2, 0], [0, -1, 2, -1], [-1] * 4])
def test_gradients_against_finite_differences(codes):
    generator = torch.Generator().manual_seed(1)
    unary, pairwise = (
        torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((4, 3), (4, 2, 3))
    )
    weights = torch.tensor([0.5, 2.0])
    star, joint = StarHead(2, weights, "gender", 3), JointHead(2, weights, "gender", 3)
    many, one = batch(torch.tensor([[1.0, 0], [0, 0], [1, 1], [0, 1]]), codes), batch(torch.tensor([0, 1, 1, 0]), codes)
    assert torch.autograd.gradcheck(lambda u, w: star.loss({"unary": u, "pairwise": w}, many), (unary, pairwise))
    assert torch.autograd.gradcheck(lambda w: joint.loss({"pairwise": w}, one), (pairwise,))


def fit(head, context, data):
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=300, line_search_fn="strong_wolfe", tolerance_grad=1e-8)

    def closure():
        optimiser.zero_grad()
        loss = head.loss(head(context), data).mean()
        loss.backward()
        return loss

    optimiser.step(closure)


def sample():
    """600 rows of three contexts, in which two labels and the group depend on each other."""
    rng = np.random.default_rng(0)
    context = rng.integers(0, 3, 600)
    group = (rng.random(600) < np.array([0.2, 0.5, 0.8])[context]).astype(int)
    likely = np.where(group[:, None] == 1, [0.8, 0.4], [0.3, 0.6])
    return context, group, (rng.random((600, 2)) < likely).astype(int)


def test_star_learns_the_frequencies():
    context, group, y = sample()
    torch.manual_seed(0)
    head = StarHead(3, torch.tensor([1.0, 7.0]), "gender", 2)  # with a free potential each, weights move no optimum
    x = torch.eye(3)
    fit(head, x[context], batch(torch.tensor(y).float(), group))
    scores = head(x)
    for c in range(3):
        here = context == c
        assert scores["gender"][c].exp().tolist() == pytest.approx(
            [1 - group[here].mean(), group[here].mean()], abs=2e-3
        )
        marginal = torch.sigmoid(scores["label"][c]).tolist()
        assert marginal == pytest.approx(y[here].mean(0).tolist(), abs=2e-3)
        for g in (0, 1):
            given_group = torch.sigmoid(scores["pairwise"][c, :, g]).tolist()
            assert given_group == pytest.approx(y[here & (group == g)].mean(0).tolist(), abs=2e-3)


def test_joint_learns_the_frequencies_and_labels_from_rows_of_unknown_group():
    context, group, y = sample()
    verb = y[:, 0] + 2 * y[:, 1]
    torch.manual_seed(0)
    head, x = JointHead(3, torch.ones(4), "gender", 2), torch.eye(3)
    fit(head, x[context], batch(torch.tensor(verb), group))
    joint = torch.softmax(head(x)["pairwise"].flatten(1), 1).view(3, 4, 2)
    for c in range(3):
        for v, g in itertools.product(range(4), range(2)):
            share = ((verb == v) & (group == g))[context == c].mean()
            assert joint[c, v, g].item() == pytest.approx(share, abs=2e-3)
    fit(head, x[context], batch(torch.tensor(verb), np.full(600, -1)))
    for c in range(3):
        shares = np.bincount(verb[context == c], minlength=4) / (context == c).sum()
        assert head(x)["label"][c].exp().tolist() == pytest.approx(shares.tolist(), abs=2e-3)


# ------------------------------------------------------------------ the method
def info(task="multilabel", **groups):
    backbone = load_plugins().backbones.find("resnet18").load().outline("resnet18")
    return BuildInfo(backbone, task, ("a", "b", "c"), groups or {"gender": 2}, 32, torch.ones(3))


@pytest.mark.parametrize(("task", "names"), [("multilabel", ["unary", "pairwise"]), ("multiclass", ["pairwise"])])
def test_head_and_its_scores(task, names):
    head = Crf("gender*age").head(info(task, **{"gender*age": 6}))
    assert head.provides == {"pairwise"}
    x = torch.randn(5, head.linear.in_features, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = head(1000 * x)
    assert list(scores) == ["label", "gender.age", *names]  # a file cannot be called gender*age
    assert all(s.dtype == torch.float32 and s.isfinite().all() for s in scores.values())
    assert scores["label"].shape == (5, 3)
    assert scores["gender.age"].shape == (5, 6)
    assert scores["pairwise"].shape == (5, 3, 6)
    assert head.decode(scores).dtype == (torch.uint8 if task == "multilabel" else torch.int64)


def test_errors():
    with pytest.raises(UsageError, match="Did you mean 'gender'"):
        Crf("gendr").head(info())
    with pytest.raises(UsageError, match="no protected attribute is named"):
        Crf().head(info())
    with pytest.raises(UsageError, match="nothing to predict"):
        Crf("gender").head(info(gender=1))
    with pytest.raises(UsageError, match="a score has that name"):
        Crf("label").head(info(label=2))
