"""The baseline that any mitigation has to beat: random noise on a trained model's representation."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from biasbench import Batch, BuildInfo, Method, UsageError, uniforms


class Noise(Method):
    """Gaussian noise at a tap, in evaluation only: one training serves every level.

    The paper's randomisation baseline (the curve in its Figure 5): the plain model, blinded by noise
    on the pooled features, whose accuracy and leakage fall together. The noise of an example is a
    function of the run and its row, so that batches and levels do not change it; levels differ by a
    factor only. Predictions of all splits carry it, so that attackers are trained on noisy scores too.

    Args:
        sigma: Standard deviation, in units of the activation; the one published command has 0.2.
        at: The tap.

    Example:
        >>> Noise(0.5).touches
        ('embedding',)
    """

    name = "noise"
    source = "Wang et al., ICCV 2019, sections 5.3 and 6"
    stage = "predict"
    by_row = True

    def __init__(self, sigma: float = 0.2, at: str = "embedding") -> None:
        super().__init__()
        if not (math.isfinite(sigma) and sigma >= 0):
            raise UsageError(f"noise: sigma must be at least 0, not {sigma}")
        self.sigma, self.at, self.seed = sigma, at, 0
        self.touches = (at,)

    def build(self, info: BuildInfo) -> None:
        """Fix the run's noise.

        Raises:
            UsageError: For an unknown tap.
        """
        info.backbone.check_tap(self.at)
        self.seed = int(torch.randint(2**62, ()))  # the harness seeds it by the run's key

    def intervene(self, tap: str, x: Tensor, batch: Batch) -> Tensor:
        if self.training or tap != self.at or self.sigma == 0:
            return x
        return x + self.sigma * normals(self.seed, batch.index, math.prod(x.shape[1:])).to(x).view_as(x)


def normals(seed: int, index: Tensor, count: int) -> Tensor:
    """[B, count] float32 standard normal numbers, a function of (seed, example), by Box and Muller.

    Example:
        >>> both = normals(3, torch.tensor([7, 9]), 4)
        >>> bool((normals(3, torch.tensor([9]), 4)[0] == both[1]).all())
        True
    """
    half = -(-count // 2)
    u = uniforms(seed, index.cpu().numpy(), 2 * half)  # [B, 2 * half] in [0, 1)
    radius, angle = np.sqrt(-2 * np.log1p(-u[:, :half])), 2 * np.pi * u[:, half:]
    drawn = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :count]
    return torch.from_numpy(drawn.astype(np.float32))
