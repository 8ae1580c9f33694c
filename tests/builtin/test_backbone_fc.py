"""Fully connected layers behind timm networks: taps, values, and a cell that trains them on cached features."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from biasbench import UsageError, io
from biasbench.backbone import Backbone
from biasbench.builtin.backbones.timm import TimmBackbone
from biasbench.cell import Cell
from biasbench.config import Settings
from biasbench.data import SPLITS
from biasbench.job import CellJob
from biasbench.plan import Request, make_plan
from biasbench.planned import FIELD_TAPS
from biasbench.plugins import load_plugins
from biasbench.recipe import Stage
from biasbench.runner import Runner, Summary
from biasbench.source import CENTRE
from biasbench.store import Store
from biasbench.testing._subject import Subject

pytestmark = pytest.mark.torch
TROUBLE = Path(__file__).parents[1] / "helpers" / "trouble.py"
CONVS = ("conv1", "conv2", "conv3", "conv4", "conv5")


@cache
def made(name: str, *fc: int) -> TimmBackbone:
    return TimmBackbone.create(name, "random", {"fc": fc}).eval()


def images(side: int = 64) -> Tensor:
    return torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(side))


# -- the backbone ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "fc", "wanted"),
    [
        ("resnet18", (512, 256), {"conv5": 512, "pool5": 512, "fc6": 512, "embedding": 256}),
        ("tf_efficientnet_lite0", (512, 512), {"conv5": 320, "pool5": 1280, "fc6": 512, "embedding": 512}),
        ("tf_efficientnet_lite0", (64,), {"conv5": 320, "pool5": 1280, "embedding": 64}),
        ("vit_tiny_patch16_224", (8, 4), {"conv5": 192, "pool5": 192, "fc6": 8, "embedding": 4}),
    ],
)
def test_taps_in_order_with_their_widths(name: str, fc: tuple[int, ...], wanted: dict[str, int]) -> None:
    outline, plain = TimmBackbone.outline(name, {"fc": fc}), TimmBackbone.outline(name)
    before = {tap: width for tap, width in plain.channels.items() if tap != "embedding"}
    assert outline.channels == before | wanted
    assert outline.taps == tuple(outline.channels) == tuple(tap for tap in FIELD_TAPS if tap in outline.channels)
    assert outline.resumable
    assert outline.strides == plain.strides
    assert all(p.is_meta for p in outline.parameters())
    for tap in ("pool5", "embedding"):
        assert outline.shape_at(tap, 64) == (outline.channels[tap],)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050"])
@torch.no_grad()
def test_pool5_is_the_networks_own_embedding_and_the_layers_are_products(name: str) -> None:
    backbone, x = made(name, 16, 8), images()
    pooled = backbone.run(x, "image", "pool5")
    assert torch.equal(pooled, made(name)(x))
    value = pooled.double().numpy()
    for tap in ("fc6", "embedding"):
        layer = backbone.segments[tap].linear
        value = np.maximum(value @ layer.weight.double().numpy().T + layer.bias.double().numpy(), 0)
        assert np.allclose(backbone.run(x, "image", tap).numpy(), value, rtol=1e-5, atol=1e-6)
        assert torch.equal(backbone.run(pooled, "pool5", tap), backbone.run(x, "image", tap))
    assert (value > 0).any()
    assert torch.equal(backbone.tail("pool5")(pooled), backbone(x))


def test_a_model_that_is_not_cut_can_be_resumed_at_its_pooled_features() -> None:
    backbone = made("mobilenetv3_small_050", 16, 8)
    assert backbone.resumable
    assert backbone.taps == ("image", "pool5", "fc6", "embedding")
    assert not made("mobilenetv3_small_050").resumable


def test_the_layers_start_from_a_stream_of_their_own() -> None:
    first, again = made("resnet18", 16, 8), TimmBackbone.create("resnet18", "random", {"fc": [16, 8], "dropout": 0.5})
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    conv, linear = first.segments["conv1"].conv1.weight.flatten(), first.segments["fc6"].linear.weight.flatten()
    n = min(len(conv), len(linear))
    assert abs(np.corrcoef(conv[:n].detach(), linear[:n].detach())[0, 1]) < 0.1
    assert linear.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.05)  # He et al. 2015


def test_dropout_acts_in_training_only() -> None:
    backbone = TimmBackbone.create("resnet18", "random", {"fc": (400,), "dropout": 0.25})
    x = torch.rand(50, 512, generator=torch.Generator().manual_seed(0))
    kept = backbone.eval().run(x, "pool5", "embedding")
    assert torch.equal(kept, backbone.run(x, "pool5", "embedding"))
    torch.manual_seed(0)
    dropped = backbone.train().run(x, "pool5", "embedding")
    gone = (dropped == 0) & (kept > 0)
    assert gone.sum() / (kept > 0).sum() == pytest.approx(0.25, abs=0.02)
    assert torch.allclose(dropped[~gone], kept[~gone] / 0.75)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"fc": (0,)}, r"fc takes the units of one or two layers, not \(0,\)"),
        ({"fc": (8, -8)}, "fc takes the units of one or two layers"),
        ({"fc": (8, 8, 8)}, "fc takes the units of one or two layers"),
        ({"fc": (8,), "dropout": 1.0}, "dropout must be at least 0 and below 1, not 1.0"),
        ({"fc": (8,), "dropout": -0.1}, "dropout must be at least 0"),
        ({"dropout": 0.5}, "dropout stands behind the layers of fc, and there are none. Give fc too"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=f"^resnet18: {told}"):
        TimmBackbone.outline("resnet18", options)


# -- in a plan ---------------------------------------------------------------------------------
def plan(tmp_path: Path, method: str, backbone: str, train: str = "fc6") -> Any:
    overrides = {"crop": 32, "short_side": 32, "stages.1.train": train}
    request = Request(
        methods=[method],
        datasets=["plain"],
        backbones=[backbone],
        profile="smoke",
        overrides=overrides,
        weights="random",
    )
    (cell,) = make_plan([request], load_plugins([TROUBLE]), Settings((), tmp_path / "results", tmp_path / "cache"))
    return cell


def test_a_plan_knows_the_taps(tmp_path: Path) -> None:
    cell = plan(tmp_path, "original", "resnet18(fc=(8, 4))")
    assert cell.reason is None
    assert cell.spec.backbone == "resnet18(fc=(8, 4), dropout=0.0)"
    assert cell.trains_from is None
    assert plan(tmp_path, "original", "resnet18").reason == "n/a: resnet18 has no fc6 to train"
    assert plan(tmp_path, "adv(at='fc6')", "resnet18", "conv5").reason == "n/a: resnet18 has no fc6"
    assert plan(tmp_path, "jlu(at='fc6')", "resnet18(fc=(8, 4))").reason is None
    assert plan(tmp_path, "adv-conv5", "resnet18(fc=(8, 4))").trains_from == "conv5"
    assert plan(tmp_path, "adv(at='fc6')", "resnet18(fc=(8, 4))").trains_from is None
    assert plan(tmp_path, "adv(at='pool5')", "resnet18(fc=(8, 4))").trains_from == "pool5"


@pytest.mark.parametrize("typed", ["resnet18(fc=512)", "resnet18(fc=(8.5,))", "resnet18(fc=(8,), dropout='x')"])
def test_options_of_another_type_are_one_line(tmp_path: Path, typed: str) -> None:
    with pytest.raises(UsageError, match=r"resnet18\(fc=.*Options: fc: tuple\[int, \.\.\.\] = \(\), dropout: float"):
        plan(tmp_path, "original", typed)


# -- in a cell ---------------------------------------------------------------------------------
def cell_of(folder: Path, method: str, backbone: str, train: str = "fc6") -> Cell:
    """A cell of the conformance kit's data whose only stage trains from a tap on, over cached features."""
    stage = Stage(train=train, epochs=2, lr=1e-2, batch_size=8)
    base = Subject(method)._job(folder)
    recipe = base.recipe.model_copy(update={"stages": (stage,), "cache": True})
    update = {"backbone": backbone, "backbone_options": {"fc": (16, 8)}, "recipe": recipe}
    job = CellJob.model_validate_json(base.model_copy(update=update).model_dump_json())  # as a child is told
    return Cell(job, lambda _: None)


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenetv3_small_050"])
@pytest.mark.parametrize("method", ["original", "jlu(warmup=1, steps=2)"])
def test_a_cell_trains_from_fc6_on_cached_features(tmp_path: Path, method: str, backbone: str) -> None:
    cell = cell_of(tmp_path, method, backbone)
    before = {name: value.clone() for name, value in cell.model.state_dict().items()}
    cell.train(Store(tmp_path / "results", create=True))
    assert cell.manifest["starts"] == ["pool5"]

    trained = ("head.", "backbone.segments.fc6.", "backbone.segments.embedding.", "method.")
    for name, parameter in cell.model.named_parameters():
        assert (parameter.grad is not None) == name.startswith(trained), name
        assert parameter.requires_grad == name.startswith(trained), name
    after = cell.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"backbone.segments.fc6.linear.weight", "backbone.segments.embedding.linear.weight"} < moved
    assert all(name.startswith(trained) for name in moved)  # running statistics of the convolutions too stand still

    fresh = Backbone.eval(TimmBackbone.create(backbone, "random"))  # no layer of fc ever touched it
    for split in SPLITS:
        rows = np.arange(len(cell.tables[split]))
        pixels = cell.loader.load(split, rows, augment_seed=None).images
        _, cached = cell.source.batch(split, rows, CENTRE, "pool5", cell.device, attributes=False)
        assert cached.shape == (len(rows), fresh.channels["embedding"])
        with torch.inference_mode():
            assert torch.allclose(cached, fresh(pixels), rtol=1e-4, atol=1e-5)


def test_cached_and_live_features_train_the_same(tmp_path: Path) -> None:
    cached = cell_of(tmp_path / "cached", "original", "resnet18")
    cached.train(Store(tmp_path / "cached" / "results", create=True))
    live = cell_of(tmp_path / "live", "original", "resnet18")
    live.recipe = live.recipe.model_copy(update={"cache": False})
    live.bank = live.source.bank = None
    live.train(Store(tmp_path / "live" / "results", create=True))
    assert (cached.manifest["starts"], live.manifest["starts"]) == (["pool5"], ["image"])
    for name, value in cached.model.state_dict().items():
        assert torch.allclose(value.float(), live.model.state_dict()[name].float(), rtol=1e-3, atol=1e-4), name


# -- seeds -------------------------------------------------------------------------------------
def test_the_layers_start_anew_with_every_seed_and_the_network_does_not() -> None:
    one, same, other = (TimmBackbone.create("resnet18", "random", {"fc": (8, 4)}) for _ in range(3))
    for backbone, seed in ((one, 0), (same, 0), (other, 1)):
        backbone.start_fresh(seed)
    for name, value in one.state_dict().items():
        fresh = name.startswith(("segments.fc6", "segments.embedding")) and not name.endswith("bias")  # these are 0
        assert value.equal(same.state_dict()[name])
        assert value.equal(other.state_dict()[name]) != fresh, name
    wide = TimmBackbone.create("resnet18", "random", {"fc": (400,)})
    wide.start_fresh(0)
    assert wide.segments["embedding"].linear.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.05)
    plain = TimmBackbone.create("resnet18", "random")
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    plain.start_fresh(3)
    assert all(value.equal(before[name]) for name, value in plain.state_dict().items())


def test_what_stands_behind_the_fresh_layers_is_cached_by_seed(tmp_path: Path) -> None:
    """Two seeds share the network's features, and each has its own embedding."""
    settings = Settings((), tmp_path / "results", tmp_path / "cache")
    request = Request(
        ["original"], ["plain"], backbones=["resnet18(fc=(8, 4))"], seeds=[0, 1], profile="smoke", weights="random",
        metrics=["accuracy"], overrides={"crop": 32, "short_side": 32, "stages.1.train": "fc6"},
    )  # fmt: skip
    cells = make_plan([request], load_plugins((TROUBLE,)), settings)
    store = Store(settings.results, create=True)
    assert Runner(cells, store, settings.cache, plugin_files=(str(TROUBLE),)).run() == Summary(ok=2)
    taps = [io.read_json(p)["tap"] for p in (settings.cache / "features").glob("*/meta.json")]
    assert taps.count("embedding") == 2 * taps.count("pool5") > 0
