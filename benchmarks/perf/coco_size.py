"""Time and memory of the first and of later reads of annotations of COCO 2014's size.

Run `python benchmarks/perf/coco_size.py FOLDER`: it writes made-up annotations (about 600 MB)
into FOLDER unless they are there, reads them in fresh processes, and prints seconds, peak
memory, and both as multiples of the standard library's `json.load` of the largest file alone.
pycocotools' constructor reads that file alone too; ours reads train, val and captions.
Use --images 1000 for a quick look.

Wanted: a warm read 50 times faster than pycocotools' constructor; a cold one in 2 GB and 1.5 times `json.load`'s time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import median

import numpy as np

CATEGORIES = ["person", *(f"object {k:02d}" for k in range(1, 80))]
PER_IMAGE = 604_907 / 82_783  # annotations, as in train2014
NOUNS = ["A man", "A woman", "A person", "Two people", "A boy", "Some men"]
PLACES = ["a bench by the sea", "an old wooden table", "a crowded street corner", "the tennis court"]


def write_part(folder: Path, part: str, images: int, first: int) -> None:
    rng = np.random.default_rng(first)
    sizes = rng.choice([(480, 640), (640, 480), (427, 640), (500, 375)], images)
    records = [
        {"license": 1, "file_name": f"COCO_{part}2014_{first + i:012d}.jpg", "height": int(h), "width": int(w),
         "coco_url": f"http://example.org/{part}2014/{first + i:012d}.jpg", "date_captured": "2013-11-14 17:02:52",
         "flickr_url": "http://example.org/8021/7527967408_d47dd1d8b8_z.jpg", "id": first + i}
        for i, (h, w) in enumerate(sizes)
    ]  # fmt: skip
    with open(folder / f"instances_{part}2014.json", "w") as file:
        file.write(f'{{"info": {{}}, "images": {json.dumps(records)}, "licenses": [], "annotations": [')
        number = 0
        for i, (h, w) in enumerate(sizes):
            for _ in range(rng.poisson(PER_IMAGE)):
                number += 1
                file.write((", " if number > 1 else "") + annotation(rng, number, first + i, int(h), int(w)))
        categories = [{"supercategory": "thing", "id": k + 1, "name": n} for k, n in enumerate(CATEGORIES)]
        file.write(f'], "categories": {json.dumps(categories)}}}')
    captions = [
        {"image_id": first + i, "id": 5 * (first + i) + k, "caption": f"{NOUNS[n]} next to {PLACES[p]}, number {k}."}
        for i, (n, p) in enumerate(zip(rng.integers(0, len(NOUNS), images), rng.integers(0, 4, images), strict=True))
        for k in range(5)
    ]
    (folder / f"captions_{part}2014.json").write_text(json.dumps({"images": [], "annotations": captions}))


def annotation(rng: np.random.Generator, number: int, image: int, h: int, w: int) -> str:
    """A bumpy outline of 6 to 60 points, or for about one in a hundred the run lengths of a crowd."""
    category = 1 if rng.random() < 0.3 else int(rng.integers(2, 81))
    radius = rng.uniform(8, 90)
    x, y = rng.uniform(radius, w - radius), rng.uniform(radius, h - radius)
    if rng.random() < 0.012:
        cuts = np.sort(rng.choice(h * w, 300, replace=False))
        counts = np.diff(np.concatenate([[0], cuts, [h * w]])).tolist()
        segment, crowd = json.dumps({"counts": counts, "size": [h, w]}), 1
    else:
        points = int(rng.integers(6, 60))
        angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
        r = radius * rng.uniform(0.6, 1, points)
        outline = np.stack([x + r * np.cos(angle), y + r * np.sin(angle)], 1).ravel().round(2).tolist()
        segment, crowd = json.dumps([outline]), 0
    box = [round(v, 2) for v in (x - radius, y - radius, 2 * radius, 2 * radius)]
    return (
        f'{{"segmentation": {segment}, "area": {radius**2:.4f}, "iscrowd": {crowd}, "image_id": {image}, '
        f'"bbox": {box}, "category_id": {category}, "id": {number}}}'
    )


def measure(what: Callable[[Path], object], folder: Path) -> None:
    for module in ("biasbench.builtin.datasets.coco", "pyarrow.dataset", "pyarrow.pandas_compat", "pycocotools.coco"):
        import_module(module)  # imports are on no side's clock
    start, had = time.perf_counter(), time.process_time()
    kept = what(folder)
    seconds, cpu = time.perf_counter() - start, time.process_time() - had
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    del kept
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_gib": peak}))


def read(folder: Path) -> object:
    from biasbench.builtin.datasets.coco import Coco

    data = Coco(folder, folder / "cache")
    return data, data.table("train"), data.table("val"), data.table("test")


def regions(folder: Path) -> object:
    from biasbench.builtin.datasets.coco import Coco

    return Coco(folder, folder / "cache").region("train", "person")


def fingerprint(folder: Path) -> object:
    from biasbench.builtin.datasets.coco import Coco

    return Coco(folder, folder / "cache").fingerprint()


def plain_json(folder: Path) -> object:
    with open(folder / "annotations" / "instances_train2014.json") as file:
        return json.load(file)


def pycocotools(folder: Path) -> object:
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(None):  # it says what it does
        return COCO(folder / "annotations" / "instances_train2014.json")


STEPS = {
    "json.load": plain_json, "pycocotools": pycocotools, "cold": read, "warm": read, "fingerprint": fingerprint,
    "masks": regions,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=82_783)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--step", choices=STEPS, help="measure one step in this process")
    given = parser.parse_args()
    if given.step:
        return measure(STEPS[given.step], given.folder)
    annotations = given.folder / "annotations"
    if not (annotations / "captions_val2014.json").exists():
        annotations.mkdir(parents=True, exist_ok=True)
        write_part(annotations, "train", given.images, 1)
        write_part(annotations, "val", given.images * 40_504 // 82_783, 1_000_000)
    total = sum(f.stat().st_size for f in annotations.iterdir()) / 2**20
    print(f"{given.images} training images; {total:.0f} MiB of JSON in all")
    found: dict[str, list[dict[str, float]]] = {step: [] for step in STEPS}
    for turn in range(given.turns):
        for step in STEPS if turn == 0 else ("json.load", "pycocotools", "cold", "warm"):
            if step == "cold":
                shutil.rmtree(given.folder / "cache", ignore_errors=True)
            command = [sys.executable, __file__, str(given.folder), "--step", step]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[step].append(json.loads(done.stdout))
    typical = {s: {k: median(one[k] for one in ones) for k in ones[0]} for s, ones in found.items()}
    base = typical["json.load"]
    for step, done in typical.items():
        ratios = ", ".join(f"{done[k] / base[k]:.2f} x json.load" for k in ("seconds", "peak_gib"))
        times = f"{done['seconds']:8.2f} s {done['cpu']:8.2f} s of CPU"
        print(f"{step:12} {times} {done['peak_gib']:6.2f} GiB   ({ratios})")
    for name, slow, fast in (("ratio", "pycocotools", "warm"), ("ratio cold", "cold", "json.load")):
        pairs = list(zip(found[slow], found[fast], strict=True))
        wall, cpu = (median(a[k] / b[k] for a, b in pairs) for k in ("seconds", "cpu"))
        print(f"{name}: {wall:.3g} (of CPU seconds {cpu:.3g}; {slow} over {fast})")
    return None


if __name__ == "__main__":
    main()
