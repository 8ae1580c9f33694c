"""VGG-M: files that are damaged, or of another network, are refused in one line."""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy.io import savemat

from biasbench import DataError
from biasbench.builtin.backbones import vgg_m_apart, vgg_m_network
from biasbench.builtin.backbones.vgg_m import VggMBackbone
from tests.helpers import matconvnet_files as files

pytestmark = pytest.mark.torch


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network with few channels."""
    for name, width in files.SMALL.items():
        monkeypatch.setitem(vgg_m_network.WIDTHS, name, width)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file's reader works in this process: what is told is the same, and many cases take no second each."""

    @contextlib.contextmanager
    def read_here(_reader: str, path: Path) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            vgg_m_apart.write_network(path, Path(folder))
            yield Path(folder)

    monkeypatch.setattr(vgg_m_apart.sandbox, "read_apart", read_here)


def change(index: int, **fields: Any) -> Any:
    def apply(layers: Any) -> Any:
        layers[index] |= fields
        return layers

    return apply


def weights(index: int, *arrays: Any) -> Any:
    return lambda layers: change(index, weights=[a(w) for a, w in zip(arrays, layers[index]["weights"], strict=True)])(
        layers
    )


def same(x: Any) -> Any:
    return x


WRONG: dict[str, tuple[Any, str]] = {  # what was done to the layers, and what is told
    "another stride": (change(0, stride=[[4, 4]]), "'conv1': its stride is 4 4, in vgg-m 2"),
    "another pad": (change(4, pad=[[2, 2, 2, 2]]), "'conv2': its pad is 2 2 2 2, in vgg-m 1"),
    "dilated": (change(8, dilate=[[2, 2]]), "'conv3': its dilate is 2 2, in vgg-m 1"),
    "a leak": (change(1, leak=0.1), "'relu1': its leak is 0.1, in vgg-m 0"),
    "mean pooling": (change(3, method="avg"), "'pool1': its method is not max"),
    "larger pooling": (change(3, pool=[[2, 2]]), "'pool1': its pool is 2 2, in vgg-m 3 3"),
    "no pool size": (change(3, pool=np.zeros((0, 0))), "'pool1': its pool is not there, in vgg-m 3 3"),
    "no window over the edge": (change(7, pad=[[0] * 4]), "'pool2': its pad is 0 0 0 0, in vgg-m 0 1 0 1"),
    "an even window": (change(2, param=[[4, 2, 1e-4, 0.75]]), "'norm1': its param is not .* odd n"),
    "three constants": (change(2, param=[[5, 2, 1e-4]]), "'norm1': its param is not"),
    "constants as text": (change(2, param="5 2"), "'norm1': its param is no number"),
    "transposed kernels": (weights(4, lambda f: f.transpose(3, 2, 0, 1), same), "'conv2': .* is 6 x 4 x 5 x 5, in"),
    "one filter less": (weights(8, lambda f: f[..., 1:], same), "'conv3': .* is 3 x 3 x 6 x 4, in vgg-m 3 x 3 x 6 x 5"),
    "a short bias": (weights(8, same, lambda b: b[1:]), "'conv3': a parameter is 4 x 1, in vgg-m 5"),
    "no bias": (lambda ls: change(0, weights=ls[0]["weights"][:1])(ls), "'conv1': it has 1 parameters, in vgg-m 2"),
    "NaN": (weights(0, lambda f: f * np.nan, same), "'conv1': a parameter holds NaN"),
    "complex": (weights(0, lambda f: f * 1j, same), "'conv1': a parameter is no array of real numbers"),
    "text for numbers": (change(0, weights=["abc", "d"]), "'conv1': a parameter is no array of real numbers"),
    "a layer less": (lambda ls: ls[:9] + ls[10:], "'conv4': it is of type 'conv', where vgg-m has relu3, of"),
    "the end is missing": (lambda ls: ls[:11], "it ends after 11 layers, where vgg-m has relu4"),
    "no type": (lambda ls: [{"name": "conv1"}, *ls[1:]], "the type of layer 1 is no text"),
    "another kind": (change(1, type="sig\x1bmoid"), r"it is of type 'sig\\\\x1bmoid', where vgg-m has relu1"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_files_of_other_networks_are_one_line(small: None, here: None, tmp_path: Path, name: str) -> None:
    alter, told = WRONG[name]
    layers = alter(copy.deepcopy(files.simple()))
    savemat(tmp_path / "net.mat", files.as_simple(layers))
    refused(tmp_path / "net.mat", told)


def refused(path: Path, told: str, **options: Any) -> None:
    """Loading ends in one line that starts with the file."""
    with pytest.raises(DataError, match=told) as caught:
        VggMBackbone.create("vgg-m", str(path), options)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert text.isprintable()  # one line, and nothing that drives a terminal
    assert len(text) < 400


def broken_graph(**fields: Any) -> dict[str, Any]:
    content = files.as_graph(files.simple())
    for field, value in fields.items():
        content["layers"][0, 0][field] = value
    return content


GOOD, GRAPH = files.as_simple(files.simple()), files.as_graph(files.simple())
CONTENTS: dict[str, tuple[Any, str]] = {  # what the file holds, and what is told
    "nothing of a network": ({"x": 1.0}, "there is no network in it: no list of 'layers'"),
    "layers of numbers": ({"layers": np.zeros((2, 3))}, "no list of 'layers'"),
    "no layers": ({"layers": np.zeros((0, 0))}, "no list of 'layers'"),
    "a number for a layer": ({"layers": files.cells([3.0, 4.0])}, "layer 1 is no struct"),
    "net is a number": ({"net": 3.0}, "'net' is no struct"),
    "meta is a number": (GOOD | {"meta": 3.0}, "'meta' is no struct"),
    "a text for a mean": (GOOD | files.meta("abc"), "its averageImage does not hold real numbers"),
    "a mean of two numbers": (GOOD | files.meta(np.zeros((1, 2))), "its averageImage is 1 x 2, not 3 numbers"),
    "NaN for a mean": (GOOD | files.meta(np.full((3, 1), np.nan)), "averageImage does not hold real numbers"),
    "a graph without params": ({"layers": GRAPH["layers"]}, "there are no 'params'"),
    "a graph of another kind": (GRAPH | {"layers": files.struct_array([{"name": "a"}] * 2)}, "'layers' lack a name"),
    "a parameter that is not there": (broken_graph(params=files.cells(["no"])), "'conv1': there is no parameter 'no'"),
    "no chain": (broken_graph(outputs=files.cells(["away"])), "it ends after 1 layers, where vgg-m has relu1"),
    "a name that is a number": (broken_graph(name=3.0), "the name of layer 1 is no text"),
    "a block that is a number": (broken_graph(block=3.0), "the block of layer 1 is no struct"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_contents_that_are_no_network_are_one_line(small: None, here: None, tmp_path: Path, name: str) -> None:
    content, told = CONTENTS[name]
    savemat(tmp_path / "net.mat", content)
    refused(tmp_path / "net.mat", told)


def test_batch_norm_that_was_never_trained(small: None, tmp_path: Path) -> None:
    layers = files.simple("batch")
    layers[1]["weights"][2] = np.zeros((files.SMALL["conv1"], 2), np.float32)
    savemat(tmp_path / "net.mat", files.as_simple(layers))
    refused(tmp_path / "net.mat", "'bn1': a deviation is below the root of epsilon", norm="batch")
    layers[1]["epsilon"] = -1.0
    savemat(tmp_path / "net.mat", files.as_simple(layers))
    refused(tmp_path / "net.mat", "'bn1': its epsilon is -1, not one number above 0", norm="batch")


def test_the_other_network_is_named(small: None, tmp_path: Path) -> None:
    for name, norm, has in (
        ("batch", "lrn", "has batch norm.*norm='batch'"),
        ("lrn", "batch", "has no batch.*norm='lrn'"),
    ):
        savemat(tmp_path / "net.mat", files.as_simple(files.simple(name)))
        refused(tmp_path / "net.mat", has, norm=norm)
        save_file(files.published_state(files.simple(name)), tmp_path / "net.safetensors")
        refused(tmp_path / "net.safetensors", has, norm=norm)


def test_states_of_other_networks_say_what_does_not_fit(small: None, tmp_path: Path) -> None:
    state = files.published_state(files.simple())
    save_file(state | {"conv2.weight": torch.zeros(6, 4, 3, 3)}, tmp_path / "net.safetensors")
    refused(tmp_path / "net.safetensors", r"of another shape conv2\.weight \(\[6, 4, 3, 3\], expected \[6, 4, 5, 5\]\)")
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "net.safetensors")
    refused(tmp_path / "net.safetensors", r"missing conv1\.weight.*unexpected features\.0\.weight")


def test_files_that_are_no_matlab_files(small: None, tmp_path: Path) -> None:
    path = tmp_path / "net.mat"
    savemat(path, files.as_simple(files.simple()))
    whole = path.read_bytes()
    for content in (b"", b"junk", b"<html>404</html>" * 40, whole[:100], whole[:1000], whole[: len(whole) // 2]):
        path.write_bytes(content)
        refused(path, "it cannot be read as a Matlab file: .")
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x00" * 384 + b"\x89HDF\r\n\x1a\n")
    refused(path, r"version 7\.3 \(HDF5\)\. Save it in Matlab with -v7")


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_told_or_changes_numbers_only(small: None, here: None, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "damaged.mat"
    savemat(path, files.as_simple(files.simple()))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(2500, len(content) - 1)))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(DataError):  # anything else is a traceback that a user would see
        VggMBackbone.create("vgg-m", str(path))
