"""The mask network and its adversary: sizes, ranges, gradients and who is frozen, by hand."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn.functional import batch_norm, conv2d, cross_entropy, interpolate, leaky_relu, pad

from biasbench import Activations, Batch, UsageError
from biasbench.builtin.methods.image_adversary import MEAN, STD, ImageAdversary
from biasbench.builtin.methods.masknet import MaskNet

pytestmark = pytest.mark.torch
MEANS, STDS = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))


def built(crop=32, seed=0, **options):
    torch.manual_seed(seed)
    method = ImageAdversary(**{"attribute": "gender", "channels": 2, **options})
    method.build(SimpleNamespace(groups={"gender": 2}, crop=crop))
    return method


def batch(codes, side=32):
    codes = torch.as_tensor(codes)
    n = len(codes)
    images = torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(n))
    return Batch(images, torch.zeros(n, 2), {"gender": codes}, {}, torch.arange(n))


def acted(method, data):
    """What the harness hands to `loss` and to phases."""
    return Activations({"label": torch.zeros(len(data.images), 2)}, {"image": seen(method, data)})


def seen(method, data):
    return method.intervene("image", data.images, data)


def state(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


def last_bias(method):
    return method.mask[1].last.conv.bias


CODES = [0, 1, 0, 1, 1, 0]


# ------------------------------------------------------------------ the mask network
def test_published_size():
    with torch.device("meta"):
        net = MaskNet()
    pairs = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 512),
             (512, 512), (1024, 256), (512, 128), (256, 64), (128, 1)]  # fmt: skip
    norms = [128, 256, 512, 512, 256, 128, 64]
    assert [(m.in_channels, m.out_channels) for m in net.modules() if isinstance(m, nn.Conv2d)] == pairs
    count = sum(p.numel() for p in net.parameters())
    assert count == sum(16 * a * b + b for a, b in pairs) + 2 * sum(norms)
    assert round(count / 1e6, 2) == 16.66


@pytest.mark.parametrize("side", [64, 96])
def test_layers_are_the_published_ones(side):
    """Written out once more, skips carrying the values after LeakyReLU as in the released in-place code."""
    torch.manual_seed(0)
    net, x = MaskNet(channels=3), torch.randn(2, 3, side, side)
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]

    def down(i, x):
        return conv2d(x, convs[i].weight, convs[i].bias, stride=2, padding=1)

    def up(i, x):
        x = pad(interpolate(x.relu(), scale_factor=2, mode="bilinear"), (2, 1, 2, 1), mode="reflect")
        return conv2d(x, convs[i].weight, convs[i].bias)

    def norm(i, x):
        return batch_norm(x, None, None, norms[i].weight, norms[i].bias, training=True)

    skips = [leaky_relu(down(0, x), 0.2)]
    for i in (1, 2, 3):
        skips.append(leaky_relu(norm(i - 1, down(i, skips[-1])), 0.2))
    y = norm(3, up(5, down(4, skips[-1])))
    for i in (6, 7, 8):
        y = norm(i - 2, up(i, torch.cat([y, skips.pop()], 1)))
    expected = up(9, torch.cat([y, skips.pop()], 1)).sigmoid()
    assert expected.shape == (2, 1, side, side)
    assert torch.allclose(net(x), expected, atol=1e-6)


def test_masks_start_open():
    torch.manual_seed(0)
    biases = torch.stack([MaskNet(channels=1).last.conv.bias.detach() for _ in range(400)])
    assert biases.mean().item() == pytest.approx(3, abs=0.2)  # four standard errors
    assert biases.std().item() == pytest.approx(1, abs=0.15)
    net = MaskNet(channels=8)
    nn.init.constant_(net.last.conv.bias, 3.0)
    mask = net(torch.randn(4, 3, 64, 64))
    assert mask.mean().item() == pytest.approx(torch.tensor(3.0).sigmoid().item(), abs=0.03)
    assert 0 < mask.min() < mask.max() < 1


@pytest.mark.parametrize("side", [32, 64, 96, 160])
def test_any_multiple_of_32(side):
    mask = MaskNet(channels=2)(torch.randn(2, 3, side, side))
    assert mask.shape == (2, 1, side, side)
    assert bool(torch.isfinite(mask).all())


def test_other_crops_are_refused():
    with pytest.raises(UsageError, match="a crop of 120 pixels is no multiple of 32") as caught:
        ImageAdversary().check(SimpleNamespace(crop=120))
    assert "recipe.crop=96" in str(caught.value)
    for side in (32, 224):
        ImageAdversary().check(SimpleNamespace(crop=side))


# ------------------------------------------------------------------ image times mask
def test_the_normalised_image_is_multiplied():
    method, data = built(), batch(CODES)
    method.eval()
    mask = method.mask[1]((data.images - MEANS) / STDS)
    expected = (data.images - MEANS) / STDS * mask
    assert torch.allclose((seen(method, data) - MEANS) / STDS, expected, atol=1e-5)


@pytest.mark.parametrize(("fill", "colour"), [("mean", MEANS), ("black", torch.zeros(3, 1, 1))])
def test_a_closed_mask_leaves_one_colour_and_an_open_one_the_image(fill, colour):
    method, data = built(fill=fill), batch(CODES)
    nn.init.constant_(last_bias(method), -1e4)
    assert torch.allclose(seen(method, data), colour.expand(6, 3, 32, 32))
    nn.init.constant_(last_bias(method), 1e4)
    assert torch.allclose(seen(method, data), data.images, atol=1e-6)


def test_black_multiplies_the_original_image():
    method, data = built(fill="black"), batch(CODES)
    method.eval()
    mask = method.mask[1]((data.images - MEANS) / STDS)
    assert torch.allclose(seen(method, data), data.images * mask, atol=1e-6)


def test_only_the_image_changes():
    method, data = built(), batch(CODES)
    before = copy.deepcopy(data)
    assert not torch.equal(seen(method, data), data.images)
    assert torch.equal(before.images, data.images)
    assert torch.equal(before.targets, data.targets)
    assert torch.equal(before.attributes["gender"], data.attributes["gender"])
    assert method.touches == method.taps == ("image",)
    assert method.moves == ()  # the mask learns through layers that stay frozen


def test_evaluation_is_a_function_of_the_image():
    method, data = built(), batch(CODES)
    method.eval()
    before = state(method)
    with torch.inference_mode():
        whole, again = seen(method, data), seen(method, data)
        alone = method.intervene("image", data.images[2:3], data)
    assert torch.equal(whole, again)
    assert torch.allclose(whole[2:3], alone, atol=1e-6)
    assert same(before, state(method))


def test_distance():
    method, data = built(beta=0.7), batch(CODES)
    out = acted(method, data)
    apart = np.abs((out.taps["image"] - data.images).detach().numpy()) / np.array(STD)[:, None, None]
    assert method.loss(out, data)["distance"].item() == pytest.approx(0.7 * apart.mean(), rel=1e-5)
    told = method.diagnose(out, data)["distance"].detach().numpy()
    assert told == pytest.approx(apart.mean((1, 2, 3)), rel=1e-5)


# ------------------------------------------------------------------ the game
def test_confusion_moves_the_mask_so_that_the_adversary_errs_and_nothing_of_the_adversary():
    method, data = built(weight=1.0, beta=0.0), batch(CODES)
    codes = data.attributes["gender"]
    reader = copy.deepcopy(method.adversary)
    before = state(method.adversary)
    terms = method.loss(acted(method, data), data)
    assert terms["confusion"].item() == pytest.approx(-cross_entropy(reader(seen(method, data)), codes).item())
    terms["confusion"].backward()
    assert all(p.grad is None for p in method.adversary.parameters())
    assert same(before, state(method.adversary))
    rise = []
    with torch.no_grad():
        for step in (0.0, 1e-3):
            for p in method.mask.parameters():
                p -= step * p.grad / p.grad.norm().clamp_min(1e-12)
            rise.append(cross_entropy(copy.deepcopy(reader)(seen(method, data)), codes).item())
    assert rise[1] > rise[0]


def test_the_adversary_learns_on_its_own_steps_and_moves_nothing_else():
    method, data = built(), batch(CODES)
    (own,) = method.phases()
    assert {id(p) for p in own.params} == {id(p) for p in method.adversary.parameters()}
    optimiser = torch.optim.Adam(own.params, lr=1e-3)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        loss = own.loss(acted(method, data), data)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.grad is None for p in method.mask.parameters())


def test_reversal_pulls_the_mask_alike_and_teaches_the_adversary():
    data, pulls = batch(CODES), {}
    for update in ("alternate", "reversal"):
        method = built(update=update, weight=3.0, beta=0.0)
        sum(method.loss(acted(method, data), data).values()).backward()
        pulls[update] = last_bias(method).grad, method.mask[1].down[0].weight.grad
    for one, other in zip(*pulls.values(), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-7)
    plain = built(weight=3.0)
    cross_entropy(plain.adversary(seen(plain, data).detach()), data.attributes["gender"]).backward()
    for p, q in zip(method.adversary.parameters(), plain.adversary.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, atol=1e-6)  # the weight is the mask's alone


def test_phases():
    (own,) = built(warmup=7, repeat=3, lr=0.01).phases()
    assert (own.before, own.repeat, own.lr, own.absolute_lr, own.balance) == (7, 3, 0.01, True, "gender")
    (own,) = built(update="reversal", warmup=7, balance=False).phases()
    assert (own.before, own.repeat, own.balance, own.task) == (7, 0, None, False)
    own, mask = built(update="released", warmup=7, mask_steps=5).phases()
    assert (own.name, own.before, own.repeat) == ("adversary", 7, 0)
    assert (mask.name, mask.before, mask.repeat, mask.task, mask.detached) == ("mask", 5, 0, True, False)
    assert mask.balance is None
    assert built(update="released", task_stream="balanced").phases()[1].balance == "gender"


def test_released_adversary_first_learns_on_unmasked_images():
    method, data = built(update="released"), batch(CODES)
    nn.init.constant_(last_bias(method), -1e4)  # nothing is to be seen of the masked ones
    own, _ = method.phases()
    expected = cross_entropy(copy.deepcopy(method.adversary)(data.images), data.attributes["gender"])
    assert own.loss(acted(method, data), data).item() == pytest.approx(expected.item())


def test_released_mask_learns_then_freezes_for_good():
    method, data = built(update="released", mask_steps=2, weight=2.0, beta=0.5), batch(CODES)
    _, mask = method.phases()
    for _ in range(2):
        method.zero_grad()
        out = acted(method, data)
        assert out.taps["image"].requires_grad
        held = -2.0 * cross_entropy(copy.deepcopy(method.adversary)(out.taps["image"]), data.attributes["gender"])
        apart = 0.5 * ((out.taps["image"] - data.images).abs() / STDS).mean()
        loss = mask.loss(out, data)
        assert loss.item() == pytest.approx((held + apart).item(), rel=1e-5)
        loss.backward()
        assert last_bias(method).grad.abs().item() > 0
        assert all(p.grad is None for p in method.adversary.parameters())
    before, method_training = state(method.mask), method.mask.training
    out = acted(method, data)
    assert not out.taps["image"].requires_grad
    assert same(before, state(method.mask))  # running statistics included
    assert method.mask.training == method_training
    terms = method.loss(out, data)
    assert list(terms) == ["adversary"]
    method.zero_grad()
    terms["adversary"].backward()
    assert all(p.grad is None for p in method.mask.parameters())
    assert method.phases()[1].before == 0  # a second stage of the recipe does not thaw it


@pytest.mark.parametrize("update", ["alternate", "reversal", "released"])
def test_unknown_attributes_leave_the_adversarys_terms(update):
    method, data = built(update=update), batch([-1, -1, 1])
    terms = method.loss(acted(method, data), data)
    assert terms["adversary" if update != "alternate" else "confusion"].item() == 0
    hits = method.eval().diagnose(acted(method, data), data)["accuracy"]
    assert hits.isnan().all(1).tolist() == [True, True, False]


# ------------------------------------------------------------------ the adversary's weights
def test_adversary_is_a_resnet18_with_a_linear_layer():
    method = built(channels=64)
    published = sum(p.numel() for p in timm.create_model("resnet18", num_classes=2).parameters())
    assert sum(p.numel() for p in method.adversary.parameters()) == published
    assert (method.adversary[2].in_features, method.adversary[2].out_features) == (512, 2)
    assert method.flags == ("adv-image: adversary weights=random",)


def test_imagenet_weights_come_from_the_local_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match=r"adv-image: no ImageNet weights.*use weights='random'"):
        built(channels=64, weights="imagenet")
    torch.manual_seed(5)
    stored = timm.create_model("resnet18").state_dict()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(stored, tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    method = built(channels=64, weights="imagenet")
    assert torch.equal(method.adversary[1].layer4[1].conv2.weight, stored["layer4.1.conv2.weight"])
    assert all(p.requires_grad for p in method.adversary.parameters())
    assert method.flags == ("adv-image: adversary weights=imagenet",)


# ------------------------------------------------------------------ errors
@pytest.mark.parametrize(
    "options",
    [{"beta": -1.0}, {"beta": math.nan}, {"weight": -1.0}, {"mask_steps": 0}, {"channels": 0}, {"warmup": -1},
     {"repeat": 0}, {"lr": 0.0}, {"weights": "imagenet", "channels": 8}],
)  # fmt: skip
def test_senseless_options(options):
    with pytest.raises(UsageError, match="adv-image"):
        ImageAdversary(**options)


def test_unknown_attribute():
    with pytest.raises(UsageError, match="Did you mean 'gender'"):
        built(attribute="gendr")
