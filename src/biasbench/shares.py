"""A share of a batch is part of the batch: batch norm and dropout inside the backbone go by all of it.

Inside `Shares`, each process's calls of torch's batch norm in training use mean and variance over every process's
rows, and each process's dropout uses its rows of a mask drawn for all. Both then do what they do in one process, but
for rounding. Whatever else draws random numbers there is refused: it would draw other ones than one process.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from biasbench.errors import CellError
from biasbench.together import Group

_NORM, _DROPOUT = inspect.signature(functional.batch_norm), inspect.signature(functional.dropout)


class Shares(TorchFunctionMode):
    """Torch's functions on a share of a batch, as if on all of it.

    Args:
        group: The processes.
        rows: Of the whole batch.
        device: Where it is.
        format: Memory format of maps.
    """

    def __init__(
        self,
        group: Group,
        rows: int,
        device: torch.device,
        format: torch.memory_format = torch.contiguous_format,  # noqa: A002
    ) -> None:
        super().__init__()
        self.group, self.rows, self.device, self.format = group, rows, device, format
        self.random = self._state()

    def whole(self, x: Tensor) -> Tensor:
        """The whole batch's rows in order, given this process's; gradients flow back to where they belong."""
        gathered = self.group.whole(x, self.rows)
        return gathered.contiguous(memory_format=self.format) if x.ndim == 4 else gathered

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch in place of each of its functions."""
        kwargs = kwargs or {}
        if func is functional.batch_norm and (given := _given(_NORM, args, kwargs))["training"]:
            return self._norm(**given)
        if func is functional.dropout and (given := _given(_DROPOUT, args, kwargs))["training"]:
            return self._dropout(given["input"], given["p"])
        return func(*args, **kwargs)

    def __enter__(self) -> Self:
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)  # type: ignore[no-untyped-call]
        if exc[0] is None:
            self._check()

    def _norm(
        self, input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None,  # noqa: A002
        bias: Tensor | None, momentum: float, eps: float, training: bool,
    ) -> Tensor:  # fmt: skip
        x, over = input.float() if input.dtype.itemsize < 4 else input, [0, *range(2, input.ndim)]
        shape = [1, -1] + [1] * (input.ndim - 2)
        count = self.rows * x[0, 0].numel()  # of numbers that each channel has in the whole batch
        mean = self.group.total(x.sum(over)) / count  # [C]
        centred = x - mean.view(shape)
        variance = self.group.total(centred.square().sum(over)) / count
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean), momentum)
                running_var.lerp_((variance * count / max(1, count - 1)).to(running_var), momentum)
        out = centred * (variance + eps).rsqrt().view(shape)
        out = out if weight is None else out * weight.view(shape)
        out = out if bias is None else out + bias.view(shape)
        return out.to(input.dtype)

    def _dropout(self, x: Tensor, p: float) -> Tensor:
        self._check()
        last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
        ones = x.new_ones((self.rows, *x.shape[1:]))
        ones = ones.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
        mask = functional.dropout(ones, p, True)[self.group.span(self.rows)]
        self.random = self._state()
        return x * mask

    def _state(self) -> list[Tensor]:
        found = [torch.get_rng_state()]
        return [*found, torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else found

    def _check(self) -> None:
        if not all(torch.equal(a, b) for a, b in zip(self._state(), self.random, strict=True)):
            raise CellError(
                "a layer of this backbone draws random numbers while it learns, and is no plain dropout: several "
                "processes would draw others than one",
                fix="Use --processes 1",
            )


def _given(signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)
