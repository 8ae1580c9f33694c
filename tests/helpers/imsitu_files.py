"""Tiny folders in the true imSitu and SWiG formats, and prepared lists, for tests to read and to break."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

PARTS = ("train", "dev", "test")
MAN, WOMAN, GIRL, FIREMAN, STUNT, DOG = (f"n{k:08}" for k in range(1, 7))
GLOSSES = {
    MAN: ["man", "adult male"],
    WOMAN: ["woman", "adult female"],
    GIRL: ["girl", "miss", "young woman"],
    FIREMAN: ["fireman", "Isle of Man"],
    STUNT: ["double", "stunt man", "stunt woman"],
    DOG: ["dog"],
}
ROLES = {  # flossing and raining are no labels of the paper; raining has no agent
    "jumping": ("agent", "place"),
    "rowing": ("agent", "place"),
    "cooking": ("agent", "food", "place"),
    "flossing": ("agent",),
    "raining": ("place",),
}
DRAWN = (60, 80)  # width and height that boxes are drawn on
NO_BOX = [-1, -1, -1, -1]


@dataclass
class ImsituFiles:
    """The content of a folder: change it as you like, then `write` it."""

    parts: dict[str, dict[str, Any]] = field(default_factory=lambda: {part: {} for part in PARTS})
    space: dict[str, Any] = field(
        default_factory=lambda: {
            "nouns": {noun: {"gloss": list(gloss), "def": ""} for noun, gloss in GLOSSES.items()},
            "verbs": {
                verb: {"framenet": "", "abstract": "", "def": "", "order": list(roles),
                       "roles": {role: {"framenet": role, "def": ""} for role in roles}}
                for verb, roles in ROLES.items()
            },
        }
    )  # fmt: skip

    def image(self, part: str, name: str, agents: tuple[str, ...] = (), box: list[float] | None = None) -> None:
        """Add an image whose verb is in its name; one frame for each agent, or three without."""
        verb = name.partition("_")[0]
        frames = [dict.fromkeys(ROLES[verb], "") for _ in agents or range(3)]
        for frame, agent in zip(frames, agents, strict=False):
            frame["agent"] = agent
        self.parts[part][name] = {"verb": verb, "frames": frames}
        if box is not None:
            boxes = {role: box if role == "agent" else NO_BOX for role in ROLES[verb]}
            self.parts[part][name] |= {"bb": boxes, "width": DRAWN[0], "height": DRAWN[1]}

    def write(self, folder: Path, size: tuple[int, int] | None = (30, 30), boxes: bool = True) -> Path:
        """Write the JSON files to `folder`, and images of a size (width, height) beside it; returns `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        for part, records in self.parts.items():
            if not boxes:
                records = {n: {"verb": r["verb"], "frames": r["frames"]} for n, r in records.items()}
            (folder / f"{part}.json").write_text(json.dumps(records))
        (folder / "imsitu_space.json").write_text(json.dumps(self.space))
        root = folder.parent if folder.name == "SWiG_jsons" else folder
        if size is not None:
            draw_images(root / "of500_images_resized", [n for records in self.parts.values() for n in records], size)
        return folder


def draw_images(folder: Path, names: list[str], size: tuple[int, int]) -> None:
    """Random pictures of a size (width, height)."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name in names:
        pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)


def small_imsitu() -> ImsituFiles:
    """In each part six images with rows, and one or more for each reason to be dropped.

    Numbers are those of the part (train 0, dev 100, test 200) and up.
    """
    files = ImsituFiles()
    for part, first in zip(PARTS, (0, 100, 200), strict=True):

        def add(verb: str, number: int, *agents: str, box: list[float] | None = None) -> None:
            files.image(part, f"{verb}_{first + number}.jpg", agents, box or NO_BOX)  # noqa: B023

        add("jumping", 0, MAN, MAN, MAN, box=[12, 16, 36, 40])
        add("jumping", 1, WOMAN, WOMAN, WOMAN, box=[-6, 8, 66, 88])  # over three edges
        add("rowing", 2, DOG, MAN, "")  # one frame is enough
        add("rowing", 3, "", FIREMAN, GIRL, box=[30, 40, 30, 60])  # a young woman; her box is empty
        add("cooking", 4, GIRL, WOMAN, WOMAN)
        add("cooking", 5, MAN, MAN, FIREMAN)
        add("cooking", 6, MAN, WOMAN, MAN)  # both
        add("cooking", 7, STUNT, "", "")  # both in one word
        add("cooking", 8, FIREMAN, DOG, "")  # no gender
        add("jumping", 9)  # no agent
        add("flossing", 10, MAN, MAN, MAN)  # no label of the paper
        add("raining", 11)
    return files


LABELS = ["rowing", "jumping", "cooking"]
LISTS = {
    "train": [("rowing_0.jpg", "rowing", 0), ("jumping_1.jpg", "jumping", 1), ("jumping_2.jpg", "jumping", 0)],
    "val": [("cooking_3.jpg", "cooking", 1), ("rowing_4.jpg", "rowing", 0)],
    "test": [("jumping_5.jpg", "jumping", 1), ("cooking_6.jpg", "cooking", 0)],
}


def write_lists(
    folder: Path,
    kind: str = "csv",
    *,
    names: bool = True,
    labels: bool = True,
    prefix: str = "",
    val: str = "val",
    lists: Any = LISTS,
) -> Path:
    """Write prepared lists of a kind, with names or codes, with or without a file of names; returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in lists.items():
        frame = pd.DataFrame(rows, columns=["image", "verb", "gender"])
        if names:
            frame["gender"] = frame["gender"].map({0: "man", 1: "woman"})
        else:
            frame["verb"] = frame["verb"].map(LABELS.index)
        path = folder / f"{prefix}{val if split == 'val' else split}.{kind}"
        if kind == "csv":
            frame.to_csv(path, index=False)
        elif kind == "parquet":
            frame.set_index("image").to_parquet(path)
        else:
            np.savez(path, **{c: np.array(frame[c].tolist()) for c in frame}, extra=np.array([object()]))
    if labels:
        (folder / "labels.json").write_text(json.dumps(LABELS))
    return folder
