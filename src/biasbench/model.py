"""The model of a cell: backbone, head and method in one module."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from biasbench.backbone import Backbone
from biasbench.data import Batch
from biasbench.errors import UsageError, printable
from biasbench.head import Head
from biasbench.job import Member
from biasbench.method import Activations, Method
from biasbench.shares import Shares
from biasbench.together import Group

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)  # noqa: SLF001


class Model(nn.Module):
    """Runs a batch from any tap to scores, through the method's interventions."""

    def __init__(self, backbone: Backbone, head: Head, method: Method) -> None:
        super().__init__()
        self.backbone, self.head, self.method = backbone, head, method

    def forward(
        self,
        x: Tensor,
        batch: Batch,
        start: str = "image",
        *,
        act: bool = True,
        keep: Collection[str] = (),
        shares: Shares | None = None,
    ) -> Activations:
        """Scores and kept activations.

        Args:
            x: Activation at tap `start`, before interventions.
            batch: The batch that `x` belongs to.
            start: Tap of `x`.
            act: Whether the method intervenes.
            keep: Taps to keep.
            shares: Where `x` is a share of a batch: the head sees, and what is kept is of, the whole.
        """
        touches = self.method.touches if act else ()
        kept: dict[str, Tensor] = {}

        def visit(tap: str, x: Tensor) -> Tensor:
            if tap in touches:
                x = self.method.intervene(tap, x, batch)
            if tap in keep:
                kept[tap] = x
            return x

        with shares or nullcontext():
            embedding = self.backbone.run(visit(start, x), start, "embedding", visit)
        if shares is not None:
            embedding, kept = shares.whole(embedding), {tap: shares.whole(value) for tap, value in kept.items()}
        return Activations(self.head(embedding), kept)

    def learns(self, train: str) -> list[nn.Parameter]:
        """The backbone's and head's parameters that a stage trains (`Stage.train`)."""
        parts: list[nn.Module] = [self.head]
        if train == "all":
            parts.append(self.backbone)
        elif train != "head":
            taps = self.backbone.taps
            self.backbone.check_tap(train)
            parts.extend(self.backbone.segments[t] for t in taps[max(1, taps.index(train)) :])
        return [p for part in parts for p in part.parameters()]

    def boundary(self, train: str) -> str:
        """The last tap that a stage leaves frozen."""
        if train == "head":
            return "embedding"
        if train == "all":
            return "image"
        self.backbone.check_tap(train)
        return self.backbone.taps[max(1, self.backbone.taps.index(train)) - 1]


@contextmanager
def norms_held(model: nn.Module, own: Collection[int] = ()) -> Iterator[None]:
    """Hold the running statistics of every norm layer whose parameters are not all in `own`.

    Only the norm layers' own mode changes: `model.training` still tells methods whether
    this is training.

    Args:
        model: The module whose norm layers are held.
        own: `id`s of the parameters that may move.
    """
    held = []
    for module in model.modules():
        if isinstance(module, _NORMS) and module.training:
            mine = list(module.parameters())
            if not mine or not all(id(p) in own for p in mine):
                held.append(module)
    for module in held:
        module.train(False)
    try:
        yield
    finally:
        for module in held:
            module.train(True)


def compile_segments(backbone: Backbone) -> None:
    """Let `torch.compile` make the code of every segment, when it is first run.

    One code serves every batch size, so that the bits do not depend on which sizes came before: a training that goes
    on from a checkpoint meets them in another order. What cannot be compiled fails; it does not fall back unseen.
    """
    from torch._dynamo import config

    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no helpers that outlive the cell
    config.recompile_limit = 64  # segments, in training or not, frozen or not
    config.fail_on_recompile_limit_hit = True
    for segment in backbone.segments.values():
        segment.compile(dynamic=True)


def choose_device(wanted: str) -> str:
    """The torch device behind `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        UsageError: When this machine has no such device.

    Example:
        >>> choose_device("cpu")
        'cpu'
    """
    kind, _, number = wanted.partition(":")
    found = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    if wanted == "auto":
        return found[0]
    if kind not in ("cpu", "cuda", "mps") or (number and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"unknown device {printable(wanted)!r}", fix="Use auto, cpu, cuda, cuda:N or mps")
    if kind not in found or int(number or 0) >= max(1, torch.cuda.device_count()):
        raise UsageError(
            f"there is no device {wanted!r} here", fix=f"Found: {', '.join(found)}. See 'biasbench doctor'"
        )
    return wanted


def check_processes(device: str, processes: int) -> None:
    """See that there is a place for each process of a cell.

    Args:
        device: As `choose_device` gives it.
        processes: Of a cell.

    Raises:
        UsageError: When there are too few GPUs, or the device is one that cannot be shared out.

    Example:
        >>> check_processes("cpu", 2)
    """
    if processes == 1 or device == "cpu":
        return
    if device != "cuda":
        raise UsageError(f"{device} is one device, not {processes}", fix="Use --device cuda or cpu, or --processes 1")
    if processes > torch.cuda.device_count():
        raise UsageError(
            f"{processes} processes need {processes} GPUs, and there are {torch.cuda.device_count()}",
            fix="Use fewer --processes",
        )


class Device:
    """Where tensors live, in which precision they are multiplied, and who else works on the same cell.

    Args:
        name: `"cpu"`, `"cuda"`, `"cuda:1"` or `"mps"`.
        precision: `"fp32"`, `"bf16"` or `"fp16"` (automatic mixed precision).
        channels_last: Memory format of images and weights.
        member: Of this process among several; the process of number N has the GPU of that number.

    Example:
        >>> Device("cpu", "fp32").put(torch.zeros(2)).device.type
        'cpu'
    """

    def __init__(
        self, name: str, precision: str = "fp32", *, channels_last: bool = False, member: Member | None = None
    ) -> None:
        if name == "cuda" and member is not None:
            name = f"cuda:{member.rank}"
            torch.cuda.set_device(member.rank)
        self.device = torch.device(name)
        self.group = Group(member, self.device.type)
        self.precision = precision
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self._scalers: WeakKeyDictionary[torch.optim.Optimizer, torch.amp.GradScaler] = WeakKeyDictionary()

    def put(self, x: Tensor) -> Tensor:
        """`x` on the device; images and maps in the chosen memory format."""
        x = x.to(self.device, non_blocking=True)
        return x.contiguous(memory_format=self.format) if x.ndim == 4 else x

    def batch(self, batch: Batch) -> Batch:
        """A batch on the device."""
        return Batch(
            self.put(batch.images),
            None if batch.targets is None else self.put(batch.targets),
            {k: self.put(v) for k, v in batch.attributes.items()},
            {k: self.put(v) for k, v in batch.masks.items()},
            batch.index,
        )

    def module(self, module: nn.Module) -> nn.Module:
        """A module on the device."""
        module.to(self.device)
        for p in module.parameters():
            if p.ndim == 4:
                p.data = p.data.contiguous(memory_format=self.format)
        return module

    def autocast(self) -> AbstractContextManager[object]:
        """The precision of a forward pass."""
        if self.precision == "fp32":
            return nullcontext()
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype=dtype)

    def shares(self, rows: int) -> Shares | None:
        """How a batch of so many rows is computed in shares; None where there is one process."""
        return None if self.group.size == 1 else Shares(self.group, rows, self.device, self.format)

    def whole(self, batch: Batch, rows: int) -> Batch:
        """A batch of so many rows, given this process's share of it."""
        counts = self.group.counts(rows)

        def gather(x: Tensor) -> Tensor:
            return self.put(self.group.gather(x, counts))

        return Batch(
            gather(batch.images),
            None if batch.targets is None else gather(batch.targets),
            {k: gather(v) for k, v in batch.attributes.items()},
            {k: gather(v) for k, v in batch.masks.items()},
            self.group.gather(batch.index, counts),
        )

    def step(
        self,
        optimiser: torch.optim.Optimizer,
        backward: Callable[[Callable[[Tensor], Tensor]], None],
        look: Callable[[Callable[[Tensor], Tensor]], None] = lambda _scaled: None,
    ) -> None:
        """One optimiser step; with fp16 the loss is scaled so that small gradients survive.

        Args:
            optimiser: Stepped after its gradients were cleared and computed.
            backward: Is handed a function to pass each loss through before `.backward()`.
            look: Is handed the same when the gradients are there, before the step.
        """
        optimiser.zero_grad(set_to_none=True)
        params = [p for group in optimiser.param_groups for p in group["params"]]
        if self.precision != "fp16":
            backward(lambda loss: loss)
            self.group.average(params)
            look(lambda loss: loss)
            optimiser.step()
            return
        scaler = self._scaler(optimiser)
        backward(scaler.scale)
        self.group.average(params)
        look(scaler.scale)
        scaler.step(optimiser)
        scaler.update()

    def _scaler(self, optimiser: torch.optim.Optimizer) -> torch.amp.GradScaler:
        return self._scalers.setdefault(optimiser, torch.amp.GradScaler(self.device.type))

    def scale_of(self, optimiser: torch.optim.Optimizer) -> dict[str, float]:
        """By how much an optimiser's losses are scaled, and what decides when that changes; empty but for fp16."""
        found: dict[str, float] = self._scaler(optimiser).state_dict() if self.precision == "fp16" else {}
        return found

    def set_scale(self, optimiser: torch.optim.Optimizer, state: Mapping[str, float]) -> None:
        """The inverse of `scale_of`."""
        if state:
            self._scaler(optimiser).load_state_dict(dict(state))
