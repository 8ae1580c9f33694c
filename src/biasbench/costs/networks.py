"""What a network takes on this machine: seconds per image of each segment, and memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch
from torch import nn

from biasbench.backbone import Backbone
from biasbench.costs.rates import Cost, Network
from biasbench.model import Device

TIMES = 5
PIXELS = 8 * 224 * 224  # in a pass on the CPU: large enough to keep it busy, small enough to be measured soon


def timed(call: Callable[[], object], per: float = 1.0, times: int = TIMES) -> Cost:
    """Seconds of a call, divided by `per`, after one call that does not count.

    Example:
        >>> timed(lambda: None, times=3).times
        3
    """
    call()
    found = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        found.append((time.perf_counter() - began) / per)
    return cost(found)


def cost(found: list[float]) -> Cost:
    """A figure from several measurements.

    Example:
        >>> cost([1.0, 2.0, 4.0])
        Cost(value=2.0, spread=1.5, times=3)
    """
    middle = median(found)
    return Cost(value=middle, spread=(max(found) - min(found)) / middle if middle else 0.0, times=len(found))


def measure_network(
    cls: type[Backbone], name: str, options: Mapping[str, Any], crop: int, batch: int, device: Device
) -> Network:
    """Time every segment forwards, and forwards and backwards with a step of Adam; then train all of it once.

    Segments are timed one by one, so that a stage that trains the last of them from stored activations is known too.

    Args:
        cls: The backbone's class.
        name: As typed.
        options: Its options.
        crop: Side of the input, pixels.
        batch: Images in a pass at most.
        device: Where, and in which precision.
    """
    if device.device.type == "cpu":
        batch = max(2, min(batch, PIXELS // crop**2))
    backbone = cls.create(name, "random", options)
    device.module(backbone.eval())
    base = _held(device)
    x = device.put(torch.rand(batch, 3, crop, crop))
    forward, both = {}, {}
    for tap in backbone.after("image"):
        segment = backbone.segments[tap]
        forward[tap] = timed(_forward(segment, x, device), batch)
        both[tap] = timed(_both(segment, x, device, inner=tap != backbone.taps[1]), batch)
        with torch.no_grad(), device.autocast():
            x = device.put(segment(x).float())
    _train(backbone, device.put(torch.rand(batch, 3, crop, crop)), device)
    return Network(crop=crop, batch=batch, forward=forward, both=both, base=base, peak=_held(device))


def _forward(segment: nn.Module, x: torch.Tensor, device: Device) -> Callable[[], None]:
    def call() -> None:
        with torch.inference_mode(), device.autocast():
            segment(x)
        _wait(device)

    return call


def _both(segment: nn.Module, x: torch.Tensor, device: Device, *, inner: bool) -> Callable[[], None]:
    """A step; the gradient of the input is wanted too where something before it may learn."""
    parameters = list(segment.parameters())
    optimiser = torch.optim.Adam(parameters, fused=True) if parameters else None

    def call() -> None:
        asked = x.detach().requires_grad_(inner)
        with device.autocast():
            out = segment(asked)
        if out.requires_grad:
            out.backward(torch.ones_like(out))
        if optimiser is not None:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        _wait(device)

    return call


def _train(backbone: Backbone, images: torch.Tensor, device: Device) -> None:
    """One step of everything, for the memory that it takes."""
    optimiser = torch.optim.Adam(backbone.parameters(), fused=True)
    with device.autocast():
        out = backbone(images)
    out.sum().backward()
    optimiser.step()
    _wait(device)


def _wait(device: Device) -> None:
    """Until an accelerator has done what it was told."""
    if device.device.type == "cuda":
        torch.cuda.synchronize(device.device)
    elif device.device.type == "mps":
        torch.mps.synchronize()


def _held(device: Device) -> int:
    """Bytes that this process has held at most, on the device that computes."""
    if device.device.type == "cuda":
        return torch.cuda.max_memory_allocated(device.device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
