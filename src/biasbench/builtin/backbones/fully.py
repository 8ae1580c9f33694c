"""Fully connected layers behind pooled features: what Alvi et al. train while the convolutions stay frozen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from biasbench import UsageError, seeded
from biasbench.builtin.backbones.cuts import chain


def check_options(model: str, fc: Sequence[int], dropout: float) -> None:
    """Raise a `UsageError` unless the options describe none, one or two layers.

    Args:
        model: The network, for the message.
        fc: Units of each layer.
        dropout: Share of their outputs that is dropped in training.

    Example:
        >>> check_options("resnet18", (512, 512), 0.5)
    """
    if len(fc) > 2 or not all(units >= 1 for units in fc):
        raise UsageError(
            f"{model}: fc takes the units of one or two layers, not {tuple(fc)}", fix="Write for example fc=(512, 512)"
        )
    if not 0 <= dropout < 1:
        raise UsageError(f"{model}: dropout must be at least 0 and below 1, not {dropout}")
    if dropout and not fc:
        raise UsageError(f"{model}: dropout stands behind the layers of fc, and there are none", fix="Give fc too")


def fully_connected(model: str, width: int, fc: Sequence[int], dropout: float = 0.0) -> dict[str, nn.Sequential]:
    """Linear layers with ReLU and dropout, as segments by tap: `fc6` and, always the last, `embedding`.

    Their random parameters (He et al. 2015) come from the stream `("weights", model, "fc")`.

    Args:
        model: The network's name.
        width: Length of the vector that they read.
        fc: Units of one or two layers.
        dropout: Share of each layer's outputs that is dropped in training.

    Example:
        >>> {tap: layers.linear.weight.shape for tap, layers in fully_connected("resnet18", 512, (64, 32)).items()}
        {'fc6': torch.Size([64, 512]), 'embedding': torch.Size([32, 64])}
    """
    segments = {}
    for tap, units in zip(("fc6", "embedding")[-len(fc) :], fc, strict=True):
        segments[tap] = chain(linear=nn.Linear(width, units), relu=nn.ReLU(), dropout=nn.Dropout(dropout))
        width = units
    initialise(segments.values(), "weights", model, "fc")
    return segments


def initialise(layers: Iterable[nn.Module], *stream: str) -> None:
    """Draw the weights of linear layers from a named stream (He et al. 2015); biases are 0.

    Example:
        >>> one, other = nn.Linear(4, 3), nn.Linear(4, 3)
        >>> initialise([one], "doc"), initialise([other], "doc")
        (None, None)
        >>> bool((one.weight == other.weight).all())
        True
    """
    with seeded(*stream):
        for module in (part for layer in layers for part in layer.modules()):
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
