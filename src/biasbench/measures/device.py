"""Where attackers are trained."""

from __future__ import annotations

from biasbench.errors import UsageError, printable


def check_device(text: str) -> str:
    """A device that this machine has, as torch calls it.

    Raises:
        UsageError: When it is none, or not here.

    Example:
        >>> check_device("cpu")
        'cpu'
    """
    if text == "cpu":
        return text  # without waiting for torch
    import torch

    try:
        torch.empty(0, device=torch.device(text))
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"no device {printable(text)!r} here: {printable(first)}", fix="Use cpu") from error
    return text
