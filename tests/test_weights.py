"""Resolving and loading weights, and backbones that leave both to the base class."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from biasbench import Backbone, DataError, IntegrityError, ResolvedWeights, UsageError, load_strict
from biasbench.backbone import seeded
from biasbench.plugins import load_plugins

pytestmark = pytest.mark.torch

TINY = Path(__file__).parent / "helpers" / "tiny.py"


@pytest.fixture(scope="module")
def tiny() -> type[Backbone]:
    loaded: type[Backbone] = load_plugins([TINY], entry_points=False).backbones.find("tiny").load()
    return loaded


def test_a_plain_backbone_is_created_by_the_defaults(tiny: type[Backbone]) -> None:
    assert tiny.accepts("tiny")
    assert not tiny.accepts("other")
    backbone = tiny.create("tiny", "auto", {"width": 4})
    assert (backbone.weights, backbone.weights_digest) == ("random", "random")
    assert backbone.channels == {"image": 3, "conv3": 4, "conv4": 8, "conv5": 16, "embedding": 32}
    assert tiny.create("tiny", ResolvedWeights.random()).channels["conv3"] == 8
    assert tiny.outline("tiny", {"width": 4}).channels == backbone.channels
    assert next(tiny.outline("tiny").parameters()).is_meta


@pytest.mark.parametrize("size", [48, 50, 96])
def test_taps_are_what_they_say(tiny: type[Backbone], size: int) -> None:
    backbone = tiny.create("tiny").eval()
    seen: dict[str, tuple[int, ...]] = {}

    def visit(tap: str, x: torch.Tensor) -> torch.Tensor:
        seen[tap] = tuple(x.shape)
        return x

    x = torch.rand(2, 3, size, size)
    whole = backbone.run(x, "image", "embedding", visit)
    assert torch.equal(whole, backbone(x))
    assert tuple(seen) == backbone.taps[1:]
    for tap, shape in seen.items():
        assert shape[1] == backbone.channels[tap]
        if tap in backbone.strides:
            assert shape[2:] == (-(-size // backbone.strides[tap]),) * 2
        assert torch.equal(backbone.run(backbone.run(x, "image", tap), tap, "embedding"), whole)
        assert torch.equal(backbone.tail(tap)(backbone.run(x, "image", tap)), whole)


def test_random_weights_are_named_and_leave_other_streams_alone(tiny: type[Backbone]) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = tiny.create("tiny").state_dict()
    assert torch.equal(torch.rand(3), expected)
    second = tiny.create("tiny").state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    with seeded("weights", "other"):
        other = tiny().state_dict()
    assert not torch.equal(first["segments.conv4.0.weight"], other["segments.conv4.0.weight"])


def test_a_weights_file_round_trips(tiny: type[Backbone], tmp_path: Path) -> None:
    with seeded("trained"):
        state = tiny().state_dict()
    path = tmp_path / "w.safetensors"
    save_file(state, path)
    backbone = tiny.create("tiny", str(path))
    assert all(torch.equal(v, state[k]) for k, v in backbone.state_dict().items())
    assert backbone.weights == f"{path.name}#{backbone.weights_digest[:8]}"
    assert len(backbone.weights_digest) == 64


def test_a_pickle_that_a_user_names_is_not_read(tiny: type[Backbone], tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(tiny().state_dict(), path)
    told = f"Run: biasbench import-weights {path} --out {tmp_path / 'w.safetensors'}"
    with pytest.raises(UsageError, match="are imported once") as caught:
        tiny.create("tiny", str(path))
    assert told in str(caught.value)


def test_the_file_of_a_package_may_be_a_checkpoint_of_plain_tensors(tiny: type[Backbone], tmp_path: Path) -> None:
    state = tiny().state_dict()
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "w.pth")
    read = ResolvedWeights.of_file(tmp_path / "w.pth", "package").read()
    assert all(torch.equal(v, state[k]) for k, v in read.items())
    assert set(read) == set(state)


def test_unknown_weights(tiny: type[Backbone], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown weights 'pretrained' for tiny"):
        tiny.create("tiny", "pretrained")
    with pytest.raises(UsageError, match="no such weights file"):
        tiny.create("tiny", "absent.safetensors")
    (tmp_path / "w.h5").write_bytes(b"x")
    with pytest.raises(UsageError, match="this format are not read"):
        tiny.create("tiny", str(tmp_path / "w.h5"))


def test_files_that_do_not_fit_say_why(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    state = module.state_dict()
    del state["0.bias"], state["1.num_batches_tracked"]
    state |= {"1.weight": torch.zeros(5), "fc.weight": torch.zeros(1)}
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with pytest.raises(DataError) as caught:
        load_strict(module, state, "w.pth")
    wanted = (
        "these weights do not fit: missing 0.bias; unexpected fc.weight; of another shape 1.weight ([5], expected [3])"
    )
    assert str(caught.value).startswith(f"w.pth: {wanted}.")
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())  # all or nothing


def test_counters_of_batches_may_be_absent() -> None:
    source, target = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    source.weight.data.fill_(2)
    load_strict(target, {k: v for k, v in source.state_dict().items() if "num_batches" not in k}, "w")
    assert target.weight.tolist() == [2, 2, 2]


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code ran",))


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_damaged_and_hostile_files_are_refused(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    torch.save({"a": torch.zeros(3)}, tmp_path / "good.pth")
    whole = (tmp_path / "good.pth").read_bytes()
    for content in (b"", b"junk", b"<html>404</html>", pickle.dumps(Evil()), whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            ResolvedWeights.of_file(path, "package").read()
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)
    assert "code ran" not in capfd.readouterr().out


def test_contents_that_are_no_weights(tmp_path: Path) -> None:
    for content, why in (([1, 2], "no state_dict"), ({}, "no state_dict"), ({"epoch": 3}, "not tensors")):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(DataError, match=why):
            ResolvedWeights.of_file(tmp_path / "w.pth", "package").read()
    save_file({"a": torch.tensor([1.0, float("nan")])}, tmp_path / "w.safetensors")
    with pytest.raises(DataError, match="'a' holds NaN"):
        ResolvedWeights.of_file(tmp_path / "w.safetensors").read()


def test_a_file_that_changed_since_the_plan_is_noticed(tiny: type[Backbone], tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(tiny().state_dict(), path)
    resolved = tiny.resolve_weights("tiny", str(path))
    save_file({k: v + 1 for k, v in tiny().state_dict().items()}, path)
    with pytest.raises(IntegrityError):
        tiny.create("tiny", resolved)
