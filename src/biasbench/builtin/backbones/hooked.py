"""Taps of networks that are not cut: visited and replaced through forward hooks in a full pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from biasbench import UsageError, printable

Visit = Callable[[str, Tensor], Tensor]
_BY_STRIDE = {2: "conv1", 4: "conv2", 8: "conv3", 16: "conv4", 32: "conv5"}


class HookedNetwork(nn.Module):
    """A whole network with named inner activations.

    Attributes:
        modules_by_tap: Tap to the name of the module whose output it is, in order.
        layouts: Tap to the layout the network itself uses: `NCHW`, `NHWC` or `NLC`.
    """

    def __init__(self, network: nn.Module, normalise: nn.Module) -> None:
        super().__init__()
        self.normalise, self.network = normalise, network
        self.modules_by_tap: dict[str, str] = {}
        self.layouts: dict[str, str] = {}

    def forward(self, x: Tensor) -> Tensor:
        """The embedding [B, D] of images [B, 3, H, W] in [0, 1]."""
        out: Tensor = self.network(self.normalise(x))
        return out

    def run(self, x: Tensor, stop: str, visit: Visit | None) -> Tensor:
        """The activation at `stop`; each tap up to it is visited, and what comes back goes on."""
        kept: dict[str, Tensor] = {}

        def see(tap: str, activation: Tensor) -> Tensor:
            if stop in kept:
                return activation  # after the stop nothing is visited
            kept[tap] = activation if visit is None else visit(tap, activation)
            return kept[tap]

        with self._hooks(see):
            out = self(x)
        if stop == "embedding":
            return out if visit is None else visit("embedding", out)
        return kept[stop]

    @contextlib.contextmanager
    def _hooks(self, see: Visit) -> Iterator[None]:
        handles = []
        for tap, name in self.modules_by_tap.items():
            handles.append(self.network.get_submodule(name).register_forward_hook(self._hook(tap, see)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, tap: str, see: Visit) -> Callable[[nn.Module, Any, Any], Tensor]:
        layout = self.layouts[tap]

        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Tensor:
            return _from_first(see(tap, _to_first(output, layout)), layout)

        return hook


def _to_first(x: Tensor, layout: str) -> Tensor:
    """Channels to dimension 1, four dimensions."""
    if layout == "NHWC":
        return x.permute(0, 3, 1, 2)
    return x.transpose(1, 2).unsqueeze(-1) if layout == "NLC" else x


def _from_first(x: Tensor, layout: str) -> Tensor:
    if layout == "NHWC":
        return x.permute(0, 2, 3, 1)
    return x.squeeze(-1).transpose(1, 2) if layout == "NLC" else x


def probe(hooked: HookedNetwork, name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Find the taps by one real pass and return their shapes, embedding included.

    Args:
        hooked: Its `modules_by_tap` and `layouts` are filled in.
        name: The model, for messages.
        shape: [3, H, W] of an input that the network takes.

    Raises:
        UsageError: When the network cannot run or does not end in a vector.
    """
    network = hooked.network
    output_format = getattr(network, "output_fmt", "NCHW")
    candidates = _candidates(network)
    seen: dict[str, tuple[int, ...]] = {}
    handles = []
    for tap, (module, channels) in candidates.items():

        def hook(_m: nn.Module, _i: Any, out: Any, tap: str = tap, channels: int = channels) -> None:
            layout = _layout(out, channels, str(output_format))
            if layout and tap not in seen:
                seen[tap] = tuple(_to_first(out, layout).shape)
                hooked.layouts[tap] = layout

        handles.append(network.get_submodule(module).register_forward_hook(hook))
    training = network.training
    device = next(network.parameters()).device
    try:
        with torch.no_grad():
            out = hooked.eval()(torch.zeros(1, *shape, device=device))
    except Exception as error:  # whatever the model's own code raises
        reason = printable(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise UsageError(f"{name} cannot be used as a backbone: {reason}", fix="Choose another model") from error
    finally:
        for handle in handles:
            handle.remove()
        hooked.train(training)
    if not isinstance(out, Tensor) or out.ndim != 2:
        raise UsageError(f"{name} does not end in one vector per image", fix="Choose another model")
    hooked.modules_by_tap = {tap: candidates[tap][0] for tap in _BY_STRIDE.values() if tap in seen}
    return {**{tap: seen[tap] for tap in hooked.modules_by_tap}, "embedding": tuple(out.shape)}


def _candidates(network: nn.Module) -> Mapping[str, tuple[str, int]]:
    """Tap to (module, channels), from timm's record of the network's stages."""
    record = [dict(f) for f in getattr(network, "feature_info", None) or ()]
    known = {n for n, _ in network.named_modules()}
    stages = [(int(f["reduction"]), str(f["module"]), int(f["num_chs"])) for f in record if f.get("module") in known]
    if stages and len({stride for stride, _, _ in stages}) == 1:  # as deep as wide: a transformer's blocks
        third = -(-2 * len(stages) // 3)
        return {"conv4": stages[third - 1][1:], "conv5": stages[-1][1:]}
    return {_BY_STRIDE[stride]: (module, channels) for stride, module, channels in stages if stride in _BY_STRIDE}


def _layout(out: Any, channels: int, output_format: str) -> str:
    """The layout of an activation, or the empty string if it is none."""
    if not isinstance(out, Tensor):
        return ""
    if out.ndim == 3 and out.shape[2] == channels:
        return "NLC"
    if out.ndim != 4:
        return ""
    last_first = ("NHWC", "NCHW") if output_format == "NHWC" else ("NCHW", "NHWC")
    return next((f for f in last_first if out.shape[f.index("C")] == channels), "")
