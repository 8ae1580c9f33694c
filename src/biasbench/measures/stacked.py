"""Many attackers as one network: stacked parameters, batched products, gradients by hand.

The attacker of Wang et al. 2019 as released: BatchNorm on the input, then linear layers with
BatchNorm and LeakyReLU between. Activations are [A, U, H]: A attackers side by side, U rows each.
What makes it fast on a CPU, where a stack is one attacker:

* The gradient at the input, which only the input's BatchNorm would need, is never formed: its
  scale and shift have gradients in terms of sums that the first layer's weights need anyway.
* Equal rows of a batch are worked on once (`batch.py`), as far as they are known to be equal:
  of classes, which stand for one-hot vectors.
* What a BatchNorm takes out again, such as a bias before it, has gradient 0 and keeps it: no sum
  over the batch is formed to find the rounding error that stands for it elsewhere.
* Widths are padded with zeros to whole vector registers: 300 units take 304, which the matrix
  library multiplies a third faster. A padded unit has no weight in or out, so that its value
  and all its gradients are exactly 0 and stay so.
* Every large array is made once and written over, and views of it are kept. Made anew at each
  step, most of the time went into the operating system handing out fresh pages.
* All that is trained lies in one array, and so do its gradients: the optimiser sees one tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu_, pad

from biasbench.measures.batch import Batch

EPS = 1e-5
MOMENTUM = 0.1
_LANES = 16  # float32 numbers in a vector register or cache line


@dataclass(frozen=True)
class Shape:
    """One attacker's architecture.

    Attributes:
        inputs: K, the width of logits or label vectors.
        outputs: G, the groups to tell apart.
        layers: Linear layers.
        width: Units of each hidden layer.
        slope: LeakyReLU's slope below 0.
    """

    inputs: int
    outputs: int = 2
    layers: int = 4
    width: int = 300
    slope: float = 0.01

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths from input to output."""
        return (self.inputs, *[self.width] * (self.layers - 1), self.outputs)

    @property
    def parameters(self) -> int:
        """Trained numbers of one attacker.

        Example:
            >>> Shape(79).parameters, Shape(211, layers=5).parameters
            (207160, 337924)
        """
        return sum(2 * a + a * b + b for a, b in pairwise(self.sizes))


def padded(width: int) -> int:
    """The next multiple of a vector register's length.

    Example:
        >>> padded(300), padded(304)
        (304, 304)
    """
    return -(-width // _LANES) * _LANES


class _Room(NamedTuple):
    """Where U rows are worked on: by layer, views [A, U, width] of arrays that every step writes over."""

    normal: list[Tensor]  # what BatchNorm i says
    act: list[Tensor]  # what layer i reads, but the first
    out: list[Tensor]  # what layer i says; one array a width
    back: list[Tensor]  # the gradient at `act`; two arrays a width, by turns
    spare: Tensor  # of the width of `out[0]`


class Stack:
    """A attackers that are trained and read together; each is as if it were alone.

    Call its methods without gradient tracking: it writes its own.

    Args:
        shape: Architecture of every attacker.
        rngs: A streams of initial weights: PyTorch's default for linear layers, uniform within
            1/sqrt(fan-in), BatchNorm at 1 and 0.
        device: Where everything lies.

    Attributes:
        trained: All that is trained, one after the other, with its gradient. The next four are parts of it.
        weights: [A, in, out] of each layer.
        biases: [A, 1, padded out] of each layer.
        scales: [A, 1, in] of the BatchNorm before each layer.
        shifts: [A, 1, in] likewise.
        means: [A, 1, in] running, likewise.
        variances: [A, 1, in] running, likewise.
    """

    def __init__(self, shape: Shape, rngs: Sequence[torch.Generator], device: torch.device) -> None:
        self.shape, self.count, self.device = shape, len(rngs), device
        n, last = shape.layers, shape.layers - 1
        drawn = [[_linear(a, b, rng, i == last) for i, (a, b) in enumerate(pairwise(shape.sizes))] for rng in rngs]
        weights, biases = ([torch.stack([d[i][k] for d in drawn]).to(device) for i in range(n)] for k in (0, 1))
        inputs = [w.shape[1] for w in weights]
        weights[last] = weights[last].mT.contiguous()  # products by few columns want them whole
        zeros, ones = ([f(self.count, 1, k, device=device) for k in inputs] for f in (torch.zeros, torch.ones))
        self.trained, parts = _joined([*weights, *biases, *ones, *zeros])
        self.trained.grad, gradients = _joined([torch.zeros_like(part) for part in parts])
        parts[last], gradients[last] = parts[last].mT, gradients[last].mT
        for part, gradient in zip(parts, gradients, strict=True):
            part.grad = gradient
        self.weights, self.biases, self.scales, self.shifts = (parts[i : i + n] for i in range(0, 4 * n, n))
        self._used = [b[:, :, : w.shape[2]] for b, w in zip(self.biases, self.weights, strict=True)]
        self._running, moments = _joined([*zeros, *ones])
        self.means, self.variances = moments[:n], moments[n:]
        self._found, moments = _joined([*zeros, *ones])  # the same of one batch
        self._mean, self._variance, self._invstd = moments[:n], moments[n:], ones
        self._offsets = torch.arange(self.count, device=device) * inputs[0]  # [A] first rows in flattened weights
        self._arrays: dict[tuple[str, int], Tensor] = {}
        self._rooms: dict[int, _Room] = {}

    @property
    def state(self) -> list[Tensor]:
        """Parameters and running statistics, each [A, ...]."""
        return [*self.weights, *self.biases, *self.scales, *self.shifts, *self.means, *self.variances]

    # -- training --------------------------------------------------------------------------
    def learn(self, batch: Batch) -> Tensor:
        """Loss and gradients of one batch, the latter into `.grad`.

        Returns:
            [A] mean cross-entropy.
        """
        room, last = self._room(batch), self.shape.layers - 1
        z = self._enter(batch, room) if batch.frequencies is None else self._enter_classes(batch, room)
        for i in range(1, last + 1):
            self._normalise(i, z, batch, room)
            act = torch.addcmul(self.shifts[i], room.normal[i], self.scales[i], out=room.act[i])
            leaky_relu_(act, self.shape.slope)
            z = torch.bmm(act, self.weights[i], out=room.out[i]).add_(self._used[i])
        if batch.frequencies is not None:
            self._track(batch.size)
        losses, g = _cross_entropy(z, batch)
        torch.sum(g, 1, keepdim=True, out=_grad(self.biases[last])[:, :, : g.shape[2]])
        for i in range(last, 0, -1):
            act = room.act[i]
            torch.bmm(act.mT, g, out=_grad(self.weights[i]))
            g = torch.bmm(g, self.weights[i].mT, out=room.back[i])
            torch.ops.aten.leaky_relu_backward.grad_input(g, act, self.shape.slope, True, grad_input=g)
            self._normalise_backward(i, g, batch, room)
        self._leave(batch, g, room)
        return losses

    def _enter(self, batch: Batch, room: _Room) -> Tensor:
        """[A, B, H] the first layer on dense features, the input's scale and shift folded into it."""
        self._normalise(0, batch.features, batch, room)
        folded = torch.mul(self.scales[0].mT, self.weights[0], out=self._folded())
        return torch.bmm(room.normal[0], folded, out=room.out[0]).add_(self._constant(self.shifts[0]))

    def _enter_classes(self, batch: Batch, room: _Room) -> Tensor:
        """[A, U, H] the same on one-hot vectors: the product is a row of the weights."""
        assert batch.frequencies is not None
        mean = self._mean[0].copy_(batch.frequencies)
        variance = torch.mul(mean, 1 - mean, out=self._variance[0])
        gain = self.scales[0] * torch.rsqrt(variance + EPS, out=self._invstd[0])
        at, z = self._flat(batch.features), room.out[0]
        torch.index_select(self.weights[0].reshape(-1, z.shape[2]), 0, at, out=_lines(z))
        return torch.addcmul(self._constant(self.shifts[0] - mean * gain), z, self._picked(gain, at), out=z)

    def _leave(self, batch: Batch, g: Tensor, room: _Room) -> None:
        """Gradients of the first layer and the input's BatchNorm, from [A, U, H] at its output.

        A BatchNorm behind the first layer takes out every shift: the sum of `g` over the batch is then 0,
        and with it the gradients of the input's shift and the first bias.
        """
        w, dw, dscale = self.weights[0], _grad(self.weights[0]), _grad(self.scales[0])
        if batch.frequencies is None:
            torch.bmm(room.normal[0].mT, g, out=dw)  # Σ x̂ g
            torch.sum(torch.mul(dw, w, out=self._folded()), 2, keepdim=True, out=dscale.mT)
            dw.mul_(self.scales[0].mT)
        else:
            at, invstd = self._flat(batch.features), self._invstd[0]
            torch.index_select(w.reshape(-1, g.shape[2]), 0, at, out=_lines(room.spare))
            told = room.spare.mul_(g).sum(2, keepdim=True).mul_(self._picked(invstd, at))
            g.mul_(self._picked(invstd * self.scales[0], at))
            rows = dw.zero_() if dw.is_contiguous() else torch.zeros(dw.shape, device=self.device)
            rows.view(-1, g.shape[2]).index_copy_(0, at, _lines(g))  # no class stands in two rows
            if rows is not dw:  # of one layer alone
                dw.copy_(rows)
            dscale.zero_().view(-1).index_copy_(0, at, told.transpose(0, 1).reshape(-1))
        if self.shape.layers == 1:
            self._leave_shift(batch)

    def _leave_shift(self, batch: Batch) -> None:
        """What the sum of the gradients at the output adds where no BatchNorm follows."""
        w, dw, dshift = self.weights[0], _grad(self.weights[0]), _grad(self.shifts[0])
        total = _grad(self.biases[0])[:, :, : w.shape[2]]  # [A, 1, G]
        torch.bmm(total, w.mT, out=dshift)
        shift = self.shifts[0]
        if batch.frequencies is not None:  # there, the mean has not been taken off yet
            centre = self._mean[0] * self._invstd[0]
            _grad(self.scales[0]).addcmul_(centre, dshift, value=-1)
            shift = shift - centre * self.scales[0]
        dw.addcmul_(shift.mT, total)

    def _constant(self, shift: Tensor) -> Tensor:
        """[A, 1, H] what a shift [A, 1, K] of the input and the first bias add."""
        return self._used[0] + torch.bmm(shift, self.weights[0])

    def _normalise(self, i: int, x: Tensor, batch: Batch, room: _Room) -> None:
        """The rows x with mean 0 and variance 1 over the batch, into the room; what is in x may be lost."""
        out, mean, variance, invstd = room.normal[i], self._mean[i], self._variance[i], self._invstd[i]
        if batch.frequencies is None:
            torch.ops.aten.native_batch_norm.out(
                _channels(x), None, None, self.means[i].view(-1), self.variances[i].view(-1), True, MOMENTUM, EPS,
                out=_channels(out), save_mean=mean.view(-1), save_invstd=invstd.view(-1),
            )  # fmt: skip
            return
        shares = batch.shares.mT
        torch.bmm(shares, x, out=mean)
        torch.sub(x, mean, out=out)
        torch.bmm(shares, torch.mul(out, out, out=x), out=variance)
        out.mul_(torch.rsqrt(variance + EPS, out=invstd))

    def _track(self, size: int) -> None:
        """Move the running statistics towards those of a batch of so many examples."""
        self._found.chunk(2)[1].mul_(size / (size - 1))  # the variances
        self._running.lerp_(self._found, MOMENTUM)

    def _normalise_backward(self, i: int, g: Tensor, batch: Batch, room: _Room) -> None:
        """From the gradient at the output of BatchNorm i to the one at its input, in place."""
        x, spare = room.normal[i], room.out[i - 1]
        dscale, dshift = _grad(self.scales[i]), _grad(self.shifts[i])
        torch.sum(torch.mul(g, x, out=spare), 1, keepdim=True, out=dscale)
        torch.sum(g, 1, keepdim=True, out=dshift)
        torch.addcmul(dshift, x, dscale, out=spare)
        g.addcmul_(spare, batch.shares, value=-1).mul_(self.scales[i] * self._invstd[i])

    # -- reading ---------------------------------------------------------------------------
    def read(self, slabs: Iterable[Tensor]) -> Iterator[Tensor]:
        """[n, A, G] what the attackers say of each slab, by running statistics.

        Every BatchNorm but the first is folded into the layer before it, once for all slabs.

        Args:
            slabs: [n, A, K] float32 of padded width, written over, or [n, A] int64 classes each.
        """
        gain = [s * (v + EPS).rsqrt() for s, v in zip(self.scales, self.variances, strict=True)]
        layers = []
        for i, (weight, bias) in enumerate(zip(self.weights, self._used, strict=True)):
            if i + 1 < self.shape.layers:
                weight = weight * gain[i + 1]
                bias = torch.addcmul(self.shifts[i + 1], bias - self.means[i + 1], gain[i + 1])
            layers.append((weight, bias))
        (weight, bias), *rest = layers
        classes = None
        for slab in slabs:
            z = self._array("read0", len(slab), weight.shape[2])
            if slab.ndim == 3:
                x = slab.transpose(0, 1).sub_(self.means[0]).mul_(gain[0]).add_(self.shifts[0])
                torch.bmm(x, weight, out=z).add_(bias)
            else:
                if classes is None:  # [A * K, H] the first layer's answer to every class
                    zero = torch.addcmul(self.shifts[0], self.means[0], gain[0], value=-1)
                    classes = (bias + torch.bmm(zero, weight) + gain[0].mT * weight).flatten(0, 1)
                torch.index_select(classes, 0, self._flat(slab), out=_lines(z))
            for i, (w, b) in enumerate(rest, 1):
                into = self._array(f"read{i % 2}", len(slab), w.shape[2])
                z = torch.bmm(leaky_relu_(z, self.shape.slope), w, out=into).add_(b)
            yield z.transpose(0, 1)

    # -- room ------------------------------------------------------------------------------
    def _room(self, batch: Batch) -> _Room:
        """Views of as many rows as the batch has."""
        rows, n = batch.aims.shape[1], self.shape.layers
        if rows not in self._rooms:

            def views(name: str, i: int, width: int) -> Tensor:
                return self._array(f"{name}{i}", batch.size, width)[:, :rows]

            outs = [w.shape[2] for w in self.weights]
            ins = [w.shape[1] for w in self.weights]
            self._rooms[rows] = _Room(
                [views("normal", i, ins[i]) for i in range(n)],
                [views("act", i, ins[i]) for i in range(n)],
                [views("out", 0, outs[i]) for i in range(n)],
                [views("back", i % 2, ins[i]) for i in range(n)],
                views("spare", 0, outs[0]),
            )
        return self._rooms[rows]

    def _array(self, name: str, rows: int, width: int) -> Tensor:
        """[A, rows, width] to write over; in memory, all attackers' first rows come first."""
        whole = self._arrays.get((name, width))
        if whole is None or len(whole) < rows:
            whole = self._arrays[name, width] = torch.empty(rows, self.count, width, device=self.device)
        return whole[:rows].transpose(0, 1)

    def _folded(self) -> Tensor:
        """[A, K, H] to write over."""
        return self._array("folded", *self.weights[0].shape[1:])

    def _flat(self, classes: Tensor) -> Tensor:
        """[n * A] rows of the flattened first weights that classes [n, A] pick."""
        return (classes + self._offsets).view(-1)

    def _picked(self, numbers: Tensor, at: Tensor) -> Tensor:
        """[A, U, 1] of numbers [A, 1, K], those at places `at` [U * A] of all."""
        return numbers.view(-1).index_select(0, at).view(-1, self.count, 1).transpose(0, 1)


def _joined(parts: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """One array with the numbers of all, and views of it in their shapes."""
    whole = torch.cat([part.reshape(-1) for part in parts])
    pieces = torch.split(whole, [part.numel() for part in parts])
    return whole, [piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True)]


def _cross_entropy(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """[A] mean loss of [A, U, G] logits, and its gradient, written over them."""
    said = logits.log_softmax(2)
    losses = (said * batch.aims).sum((1, 2)).neg_()
    return losses, torch.exp(said, out=logits).mul_(batch.shares).sub_(batch.aims)


def _lines(x: Tensor) -> Tensor:
    """[U * A, H] of [A, U, H], in the order of memory."""
    return x.transpose(0, 1).view(-1, x.shape[2])


def _channels(x: Tensor) -> Tensor:
    """[U, A * H] of [A, U, H], in the order of memory."""
    return x.transpose(0, 1).view(x.shape[1], -1)


def _linear(fan_in: int, fan_out: int, rng: torch.Generator, last: bool) -> tuple[Tensor, Tensor]:
    """Weight [in, out] and bias [1, out], padded; the last layer's weight has G columns."""
    bound = fan_in**-0.5
    weight = torch.empty(fan_out, fan_in).uniform_(-bound, bound, generator=rng)
    bias = torch.empty(fan_out).uniform_(-bound, bound, generator=rng)
    more = padded(fan_out) - fan_out
    return pad(weight, (0, padded(fan_in) - fan_in, 0, 0 if last else more)).t(), pad(bias, (0, more)).unsqueeze(0)


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
