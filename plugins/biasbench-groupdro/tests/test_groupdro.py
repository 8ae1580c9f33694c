"""Group DRO against values worked out by hand and against a direct minimiser."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from biasbench_groupdro.dro import GroupDRO

from biasbench import Batch, CellError, Pipeline, UsageError


def info(task="multilabel", groups=2, labels=3):
    return SimpleNamespace(
        task=task, label_names=tuple(f"l{k}" for k in range(labels)), groups={"gender": groups}, backbone=None
    )


def batch(codes, targets=None):
    codes = torch.tensor(codes)
    y = torch.zeros(len(codes), 3) if targets is None else torch.tensor(targets)
    return Batch(torch.zeros(len(codes), 3, 0, 0), y, {"gender": codes}, {}, torch.arange(len(codes)))


def built(**options):
    method = GroupDRO(attribute="gender", **options)
    method.build(info())
    return method


def test_one_step_by_hand():
    method = built(eta=0.1)
    losses = torch.tensor([1.0, 3.0, 6.0])  # group 0: mean 2, group 1: mean 6
    weights = method.weight(losses, batch([0, 0, 1]))
    a, b = 0.5 * math.exp(0.2), 0.5 * math.exp(0.6)
    q = [a / (a + b), b / (a + b)]
    assert method.q.tolist() == pytest.approx(q)
    assert (weights * losses).mean().item() == pytest.approx(q[0] * 2 + q[1] * 6)
    assert weights.tolist() == pytest.approx([q[0] / 2 * 3, q[0] / 2 * 3, q[1] * 3])


def test_q_moves_to_the_worse_off_group_and_stays_a_distribution():
    method = built(eta=0.05)
    for _ in range(30):
        method.weight(torch.tensor([0.2, 0.2, 1.0, 1.0]), batch([0, 0, 1, 1]))
    assert method.q[1] > 0.7
    assert method.q.sum().item() == pytest.approx(1)
    assert method.q[1].item() == pytest.approx(1 / (1 + math.exp(-30 * 0.05 * 0.8)), rel=1e-4)  # closed form


def test_group_absent_from_the_batch_keeps_its_weight_up_to_normalisation():
    method = built(eta=0.1)
    method.q.copy_(torch.tensor([0.3, 0.7]))
    weights = method.weight(torch.tensor([2.0, 2.0]), batch([0, 0]))
    grown = 0.3 * math.exp(0.2)
    assert method.q.tolist() == pytest.approx([grown / (grown + 0.7), 0.7 / (grown + 0.7)])
    assert torch.isfinite(weights).all()
    assert weights.mean().item() == pytest.approx(method.q[0].item())


def test_unknown_attribute_keeps_its_own_loss():
    method = built(eta=0.1)
    losses = torch.tensor([1.0, 5.0, 4.0])
    weights = method.weight(losses, batch([0, 1, -1]))
    assert weights[2] == 1
    expected = (2 * (method.q[0] * 1 + method.q[1] * 5) + 4) / 3
    assert (weights * losses).mean().item() == pytest.approx(expected.item())
    assert method.weight(losses, batch([-1, -1, -1])).tolist() == [1, 1, 1]


def test_multi_class_groups_are_attribute_and_label():
    method = GroupDRO(attribute="gender", eta=0.1)
    method.build(info("multiclass", groups=2, labels=3))
    assert len(method.q) == 6
    method.weight(torch.tensor([0.0, 9.0]), batch([0, 1], [2, 1]))
    assert method.q.argmax() == 1 * 3 + 1


def test_adjustment_asks_more_of_small_groups():
    table = pd.DataFrame({"label/a": [0] * 5, "attribute/gender": [0, 0, 0, 0, 1]})
    method = built(eta=0.1, adjustment=2.0)
    assert method.resample(table, np.random.default_rng(0)) is table
    method.weight(torch.tensor([1.0, 1.0]), batch([0, 1]))
    a, b = math.exp(0.1 * (1 + 2 / 2)), math.exp(0.1 * (1 + 2 / 1))
    assert method.q.tolist() == pytest.approx([a / (a + b), b / (a + b)])


def test_adjustment_by_label_in_multi_class_data():
    table = pd.DataFrame({"label": [2, 2, 2, 2, 0], "attribute/gender": [1, 1, 1, 1, -1]})
    method = GroupDRO(attribute="gender", eta=1.0, adjustment=1.0)
    method.build(info("multiclass", groups=2, labels=3))
    method.resample(table, np.random.default_rng(0))
    method.weight(torch.tensor([0.0]), batch([1], [2]))
    grown = math.exp(1 / 2)
    assert method.q[5].item() == pytest.approx(grown / (grown + 5))


def test_adjustment_without_rows_is_an_error():
    with pytest.raises(CellError, match="training rows"):
        built(adjustment=1.0).weight(torch.ones(2), batch([0, 1]))


def test_evaluation_neither_weighs_nor_learns():
    method = built()
    method.eval()
    before = method.q.clone()
    assert method.weight(torch.tensor([1.0, 2.0]), batch([0, 1])).tolist() == [1, 1]
    assert torch.equal(method.q, before)


def test_inputs_are_left_alone_and_the_gradient_is_that_of_the_weighted_loss():
    method = built(eta=0.1)
    losses = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    copy, data = losses.detach().clone(), batch([0, 1, 1])
    weights = method.weight(losses, data)
    assert not weights.requires_grad
    (weights * losses).mean().backward()
    assert torch.equal(losses.detach(), copy)
    assert data.attributes["gender"].tolist() == [0, 1, 1]
    assert losses.grad.tolist() == pytest.approx([method.q[0].item(), method.q[1].item() / 2, method.q[1].item() / 2])


def test_huge_losses_do_not_overflow():
    method = built(eta=1.0)
    method.weight(torch.tensor([1.0, 5000.0]), batch([0, 1]))
    assert method.q.tolist() == pytest.approx([0, 1])
    assert torch.isfinite(method.weight(torch.tensor([1.0, 2.0]), batch([0, 1]))).all()


def test_weights_are_saved_with_the_model():
    first, second = Pipeline([GroupDRO(attribute="gender")]), Pipeline([GroupDRO(attribute="gender")])
    for p in (first, second):
        p.build(info())
    first.weight(torch.tensor([0.0, 9.0]), batch([0, 1]))
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.components[0].q, first.components[0].q)


def test_it_minimises_the_worst_group_where_the_mean_does_not():
    """Losses (w - 0)^2 for 9 examples and (w - 1)^2 for 1: the mean's minimiser is 0.1, the worst group's 0.5."""
    found = {}
    for name, method in (("mean", None), ("dro", built(eta=0.1))):
        w = torch.zeros((), requires_grad=True)
        codes = [0] * 9 + [1]
        centre = torch.tensor(codes, dtype=torch.float32)
        for _ in range(1500):
            losses = (w - centre) ** 2
            weights = torch.ones(10) if method is None else method.weight(losses, batch(codes))
            (grad,) = torch.autograd.grad((weights * losses).mean(), w)
            with torch.no_grad():
                w -= 0.05 * grad
        found[name] = w.item()
    assert found["mean"] == pytest.approx(0.1, abs=1e-3)
    assert found["dro"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("options", [{"eta": 0.0}, {"eta": math.inf}, {"adjustment": -1.0}, {"eta": math.nan}])
def test_senseless_options(options):
    with pytest.raises(UsageError, match="groupdro"):
        GroupDRO(**options)


def test_unknown_or_missing_attribute():
    with pytest.raises(UsageError, match=r"Did you mean 'gender'"):
        GroupDRO(attribute="gendr").build(info())
    with pytest.raises(UsageError, match="no protected attribute"):
        GroupDRO().build(info())
