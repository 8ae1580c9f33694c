"""A plugin that is changed between two runs: nothing that its old code made is used again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from biasbench.plugins import load_plugins
from biasbench.runner import Runner

pytestmark = pytest.mark.torch
EDIT = """
from biasbench import Method, hookimpl


class Darker(Method):
    name = "darker"

    def edit(self, image, masks, scale):
        return image // 2


@hookimpl
def biasbench_methods():
    return [Darker]
"""


def test_cached_activations_are_of_the_code_that_is_there(zoo: Any, tmp_path: Path) -> None:
    backbone, method = tmp_path / "grown.py", tmp_path / "darker.py"
    tiny = (Path(__file__).parent.parent / "helpers" / "tiny.py").read_text().replace('"tiny"', '"grown"')
    found = []
    for network, edit in ((tiny, EDIT), (tiny.replace("nn.ReLU()", "nn.ELU()"), EDIT), (tiny, EDIT.replace("2", "3"))):
        backbone.write_text(network)
        method.write_text(edit)
        world = type(zoo)(zoo.settings, load_plugins([backbone, method]))
        assert world.run("darker", backbones=["grown"]).failed == 0
        (cell,) = world.plan("darker", backbones=["grown"])
        manifest = world.store.verify(world.store.run(cell.key))
        found.append(manifest["files"]["predictions/test/score-label.npy"])
    assert len(set(found)) == 3


def test_code_that_was_edited_after_the_plan_makes_no_result_under_the_old_key(zoo: Any, tmp_path: Path) -> None:
    method = tmp_path / "darker.py"
    method.write_text(EDIT)
    world = type(zoo)(zoo.settings, load_plugins([*zoo.plugins.files[:1], method]))
    (cell,) = world.plan("darker")
    method.write_text(EDIT.replace("// 2", "// 16"))
    runner = Runner([cell], world.store, world.settings.cache, plugin_files=world.plugins.files)
    assert runner.run().failed == 1
    assert not world.store.has_training(cell.training_key)
    assert "its code has changed since the run was planned (now darker.py " in world.store.unscored(cell.key)["reason"]
    assert world.run("darker").ok == 1  # planned anew: another key
    assert not world.store.has_run(cell.key)
