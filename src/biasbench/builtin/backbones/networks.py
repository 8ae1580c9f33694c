"""timm networks without classifier, with their parameters loaded strictly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
from timm.models import get_pretrained_cfg, model_entrypoint
from torch import Tensor, nn

from biasbench import ResolvedWeights, UsageError, did_you_mean, load_strict, mismatch, printable, seeded


def accepts(name: str) -> bool:
    """Whether timm has this model, and this tag if one is given (`resnet50.a1_in1k`)."""
    if not timm.is_model(name):
        return False
    try:
        get_pretrained_cfg(name)
    except RuntimeError:  # the architecture is known, the tag is not
        return False
    return True


def names() -> list[str]:
    """Every architecture that timm has.

    Example:
        >>> "resnet50" in names()
        True
    """
    return list(timm.list_models())


def check_name(name: str) -> None:
    """Raise a `UsageError` with the nearest name, unless timm has this model.

    Example:
        >>> check_name("resnet18")
    """
    if not accepts(name):
        architecture = name.partition(".")[0]
        tags = timm.list_pretrained(f"{architecture}.*") if timm.is_model(architecture) else []
        hint = f"Its tags: {', '.join(tags)}" if tags else did_you_mean(name, timm.list_models())
        raise UsageError(f"timm has no model {printable(name)!r}", fix=hint or "See timm.list_models()")


def make_network(name: str, weights: ResolvedWeights) -> nn.Module:
    """A timm model whose forward pass ends at the embedding.

    Args:
        name: timm's name, with or without a tag.
        weights: Resolved parameters; random ones come from the stream `("weights", name)`.

    Raises:
        UsageError: When timm has no such model or cannot build it.
        DataError: When the weights do not fit.
    """
    check_name(name)
    options = _any_size(name)
    with seeded("weights", name):
        try:
            network: nn.Module = timm.create_model(name, **options)
        except Exception as error:  # whatever the model's own code raises
            reason = printable(str(error).splitlines()[0] if str(error) else type(error).__name__)
            raise UsageError(f"timm cannot build {name!r}: {reason}") from error
        if not hasattr(network, "reset_classifier"):
            raise UsageError(f"{name} is no classifier", fix="Choose another model")
        if weights.kind != "random":
            network = _loaded(name, network, weights, options)
        network.reset_classifier(0)  # type: ignore[operator]
    return network


def _any_size(name: str) -> dict[str, Any]:
    """Options that let a vision transformer take images of any size."""
    if model_entrypoint(name).__module__ == "timm.models.vision_transformer":
        return {"dynamic_img_size": True, "dynamic_img_pad": True}
    return {}


def _loaded(name: str, network: nn.Module, weights: ResolvedWeights, options: Mapping[str, Any]) -> nn.Module:
    original, where = weights.read(), printable(weights.path)
    own = network.state_dict()
    if weights.kind == "package":
        load_strict(network, in_order(own, original), where)
        return network
    # The classifier is dropped afterwards: its values, if the file has any, do not matter.
    ends = _classifier(network)
    state = {k: v for k, v in original.items() if not k.startswith(ends)}
    state |= {k: v for k, v in own.items() if k.startswith(ends)}
    if not mismatch(own, state):
        load_strict(network, state, where)
        return network
    try:  # files in a model's original layout: timm knows how to translate them, and loads strictly
        overlay = {"state_dict": original, "custom_load": False}
        loaded: nn.Module = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    except Exception:  # timm's translators fail in many ways on files that are not theirs
        load_strict(network, state, where)  # raises, and says what does not fit
        raise
    return loaded


def _classifier(network: nn.Module) -> tuple[str, ...]:
    """Prefixes of the classifier's parameters, such as `("fc.",)`."""
    config: Mapping[str, Any] = getattr(network, "pretrained_cfg", {})
    names = config.get("classifier") or ()
    return tuple(f"{n}." for n in ((names,) if isinstance(names, str) else names))


def in_order(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` under the names of `own`, entry by entry in order.

    For files whose names differ but whose layers stand in the same order. Entries left
    over keep their names, so that strict loading reports them.

    Example:
        >>> import torch
        >>> sorted(in_order({"conv.weight": torch.zeros(1)}, {"_conv.weight": torch.ones(1)}))
        ['conv.weight']
    """
    values = list(state.items())
    named = {mine: value for mine, (_, value) in zip(own, values, strict=False)}
    return named | {f"{theirs} (left over)": value for theirs, value in values[len(own) :]}
