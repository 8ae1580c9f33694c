"""Joint learning and unlearning: losses and gradients by hand, turns by Algorithm 1, and that it unlearns."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss
from torch import nn
from torch.nn.functional import cross_entropy

from biasbench import Activations, Backbone, Batch, BuildInfo, UsageError
from biasbench.builtin.methods.jlu import JointUnlearning, confusion
from biasbench.source import CENTRE
from biasbench.store import Store
from biasbench.testing import check_method
from biasbench.testing._subject import Subject

pytestmark = pytest.mark.torch
COUNTS = {"gender": [30, 10], "age": [8, 0, 2]}


class Flat(Backbone):
    """An embedding of five numbers behind one map."""

    name = "flat"

    def __init__(self):
        super().__init__()
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
        self.segments = nn.ModuleDict({"conv5": nn.Conv2d(3, 4, 3, 2, 1), "embedding": pool})
        self.channels = {"image": 3, "conv5": 4, "embedding": 5}
        self.strides = {"image": 1, "conv5": 2}


def built(**options):
    torch.manual_seed(0)
    method = JointUnlearning(**options)
    groups = {name: len(n) for name, n in COUNTS.items()}
    method.build(
        BuildInfo(Flat(), "multilabel", ("a", "b"), groups, 16, torch.ones(2), COUNTS, {"other": {"pose": [3] * 5}})
    )
    return method


def batch(**codes):
    codes = {name: torch.as_tensor(v) for name, v in codes.items()}
    n = len(next(iter(codes.values())))
    return Batch(torch.zeros(n, 3, 0, 0), torch.zeros(n, 2), codes, {}, torch.arange(n))


def seen(x):
    return Activations({"label": torch.zeros(len(x), 2)}, {"embedding": x, "conv5": x})


def layers(method):
    return [
        (m.weight.detach().numpy().astype(float), m.bias.detach().numpy().astype(float)) for m in method.classifiers
    ]


# ------------------------------------------------------------------ losses
def test_classifiers_loss_is_inverse_frequency_weighted():
    method = built(attributes=("gender", "age"), beta=(2.0, 0.5))
    x = torch.randn(7, 5)
    codes = {"gender": np.array([0, 1, -1, 0, 0, 1, 0]), "age": np.array([0, 2, 2, -1, -1, 0, 0])}
    expected = 0.0
    weights = {"gender": np.array([1 / 30, 1 / 10]), "age": np.array([1 / 8, 0, 1 / 2])}
    for (name, y), (w, b), beta in zip(codes.items(), layers(method), (2.0, 0.5), strict=True):
        known = y >= 0
        p = softmax(x.numpy()[known] @ w.T + b, axis=1)
        expected += beta * log_loss(y[known], p, labels=range(len(b)), sample_weight=weights[name][y[known]])
    got = method.classify([0, 1], seen(x), batch(**codes))
    assert got.item() == pytest.approx(expected, rel=1e-5)


def test_unweighted_losses_are_plain_means():
    method = built(attributes=("age",), weighted=False)
    x, y = torch.randn(6, 5), torch.tensor([0, 0, 1, 2, 2, 2])
    assert method.classify([0], seen(x), batch(age=y)) == cross_entropy(method.classifiers[0](x), y)


@pytest.mark.parametrize("form", ["ce", "kl"])
def test_confusion_is_eq_2_over_all_rows_and_attributes(form):
    method = built(attributes=("gender", "age"), weight=0.3, form=form)
    x = torch.randn(4, 5)
    terms = []
    for w, b in layers(method):
        told = log_softmax(x.numpy() @ w.T + b, axis=1)
        ce = -told.mean(1)
        kl = (np.exp(told) * told).sum(1) + math.log(len(b))
        terms.append((ce if form == "ce" else kl).mean())
    got = method.loss(seen(x), batch(gender=[0, -1, 1, -1], age=[-1] * 4))
    assert got["confusion"].item() == pytest.approx(0.3 * np.mean(terms), rel=1e-5)


def test_the_two_forms_are_least_at_the_uniform_distribution_and_have_other_gradients():
    logits = torch.tensor([[3.0, 0.0, -1.0]], requires_grad=True)
    uniform = torch.zeros(1, 3)
    assert confusion(uniform).item() == pytest.approx(math.log(3))
    assert confusion(uniform, "kl").item() == pytest.approx(0, abs=1e-7)
    assert confusion(logits) > confusion(uniform)
    assert confusion(logits, "kl") > 0
    (ce,) = torch.autograd.grad(confusion(logits), logits)
    (kl,) = torch.autograd.grad(confusion(logits, "kl"), logits)
    assert torch.allclose(ce, logits.detach().softmax(1) - 1 / 3, atol=1e-6)  # d CE(u, p) = p - u
    assert not torch.allclose(ce, kl, atol=1e-2)


def test_who_moves_by_which_loss():
    method = built(attributes=("gender",))
    x = torch.randn(6, 5, requires_grad=True)
    told = batch(gender=[0, 1, 0, 1, 1, 0])
    method.classify([0], seen(x), told).backward()
    assert x.grad is None
    assert all((p.grad != 0).any() for p in method.classifiers.parameters())
    method.zero_grad()
    method.loss(seen(x), told)["confusion"].backward()
    assert (x.grad != 0).all()
    assert all(p.grad is None for p in method.classifiers.parameters())


def test_rows_of_unknown_attribute_teach_nothing():
    method = built(attributes=("gender",))
    loss = method.classify([0], seen(torch.randn(3, 5)), batch(gender=[-1, -1, -1]))
    loss.backward()
    assert loss.item() == 0
    assert all((p.grad == 0).all() for p in method.classifiers.parameters())


def test_maps_are_averaged():
    method = built(attributes=("gender",), at="conv5")
    x = torch.randn(3, 4, 2, 2)
    out = Activations({}, {"conv5": x})
    flat = Activations({}, {"conv5": x.mean((2, 3))})
    assert method.confuse([0], out) == method.confuse([0], flat)


# ------------------------------------------------------------------ structure
def test_phases_follow_the_data_sets():
    method = built(attributes=("gender",), data=("other",), steps=4, warmup=9, until=0.2, lr=7.0)
    first, second, third = method.phases()
    assert [p.data for p in (first, second, third)] == ["train", "other", "other"]
    assert [(p.before, p.repeat, p.until, p.lr) for p in (first, second)] == [(9, 4, 0.2, 7.0)] * 2
    assert third.joint
    assert not third.params
    x = torch.randn(4, 5)
    pose = batch(pose=[0, 1, 4, -1])
    assert second.loss(seen(x), pose) == method.classify([1], seen(x), pose)
    assert third.loss(seen(x), pose) == method.confuse([1], seen(x))
    both = method.loss(seen(x), pose)["confusion"] + third.loss(seen(x), pose)  # half of alpha each
    logits = [layer(x) for layer in method.classifiers]
    assert both.item() == pytest.approx(0.1 * np.mean([confusion(z).item() for z in logits]), rel=1e-5)


def test_dynamic_shares_follow_what_is_known():
    method = built(attributes=("gender", "age"), dynamic=True)
    assert method.shares().tolist() == [0.5, 0.5]
    x = torch.eye(5)[[0, 1, 0, 1]] * 50
    with torch.no_grad():
        method.classifiers[0].weight.copy_(torch.eye(2, 5))  # right on all four
        method.classifiers[0].bias.zero_()
        method.classifiers[1].weight.zero_()  # says the first group always: a third of the classes
        method.classifiers[1].bias.copy_(torch.tensor([1.0, 0, 0]))
    for _ in range(400):
        method.classify([0, 1], seen(x), batch(gender=[0, 1, 0, 1], age=[0, 1, 2, 0]))
    assert method.known.tolist() == pytest.approx([1, 0], abs=1e-3)
    assert method.shares().tolist() == pytest.approx([1 / 1.1, 0.1 / 1.1], abs=1e-3)
    kept = method.known.clone()
    method.eval()
    method.classify([0], seen(x), batch(gender=[1, 0, 1, 0]))
    assert torch.equal(method.known, kept)


def test_diagnosis_leaves_out_unknown_rows():
    method = built(attributes=("gender",))
    with torch.no_grad():
        method.classifiers[0].weight.copy_(torch.eye(2, 5))
        method.classifiers[0].bias.zero_()
    hits = method.diagnose(seen(torch.eye(5)[:3]), batch(gender=[0, 0, -1]))["accuracy gender"]
    assert hits[:2, 0].tolist() == [1, 0]
    assert hits[2].isnan().all()
    assert hits[:, 1].isnan().all()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"attributes": ("gender", "gender")}, "named twice"),
        ({"attributes": ("sex",)}, "no protected attribute 'sex'"),
        ({"data": ("other:posture",)}, "no protected attribute 'posture' in other"),
        ({"attributes": ("gender",), "at": "image"}, "no representation"),
        ({"attributes": ("gender",), "at": "conv9"}, "conv9"),
        ({"attributes": ("gender",), "beta": (1.0, 2.0)}, "beta"),
        ({"attributes": ("gender",), "beta": 0.0}, "beta"),
        ({"attributes": ("gender",), "weight": -1.0}, "weight"),
        ({"attributes": ("gender",), "weight": math.nan}, "weight"),
        ({"attributes": ("gender",), "lr": 0.0}, "lr"),
        ({"attributes": ("gender",), "steps": 0}, "steps"),
        ({"attributes": ("gender",), "warmup": -1}, "warmup"),
        ({}, "attribute"),
    ],
)
def test_wrong_options_are_named(options, problem):
    with pytest.raises(UsageError, match=problem):
        built(**options)


def test_data_set_options_may_hold_colons():
    method = JointUnlearning(data=("imdb:age", "laofiw", "x(path='a:b')", "x(path='a:b'):age"))
    assert [(s.data, s.attribute) for s in method.spurious] == [
        ("imdb", "age"), ("laofiw", None), ("x(path='a:b')", None), ("x(path='a:b')", "age"),
    ]  # fmt: skip
    assert method.data == ("imdb", "laofiw", "x(path='a:b')")


# ------------------------------------------------------------------ does it unlearn?
def test_algorithm_1_keeps_the_joint_classifier_guessing_and_keeps_the_task():
    """Two turns by hand on a planted problem. What a classifier trained afterwards finds is another question:
    a linear body cannot forget, and a fresh logistic regression still finds the attribute in it."""
    rng = np.random.default_rng(0)
    n = 1500
    y, a = rng.integers(0, 2, n), rng.integers(0, 2, n)
    raw = np.column_stack([y + rng.normal(0, 0.3, n), a + rng.normal(0, 0.3, n), rng.normal(0, 1, (n, 3))])
    x, target, told = torch.from_numpy(raw).float(), torch.from_numpy(y), batch(gender=a)
    losses, task = {}, {}
    for weight in (0.0, 3.0):
        method = built(attributes=("gender",), weight=weight)
        torch.manual_seed(1)
        body, head = nn.Linear(5, 5), nn.Linear(5, 2)
        (phase,) = method.phases()
        theirs = torch.optim.Adam(phase.params, lr=1e-2)
        ours = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=1e-2)
        late = []
        for turn in range(300):
            for _ in range(phase.repeat):
                theirs.zero_grad()
                loss = phase.loss(seen(body(x)), told)
                loss.backward()
                theirs.step()
            late += [loss.item()] * (turn >= 200)
            ours.zero_grad()
            z = body(x)
            (cross_entropy(head(z), target) + method.loss(seen(z), told)["confusion"]).backward()
            ours.step()
        losses[weight] = np.mean(late)
        task[weight] = (head(body(x)).argmax(1) == target).float().mean().item()
    assert losses[0.0] < 0.2 < 0.4 < losses[3.0]
    assert task[3.0] > task[0.0] - 0.03


# ------------------------------------------------------------------ in the harness
@pytest.mark.parametrize(
    ("text", "task"),
    [("jlu(warmup=1, steps=2)", "multilabel"), ("jlu(warmup=1, steps=2, dynamic=True, form='kl')", "multiclass")],
)
def test_it_keeps_the_contract(text, task):
    check_method(text, tasks=(task,))


@pytest.mark.parametrize(("until", "taken"), [(1e9, 1.0), (1e-9, 6.0)])
def test_a_turn_ends_when_its_gradient_is_short(tmp_path, until, taken):
    cell = Subject(f"jlu(warmup=0, steps=6, until={until})").cell(tmp_path)
    folder = cell.train(Store(tmp_path / "results", create=True))
    (record,) = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    assert record["steps_0.jlu/classifiers-train"] == taken


def test_the_log_tells_the_class_mean_accuracy(tmp_path):
    cell = Subject("jlu(warmup=3, steps=3, lr=100.0)").cell(tmp_path)
    folder = cell.train(Store(tmp_path / "results", create=True))
    (record,) = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    codes = cell.source.labels["val"].attributes["gender"]
    data, x = cell.source.batch("val", np.arange(len(codes)), CENTRE, "image", cell.device, attributes=False)
    cell.model.eval()
    with torch.inference_mode():
        out = cell.model(x, data, "image", act=True, keep=("embedding",))
        (method,) = cell.model.method.components
        said = method.classifiers[0](out.taps["embedding"]).argmax(1)
    known = codes >= 0
    assert not known.all()
    assert (codes[known] == 0).sum() != (codes[known] == 1).sum()
    expected = balanced_accuracy_score(codes[known], said[known])
    assert record["val_0.jlu/accuracy gender"] == pytest.approx(expected)
    assert expected != pytest.approx(accuracy_score(codes[known], said[known]))
