"""noise: Gaussian numbers at a tap, in evaluation only, the same for an example wherever it is read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from biasbench import Batch, UsageError
from biasbench.builtin.methods.noise import Noise, normals

pytestmark = pytest.mark.torch


def batch(*rows: int) -> Batch:
    return Batch(torch.zeros(len(rows), 3, 0, 0), None, {}, {}, torch.tensor(rows))


def ready(sigma: float, seed: int = 5) -> Noise:
    method = Noise(sigma)
    method.seed = seed
    return method.eval()


def test_the_numbers_are_standard_normal_and_independent():
    drawn = normals(3, torch.arange(4000), 6).numpy()
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 0.001
    off = np.corrcoef(drawn.T) - np.eye(6)
    assert np.abs(off).max() < 5 / np.sqrt(4000)
    assert np.isfinite(drawn).all()


@pytest.mark.parametrize("count", [1, 2, 7])
def test_an_examples_noise_depends_on_nothing_but_seed_and_row(count):
    together = normals(9, torch.tensor([4, 11, 2]), count)
    for place, row in enumerate((4, 11, 2)):
        assert torch.equal(normals(9, torch.tensor([row]), count)[0], together[place])
    assert not torch.equal(normals(8, torch.tensor([4, 11, 2]), count), together)


def test_evaluation_gets_sigma_times_the_noise_and_training_none():
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    one, two = (ready(sigma).intervene("embedding", x, batch(7, 8, 9)) - x for sigma in (0.5, 1.0))
    assert torch.allclose(2 * one, two, atol=1e-6)
    assert torch.allclose(two, normals(5, torch.tensor([7, 8, 9]), 16), atol=1e-6)
    assert ready(0.5).train().intervene("embedding", x, batch(7, 8, 9)) is x
    assert ready(0.5).intervene("conv5", x, batch(7, 8, 9)) is x
    assert ready(0.0).intervene("embedding", x, batch(7, 8, 9)) is x


def test_maps_keep_their_shape():
    x = torch.zeros(2, 3, 4, 4)
    out = Noise(1.0, at="conv5").eval().intervene("conv5", x, batch(0, 1))
    assert out.shape == x.shape
    assert 0.7 < float(out.std()) < 1.3


@pytest.mark.parametrize("sigma", [-0.1, float("nan"), float("inf")])
def test_sigma_is_checked(sigma):
    with pytest.raises(UsageError, match="sigma must be at least 0"):
        Noise(sigma)


def test_one_training_serves_every_level():
    assert Noise.stage == "predict"
