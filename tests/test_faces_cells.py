"""blackout-face in cells of the real harness: with a file of boxes, with the detector, and on scenes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from biasbench import DataError
from biasbench.config import Settings
from biasbench.faces import DetectedFaces
from biasbench.faces.yunet import Yunet
from biasbench.images import Loader, SplitInput
from biasbench.plan import Request, make_plan
from biasbench.planned import Cell
from biasbench.plugins import load_plugins
from biasbench.runner import Runner, Summary
from biasbench.store import Store

pytestmark = pytest.mark.torch
TINY = str(Path(__file__).parent / "helpers" / "tiny.py")
REAL = next((p / "shared/real/coco-sample" for p in Path(__file__).parents if (p / "shared/real").is_dir()), None)
FOUND = Yunet.find()
needs_extra = pytest.mark.skipif(FOUND is None, reason="the extra 'faces' is not installed")
BOTH = ["blackout-face", "blackout-face+adv-conv5(warmup=1, repeat=1, width=4)"]
RECIPE = {"crop": 24, "short_side": 30}
HEAD = "id,x0,y0,x1,y1\n"


class Place:
    """A folder with data, results and cache of its own."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.settings = Settings((root,), folder / "results", folder / "cache")
        self.plugins = load_plugins([TINY])
        self.events: list[dict[str, Any]] = []

    def plan(self, methods: Sequence[str], dataset: str, **overrides: Any) -> list[Cell]:
        request = Request(methods, [dataset], ["tiny"], profile="smoke", overrides={**RECIPE, **overrides})
        return make_plan([request], self.plugins, self.settings)

    def run(self, cells: list[Cell]) -> tuple[Summary, Store]:
        store = Store(self.settings.results, create=True)
        self.events.clear()
        runner = Runner(
            cells, store, self.settings.cache, plugin_files=[TINY], report=lambda e: self.events.append(dict(e))
        )
        return runner.run(), store

    def jobs(self) -> list[str]:
        return [e["name"].partition(" ")[0] for e in self.events if e["event"] == "job" and e["state"] == "start"]


@pytest.fixture
def place(tmp_path: Path, coco_folder: Callable[..., Path]) -> Place:
    return Place(tmp_path, coco_folder())


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without the extra."""
    monkeypatch.setattr("biasbench.faces.yunet._model", lambda: None)


def edited(cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """Test pictures before and after the method, [N, 3, H, W] in 0..1."""
    data, method = cell.data, cell.spec.method.build()
    split = SplitInput(data.tables["test"], {"face": data.region("test", "face")}, root=data.dataset.root)
    side = {"crop": RECIPE["crop"], "short_side": RECIPE["short_side"], "task": data.dataset.task}
    plain, painted = (
        Loader({"test": split}, **side),
        Loader({"test": split}, **side, edit=method.edit, edit_regions=method.regions),
    )
    rows = np.arange(len(data.tables["test"]))
    before, after = (loader.load("test", rows, augment_seed=None).images.numpy() for loader in (plain, painted))
    return before, after


def boxes(folder: Path, cell: Cell, name: str = "boxes.csv", shift: int = 0) -> str:
    """A file with one box for each third example."""
    ids = [i for table in cell.data.tables.values() for i in table["id"]][::3]
    (folder / name).write_text(HEAD + "".join(f"{i},{4 + shift},6,20,25\n" for i in ids))
    return f"coco(faces='{folder / name}')"


def test_without_boxes_and_without_the_extra_it_is_not_applicable(place: Place, bare: None) -> None:
    (cell,) = place.plan(["blackout-face"], "coco")
    assert cell.reason is not None
    assert cell.reason.startswith("n/a: needs masks:face (pip install 'biasbench[faces]'")
    assert "faces='FILE'" in cell.reason
    (cell,) = place.plan(["blackout(region='hat')"], "coco")
    assert cell.reason == "n/a: needs masks:hat"


def test_a_file_of_boxes_decides_keys_of_the_rows_that_use_it_alone(place: Place, tmp_path: Path, bare: None) -> None:
    methods = ["original", "blackout-segm", "blackout-face"]
    plain = place.plan(methods, "coco")
    named = place.plan(methods, boxes(tmp_path, plain[0]))
    assert [c.key for c in named[:2]] == [c.key for c in plain[:2]]
    assert named[2].reason is None
    assert named[2].key != plain[2].key
    assert "boxes" not in plain[2].spec.training_payload()  # rows of the past keep their keys
    same, other = (place.plan(methods, boxes(tmp_path, plain[0], f"{shift}.csv", shift)) for shift in (0, 1))
    assert same[2].key == named[2].key  # the content, wherever it lies
    assert other[2].key != named[2].key
    assert other[2].training_key != named[2].training_key


def test_a_relative_path_counts_from_the_data(place: Place, tmp_path: Path, bare: None) -> None:
    (plain,) = place.plan(["original"], "coco")
    boxes(tmp_path, plain)
    shutil.copy(tmp_path / "boxes.csv", plain.data.dataset.root / "mine.csv")
    (cell,) = place.plan(["blackout-face"], "coco(faces='mine.csv')")
    assert cell.reason is None
    with pytest.raises(DataError, match="no such file of boxes"):
        place.plan(["blackout-face"], "coco(faces='theirs.csv')")
    (plain.data.dataset.root / "mine.csv").write_text(HEAD + "34567,1,1,2,2\n")
    with pytest.raises(DataError, match="is no example of the data set"):
        place.plan(["blackout-face"], "coco(faces='mine.csv')")


def test_cells_with_a_file_of_boxes(place: Place, tmp_path: Path, bare: None) -> None:
    (plain,) = place.plan(["original"], "coco")
    cells = place.plan(["original", *BOTH], boxes(tmp_path, plain))
    summary, store = place.run(cells)
    assert summary == Summary(ok=3)
    assert "faces" not in place.jobs()
    rows = {r["method"]: r for r in store.records()}
    n = sum(map(len, plain.data.tables.values()))
    share = f"{100 * (1 - -(-n // 3) / n):.1f}%"
    for method in BOTH:
        (flag,) = (f for f in rows[method]["flags"] if f.startswith("faces="))
        assert flag.startswith("faces=boxes.csv#")
        assert flag.endswith(f", no face in {share} of images")
    assert not [f for f in rows["original"]["flags"] if "face" in f]
    before, after = edited(cells[1])
    changed, black = (before != after).any(axis=1), (after == 0).all(axis=1)
    with_box = cells[1].data.tables["test"]["id"].isin(cells[1].data.region("test", "face")["id"]).to_numpy()
    assert (changed.any(axis=(1, 2)) == with_box).all()
    assert 0 < with_box.sum() < len(with_box)
    # The centre crop of 24 from a picture of 40x30 starts at (8, 3); the box is 4 to 20 by 6 to 25.
    expected = np.zeros((24, 24), bool)
    expected[3:22, :12] = True
    assert (black[with_box] == expected).all()


@needs_extra
def test_cells_with_the_detector_where_there_is_no_face(place: Place) -> None:
    cells = place.plan(["original", *BOTH], "coco")
    assert cells[1].reason is None
    assert [f for f in cells[1].flags if f.startswith("faces")] == ["faces=yunet"]
    with pytest.raises(DataError, match="faces were not looked for in these images yet"):
        cells[1].data.region("test", "face")
    summary, store = place.run(cells)
    assert summary == Summary(ok=3)
    assert place.jobs().count("faces") == 1
    rows = {r["method"]: r for r in store.records()}
    assert "faces=yunet, no face in 100.0% of images" in rows[BOTH[1]]["flags"]  # the pictures are noise
    runs = [store.run(rows[m]["key"]) / "predictions" / "test" / "score-label.npy" for m in ("original", BOTH[0])]
    assert rows["original"]["key"] != rows[BOTH[0]]["key"]
    assert all(np.isfinite(np.load(run)).all() for run in runs)

    again, _ = place.run(place.plan(["blackout-face", "blur(region='face')"], "coco"))  # found once an image set
    assert again == Summary(ok=2, cached=1)
    assert "faces" not in place.jobs()


@needs_extra
@pytest.mark.skipif(REAL is None, reason="no real COCO pictures here")
def test_the_detector_on_real_pictures(tmp_path: Path) -> None:
    assert REAL is not None
    place = Place(tmp_path, REAL)
    cells = place.plan(["blackout-face"], "coco", limit=24)
    summary, store = place.run(cells)
    assert summary == Summary(ok=1)
    assert {e["name"] for e in place.events if e["event"] == "progress"} >= {"faces train", "faces val", "faces test"}
    faces = cells[0].data.faces
    assert isinstance(faces, DetectedFaces)
    assert faces.found
    seen = {s: set(cells[0].data.region(s, "face")["id"]) for s in ("train", "val", "test")}
    rows = cells[0].data.tables
    assert all(seen[s] and seen[s] < set(rows[s]["id"]) for s in ("train", "val", "test"))
    missed = 1 - sum(map(len, seen.values())) / sum(map(len, rows.values()))
    (record,) = store.records()
    assert f"faces=yunet, no face in {100 * missed:.1f}% of images" in record["flags"]
    before, after = edited(cells[0])
    assert ((before != after).any(axis=(1, 2, 3)) <= rows["test"]["id"].isin(seen["test"])).all()
    assert (after < before).any()
    assert (after <= before).all()  # painted at their own size, then made smaller: dark, and black within


def test_scenes_have_boxes_of_their_own(tmp_path: Path, bare: None) -> None:
    place = Place(tmp_path, tmp_path)
    scenes = "scenes(train=60, val=20, test=24, size=48)"
    cells = place.plan(BOTH, scenes)
    assert [c.reason for c in cells] == [None, None]
    assert cells[0].data.faces is None
    assert cells[0].spec.boxes == ""
    summary, _ = place.run(cells)
    assert summary == Summary(ok=2)
    before, after = edited(cells[0])
    assert (before != after).any(axis=(1, 2, 3)).mean() > 0.8  # a crop may leave the face out


def test_a_named_file_wins_over_a_data_sets_own_boxes(
    tmp_path: Path, coco_folder: Callable[..., Path], bare: None
) -> None:
    def annotate(files: Any) -> None:
        for part, first in (("train", 10), ("val", 50)):
            faces = [{"image_id": first, "bbox": [1, 2, 3, 4]}]
            files.texts[f"region_face_{part}2014.json"] = json.dumps(faces)

    place = Place(tmp_path, coco_folder(annotate))
    (own,) = place.plan(["blackout-face"], "coco")
    assert own.reason is None
    assert own.data.region("train", "face")["id"].tolist() == ["10"]
    (named,) = place.plan(["blackout-face"], boxes(tmp_path, own))
    assert named.key != own.key
    frame = pd.concat([named.data.region(s, "face") for s in named.data.tables])
    assert (frame[["x0", "y0", "x1", "y1"]].to_numpy() == [4, 6, 20, 25]).all()
