"""Tiny folders in the true COCO format, for tests to read and to break."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

CATEGORIES = [
    {"supercategory": "person", "id": 1, "name": "person"},
    {"supercategory": "kitchen", "id": 44, "name": "bottle"},
    {"supercategory": "animal", "id": 18, "name": "dog"},
    {"supercategory": "sports", "id": 37, "name": "sports ball"},
]
PERSON, BOTTLE, DOG, BALL = 1, 44, 18, 37
HEIGHT, WIDTH = 30, 40


def rectangle(x: float, y: float, w: float, h: float) -> list[list[float]]:
    """A box as one polygon."""
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def plain_rle(mask: np.ndarray) -> dict[str, Any]:
    """Uncompressed run lengths, as released for crowds."""
    flat = np.concatenate([[0], mask.ravel(order="F"), [2]])
    counts = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat[1:-1])) + 1, [mask.size]])).tolist()
    return {"counts": ([0] if mask.flat[0] else []) + counts, "size": list(mask.shape)}


def packed_rle(mask: np.ndarray) -> dict[str, Any]:
    """Compressed run lengths, as many tools write them."""
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"counts": rle["counts"].decode(), "size": list(mask.shape)}


@dataclass
class CocoFiles:
    """The content of a folder: change it as you like, then `write` it."""

    year: str = "2014"
    instances: dict[str, dict[str, Any]] = field(default_factory=dict)
    captions: dict[str, dict[str, Any]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)  # further files under annotations/

    def __post_init__(self) -> None:
        for part in ("train", "val"):
            self.instances[part] = {
                "info": {},
                "images": [],
                "annotations": [],
                "categories": [dict(c) for c in CATEGORIES],
            }
            self.captions[part] = {"info": {}, "images": [], "annotations": []}

    def image(self, part: str, number: int, objects: list[tuple[int, Any]], captions: list[str]) -> dict[str, Any]:
        """Add an image with (category, segmentation) objects and captions; a crowd is given by its run lengths."""
        data, texts = self.instances[part], self.captions[part]
        name = f"COCO_{part}{self.year}_{number:012d}.jpg" if self.year == "2014" else f"{number:012d}.jpg"
        record = {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH, "license": 1}
        data["images"].append(record)
        for category, segment in objects:
            crowd = isinstance(segment, dict)
            data["annotations"].append(
                {
                    "id": number * 100 + len(data["annotations"]),
                    "image_id": number,
                    "category_id": category,
                    "bbox": list(map(float, coco_mask.toBbox(self._rle(segment)))),
                    "area": 1.0,
                    "iscrowd": int(crowd),
                    "segmentation": segment,
                }
            )
        for text in captions:
            texts["annotations"].append(
                {"id": number * 100 + len(texts["annotations"]), "image_id": number, "caption": text}
            )
        return record

    @staticmethod
    def _rle(segment: Any) -> Any:
        if isinstance(segment, dict) and isinstance(segment["counts"], str):
            return segment
        rle = coco_mask.frPyObjects(segment, HEIGHT, WIDTH)
        return coco_mask.merge(rle) if isinstance(rle, list) else rle

    def write(self, folder: Path, images: bool = True) -> Path:
        """Write everything below `folder`; returns it."""
        annotations = folder / "annotations"
        annotations.mkdir(parents=True, exist_ok=True)
        for part in ("train", "val"):
            (annotations / f"instances_{part}{self.year}.json").write_text(json.dumps(self.instances[part]))
            (annotations / f"captions_{part}{self.year}.json").write_text(json.dumps(self.captions[part]))
        for name, text in self.texts.items():
            (annotations / name).write_text(text)
        rng = np.random.default_rng(0)
        for part in ("train", "val") if images else ():
            (folder / f"{part}{self.year}").mkdir(exist_ok=True)
            for record in self.instances[part]["images"]:
                pixels = rng.integers(0, 256, (record["height"], record["width"], 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{part}{self.year}" / record["file_name"])
        return folder


def small_coco(year: str = "2014") -> CocoFiles:
    """16 images with rows (8 train, 8 val), and one image for each reason to be dropped.

    Even ids show men, odd ids women; id % 3 == 0 has a dog too; everyone has a bottle.
    """
    files = CocoFiles(year)
    crowd = np.zeros((HEIGHT, WIDTH), bool)
    crowd[:4, -6:] = True
    for part, first in (("train", 10), ("val", 50)):
        for number in range(first, first + 8):
            woman = number % 2
            objects: list[tuple[int, Any]] = [
                (PERSON, rectangle(2, 3, 10, 20)),
                (BOTTLE, rectangle(20, 3, 5, 9)),
            ]
            if number % 3 == 0:
                objects.append((DOG, rectangle(25, 20, 9, 8)))
            if number % 4 == 0:
                objects.append((PERSON, plain_rle(crowd)))
            if number % 4 == 1:
                objects.append((PERSON, packed_rle(crowd)))
            who = "woman" if woman else "man"
            files.image(part, number, objects, [f"A {who} with a bottle.", "Someone stands there.", f"The {who}'s dog"])
        person, ball = (PERSON, rectangle(1, 1, 9, 9)), (BALL, rectangle(20, 20, 5, 5))
        files.image(part, first + 20, [ball], ["A man is not annotated."])  # no people
        files.image(part, first + 21, [person, ball], [])  # no caption
        files.image(part, first + 22, [person, ball], ["A human salesman near a manhole."])  # no gender word
        files.image(part, first + 23, [person, ball], ["A man.", "A woman."])  # both genders
        files.image(part, first + 24, [person], ["A man."])  # no other object
    return files
