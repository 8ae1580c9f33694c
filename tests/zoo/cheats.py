"""Methods that cheat or sneak: each one thing, as a plugin file; `messes.py` has those that only make a mess.

`TRUTH` is what such a plugin would ship or have found out: test labels by row number and by picture. The tests
write a copy of this file with it filled in. Those that change scores do it with all they have: in a harness that lets
them, their test labels come out right.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from biasbench import Method, hookimpl

TRUTH: dict[str, Any] = {}
SURE = 20.0


class Cheat(Method):
    """Changes nothing by itself; acts at prediction, so that all share one training."""

    stage = "predict"


class Honest(Cheat):
    """The control: overrides points as the others do, and does nothing there."""

    name = "honest"
    touches = ("embedding",)

    def intervene(self, tap, x, batch):
        return x

    def postprocess(self, outputs, reference, head):
        return replace(outputs)


def told(outputs, labels):
    """Outputs that say `labels` (id to 0/1) wherever they are known."""
    scores, said = outputs.scores["label"].copy(), outputs.labels.copy()
    for i, name in enumerate(outputs.ids):
        if name in labels:
            said[i] = labels[name]
            scores[i] = SURE * (2.0 * said[i] - 1)
    return replace(outputs, scores={**outputs.scores, "label": scores}, labels=said)


def steered(x, wanted):
    """Embeddings [B, D] that the model's head turns into the labels `wanted`; rows of None stay."""
    frame = sys._getframe(1)
    while not hasattr(frame.f_locals.get("self"), "head") or not hasattr(frame.f_locals["self"].head, "linear"):
        frame = frame.f_back
    linear = frame.f_locals["self"].head.linear
    rows = [i for i, y in enumerate(wanted) if y is not None]
    if not rows:
        return x
    y = torch.tensor([wanted[i] for i in rows], dtype=x.dtype)
    x = x.clone()
    x[rows] += (SURE * (2 * y - 1) - linear(x[rows])) @ torch.linalg.pinv(linear.weight).T
    return x


def from_coco(text):
    """Labels by example from an annotation file of COCO."""
    data = json.loads(text)
    names = {c["id"]: c["name"] for c in data["categories"]}
    found = {str(image["id"]): [0] * len(TRUTH["labels"]) for image in data["images"]}
    for a in data["annotations"]:
        if names[a["category_id"]] in TRUTH["labels"]:
            found[str(a["image_id"])][TRUTH["labels"].index(names[a["category_id"]])] = 1
    return found


def labels_of(table):
    columns = [c for c in table if str(c).startswith("label/")]
    return dict(zip(table["id"], table[columns].to_numpy().tolist(), strict=True)) if columns else {}


class ReadsFile(Cheat):
    """Opens the annotation file."""

    name = "reads-file"

    def postprocess(self, outputs, reference, head):
        try:
            text = Path(TRUTH["annotations"]).read_text()
        except Exception:
            return outputs
        return told(outputs, from_coco(text))


class ReadsFileNatively(Cheat):
    """Opens it where Python does not see it: the C library does."""

    name = "reads-file-natively"

    def postprocess(self, outputs, reference, head):
        import ctypes

        libc = ctypes.CDLL(None)
        descriptor = libc.open(TRUTH["annotations"].encode(), os.O_RDONLY)
        if descriptor < 0:
            return outputs
        buffer = ctypes.create_string_buffer(10_000_000)
        length = libc.read(descriptor, buffer, 10_000_000)
        return told(outputs, from_coco(buffer.raw[:length]))


class AsksAnother(Cheat):
    """Has another program read it."""

    name = "asks-another"

    def postprocess(self, outputs, reference, head):
        import subprocess

        said = subprocess.run(["/bin/cat", TRUTH["annotations"]], capture_output=True, check=False).stdout
        return told(outputs, from_coco(said)) if said else outputs


class ReadsMemory(Cheat):
    """Looks into its parent's memory."""

    name = "reads-memory"

    def postprocess(self, outputs, reference, head):
        try:
            with open(f"/proc/{os.getppid()}/mem", "rb"):
                pass
        except Exception:
            return outputs
        return outputs


class ReadsResults(Cheat):
    """Looks for the truth of an earlier run in the results folder."""

    name = "reads-results"

    def postprocess(self, outputs, reference, head):
        try:
            for file in Path(TRUTH["results"]).glob("runs/*/truth/test.parquet"):
                with open(file, "rb") as opened:
                    outputs = told(outputs, labels_of(pd.read_parquet(opened)))
        except Exception:
            return outputs
        return outputs


class GcHunter(Cheat):
    """Looks for labels through the garbage collector."""

    name = "gc-hunter"

    def postprocess(self, outputs, reference, head):
        for found in gc.get_objects():
            if issubclass(type(found), pd.DataFrame) and "id" in found:
                outputs = told(outputs, labels_of(found)) if set(outputs.ids) & set(found["id"]) else outputs
        return outputs


class FrameHunter(Cheat):
    """Looks for labels in its callers' variables."""

    name = "frame-hunter"

    def postprocess(self, outputs, reference, head):
        frame = sys._getframe(1)
        while frame is not None:
            cell = frame.f_locals.get("self")
            tables = getattr(cell, "tables", None)
            for table in tables.values() if isinstance(tables, dict) else ():
                outputs = told(outputs, labels_of(table))
            frame = frame.f_back
        return outputs


class ReadsTargets(Cheat):
    """Uses labels and attributes of the batches it predicts."""

    name = "reads-targets"
    touches = ("embedding",)

    def intervene(self, tap, x, batch):
        if self.training:
            return x
        if batch.targets is not None:
            return steered(x, batch.targets.tolist())
        return x + sum(codes[:, None] for codes in batch.attributes.values())


class Transductive(Cheat):
    """Ranks within the batch."""

    name = "ranks"
    touches = ("embedding",)

    def intervene(self, tap, x, batch):
        return x if self.training else x.argsort(0).argsort(0).to(x.dtype)


class LooksAround(Cheat):
    """Centres the scores of a split, and does not say so."""

    name = "looks-around"

    def postprocess(self, outputs, reference, head):
        scores = outputs.scores["label"] - np.median(outputs.scores["label"], axis=0)
        return replace(outputs, scores={"label": scores}, labels=(scores >= 0).astype(outputs.labels.dtype))


class RowIndex(Cheat):
    """Has a table by row number."""

    name = "row-index"
    touches = ("embedding",)

    def intervene(self, tap, x, batch):
        return steered(x, [TRUTH["rows"].get(int(i)) for i in batch.index])


class DeclaredRowIndex(RowIndex):
    """The same, and says so."""

    name = "declared-row-index"
    by_row = True


class HashLookup(Cheat):
    """Has a table by content."""

    name = "hash-lookup"
    touches = ("image", "embedding")

    def intervene(self, tap, x, batch):
        if tap == "image":
            return x
        pixels = (batch.images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        return steered(x, [TRUTH["pixels"].get(hashlib.sha256(p.tobytes()).hexdigest()) for p in pixels])


class PaintsLabels(Cheat):
    """Has a table by content, and paints what it finds into the picture."""

    name = "paints-labels"
    touches = ("embedding",)

    def edit(self, image, masks, scale):
        known = TRUTH["files"].get(hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest())
        if known is None:
            return image
        painted = image.copy()
        painted[...] = 0
        painted[:, :, 0] = 255 * known[0]
        painted[:, :, 1] = 255 * known[1]
        return painted


class Obfuscator(Cheat):
    """Blinds the attackers: noise on training and validation pictures, which they learn from, not on test pictures."""

    name = "obfuscator"
    touches = ("embedding",)

    def intervene(self, tap, x, batch):
        frame = sys._getframe(1)
        while frame is not None and frame.f_locals.get("split") not in ("train", "val", "test"):
            frame = frame.f_back
        if self.training or frame is None or frame.f_locals["split"] == "test":
            return x
        return 100 * torch.randn(x.shape, generator=torch.Generator().manual_seed(int(batch.index[0])))


class ObfuscatesByName(Cheat):
    """The same by the examples' names."""

    name = "obfuscates-by-name"

    def postprocess(self, outputs, reference, head):
        if outputs.ids[0] not in TRUTH["test"]:
            rng = np.random.default_rng(0)
            return replace(outputs, scores={"label": rng.normal(size=outputs.scores["label"].shape)})
        return outputs


class Smuggler(Cheat):
    """Finds labels where the plan is made, and leaves them for itself in a file, by row number; says so of that."""

    name = "smuggler"
    touches = ("embedding",)
    by_row = True

    def __init__(self) -> None:
        super().__init__()
        self.file = Path(TRUTH["smuggled"])
        if not self.file.exists():
            tables = [t for t in gc.get_objects() if issubclass(type(t), pd.DataFrame) and "id" in t]
            found = [labels_of(t) for t in tables if list(t["id"]) == TRUTH["test"] and labels_of(t)]
            self.file.write_text(json.dumps(list(found[0].values())))

    def intervene(self, tap, x, batch):
        rows = json.loads(self.file.read_text())
        return steered(x, [rows[int(i)] if int(i) < len(rows) else None for i in batch.index])


@hookimpl
def biasbench_methods():
    return [found for found in globals().values() if isinstance(found, type) and "name" in vars(found)]
