"""VGG-M's parameters, from MatConvNet's layers or from a PyTorch state, into the network.

MatConvNet's layers are taken by their place in the chain, and each has to be what VGG-M has there: kind, shapes,
stride, pad. Its kernels are [H, W, in, out], its fully connected layers are convolutions, and its batch norm keeps
[mean, deviation], epsilon included in the deviation (`vl_nnbnorm.m`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from biasbench import DataError, load_strict, printable
from biasbench.builtin.backbones.vgg_m_mat import Layer, wrong
from biasbench.builtin.backbones.vgg_m_network import SIDE, VggM

_KINDS: dict[type[nn.Module], str] = {
    nn.Conv2d: "conv",
    nn.Linear: "conv",
    nn.BatchNorm2d: "bnorm",
    nn.BatchNorm1d: "bnorm",
    nn.LocalResponseNorm: "lrn",
    nn.MaxPool2d: "pool",
    nn.ReLU: "relu",
}
# What MatConvNet takes where a file is silent (vl_simplenn_tidy.m, +dagnn/*.m).
_LRN = (5, 1, 0.0001 / 5, 0.75)  # n, kappa, alpha, beta
_EPSILON = 1e-5


def fill_from_layers(network: VggM, layers: Sequence[Layer], path: Path) -> None:
    """Give a network the parameters of a MatConvNet file, and its constants of LRN and batch norm.

    Args:
        network: Without classifier.
        layers: Of the file; those after fc7 are not looked at.
        path: The file, for errors.

    Raises:
        DataError: When the layers are of another network.
    """
    layers = [layer for layer in layers if layer.kind != "dropout"]  # released files leave it out
    _check_norm(network, any(layer.kind == "bnorm" for layer in layers), path)
    state: dict[str, Tensor] = {}
    modules = [(name, module) for name, module in network.between("conv1", "relu7") if type(module) in _KINDS]
    for number, (name, module) in enumerate(modules):
        if number == len(layers):
            raise wrong(path, f"it ends after {number} layers, where vgg-m has {name}")
        layer, kind = layers[number], _KINDS[type(module)]
        if layer.kind != kind:
            raise layer.wrong(f"it is of type {printable(layer.kind)!r}, where vgg-m has {name}, of type {kind!r}")
        state |= {f"{name}.{key}": value for key, value in _taken(name, module, layer).items()}
    load_strict(network, state, printable(path))


def fill_from_state(network: VggM, state: Mapping[str, Tensor], path: Path) -> None:
    """Give a network the parameters of `vgg_m_face_bn_dag.pth`, or of a file in its own layout.

    In that file batch norm is called bn49 to bn55, and fully connected layers are convolutions.

    Args:
        network: Without classifier.
        state: Tensors by name; the classifier's, `fc8`, are not looked at.
        path: The file, for errors.

    Raises:
        DataError: When the tensors are of another network.
    """
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        name, _, rest = key.partition(".")
        if name.startswith("bn") and name[2:].isdecimal() and 49 <= int(name[2:]) <= 55:
            name = f"bn{int(name[2:]) - 48}"
        if name == "fc8":
            continue
        side = SIDE if name == "fc6" else 1
        if name in ("fc6", "fc7") and value.ndim == 4 and value.shape[2:] == (side, side):
            value = value.flatten(1)
        found[f"{name}.{rest}"] = value
    if any(key.startswith("conv1.") for key in found):
        _check_norm(network, any(key.startswith("bn") for key in found), path)
    load_strict(network, found, printable(path))


def _check_norm(network: VggM, batch: bool, path: Path) -> None:
    if batch != (network.norm == "batch"):
        has, option = ("has", "batch") if batch else ("has no", "lrn")
        raise DataError(
            f"the network in this file {has} batch norm", where=printable(path), fix=f"Use vgg-m(norm='{option}')"
        )


def _taken(name: str, module: nn.Module, layer: Layer) -> dict[str, Tensor]:
    """Check a layer; its parameters under torch's names, its constants put into `module`."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        return _convolution(name, module, layer)
    if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
        return _batch_norm(module, layer)
    if isinstance(module, nn.LocalResponseNorm):
        _response_norm(module, layer)
    elif isinstance(module, nn.MaxPool2d):
        _pool(module, layer)
    else:
        layer.check("leak", [0], default=[0])
    return {}


def _convolution(name: str, module: nn.Conv2d | nn.Linear, layer: Layer) -> dict[str, Tensor]:
    out, inner = module.weight.shape[:2]
    side, stride, pad = SIDE if name == "fc6" else 1, 1, 0
    if isinstance(module, nn.Conv2d):
        side, stride, pad = module.kernel_size[0], module.stride[0], int(module.padding[0])
    else:
        inner //= side * side
    layer.check("stride", [stride], [stride] * 2, default=[1])
    layer.check("pad", [pad], [pad] * 4, default=[0])
    layer.check("dilate", [1], [1, 1], default=[1])
    kernel, bias = map(torch.from_numpy, layer.parameters((side, side, inner, out), (out,)))
    return {"weight": kernel.permute(3, 2, 0, 1).reshape(module.weight.shape), "bias": bias}


def _batch_norm(module: nn.BatchNorm2d | nn.BatchNorm1d, layer: Layer) -> dict[str, Tensor]:
    c = module.num_features
    epsilon = layer.number("epsilon", _EPSILON)
    gain, bias, moments = map(torch.from_numpy, layer.parameters((c,), (c,), (c, 2)))
    variance = moments[:, 1].double() ** 2 - epsilon
    if not bool((moments[:, 1] > 0).all()) or not bool((variance > -1e-3 * epsilon).all()):
        raise layer.wrong("a deviation is below the root of epsilon, which it has to include")
    module.eps = epsilon
    return {"weight": gain, "bias": bias, "running_mean": moments[:, 0], "running_var": variance.float()}


def _response_norm(module: nn.LocalResponseNorm, layer: Layer) -> None:
    param = layer.row("param", _LRN)
    if len(param) != 4 or param[0] not in range(1, 100, 2):
        raise layer.wrong("its param is not [n kappa alpha beta] with an odd n")
    n, module.k, alpha, module.beta = param
    module.size, module.alpha = int(n), alpha * n  # torch divides the sum over the window by n


def _pool(module: nn.MaxPool2d, layer: Layer) -> None:
    if layer.text("method", "max") != "max":
        raise layer.wrong("its method is not max")
    layer.check("poolSize" if "poolSize" in layer.fields else "pool", [3, 3], [3])
    layer.check("stride", [2], [2, 2], default=[1])
    over = [0, 1, 0, 1]  # a last window may reach over the edge: at 224 pixels that moves nothing but pool2
    layer.check("pad", *([over] if module.ceil_mode else ([0], [0] * 4, over)), default=[0])
