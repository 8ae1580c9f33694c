"""MatConvNet: its layers by their definitions, in numpy, and files of a small VGG-M in its formats.

Definitions: vl_nnconv.m, vl_nnpool.m, vl_nnnormalize.m, vl_nnbnorm.m of github.com/vlfeat/matconvnet. Formats:
what `save -struct`, `DagNN/saveobj.m` and `import-caffe.py` leave.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from biasbench.rng import generator

NAMES = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
# Small and all different, so that no two axes can be taken for each other.
SMALL = dict(zip(NAMES, (4, 6, 5, 7, 3, 8, 9), strict=True))
SHAPES = {"conv1": (7, 2, 0), "conv2": (5, 2, 1), "fc6": (6, 1, 0), "fc7": (1, 1, 0)}  # side, stride, pad
OVER = [0, 1, 0, 1]  # top, bottom, left, right
EPSILON = 1e-4


# -- MatConvNet's definitions, on [H, W, C] ---------------------------------------------------
def vl_nnconv(x: Any, f: Any, b: Any, stride: int, pad: int) -> Any:
    x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
    windows = sliding_window_view(x, f.shape[:2], axis=(0, 1))[::stride, ::stride]  # [H, W, C, h, w]
    return np.einsum("yxcij,ijck->yxk", windows, f, optimize=True) + b.ravel()


def vl_nnpool(x: Any, pad: Any) -> Any:
    top, bottom, left, right = pad
    x = np.pad(x, ((top, bottom), (left, right), (0, 0)), constant_values=-np.inf)
    return sliding_window_view(x, (3, 3), axis=(0, 1))[::2, ::2].max((3, 4))


def vl_nnnormalize(x: Any, param: Any) -> Any:
    n, kappa, alpha, beta = param
    y = np.empty_like(x)
    for k in range(x.shape[2]):
        window = slice(max(0, k - int((n - 1) // 2)), k + int(np.ceil((n - 1) / 2)) + 1)
        y[..., k] = x[..., k] / (kappa + alpha * (x[..., window] ** 2).sum(2)) ** beta
    return y


def vl_nnbnorm(x: Any, gain: Any, bias: Any, moments: Any) -> Any:
    return gain.ravel() * (x - moments[:, 0]) / moments[:, 1] + bias.ravel()


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


def simple(norm: str = "lrn", param: Any = (5, 2, 1e-4, 0.75), pools: Any = OVER) -> list[dict[str, Any]]:
    """Layers of a SimpleNN network with random parameters; `pools` is the pad of pool1 and pool5."""
    rng, layers, width = generator("vgg-m", norm), [], 3

    def single(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    for i, (name, after) in enumerate(SMALL.items(), start=1):
        side, stride, pad = SHAPES.get(name, (3, 1, 1))
        f = single(side, side, width, after) / np.float32(side * np.sqrt(width) * (50 if i == 1 else 1))
        layers.append({
            "name": name, "type": "conv", "weights": [f, single(after, 1)], "stride": [[stride] * 2],
            "pad": [[pad] * 4], "dilate": np.zeros((0, 0)) if i >= 6 else [[1, 1]], "learningRate": [[1, 2]],
        })  # fmt: skip
        if norm == "batch":
            moments = np.stack([single(after), np.abs(single(after)) + 0.5], 1)
            layers.append({
                "name": f"bn{i}", "type": "bnorm", "weights": [single(after, 1) + 1, single(after, 1), moments],
                "epsilon": EPSILON,
            })  # fmt: skip
        layers.append({"name": f"relu{i}", "type": "relu", "leak": 0.0})
        if i <= 2 and norm == "lrn":
            layers.append({"name": f"norm{i}", "type": "lrn", "param": [list(param)]})
        if i in (1, 2, 5):
            pad4 = OVER if i == 2 else pools
            layers.append({
                "name": f"pool{i}", "type": "pool", "method": "max", "pool": [[3, 3]], "stride": [[2, 2]],
                "pad": [pad4],
            })  # fmt: skip
        width = after
    classifier = {"name": "fc8", "type": "conv", "weights": [single(1, 1, width, 11), single(11, 1)]}
    return [*layers, classifier, {"name": "prob", "type": "softmax"}]


def embedding(layers: list[dict[str, Any]], image: Any, mean: Any) -> Any:
    """fc7 after ReLU of one image [H, W, 3] in [0, 1]."""
    x = 255.0 * image - mean
    for layer in layers[:-2]:  # all but the classifier
        if layer["type"] == "conv":
            x = vl_nnconv(x, *layer["weights"], layer["stride"][0][0], layer["pad"][0][0])
        elif layer["type"] == "bnorm":
            x = vl_nnbnorm(x, *layer["weights"])
        elif layer["type"] == "lrn":
            x = vl_nnnormalize(x, layer["param"][0])
        elif layer["type"] == "pool":
            x = vl_nnpool(x, layer["pad"][0])
        else:
            x = relu(x)
    assert x.shape == (1, 1, SMALL["fc7"])
    return x.ravel()


# -- the released formats ----------------------------------------------------------------------
def cells(values: Any) -> Any:
    row = np.empty((1, len(values)), object)
    for i, value in enumerate(values):
        row[0, i] = value
    return row


def struct_array(records: Any) -> Any:
    array = np.empty((1, len(records)), [(field, object) for field in records[0]])
    for i, record in enumerate(records):
        for field, value in record.items():
            array[0, i][field] = value
    return array


def as_simple(layers: Any, old: bool = False) -> dict[str, Any]:
    written = []
    for layer in layers:
        record = {k: cells(v) if k == "weights" else v for k, v in layer.items()}
        if old and layer["type"] == "conv":
            record["filters"], record["biases"] = record.pop("weights").ravel()
        if old and layer["type"] == "lrn":
            record["type"] = "normalize"
        written.append(record)
    return {"layers": cells(written)}


def as_graph(layers: Any) -> dict[str, Any]:
    kinds = {
        "conv": "Conv",
        "bnorm": "BatchNorm",
        "relu": "ReLU",
        "lrn": "LRN",
        "pool": "Pooling",
        "softmax": "SoftMax",
    }
    records, params = [], []
    for i, layer in enumerate(layers):
        used = [f"{layer['name']}{end}" for end, _ in zip("fbx", layer.get("weights", ()), strict=False)]
        params += [{"name": p, "value": v} for p, v in zip(used, layer.get("weights", ()), strict=True)]
        block = {"poolSize" if k == "pool" else k: v for k, v in layer.items() if k not in ("name", "type", "weights")}
        records.append({
            "name": layer["name"], "type": f"dagnn.{kinds[layer['type']]}", "inputs": cells([f"x{i}"]),
            "outputs": cells([f"x{i + 1}"]), "params": cells(used), "block": block or np.zeros((0, 0)),
        })  # fmt: skip
    loss = {"name": "top5err", "type": "dagnn.Loss", "inputs": cells(["x9", "label"]), "outputs": cells(["top5err"]),
            "params": cells([]), "block": {"loss": "topkerror"}}  # fmt: skip
    params.reverse()  # they go by name
    return {"vars": struct_array([{"name": "x0"}]), "params": struct_array(params),
            "layers": struct_array([*records, loss])}  # fmt: skip


def meta(mean: Any) -> dict[str, Any]:
    return {"meta": {"normalization": {"averageImage": mean, "imageSize": [[224.0, 224, 3]]}}}


def picture(side: int = 224) -> Any:
    return generator("vgg-m", "picture").random((side, side, 3))


def published_state(layers: Any) -> dict[str, torch.Tensor]:
    """The layout of `vgg_m_face_bn_dag.pth`: batch norm bn49 to bn55, fully connected layers as convolutions."""
    state = {}
    for layer in layers[:-1]:
        if layer["type"] == "conv":
            f, b = layer["weights"]
            state[f"{layer['name']}.weight"] = torch.from_numpy(f.transpose(3, 2, 0, 1).copy())
            state[f"{layer['name']}.bias"] = torch.from_numpy(b.ravel())
        elif layer["type"] == "bnorm":
            name, (gain, bias, moments) = f"bn{48 + int(layer['name'][2:])}", layer["weights"]
            state |= {f"{name}.weight": torch.from_numpy(gain.ravel()), f"{name}.bias": torch.from_numpy(bias.ravel())}
            state[f"{name}.running_mean"] = torch.from_numpy(moments[:, 0].copy())
            state[f"{name}.running_var"] = torch.from_numpy(moments[:, 1] ** 2 - 1e-5)
    state["fc8.weight"] = state["fc8.weight"].flatten(1)  # the classifier is linear there
    return state
