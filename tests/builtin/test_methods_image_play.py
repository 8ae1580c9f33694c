"""That the mask learns to paint over what tells the attribute, and leaves the label to be seen."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from biasbench import Activations, Batch
from biasbench.builtin.methods.image_adversary import ImageAdversary

pytestmark = pytest.mark.torch
ATTRIBUTE, LABEL = slice(2, 14), slice(18, 30)  # the squares, rows and columns alike, that tell them


def play(weight, steps=60):
    """Mean mask over the square that tells the attribute, over that of the label, and the task's accuracy."""
    rng = torch.Generator().manual_seed(1)
    group, label = torch.randint(0, 2, (2, 600), generator=rng)
    images = 0.3 + 0.3 * torch.rand(600, 3, 32, 32, generator=rng)
    images[:, 0, ATTRIBUTE, ATTRIBUTE] += 0.4 * group[:, None, None]
    images[:, 2, LABEL, LABEL] += 0.4 * label[:, None, None]
    torch.manual_seed(0)
    method = ImageAdversary(attribute="gender", weight=weight, channels=4, warmup=20)
    method.build(SimpleNamespace(groups={"gender": 2}, crop=32))
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 1),
    )  # fmt: skip
    (own,) = method.phases()
    task = torch.optim.Adam([*net.parameters(), *method.mask.parameters()], lr=3e-3)
    reader = torch.optim.Adam(own.params, lr=1e-3)

    def step(optimiser, loss_of):
        rows = torch.randint(0, 600, (32,), generator=rng)
        data = Batch(images[rows], label[rows].float(), {"gender": group[rows]}, {}, rows)
        x = method.intervene("image", data.images, data)
        out = Activations({"label": net((x - 0.45) / 0.25)[:, 0]}, {"image": x})
        optimiser.zero_grad()
        loss_of(out, data).backward()
        optimiser.step()

    def task_loss(out, data):
        own_loss = binary_cross_entropy_with_logits(out.scores["label"], data.targets)
        return own_loss + sum(method.loss(out, data).values())

    for _ in range(own.before):
        step(reader, own.loss)
    for _ in range(steps):
        for _ in range(own.repeat):
            step(reader, own.loss)
        step(task, task_loss)
    method.eval()
    net.eval()
    with torch.no_grad():
        mask = method.mask(images)[:, 0]
        masked = method.intervene("image", images, Batch(images, None, {}, {}, torch.arange(600)))
        right = (net((masked - 0.45) / 0.25)[:, 0] > 0) == label.bool()
    squares = (mask[:, part, part].mean().item() for part in (ATTRIBUTE, LABEL))
    return (*squares, right.float().mean().item())


def test_the_mask_closes_over_the_attribute_and_not_over_the_label():
    over_attribute, over_label, accuracy = play(1.0)
    assert over_attribute < 0.7
    assert over_label > 0.9
    assert accuracy > 0.95


def test_without_a_pull_the_mask_stays_open():
    over_attribute, over_label, _ = play(0.0)
    assert min(over_attribute, over_label) > 0.9
