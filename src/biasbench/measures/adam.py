"""Adam over one array."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.adam import adam


class Adam:
    """The steps of `torch.optim.Adam`, fused, to the bit.

    What the class of torch does around a step takes as long as the step itself of an array as small as an
    attacker's, and its first use imports torch's compiler, which takes a second.

    Args:
        trained: What is trained, with its gradient, both changed in place from then on.
        lr: Step size.
        weight_decay: The L2 term.

    Example:
        >>> x = torch.tensor([1.0, -1.0])
        >>> x.grad = torch.tensor([0.5, 3.0])
        >>> Adam(x, lr=0.1, weight_decay=0.0).step()
        >>> [round(v, 4) for v in x.tolist()]
        [0.9, -1.1]
    """

    def __init__(self, trained: Tensor, lr: float, weight_decay: float) -> None:
        assert trained.grad is not None
        self.lr, self.weight_decay = lr, weight_decay
        self.trained, self.gradient = [trained], [trained.grad]
        self.mean, self.square = [torch.zeros_like(trained)], [torch.zeros_like(trained)]
        self.steps = [torch.zeros((), dtype=torch.float32, device=trained.device)]

    def step(self) -> None:
        """One step down the gradient."""
        adam(
            self.trained, self.gradient, self.mean, self.square, [], self.steps,
            fused=True, amsgrad=False, maximize=False,
            lr=self.lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=self.weight_decay,
        )  # fmt: skip
