"""VGG-M: files in the released formats against MatConvNet's own definitions, and the network itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from scipy.io import savemat

from biasbench import IntegrityError, UsageError
from biasbench.builtin.backbones import vgg_m_network
from biasbench.builtin.backbones.timm import TimmBackbone
from biasbench.builtin.backbones.vgg_m import VggMBackbone
from biasbench.planned import FIELD_TAPS
from biasbench.rng import generator
from tests.helpers import matconvnet_files as files

pytestmark = pytest.mark.torch


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network with few channels."""
    for name, width in files.SMALL.items():
        monkeypatch.setitem(vgg_m_network.WIDTHS, name, width)


# -- numbers ----------------------------------------------------------------------------------
def computed(path: Path, image: Any, **options: Any) -> Any:
    backbone = VggMBackbone.create("vgg-m", str(path), options).eval()
    assert backbone.weights.startswith(path.name)
    with torch.no_grad():
        return backbone(torch.from_numpy(image).float().permute(2, 0, 1)[None])[0].numpy()


@pytest.mark.parametrize("norm", ["lrn", "batch"])
@pytest.mark.parametrize("form", ["simple", "old", "graph", "in net", "graph in net"])
def test_a_released_file_gives_matconvnets_numbers(small: None, tmp_path: Path, form: str, norm: str) -> None:
    layers = files.simple(norm, pools=[0] * 4 if form == "old" else files.OVER)
    content = files.as_graph(layers) if "graph" in form else files.as_simple(layers, old=form == "old")
    mean = np.array([120.0, 90, 60], np.float32)
    about = files.meta(mean.reshape(1, 1, 3))
    content |= about["meta"] if form == "old" else about  # once `normalization` stood by itself
    savemat(tmp_path / "net.mat", {"net": content} if "net" in form else content, do_compression=form == "graph")
    expected = files.embedding(layers, files.picture(), mean)
    assert (expected > 0).sum() > 2
    got = computed(tmp_path / "net.mat", files.picture(), norm=norm)
    assert np.allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_the_files_own_constants_count(small: None, tmp_path: Path) -> None:
    layers = files.simple(param=(3, 1, 2e-5, 0.5))
    savemat(tmp_path / "net.mat", files.as_simple(layers) | files.meta(np.zeros((3, 1))))
    expected = files.embedding(layers, files.picture(), 0)
    assert np.allclose(computed(tmp_path / "net.mat", files.picture()), expected, rtol=1e-4, atol=1e-4 * expected.max())
    others = files.embedding(files.simple(), files.picture(), 0)
    assert not np.allclose(expected, others, rtol=0.01)
    for layer in layers:
        layer.pop("param", None)  # MatConvNet's default then
    savemat(tmp_path / "net.mat", files.as_simple(layers) | files.meta(np.zeros((3, 1))))
    default = files.embedding(files.simple(param=(5, 1, 0.0001 / 5, 0.75)), files.picture(), 0)
    assert np.allclose(computed(tmp_path / "net.mat", files.picture()), default, rtol=1e-4, atol=1e-4 * default.max())


def test_a_mean_image_is_subtracted_pixel_by_pixel(small: None, tmp_path: Path) -> None:
    layers, mean = files.simple(), 255 * generator("vgg-m", "mean").random((224, 224, 3)).astype(np.float32)
    savemat(tmp_path / "net.mat", files.as_simple(layers) | files.meta(mean))
    expected = files.embedding(layers, files.picture(), mean)
    assert np.allclose(computed(tmp_path / "net.mat", files.picture()), expected, rtol=1e-4, atol=1e-4 * expected.max())
    flat = np.broadcast_to(np.float32([120, 90, 60]), (224, 224, 3))  # at another size an even one stays what it is
    savemat(tmp_path / "even.mat", files.as_simple(layers) | files.meta(flat))
    savemat(tmp_path / "three.mat", files.as_simple(layers) | files.meta(flat[0, 0]))
    even, three = (computed(tmp_path / f"{n}.mat", files.picture(100)) for n in ("even", "three"))
    assert np.allclose(even, three, rtol=1e-4)


@pytest.mark.parametrize(
    ("norm", "mean"), [("lrn", (123.68, 116.779, 103.939)), ("batch", (131.4538, 103.9875, 91.4623))]
)
@pytest.mark.parametrize("silent", [{}, {"meta": {"inputs": 1.0}}, files.meta(np.zeros((0, 0)))])
def test_without_a_mean_the_published_one_counts(
    small: None, tmp_path: Path, silent: Any, norm: str, mean: Any
) -> None:
    layers = files.simple(norm)
    savemat(tmp_path / "net.mat", files.as_simple(layers) | silent)
    expected = files.embedding(layers, files.picture(), np.array(mean))
    got = computed(tmp_path / "net.mat", files.picture(), norm=norm)
    assert np.allclose(got, expected, rtol=1e-4, atol=1e-4 * expected.max())


def test_the_converted_state_of_vgg_face(small: None, tmp_path: Path) -> None:
    layers = files.simple("batch")
    save_file(files.published_state(layers), tmp_path / "vgg_m_face_bn_dag.safetensors")  # imported
    expected = files.embedding(layers, files.picture(), np.array([131.4538, 103.9875, 91.4623]))
    got = computed(tmp_path / "vgg_m_face_bn_dag.safetensors", files.picture(), norm="batch")
    assert np.allclose(got, expected, rtol=1e-4, atol=1e-4 * expected.max())


def test_the_networks_own_state_round_trips(small: None, tmp_path: Path) -> None:
    network = timm.create_model("vgg_m", num_classes=5).eval()
    save_file(network.state_dict(), tmp_path / "own.safetensors")
    x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    backbone = VggMBackbone.create("vgg-m", str(tmp_path / "own.safetensors")).eval()
    config = network.pretrained_cfg
    with torch.no_grad():
        normal = (x - torch.tensor(config["mean"]).view(3, 1, 1)) / torch.tensor(config["std"]).view(3, 1, 1)
        expected = network.forward_head(network.forward_features(normal), pre_logits=True)
        assert torch.allclose(backbone(x), expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(network(normal), network.get_classifier()(expected))


# -- the network itself ------------------------------------------------------------------------
@pytest.mark.parametrize("norm", ["lrn", "batch"])
@torch.no_grad()
def test_taps_at_full_width(norm: str) -> None:
    backbone = VggMBackbone.create("vgg-m", "random", {"norm": norm}).eval()
    x = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    seen: dict[str, torch.Tensor] = {}
    whole = backbone.run(x, "image", "embedding", lambda tap, a: seen.setdefault(tap, a))
    assert {tap: tuple(a.shape[1:]) for tap, a in seen.items()} == {
        "conv1": (96, 109, 109), "conv2": (256, 26, 26), "conv3": (512, 13, 13), "conv4": (512, 13, 13),
        "conv5": (512, 13, 13), "pool5": (512, 6, 6), "fc6": (4096,), "embedding": (4096,),
    }  # fmt: skip
    assert backbone.taps == ("image", *seen) == FIELD_TAPS
    for tap, activation in seen.items():
        assert activation.shape[1] == backbone.channels[tap]
        assert activation.min() >= 0
        assert 0.1 < activation.std() / x.std() < 1e4  # the signal of random weights neither dies nor explodes
        assert torch.equal(backbone.run(activation, tap, "embedding"), whole)  # nothing changed it in place
    assert backbone.strides == {"image": 1, "conv1": 2, "conv2": 8, "conv3": 16, "conv4": 16, "conv5": 16, "pool5": 32}


PUBLISHED = {  # of vgg_m_face_bn_dag.pth, as its module of that name declares them
    "conv1": (96, 3, 7, 7), "conv2": (256, 96, 5, 5), "conv3": (512, 256, 3, 3), "conv4": (512, 512, 3, 3),
    "conv5": (512, 512, 3, 3), "fc6": (4096, 512, 6, 6), "fc7": (4096, 4096, 1, 1),
}  # fmt: skip


def test_shapes_are_the_published_ones() -> None:
    state = {k: v for k, v in VggMBackbone.outline("vgg-m", {"norm": "batch"}).state_dict().items() if "num_b" not in k}
    shapes = {k.split(".", 2)[2]: tuple(v.shape) for k, v in state.items()}
    wanted: dict[str, tuple[int, ...]] = {}
    for i, (name, shape) in enumerate(PUBLISHED.items(), start=1):
        wanted[f"{name}.weight"] = shape if i < 6 else (shape[0], int(np.prod(shape[1:])))
        wanted[f"{name}.bias"] = shape[:1]
        wanted |= {f"bn{i}.{part}": shape[:1] for part in ("weight", "bias", "running_mean", "running_var")}
    assert shapes == wanted


def test_response_norm_by_hand(small: None) -> None:
    layer = VggMBackbone.create("vgg-m", "random").segments["conv2"].norm1
    x = torch.tensor([3.0, 40, 0, 100, 7, 20]).view(1, 6, 1, 1)
    squares = [9 + 1600, 9 + 1600 + 1e4, 1600 + 9 + 1e4 + 49, 1600 + 1e4 + 49 + 400, 1e4 + 49 + 400, 1e4 + 49 + 400]
    expected = [v / (2 + 1e-4 * s) ** 0.75 for v, s in zip(x.flatten().tolist(), squares, strict=True)]
    assert layer(x).flatten().tolist() == pytest.approx(expected, rel=1e-6)


@torch.no_grad()
def test_other_sizes_are_averaged_to_what_fc6_reads(small: None) -> None:
    backbone = VggMBackbone.create("vgg-m", "random").eval()
    for side in (59, 96, 300):
        x = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(side))
        pooled = backbone.run(x, "image", "pool5")
        even = torch.nn.functional.adaptive_avg_pool2d(pooled, 6)
        assert torch.equal(backbone(x), backbone.run(even, "pool5", "embedding"))
    with pytest.raises(UsageError, match="at least 59x59, not 58x58"):
        backbone(torch.zeros(1, 3, 58, 58))


def test_dropout_acts_in_training_and_only_with_lrn(small: None) -> None:
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    backbone = VggMBackbone.create("vgg-m", "random").train()
    start = backbone.run(x, "image", "pool5")
    assert not torch.equal(backbone.run(start, "pool5", "fc6"), backbone.eval().run(start, "pool5", "fc6"))
    other = VggMBackbone.create("vgg-m", "random", {"norm": "batch"})
    assert not any(isinstance(m, torch.nn.Dropout | torch.nn.LocalResponseNorm) for m in other.modules())


# -- names and weights -------------------------------------------------------------------------
def test_without_a_file_the_row_says_random() -> None:
    resolved = VggMBackbone.resolve_weights("vgg-m")
    assert (resolved.kind, resolved.label, resolved.digest) == ("random", "random (no file given)", "random")
    assert VggMBackbone.resolve_weights("vgg-m", "random").label == "random"


def test_files_that_are_not_there_or_not_read(tmp_path: Path) -> None:
    for typed, told in (
        ("absent.mat", "no such weights file"),
        ("imagenet", "unknown weights 'imagenet' for vgg-m.*mat"),
    ):
        with pytest.raises(UsageError, match=told):
            VggMBackbone.resolve_weights("vgg-m", typed)
    (tmp_path / "net.mat").write_bytes(b"x")
    with pytest.raises(
        UsageError, match=r"net\.mat: weights of this format are not read\. Use one of \.safetensors"
    ) as no:
        TimmBackbone.resolve_weights("resnet18", str(tmp_path / "net.mat"))
    assert ".mat" not in str(no.value).partition("Use one of")[2]


def test_a_file_that_changed_since_the_plan_is_noticed(small: None, tmp_path: Path) -> None:
    savemat(tmp_path / "net.mat", files.as_simple(files.simple()))
    resolved = VggMBackbone.resolve_weights("vgg-m", str(tmp_path / "net.mat"))
    savemat(tmp_path / "net.mat", files.as_simple(files.simple(param=(3, 1, 1, 1))))
    with pytest.raises(IntegrityError):
        VggMBackbone.create("vgg-m", resolved)


def test_timm_sees_it_and_the_harness_calls_it_vgg_m() -> None:
    with torch.device("meta"):
        network = timm.create_model("vgg_m_bn", num_classes=3)
        assert network(torch.zeros(2, 3, 224, 224)).shape == (2, 3)
        assert sum(p.numel() for p in timm.create_model("vgg_m").parameters()) == 102_908_520
    assert {"vgg_m", "vgg_m_bn"} <= set(timm.list_models())
    assert not {"vgg_m", "vgg_m_bn"} & set(TimmBackbone.known_names())
    assert not TimmBackbone.accepts("vgg_m")
