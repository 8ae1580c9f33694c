"""Every method on every data set: a result, or a row that says why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from runpy import run_path

import pytest

from biasbench.config import Settings
from biasbench.plan import Request, make_plan
from biasbench.plugins import load_plugins
from biasbench.runner import Runner
from biasbench.store import Store

pytestmark = pytest.mark.torch
HELPERS = Path(__file__).parents[1] / "helpers"
TINY = str(HELPERS / "tiny.py")
SCENES = "scenes(train=60, val=24, test=24, size=32)"
FACES = "faces(train=60, val=24, test=24, size=32)"
FACE_SETS = ("imdb", "wiki", "laofiw", "fairface", "aflw", "utkface", FACES)
DATASETS = ("coco", "imsitu", SCENES, *FACE_SETS)
METHODS = (
    "original", "blackout-face", "blackout-segm", "blackout-box", "blur-segm", "gray-segm", "edges-segm",
    "adv-image(channels=2, warmup=1, mask_steps=1, repeat=1)", "adv-conv4(width=4, warmup=1, repeat=1)",
    "adv-conv5(width=4, warmup=1, repeat=1)", "alpha-2", "balance", "noise", "crf", "crf+rba", "jlu(warmup=1, steps=1)",
)  # fmt: skip
RUN = ("jlu(warmup=1, steps=1)", "balance", "alpha-3+adv-conv5(width=4, warmup=1, repeat=1)+noise")
SMALL = {"crop": 32, "short_side": 32, "stages.0.max_steps": 1, "stages.1.max_steps": 1}
REQUIRES = {"blackout-box": "person-box-union", "blackout-face": "face"}  # else the person's segments


@pytest.fixture
def settings(coco_folder: Callable[..., Path], tmp_path: Path) -> Settings:
    """A data root with every data set as it is released, a few pictures each."""
    faces, aflw = (run_path(str(HELPERS / f"{name}_files.py")) for name in ("face", "aflw"))
    coco_folder()
    run_path(str(HELPERS / "imsitu_files.py"))["small_imsitu"]().write(tmp_path / "imsitu" / "SWiG_jsons")
    for name in ("imdb", "wiki"):
        faces["small_imdb"](name).write(tmp_path / name, images=True)
    faces["write_utkface"](tmp_path / "utkface")
    faces["write_fairface"](tmp_path / "fairface", images=True)
    faces["write_laofiw"](tmp_path / "laofiw")
    aflw["small_aflw"]().write(tmp_path / "aflw")
    return Settings((tmp_path,), tmp_path / "results", tmp_path / "cache")


def test_each_cell_plans_or_says_why_not(settings: Settings) -> None:
    request = Request(METHODS, DATASETS, backbones=["tiny"], profile="smoke", overrides=SMALL)
    cells = make_plan([request], load_plugins((TINY,)), settings)
    assert len(cells) == len(METHODS) * len(DATASETS)
    for cell in cells:
        method, data = cell.spec.method.typed, cell.data
        region = REQUIRES.get(method, "person" if method.endswith("-segm") else "")
        if cell.reason is None:
            assert not region or f"masks:{region}" in data.provides
        else:
            assert cell.reason.startswith(f"n/a: needs masks:{region}"), (method, data.typed, cell.reason)
            assert region


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda d: d.partition("(")[0])
def test_methods_run_on_every_data_set(settings: Settings, dataset: str) -> None:
    request = Request(
        RUN if dataset in FACE_SETS else RUN[:1], [dataset], backbones=["tiny"], profile="smoke", overrides=SMALL,
        metrics=["accuracy"],
    )  # fmt: skip
    cells = make_plan([request], load_plugins((TINY,)), settings)
    store = Store(settings.results, create=True)
    Runner(cells, store, settings.cache, plugin_files=(TINY,)).run()
    found = {record["method"]: (record["status"], record["reason"]) for record in store.records()}
    assert found == dict.fromkeys((c.spec.method.typed for c in cells), ("ok", None))
