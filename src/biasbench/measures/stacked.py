"""Many attackers as one network: stacked parameters, batched products, gradients by hand.

The attacker of Wang et al. 2019 as released: BatchNorm on the input, then linear layers with
BatchNorm and LeakyReLU between. Activations are [B, A, H] (A attackers side by side), so that
one BatchNorm call over A * H channels serves all of them, and each product is a batched one
over strided views. Three things make it fast on a CPU:

* The gradient at the input, which only the input's BatchNorm would need, is never formed: its
  scale and shift have gradients in terms of sums that the first layer's weights need anyway.
* Equal rows of a batch are worked on once (`batch.py`), as far as they are known to be equal:
  of classes, which stand for one-hot vectors.
* What a BatchNorm takes out again, such as a bias before it, has gradient 0 and keeps it: no sum
  over the batch is formed to find the rounding error that stands for it elsewhere.
* Widths are padded with zeros to whole vector registers: 300 units take 304, which the matrix
  library multiplies a third faster. A padded unit has no weight in or out, so that its value
  and all its gradients are exactly 0 and stay so.
* Every large array is made once and written over. Made anew at each step, most of the time
  went into the operating system handing out fresh pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu_, pad

from biasbench.measures.batch import Batch, distinct_rows, every_row

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


class Stack:
    """A attackers that are trained and read together; each is as if it were alone.

    Call its methods without gradient tracking: it writes its own.

    Args:
        shape: Architecture of every attacker.
        rngs: A streams of initial weights: PyTorch's default for linear layers, uniform within
            1/sqrt(fan-in), BatchNorm at 1 and 0.
        device: Where everything lies.
    """

    def __init__(self, shape: Shape, rngs: Sequence[torch.Generator], device: torch.device) -> None:
        self.shape, self.count, self.device = shape, len(rngs), device
        last = shape.layers - 1
        drawn = [[_linear(a, b, rng, i == last) for i, (a, b) in enumerate(pairwise(shape.sizes))] for rng in rngs]
        self.weights = [torch.stack([d[i][0] for d in drawn]).to(device) for i in range(last)]  # [A, in, out]
        narrow = torch.stack([d[last][0].t() for d in drawn]).to(device)  # products by few columns want them whole
        self.weights.append(narrow.transpose(1, 2))
        self.biases = [torch.stack([d[i][1] for d in drawn]).to(device) for i in range(shape.layers)]  # [A, padded out]
        inputs = [w.shape[1] for w in self.weights]
        self.scales = [torch.ones(self.count, n, device=device) for n in inputs]
        self.shifts = [torch.zeros(self.count, n, device=device) for n in inputs]
        self.means = [torch.zeros(self.count, n, device=device) for n in inputs]
        self.variances = [torch.ones(self.count, n, device=device) for n in inputs]
        self._offsets = torch.arange(self.count, device=device) * inputs[0]  # [A] first rows in flattened weights
        self._rooms: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        for p in self.parameters:
            p.grad = torch.zeros_like(p)

    @property
    def parameters(self) -> list[Tensor]:
        """Everything that is trained, each [A, ...]."""
        return [*self.weights, *self.biases, *self.scales, *self.shifts]

    @property
    def state(self) -> list[Tensor]:
        """Parameters and running statistics, each [A, ...]."""
        return [*self.parameters, *self.means, *self.variances]

    # -- training --------------------------------------------------------------------------
    def learn(self, features: Tensor, codes: Tensor) -> Tensor:
        """Loss and gradients of one batch, the latter into `.grad`.

        Args:
            features: [B, A, K] float32 of padded width, or [B, A] int64 classes, read as one-hot.
            codes: [B, A] int64: the protected attribute.

        Returns:
            [A] mean cross-entropy.
        """
        shape, last = self.shape, self.shape.layers - 1
        if features.ndim == 3:
            batch = every_row(features, codes, shape.outputs)
            z = self._enter(batch)
        else:
            batch = distinct_rows(features, codes, self.weights[0].shape[1], shape.outputs)
            z = self._enter_classes(batch)
        rows = batch.rows
        for i in range(1, last + 1):
            self._normalise(i, z, batch)
            act = self._activation(i, z)
            z = self._product(act, self.weights[i], self.biases[i], "z", rows)
        losses, g = _cross_entropy(z, batch)
        _sum(g, _grad(self.biases[last])[:, : g.shape[2]], rows)
        for i in range(last, 0, -1):
            act = self._room(f"act{i}", *g.shape[:2], self.weights[i].shape[1])
            _outer(act, g, _grad(self.weights[i]), rows)
            g = self._product(g, self.weights[i].transpose(1, 2), None, f"g{i % 2}", rows)
            torch.ops.aten.leaky_relu_backward.grad_input(g, act, shape.slope, True, grad_input=g)
            self._normalise_backward(i, g, batch)
        self._leave(batch, g)
        return losses

    def _enter(self, batch: Batch) -> Tensor:
        """[B, A, H] the first layer on dense features, the input's scale and shift folded into it."""
        x = self._normalise(0, batch.features, batch)
        folded = torch.mul(self.scales[0].unsqueeze(2), self.weights[0], out=self._folded())
        return self._product(x, folded, self._constant(), "z", batch.rows)

    def _enter_classes(self, batch: Batch) -> Tensor:
        """[U, A, H] the same on one-hot vectors: the product is a row of the weights."""
        u, a = batch.features.shape
        at = self._flat(batch.features)
        mean, invstd = self._moments(0)
        mean.zero_().view(-1).index_add_(0, at, batch.shares.reshape(-1))
        variance = mean * (1 - mean)
        torch.rsqrt(variance + EPS, out=invstd)
        self._track(0, mean, variance, batch.size)
        gain = self.scales[0] * invstd
        constant = self.biases[0][:, : self.weights[0].shape[2]] + _row(self.shifts[0] - mean * gain, self.weights[0])
        z = self._room("z", u, a, self.weights[0].shape[2])
        torch.index_select(self.weights[0].reshape(-1, z.shape[2]), 0, at, out=z.view(u * a, -1))
        return torch.addcmul(constant, z, gain.view(-1)[at].view(u, a, 1), out=z)

    def _leave(self, batch: Batch, g: Tensor) -> None:
        """Gradients of the first layer and the input's BatchNorm, from [U, A, H] at its output.

        A BatchNorm behind the first layer takes out every shift: the sum of `g` over the batch is then 0,
        and with it the gradients of the input's shift and the first bias.
        """
        w, dw, dscale = self.weights[0], _grad(self.weights[0]), _grad(self.scales[0])
        if batch.features.ndim == 3:
            _outer(self._room("x0", *batch.features.shape), g, dw, batch.rows)  # Σ x̂ g
            torch.sum(torch.mul(dw, w, out=self._folded()), 2, out=dscale)
            dw.mul_(self.scales[0].unsqueeze(2))
        else:
            u, a, h = g.shape
            at, (_, invstd) = self._flat(batch.features), self._moments(0)
            own = torch.index_select(w.reshape(-1, h), 0, at, out=self._room("act0", u, a, h).view(u * a, h))
            divided = invstd.view(-1)[at]
            told = own.mul_(g.view(u * a, h)).sum(1).mul_(divided).view(u, a)
            g.mul_(divided.mul_(self.scales[0].view(-1)[at]).view(u, a, 1))
            dw.zero_()
            dscale.zero_()
            for i, n in enumerate(batch.rows):
                dw[i].index_add_(0, batch.features[:n, i], g[:n, i])
                dscale[i].index_add_(0, batch.features[:n, i], told[:n, i])
        if self.shape.layers == 1:
            self._leave_shift(batch)

    def _leave_shift(self, batch: Batch) -> None:
        """What the sum of the gradients at the output adds where no BatchNorm follows."""
        w, dw = self.weights[0], _grad(self.weights[0])
        total = _grad(self.biases[0])[:, : w.shape[2]]  # [A, G]
        _grad(self.shifts[0]).copy_(_row(total, w.transpose(1, 2)))
        shift = self.shifts[0]
        if batch.features.ndim == 2:  # there, the mean has not been taken off yet
            mean, invstd = self._moments(0)
            _grad(self.scales[0]).addcmul_(mean * invstd, _grad(self.shifts[0]), value=-1)
            shift = shift - mean * invstd * self.scales[0]
        dw.addcmul_(shift.unsqueeze(2), total.unsqueeze(1))

    def _constant(self) -> Tensor:
        """[A, H] what the input's shift and the first bias add."""
        return self.biases[0][:, : self.weights[0].shape[2]] + _row(self.shifts[0], self.weights[0])

    def _normalise(self, i: int, x: Tensor, batch: Batch) -> Tensor:
        """[U, A, H] with mean 0 and variance 1 over the batch; the running statistics move."""
        u, a, n = x.shape
        out, (mean, invstd) = self._room(f"x{i}", u, a, n), self._moments(i)
        if batch.features.ndim == 3:
            torch.ops.aten.native_batch_norm.out(
                x.view(u, a * n), None, None, self.means[i].view(-1), self.variances[i].view(-1), True, MOMENTUM, EPS,
                out=out.view(u, a * n), save_mean=mean.view(-1), save_invstd=invstd.view(-1),
            )  # fmt: skip
            return out
        _outer(batch.shares, x, mean.unsqueeze(1), batch.rows)
        torch.sub(x, mean, out=out)
        _outer(batch.shares, torch.mul(out, out, out=x), invstd.unsqueeze(1), batch.rows)
        self._track(i, mean, invstd, batch.size)
        torch.rsqrt(invstd + EPS, out=invstd)
        return out.mul_(invstd)

    def _track(self, i: int, mean: Tensor, variance: Tensor, size: int) -> None:
        """Move the running statistics of BatchNorm i towards those of a batch."""
        self.means[i].lerp_(mean, MOMENTUM)
        self.variances[i].lerp_(variance * (size / (size - 1)), MOMENTUM)

    def _activation(self, i: int, z: Tensor) -> Tensor:
        """[U, A, H] what layer i reads: the normalised rows, scaled and shifted, through LeakyReLU."""
        act, x = self._room(f"act{i}", *z.shape), self._room(f"x{i}", *z.shape)
        return leaky_relu_(torch.addcmul(self.shifts[i], x, self.scales[i], out=act), self.shape.slope)

    def _normalise_backward(self, i: int, g: Tensor, batch: Batch) -> None:
        """From the gradient at the output of BatchNorm i to the one at its input, in place."""
        x, room, (_, invstd) = self._room(f"x{i}", *g.shape), self._room("z", *g.shape), self._moments(i)
        dscale, dshift = _grad(self.scales[i]), _grad(self.shifts[i])
        _sum(torch.mul(g, x, out=room), dscale, batch.rows)
        _sum(g, dshift, batch.rows)
        torch.addcmul(dshift, x, dscale, out=room)
        g.addcmul_(room, batch.shares, value=-1).mul_(self.scales[i] * invstd)

    # -- reading ---------------------------------------------------------------------------
    def read(self, slabs: Iterable[Tensor]) -> Iterator[Tensor]:
        """[n, A, G] what the attackers say of each slab, by running statistics.

        Every BatchNorm but the first is folded into the layer before it, once for all slabs.

        Args:
            slabs: [n, A, K] float32 of padded width, written over, or [n, A] int64 classes each.
        """
        gain = [s * (v + EPS).rsqrt() for s, v in zip(self.scales, self.variances, strict=True)]
        layers = []
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if i + 1 < self.shape.layers:
                weight = weight * gain[i + 1].unsqueeze(1)
                bias = torch.addcmul(self.shifts[i + 1], bias - self.means[i + 1], gain[i + 1])
            layers.append((weight, bias))
        rows = None
        for slab in slabs:
            (weight, bias), *rest = layers
            if slab.ndim == 3:
                x = slab.sub_(self.means[0]).mul_(gain[0]).add_(self.shifts[0])
                z = self._product(x, weight, bias, "read0")
            else:
                if rows is None:  # the first layer's answer to every class
                    zero = torch.addcmul(self.shifts[0], self.means[0], gain[0], value=-1)
                    rows = (bias[:, : weight.shape[2]] + _row(zero, weight)).unsqueeze(1) + gain[0].unsqueeze(
                        2
                    ) * weight
                z = rows.reshape(-1, rows.shape[2]).index_select(0, self._flat(slab)).view(*slab.shape, -1)
            for i, (weight, bias) in enumerate(rest, 1):
                z = self._product(leaky_relu_(z, self.shape.slope), weight, bias, f"read{i % 2}")
            yield z

    # -- room ------------------------------------------------------------------------------
    def _room(self, name: str, *shape: int) -> Tensor:
        """An array of that shape to write over; those that differ in the first dimension alone share memory."""
        found = self._rooms.get((name, shape))
        if found is None:
            whole = self._rooms.get((name, shape[1:]))
            if whole is None or len(whole) < shape[0]:
                whole = self._rooms[name, shape[1:]] = torch.empty(shape, device=self.device)
            found = self._rooms[name, shape] = whole[: shape[0]]
        return found

    def _folded(self) -> Tensor:
        return self._room("folded", *self.weights[0].shape)

    def _moments(self, i: int) -> tuple[Tensor, Tensor]:
        """[A, H] mean and inverse standard deviation of the batch at BatchNorm i."""
        return self._room(f"mean{i}", *self.means[i].shape), self._room(f"invstd{i}", *self.means[i].shape)

    def _flat(self, classes: Tensor) -> Tensor:
        """[n * A] rows of the flattened first weights that classes [n, A] pick."""
        return (classes + self._offsets).view(-1)

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None, room: str, rows: tuple[int, ...] = ()) -> Tensor:
        """[U, A, out] from [U, A, in] by one weight [A, in, out] and bias [A, out] per attacker."""
        out = self._room(room, len(x), self.count, weight.shape[2])
        _multiply(x, weight, out, rows)
        return out if bias is None else out.add_(bias[:, : weight.shape[2]])


def _cross_entropy(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """[A] mean loss of [U, A, G] logits, and its gradient, written over them."""
    aims = batch.aims
    if logits.is_cpu:
        losses = []
        for one, aim in zip(_first(logits, batch.rows), _first(aims, batch.rows), strict=True):
            said = one.log_softmax(1)
            losses.append((said * aim).sum())
            one.copy_(said.exp_())
        total = torch.stack(losses).neg_()
    else:
        said = logits.log_softmax(2)
        total = (said * aims).sum((0, 2)).neg_()
        logits.copy_(said.exp_())
    return total, logits.mul_(batch.shares).sub_(aims)


def _first(x: Tensor, rows: Sequence[int]) -> Sequence[Tensor]:
    """[n, ...] the rows that count of each attacker's [U, A, ...]; none named: all."""
    ones = x.unbind(1)
    return ones if all(n == len(x) for n in rows) else [one[:n] for one, n in zip(ones, rows, strict=True)]


def _multiply(x: Tensor, y: Tensor, out: Tensor, rows: Sequence[int] = ()) -> None:
    """[U, A, k] times [A, k, m] as [U, A, m]: a batched product.

    On the CPU every attacker has its own, here and below: a vector loop rounds its tail otherwise
    than its body, and no attacker's bits may depend on its neighbours.
    """
    if x.is_cpu:
        for one, other, into in zip(_first(x, rows), y.unbind(), _first(out, rows), strict=True):
            torch.mm(one, other, out=into)
    else:
        torch.bmm(x.transpose(0, 1), y, out=out.transpose(0, 1))


def _outer(x: Tensor, y: Tensor, out: Tensor, rows: Sequence[int]) -> None:
    """[A, k, m] sums over the rows of [U, A, k] times [U, A, m]."""
    if x.is_cpu:
        for one, other, into in zip(_first(x, rows), _first(y, rows), out.unbind(), strict=True):
            torch.mm(one.t(), other, out=into)
    else:
        torch.bmm(x.permute(1, 2, 0), y.transpose(0, 1), out=out)


def _row(x: Tensor, weight: Tensor) -> Tensor:
    """[A, H] from one row [A, K] per attacker by weights [A, K, H]."""
    out = x.new_empty(1, len(x), weight.shape[2])
    _multiply(x.unsqueeze(0), weight, out)
    return out.squeeze(0)


def _sum(x: Tensor, out: Tensor, rows: Sequence[int]) -> None:
    """[A, H] sums of [U, A, H] over the rows that count."""
    if x.is_cpu:
        for one, into in zip(_first(x, rows), out.unbind(), strict=True):
            torch.sum(one, 0, out=into)
    else:
        torch.sum(x, 0, out=out)


def _linear(fan_in: int, fan_out: int, rng: torch.Generator, last: bool) -> tuple[Tensor, Tensor]:
    """Weight [in, out] and bias [out], padded; the last layer's weight has G columns."""
    bound = fan_in**-0.5
    weight = torch.empty(fan_out, fan_in).uniform_(-bound, bound, generator=rng)
    bias = torch.empty(fan_out).uniform_(-bound, bound, generator=rng)
    more = padded(fan_out) - fan_out
    return pad(weight, (0, padded(fan_in) - fan_in, 0, 0 if last else more)).t(), pad(bias, (0, more))


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
