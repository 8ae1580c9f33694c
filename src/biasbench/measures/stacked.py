"""Many attackers as one network: stacked parameters, batched products, gradients by hand.

The attacker of Wang et al. 2019 as released: BatchNorm on the input, then linear layers with
BatchNorm and LeakyReLU between. Activations are [B, A, H] (A attackers side by side), so that
one BatchNorm call over A * H channels serves all of them, and each product is a batched one
over strided views. Three things make it fast on a CPU:

* The gradient at the input, which only the input's BatchNorm would need, is never formed: its
  scale and shift have gradients in terms of sums that the first layer's weights need anyway.
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
        self.weights = [torch.stack([d[i][0] for d in drawn]).to(device) for i in range(shape.layers)]  # [A, in, out]
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
        b, last = len(codes), self.shape.layers - 1
        z = self._enter(features) if features.ndim == 3 else self._enter_classes(features)
        for i in range(1, last + 1):
            act = self._room(f"act{i}", *z.shape)
            leaky_relu_(torch.addcmul(self.shifts[i], self._normalise(i, z), self.scales[i], out=act), self.shape.slope)
            z = self._product(act, self.weights[i], self.biases[i], "z")
        losses, g = _cross_entropy(z, codes)
        for i in range(last, 0, -1):
            act = self._room(f"act{i}", b, self.count, self.weights[i].shape[1])
            _sum(g, _grad(self.biases[i])[:, : g.shape[2]])
            _multiply(act.permute(1, 2, 0), g.transpose(0, 1), _grad(self.weights[i]))
            g = self._product(g, self.weights[i].transpose(1, 2), None, f"g{i % 2}")
            torch.ops.aten.leaky_relu_backward.grad_input(g, act, self.shape.slope, True, grad_input=g)
            self._normalise_backward(i, g)
        self._leave(features, g)
        return losses

    def _enter(self, features: Tensor) -> Tensor:
        """[B, A, H] the first layer on dense features, the input's scale and shift folded into it."""
        x = self._normalise(0, features)
        folded = torch.mul(self.scales[0].unsqueeze(2), self.weights[0], out=self._folded())
        return self._product(x, folded, self._constant(), "z")

    def _enter_classes(self, classes: Tensor) -> Tensor:
        """The same on one-hot vectors: the product is a row of the weights."""
        b, a = classes.shape
        mean, invstd = self._moments(0)
        mean.zero_().view(-1).index_add_(0, self._flat(classes), mean.new_full((1,), 1 / b).expand(b * a))
        variance = mean * (1 - mean)
        torch.rsqrt(variance + EPS, out=invstd)
        self.means[0].lerp_(mean, MOMENTUM)
        self.variances[0].lerp_(variance * (b / (b - 1)), MOMENTUM)
        folded = torch.mul((self.scales[0] * invstd).unsqueeze(2), self.weights[0], out=self._folded())
        constant = self._constant() - _row(mean, folded)  # [A, H]
        z = self._room("z", b, a, folded.shape[2])
        torch.index_select(folded.view(-1, folded.shape[2]), 0, self._flat(classes), out=z.view(b * a, -1))
        return z.add_(constant)

    def _leave(self, features: Tensor, g: Tensor) -> None:
        """Gradients of the first layer and the input's BatchNorm, from [B, A, H] at its output."""
        w, dw, total = self.weights[0], _grad(self.weights[0]), _grad(self.biases[0])[:, : g.shape[2]]
        _sum(g, total)  # [A, H]
        if features.ndim == 3:
            _multiply(self._room("x0", *features.shape).permute(1, 2, 0), g.transpose(0, 1), dw)  # Σ x̂ g
        else:
            mean, invstd = self._moments(0)
            dw.zero_().view(-1, dw.shape[2]).index_add_(0, self._flat(features), g.view(-1, g.shape[2]))  # Σ x g
            dw.addcmul_(mean.unsqueeze(2), total.unsqueeze(1), value=-1).mul_(invstd.unsqueeze(2))
        torch.sum(torch.mul(dw, w, out=self._folded()), 2, out=_grad(self.scales[0]))
        _multiply(w, total.unsqueeze(2), _grad(self.shifts[0]).unsqueeze(2))
        dw.mul_(self.scales[0].unsqueeze(2)).addcmul_(self.shifts[0].unsqueeze(2), total.unsqueeze(1))

    def _constant(self) -> Tensor:
        """[A, H] what the input's shift and the first bias add."""
        return self.biases[0][:, : self.weights[0].shape[2]] + _row(self.shifts[0], self.weights[0])

    def _normalise(self, i: int, x: Tensor) -> Tensor:
        """[B, A, H] with mean 0 and variance 1 over the batch; the running statistics move."""
        b, a, n = x.shape
        out, (mean, invstd) = self._room(f"x{i}", b, a, n), self._moments(i)
        torch.ops.aten.native_batch_norm.out(
            x.view(b, a * n), None, None, self.means[i].view(-1), self.variances[i].view(-1), True, MOMENTUM, EPS,
            out=out.view(b, a * n), save_mean=mean.view(-1), save_invstd=invstd.view(-1),
        )  # fmt: skip
        return out

    def _normalise_backward(self, i: int, g: Tensor) -> None:
        """From the gradient at the output of BatchNorm i to the one at its input, in place."""
        b, x, (_, invstd) = len(g), self._room(f"x{i}", *g.shape), self._moments(i)
        dscale, dshift = _grad(self.scales[i]), _grad(self.shifts[i])
        _sum(torch.mul(g, x, out=self._room("z", *g.shape)), dscale)
        _sum(g, dshift)
        g.sub_(dshift / b).addcmul_(x, dscale, value=-1 / b).mul_(self.scales[i] * invstd)

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
                z = rows.view(-1, rows.shape[2]).index_select(0, self._flat(slab)).view(*slab.shape, -1)
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

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None, room: str) -> Tensor:
        """[n, A, out] from [n, A, in] by one weight [A, in, out] and bias [A, out] per attacker."""
        out = self._room(room, len(x), self.count, weight.shape[2])
        _multiply(x.transpose(0, 1), weight, out.transpose(0, 1))
        return out if bias is None else out.add_(bias[:, : weight.shape[2]])


def _cross_entropy(logits: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """[A] mean loss of [B, A, G] logits, and its gradient, written over them."""
    chosen = codes.unsqueeze(2)
    if logits.is_cpu:
        for a in range(logits.shape[1]):
            logits[:, a] = logits[:, a].log_softmax(1)
        losses = torch.stack([-column.clone().mean() for column in logits.gather(2, chosen).squeeze(2).unbind(1)])
        for a in range(logits.shape[1]):
            logits[:, a] = logits[:, a].exp()
    else:
        logits.copy_(logits.log_softmax(2))
        losses = -logits.gather(2, chosen).squeeze(2).mean(0)
        logits.exp_()
    logits.scatter_add_(2, chosen, logits.new_full((1, 1, 1), -1.0).expand_as(chosen))
    return losses, logits.div_(len(codes))


def _multiply(x: Tensor, y: Tensor, out: Tensor) -> None:
    """[A, n, k] times [A, k, m]: a batched product.

    On the CPU every attacker has its own, here and below: a vector loop rounds its tail otherwise
    than its body, and no attacker's bits may depend on its neighbours.
    """
    if x.is_cpu:
        for one, other, into in zip(x.unbind(), y.unbind(), out.unbind(), strict=True):
            torch.mm(one, other, out=into)
    else:
        torch.bmm(x, y, out=out)


def _row(x: Tensor, weight: Tensor) -> Tensor:
    """[A, H] from one row [A, K] per attacker by weights [A, K, H]."""
    out = x.new_empty(len(x), 1, weight.shape[2])
    _multiply(x.unsqueeze(1), weight, out)
    return out.squeeze(1)


def _sum(x: Tensor, out: Tensor) -> None:
    """[A, H] sums of [B, A, H] over B; each attacker's own on the CPU, as in `_multiply`."""
    if x.is_cpu:
        for one, into in zip(x.unbind(1), out.unbind(), strict=True):
            torch.sum(one, 0, out=into)
    else:
        torch.sum(x, 0, out=out)


def _linear(fan_in: int, fan_out: int, rng: torch.Generator, last: bool) -> tuple[Tensor, Tensor]:
    """Weight [in, out] and bias [out], padded; the last layer's weight has G columns."""
    bound = fan_in**-0.5
    weight = torch.empty(fan_out, fan_in).uniform_(-bound, bound, generator=rng)
    bias = torch.empty(fan_out).uniform_(-bound, bound, generator=rng)
    more = padded(fan_out) - fan_out
    return pad(weight, (0, padded(fan_in) - fan_in, 0, 0 if last else more)).t().contiguous(), pad(bias, (0, more))


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
