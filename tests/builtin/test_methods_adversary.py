"""The adversary: sizes, gradients and statistics by hand, and that it removes what it should."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from biasbench import Activations, Backbone, Batch, BuildInfo, UsageError
from biasbench.builtin.methods.adversary import Adversary, plain_convolutions
from biasbench.builtin.methods.adversary_base import reverse_gradient

pytestmark = pytest.mark.torch


class Tiny(Backbone):
    name = "tiny"

    def __init__(self):
        super().__init__()
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.segments = nn.ModuleDict(
            {
                "conv4": nn.Conv2d(3, 4, 3, 2, 1),
                "conv5": nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU()),
                "embedding": pool,
            }
        )
        self.channels = {"image": 3, "conv4": 4, "conv5": 6, "embedding": 6}
        self.strides = {"image": 1, "conv4": 2, "conv5": 4}


def info(groups=2):
    return BuildInfo(Tiny(), "multilabel", ("a", "b"), {"gender": groups}, 16, torch.ones(2))


def built(groups=2, **options):
    torch.manual_seed(0)
    method = Adversary(**{"attribute": "gender", "width": 8, **options})
    method.build(info(groups))
    return method


def batch(codes):
    codes = torch.as_tensor(codes)
    n = len(codes)
    return Batch(torch.zeros(n, 3, 0, 0), torch.zeros(n, 2), {"gender": codes}, {}, torch.arange(n))


def activations(x, at="conv5"):
    return Activations({"label": torch.zeros(len(x), 2)}, {at: x})


def state(method):
    return {k: v.clone() for k, v in method.adversary.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


# ------------------------------------------------------------------ structure
@pytest.mark.parametrize(("at", "shape", "millions"), [("conv5", (2048, 7, 7), 30.3), ("conv4", (1024, 14, 14), 60.4)])
def test_published_sizes(at, shape, millions):
    backbone = SimpleNamespace(check_tap=lambda _: None)
    fake = SimpleNamespace(groups={"gender": 2}, backbone=backbone, tap_shape=lambda _: shape)
    method = Adversary(at=at, attribute="gender")
    with torch.device("meta"):
        method.build(fake)
    linear = [m for m in method.adversary if isinstance(m, nn.Linear)]
    assert [m.out_features for m in linear] == [300, 300, 300, 2]
    assert linear[0].in_features == math.prod(shape)
    assert round(sum(p.numel() for p in method.adversary.parameters()) / 1e6, 1) == millions
    slopes = {m.negative_slope for m in method.adversary if isinstance(m, nn.LeakyReLU)}
    assert slopes == {0.01}


def test_flattens_the_tap_of_the_input_size_and_answers_for_every_group():
    method = built(groups=5, at="conv4")
    assert method.adversary(torch.zeros(3, 4, 8, 8)).shape == (3, 5)
    assert method.taps == ("conv4",)


def test_conv_copies_what_follows_the_tap():
    torch.manual_seed(0)
    method, sizes = Adversary(at="conv4", attribute="gender", width=8, conv=True), info()
    for p in sizes.backbone.parameters():
        p.requires_grad_(False)
    method.build(sizes)
    assert method.adversary(torch.randn(3, 4, 8, 8)).shape == (3, 2)
    own = {id(p) for p in method.adversary.parameters()}
    assert not own & {id(p) for p in sizes.backbone.parameters()}
    assert all(p.requires_grad for p in method.adversary.parameters())
    convs = [m for m in method.adversary.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == 1
    assert torch.equal(convs[0].weight, sizes.backbone.segments["conv5"][0].weight)


def test_plain_convolutions_have_the_released_sizes_and_no_non_linearity():
    with torch.device("meta"):
        front = plain_convolutions(2048)
    shapes = [tuple(layer.weight.shape) for layer in front if isinstance(layer, nn.Conv2d)]
    assert shapes == [(1024, 2048, 1, 1), (512, 1024, 1, 1), (512, 512, 3, 3), (1024, 512, 1, 1), (2048, 1024, 1, 1)]
    assert sum(p.numel() for p in front.parameters()) == 2 * (2048 * 1024 + 1024 * 512) + 9 * 512 * 512
    torch.manual_seed(0)
    front, x, y = plain_convolutions(8), torch.randn(2, 8, 7, 7), torch.randn(2, 8, 7, 7)
    assert front(x).shape == (2, 8)
    assert torch.allclose(front(2 * x - y), 2 * front(x) - front(y), atol=1e-5)  # linear altogether


def test_plain_convolutions_stand_in_front_of_the_four_layers():
    method = built(conv="plain")
    assert method.adversary(torch.randn(3, 6, 4, 4)).shape == (3, 2)
    linear = [m for m in method.adversary if isinstance(m, nn.Linear)]
    assert [m.in_features for m in linear] == [6, 8, 8, 8]
    with pytest.raises(UsageError, match="no convolutions fit embedding"):
        built(at="embedding", conv="plain")


def test_phase():
    (own,) = built(warmup=7, repeat=3, lr=0.01).phases()
    assert (own.before, own.repeat, own.lr, own.absolute_lr) == (7, 3, 0.01, True)
    assert (own.balance, own.data, own.detached) == ("gender", "train", True)
    (own,) = built(update="reversal", warmup=7, balance=False).phases()
    assert (own.before, own.repeat, own.balance) == (7, 0, None)


def test_task_stream():
    assert built().balance_by() is None
    assert built(task_stream="balanced").balance_by() == "gender"


# ------------------------------------------------------------------ losses and gradients
def test_confusion_moves_the_tap_and_nothing_of_the_adversary():
    method, x, data = built(weight=0.7), torch.randn(6, 6, 4, 4, requires_grad=True), batch([0, 1, 0, 1, 1, 0])
    before = state(method)
    expected = -0.7 * cross_entropy(copy.deepcopy(method.adversary)(x), data.attributes["gender"])
    (term,) = method.loss(activations(x), data).values()
    assert torch.allclose(term, expected)
    term.backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None for p in method.adversary.parameters())
    assert same(before, state(method))  # running statistics included


def test_confusion_uses_batch_statistics_also_where_the_harness_holds_norm_layers():
    method, x, data = built(), torch.randn(6, 6, 4, 4), batch([0, 1, 0, 1, 1, 0])
    free = method.loss(activations(x), data)["confusion"]
    for module in method.adversary.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.train(False)
    held = method.loss(activations(x), data)["confusion"]
    assert torch.equal(free, held)
    assert [m.training for m in method.adversary.modules() if isinstance(m, nn.BatchNorm1d)] == [False] * 3


def test_confusion_cannot_run_away_by_scaling_the_activation():
    method, x, data = built(), torch.randn(6, 6, 4, 4), batch([0, 1, 0, 1, 1, 0])
    small, large = (method.loss(activations(x * s), data)["confusion"] for s in (1.0, 1e4))
    assert large.item() == pytest.approx(small.item(), abs=0.05)


def test_reversal_gives_the_tap_the_same_pull_and_the_adversary_its_own_gradient():
    data, x = batch([0, 1, 0, 1, 1, 0]), torch.randn(6, 6, 4, 4)
    pulls = {}
    for update in ("alternate", "reversal"):
        method, leaf = built(update=update, weight=3.0), x.clone().requires_grad_()
        (term,) = method.loss(activations(leaf), data).values()
        term.backward()
        pulls[update] = leaf.grad
    assert torch.allclose(pulls["alternate"], pulls["reversal"], atol=1e-6)
    plain = copy.deepcopy(built().adversary)
    cross_entropy(plain(x), data.attributes["gender"]).backward()
    for p, q in zip(method.adversary.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, atol=1e-6)  # weight scales the backbone's gradient only
    assert term.item() == pytest.approx(cross_entropy(built().adversary(x), data.attributes["gender"]).item())


def test_own_step_learns_without_a_gradient_into_the_tap():
    method, x, data = built(), torch.randn(6, 6, 4, 4, requires_grad=True), batch([0, 1, 0, 1, 1, 0])
    (own,) = method.phases()
    before = state(method)
    own.loss(activations(x), data).backward()
    assert x.grad is None
    assert all(p.grad is not None for p in own.params)
    assert not same(before, state(method))  # its own steps do move its statistics


def test_reverse_gradient():
    x = torch.randn(3, requires_grad=True)
    y = reverse_gradient(x, 2.0)
    assert torch.equal(x, y)
    (y * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert x.grad.tolist() == [-2.0, -4.0, -6.0]


# ------------------------------------------------------------------ unknown attributes
@pytest.mark.parametrize("update", ["alternate", "reversal"])
def test_unknown_attributes_leave_the_terms(update):
    x = torch.randn(6, 6, 4, 4)
    (part,) = built(update=update).loss(activations(x[1:4]), batch([0, 1, 0])).values()
    (whole,) = built(update=update).loss(activations(x), batch([-1, 0, 1, 0, -1, -1])).values()
    assert part.item() == whole.item()


@pytest.mark.parametrize("update", ["alternate", "reversal"])
@pytest.mark.parametrize("codes", [[-1, -1, -1], [-1, 0, -1]])
def test_nothing_to_learn_from(update, codes):
    method, x = built(update=update), torch.randn(3, 6, 4, 4, requires_grad=True)
    (own,) = method.phases()
    for term in (*method.loss(activations(x), batch(codes)).values(), own.loss(activations(x), batch(codes))):
        assert term.item() == 0
        term.backward()
    assert x.grad is None or not x.grad.any()


def test_diagnosis():
    method, x = built(), torch.randn(40, 6, 4, 4)
    method.eval()
    with torch.inference_mode():
        right = method.adversary(x).argmax(1)
        codes = right.clone()
        codes[:10] = 1 - codes[:10]
        codes[10:13] = -1
        hits = method.diagnose(activations(x), batch(codes))["accuracy"]
    assert hits[:10].nansum(1).tolist() == [0] * 10
    assert hits[10:13].isnan().all()
    assert hits[13:].nansum(1).tolist() == [1] * 27
    assert hits.isnan().sum(1).tolist() == [1] * 10 + [2] * 3 + [1] * 27
    assert (~hits.isnan()).sum(0).tolist() == [(codes == 0).sum(), (codes == 1).sum()]


# ------------------------------------------------------------------ errors
@pytest.mark.parametrize(
    "options",
    [{"at": "image"}, {"repeat": 0}, {"warmup": -1}, {"width": 0}, {"lr": 0.0}, {"weight": -1.0}, {"weight": math.nan}],
)
def test_senseless_options(options):
    with pytest.raises(UsageError, match="adv"):
        Adversary(**options)


def test_unknown_tap_and_attribute():
    with pytest.raises(UsageError, match="no tap 'conv9'"):
        Adversary(at="conv9", attribute="gender").build(info())
    with pytest.raises(UsageError, match="Did you mean 'gender'"):
        Adversary(attribute="gendr").build(info())
    with pytest.raises(UsageError, match="no protected attribute is named"):
        Adversary().build(info())


# ------------------------------------------------------------------ does it remove the attribute?
def play(update, weight, steps=150):
    """Two inputs, label and attribute, through a noisy linear trunk; the label alone is the task."""
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(1)
    group, label = torch.randint(0, 2, (2, 800), generator=rng)
    x = torch.stack([label, group], 1) * 2.0 - 1
    trunk, head = nn.Linear(2, 6), nn.Linear(6, 1)
    method = Adversary(at="embedding", attribute="gender", weight=weight, update=update, width=8, warmup=20)
    method.build(info())
    (own,) = method.phases()
    task = [*trunk.parameters(), *head.parameters(), *(method.parameters() if own.repeat == 0 else ())]
    optimisers = torch.optim.Adam(task, lr=5e-3), torch.optim.Adam(own.params, lr=2e-2)

    def represent(x):
        return trunk(x) + 0.5 * torch.randn(len(x), 6, generator=rng)

    def step(which, loss_of):
        rows = torch.randint(0, 800, (64,), generator=rng)
        out = activations(represent(x[rows]), "embedding")
        optimisers[which].zero_grad()
        loss_of(out, batch(group[rows]), label[rows].float()).backward()
        optimisers[which].step()

    def own_loss(out, data, _):
        return own.loss(out, data)

    def task_loss(out, data, y):
        losses = binary_cross_entropy_with_logits(head(out.taps["embedding"])[:, 0], y)
        return losses + sum(method.loss(out, data).values())

    for _ in range(own.before):
        step(1, own_loss)
    for _ in range(steps):
        for _ in range(own.repeat):
            step(1, own_loss)
        step(0, task_loss)
    with torch.no_grad():
        z = represent(x)
        accuracy = ((head(z)[:, 0] > 0) == label.bool()).float().mean().item()
    reader = LogisticRegression().fit(z.numpy(), group.numpy())  # a fresh reader of the representation
    return accuracy, reader.score(z.numpy(), group.numpy())


@pytest.mark.parametrize(("update", "most"), [("alternate", 0.65), ("reversal", 0.75)])
def test_removes_the_attribute_and_keeps_the_task(update, most):
    plain_accuracy, plain_read = play(update, 0.0)
    accuracy, read = play(update, 0.3)
    assert plain_accuracy > 0.97
    assert plain_read > 0.9
    assert accuracy > 0.95
    assert read < most
