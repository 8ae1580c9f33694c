"""timm backbones: taps against timm's own forward pass, hooks, refusals."""

from __future__ import annotations

import sys
from functools import cache

import pytest
import timm
import torch
from torch import Tensor

from biasbench import UsageError, seeded
from biasbench.builtin.backbones.networks import _any_size
from biasbench.builtin.backbones.timm import TimmBackbone
from biasbench.plugins import load_plugins

pytestmark = pytest.mark.torch

CONVS = ("conv1", "conv2", "conv3", "conv4", "conv5")
CHANNELS = {
    "resnet18": dict(zip(CONVS, (64, 64, 128, 256, 512), strict=True)) | {"embedding": 512},
    "resnet50": dict(zip(CONVS, (64, 256, 512, 1024, 2048), strict=True)) | {"embedding": 2048},
    "tf_efficientnet_lite0": dict(zip(CONVS, (16, 24, 40, 112, 320), strict=True)) | {"embedding": 1280},
    "convnext_atto": dict(zip(CONVS[1:], (40, 80, 160, 320), strict=True)) | {"embedding": 320},
    "vit_tiny_patch16_224": {"conv4": 192, "conv5": 192, "embedding": 192},
}
CUT = [*CHANNELS, "test_vit", "test_vit2", "test_vit3", "test_vit4", "test_efficientnet_ln", "mobilenetv2_050"]
HOOKED = {
    "mobilenetv3_small_050": 64,  # [B, C, H, W]
    "test_mambaout": 64,  # [B, H, W, C] inside
    "test_vit_relpos": 160,  # [B, N, C] inside
}


@cache
def made(name: str) -> TimmBackbone:
    return TimmBackbone.create(name, "random").eval()


@cache
def reference(name: str) -> torch.nn.Module:
    """timm's own model with the same numbers."""
    with seeded("weights", name):
        model: torch.nn.Module = timm.create_model(name, **_any_size(name)).eval()
    return model


def images(size: int) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(size))


@torch.no_grad()
def timm_embedding(name: str, x: Tensor) -> Tensor:
    model = reference(name)
    config = model.pretrained_cfg
    x = (x - torch.tensor(config["mean"]).view(3, 1, 1)) / torch.tensor(config["std"]).view(3, 1, 1)
    out: Tensor = model.forward_head(model.forward_features(x), pre_logits=True)
    return out


@torch.no_grad()
def visited(backbone: TimmBackbone, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    seen: dict[str, Tensor] = {}

    def visit(tap: str, activation: Tensor) -> Tensor:
        seen[tap] = activation
        return activation

    return seen, backbone.run(x, "image", "embedding", visit)


def test_the_channels_are_the_fields() -> None:
    for name, channels in CHANNELS.items():
        assert made(name).channels == {"image": 3, **channels}


@pytest.mark.parametrize("size", [64, 97])
@pytest.mark.parametrize("name", CUT)
@torch.no_grad()
def test_segments_are_timms_forward_pass(name: str, size: int) -> None:
    backbone, x = made(name), images(size)
    assert backbone.resumable
    whole = backbone(x)
    assert torch.equal(whole, timm_embedding(name, x))
    seen, embedding = visited(backbone, x)
    assert torch.equal(embedding, whole)
    assert backbone.taps == ("image", *seen)
    for tap, activation in seen.items():
        assert activation.shape[1] == backbone.channels[tap]
        assert activation.ndim == (2 if tap == "embedding" else 4)
        if tap in backbone.strides:
            assert activation.shape[2:] == (-(-size // backbone.strides[tap]),) * 2 or name.startswith("convnext")
        assert torch.equal(backbone.run(x, "image", tap), activation)  # nothing changed it in place afterwards
        assert torch.equal(backbone.run(activation, tap, "embedding"), whole)


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "convnext_atto"])
def test_strides_at_a_size_they_divide(name: str) -> None:
    seen, _ = visited(made(name), images(64))
    strides = made(name).strides
    assert {tap: 64 // x.shape[2] for tap, x in seen.items() if tap != "embedding"} | {"image": 1} == strides
    assert strides["conv4"] == 16
    assert strides["conv5"] == 32


def test_vit_taps_hold_every_token_and_say_so() -> None:
    backbone = made("vit_tiny_patch16_224")
    seen, _ = visited(backbone, images(64))
    assert seen["conv4"].shape == (2, 192, 1 + 4 * 4, 1)
    assert backbone.strides == {"image": 1}
    assert "block 8 of 12" in backbone.notes["conv4"]
    model, tokens = reference("vit_tiny_patch16_224"), []
    handles = [model.blocks[i].register_forward_hook(lambda _m, _i, out: tokens.append(out)) for i in (7, 11)]
    timm_embedding("vit_tiny_patch16_224", images(64))
    for handle in handles:
        handle.remove()
    assert torch.equal(seen["conv4"][..., 0].transpose(1, 2), tokens[0])
    assert torch.equal(seen["conv5"][..., 0].transpose(1, 2), tokens[1])


def test_convnext_has_no_conv1() -> None:
    assert "conv1" in made("convnext_atto").notes
    with pytest.raises(UsageError, match="convnext_atto has no tap 'conv1'"):
        made("convnext_atto").run(images(32), "conv1", "embedding")


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "mobilenetv3_small_050"])
@torch.no_grad()
def test_what_a_visit_returns_goes_on(name: str) -> None:
    backbone, x = made(name), images(64)

    def blank(tap: str, activation: Tensor) -> Tensor:
        return torch.zeros_like(activation) if tap == "conv4" else activation

    out = backbone.run(x, "image", "embedding", blank)
    assert torch.equal(out[0], out[1])  # the pictures differ, what is left of them does not
    assert not torch.equal(out, backbone(x))
    if backbone.resumable:
        zeros = torch.zeros_like(backbone.run(x, "image", "conv4"))
        assert torch.equal(out, backbone.run(zeros, "conv4", "embedding"))


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_a_tail_is_an_independent_copy(name: str) -> None:
    backbone, x = TimmBackbone.create(name, "random").eval(), images(64)
    tail = backbone.tail("conv4")
    start = backbone.run(x, "image", "conv4").detach()
    before = backbone.run(start, "conv4", "embedding")
    assert torch.equal(tail(start), before)
    tail(start).square().mean().backward()
    gradients = [p.grad for p in tail.parameters()]
    assert gradients
    assert all(g is not None for g in gradients)
    assert all(p.grad is None for p in backbone.parameters())
    with torch.no_grad():
        for p in tail.parameters():
            p.zero_()
    assert torch.equal(backbone.run(start, "conv4", "embedding"), before)


def test_gradients_reach_the_image() -> None:
    x = images(64).requires_grad_()
    made("resnet18")(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


# -- models that are not cut ----------------------------------------------------------------
@pytest.mark.parametrize("name", HOOKED)
@torch.no_grad()
def test_hooked_taps(name: str) -> None:
    backbone, x = made(name), images(HOOKED[name])
    assert not backbone.resumable
    whole = backbone(x)
    assert torch.equal(whole, timm_embedding(name, x))
    seen, embedding = visited(backbone, x)
    assert torch.equal(embedding, whole)
    assert tuple(seen) == backbone.taps[1:]
    assert {"conv4", "conv5"} <= set(seen)
    for tap, activation in seen.items():
        assert activation.shape[1] == backbone.channels[tap]
        assert tap not in backbone.strides or activation.shape[3] == HOOKED[name] // backbone.strides[tap]
        assert torch.equal(backbone.run(x, "image", tap), activation)
    assert torch.equal(backbone.run(x, "image", "embedding", lambda _tap, a: a.clone()), whole)
    assert not any(m._forward_hooks for m in backbone.modules())  # none is left behind


def test_a_stop_visits_nothing_after_it() -> None:
    taps: list[str] = []
    made("mobilenetv3_small_050").run(images(64), "image", "conv4", lambda tap, x: (taps.append(tap), x)[1])
    assert taps == ["conv1", "conv2", "conv3", "conv4"]


def test_hooked_models_cannot_be_resumed() -> None:
    backbone = made("mobilenetv3_small_050")
    for attempt in (lambda: backbone.tail("conv4"), lambda: backbone.run(images(64), "conv4", "embedding")):
        with pytest.raises(UsageError, match="mobilenetv3_small_050 cannot be resumed at 'conv4'"):
            attempt()
    with pytest.raises(UsageError, match="no tap 'conv9'"):
        backbone.run(images(64), "image", "conv9")


def test_a_model_of_one_size_says_so() -> None:
    with pytest.raises(UsageError, match="swin_tiny_patch4_window7_224 takes images of 224x224 only, not 96x96"):
        TimmBackbone.outline("swin_tiny_patch4_window7_224")(torch.zeros(1, 3, 96, 96, device="meta"))


def test_a_subclass_with_another_forward_pass_is_not_cut() -> None:
    assert not TimmBackbone.outline("deit_tiny_distilled_patch16_224").resumable  # two class tokens, two heads


# -- names and plans ------------------------------------------------------------------------
def test_names_that_timm_knows() -> None:
    backbones = load_plugins().backbones
    for name in ("resnet18", "resnet50.a1_in1k", "vit_tiny_patch16_224"):
        assert backbones.find(name).load() is TimmBackbone
    for name in ("resnet18.no_such_tag", "resnet5", "hf-hub:timm/resnet18"):
        assert not TimmBackbone.accepts(name)
        with pytest.raises(UsageError, match="unknown backbone"):
            backbones.find(name)


def test_names_that_timm_does_not_know() -> None:
    for attempt in (TimmBackbone.resolve_weights, TimmBackbone.outline):
        with pytest.raises(UsageError, match=r"no model 'resnet51'\. Did you mean 'resnet"):
            attempt("resnet51")
        with pytest.raises(UsageError, match=r"no model 'resnet18\.x'\. Its tags: resnet18\.a1_in1k, "):
            attempt("resnet18.x")


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "mobilenetv3_small_050"])
def test_an_outline_has_the_taps_and_no_numbers(name: str) -> None:
    outline, backbone = TimmBackbone.outline(name), made(name)
    assert all(p.is_meta for p in outline.parameters())
    for attribute in ("taps", "channels", "strides", "resumable", "notes", "name"):
        assert getattr(outline, attribute) == getattr(backbone, attribute)


def test_random_weights_are_the_same_in_every_process() -> None:
    again = TimmBackbone.create("resnet18", "random")
    assert again.weights == again.weights_digest == "random"
    for a, b in zip(again.parameters(), made("resnet18").parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_wrapper_hides_nothing_of_timm() -> None:
    assert sys.modules["timm"] is timm  # our module of that name does not shadow it
