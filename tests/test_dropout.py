"""Dropout acts where a stage trains, nowhere else, and in the same way each time."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from biasbench.config import Settings
from biasbench.plan import Request, make_plan
from biasbench.plugins import load_plugins
from biasbench.runner import Runner, Summary
from biasbench.store import Store

pytestmark = pytest.mark.torch
HELPERS = Path(__file__).parent / "helpers"
PLUGIN = """
from torch import nn
from biasbench import Backbone, hookimpl


class Dropping(Backbone):
    name = "dropping"

    def __init__(self, *, share: float = 0.5) -> None:
        super().__init__()
        conv = nn.Sequential(nn.Conv2d(3, 8, 7, 4, 3), nn.ReLU())
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 8), nn.ReLU(), nn.Dropout(share))
        self.segments = nn.ModuleDict({"conv5": conv, "embedding": pool})
        self.channels = {"image": 3, "conv5": 8, "embedding": 8}
        self.strides = {"image": 1, "conv5": 4}


@hookimpl
def biasbench_backbones() -> list[type]:
    return [Dropping]
"""


def trained(folder, share, first, second, norm="eval"):
    plugin = folder / "dropping.py"
    plugin.write_text(PLUGIN)
    files = (str(HELPERS / "trouble.py"), str(plugin))
    settings = Settings((), folder / "results", folder / "cache")
    stages = {"stages.0.train": first, "stages.1.train": second, "stages.0.norm": norm, "stages.1.norm": norm}
    request = Request(
        ["original"], ["plain"], backbones=[f"dropping(share={share})"], profile="smoke", metrics=["accuracy"],
        overrides={"crop": 32, "short_side": 32, "select": "last", **stages},
    )  # fmt: skip
    (cell,) = make_plan([request], load_plugins(files), settings)
    store = Store(settings.results, create=True)
    assert Runner([cell], store, settings.cache, plugin_files=files).run() == Summary(ok=1)
    return load_file(store.training(cell.training_key) / "weights.safetensors")


def equal(one, other):
    return all(one[k].equal(other[k]) for k in one)


@pytest.mark.parametrize("norm", ["eval", "batch"])
def test_it_acts_in_segments_that_learn(tmp_path, norm):
    some, again, none = (
        trained(_folder(tmp_path, i), share, "embedding", "embedding", norm) for i, share in enumerate((0.5, 0.5, 0.0))
    )
    assert equal(some, again)
    assert not equal(some, none)


def test_it_does_not_act_in_frozen_segments(tmp_path):
    some, none = (trained(_folder(tmp_path, i), share, "head", "head") for i, share in enumerate((0.5, 0.0)))
    assert equal(some, none)


def _folder(folder, number):
    made = folder / str(number)
    made.mkdir()
    return made
