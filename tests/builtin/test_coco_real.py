"""The reader against real COCO records, where they are at hand, and against code that is not ours."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from biasbench import SPLITS, targets
from biasbench.builtin.datasets.captions import shipped_lists
from biasbench.builtin.datasets.coco import Coco

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "real"
pytestmark = [
    pytest.mark.skipif(not (REAL / "coco-sample").is_dir(), reason="the sample of real COCO records is not here"),
    # pycocotools 2.0.11 decodes into an array type that numpy 2 finds old-fashioned
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return Coco(REAL / "coco-sample", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def official():
    """COCO's own reader, one for each part."""
    with contextlib.redirect_stdout(io.StringIO()):
        folder = REAL / "coco-sample" / "annotations"
        return {
            part: (COCO(folder / f"instances_{part}2017.json"), COCO(folder / f"captions_{part}2017.json"))
            for part in ("train", "val")
        }


def people(official, part):
    """Images with a person, by COCO's own reader."""
    instances, _ = official[part]
    return set(instances.getImgIds(catIds=instances.getCatIds(catNms=["person"])))


def gender(captions, man, woman):
    words = {w for c in captions for w in re.sub("[^a-z]", " ", c.lower()).split()}
    return {(True, False): 0, (False, True): 1}.get((man in words, woman in words))


def test_counts_by_hand(coco, official):
    notes = coco.notes()
    assert {part: len(people(official, part)) for part in official} == {"train": 62, "val": 109}
    crowds = 0
    for part, (instances, captions) in official.items():
        counts = notes[f"{part}2017"]
        crowds += len(instances.getAnnIds(iscrowd=True))
        assert counts["images"] == len(instances.getImgIds())
        assert counts["images with people"] == len(people(official, part))
        assert counts["crowd annotations"] == len(instances.getAnnIds(iscrowd=True))
        texts = {i: [c["caption"] for c in captions.imgToAnns[i]] for i in people(official, part)}
        genders = {i: g for i, t in texts.items() if (g := gender(t, "man", "woman")) is not None}
        assert counts["kept"] + counts["no other object"] == len(genders)
        mine = {int(i): int(g) for s in SPLITS for i, g in coco.table(s)[["id", "attribute/gender"]].to_numpy()}
        assert {i: mine[i] for i in genders} == genders
    assert crowds == 34
    assert {s: notes[s] for s in SPLITS} == {
        "train": {"rows": 27, "man": 18, "woman": 9},
        "val": {"rows": 24, "man": 15, "woman": 9},
        "test": {"rows": 28, "man": 18, "woman": 10},
    }


def test_labels_and_masks_by_cocos_own_reader(coco, official):
    for split in SPLITS:
        instances, _ = official["train" if split == "train" else "val"]
        person = instances.getCatIds(catNms=["person"])[0]
        names = {c["id"]: c["name"] for c in instances.loadCats(instances.getCatIds())}
        assert coco.label_names == tuple(n for i, n in sorted(names.items()) if i != person)
        table = coco.table(split)
        masks = coco.region(split, "person").set_index("id")
        unions = coco.region(split, "person-box-union").set_index("id")
        boxes = coco.region(split, "person-box-each")
        for row, y in zip(table.itertuples(), targets(table), strict=True):
            annotations = instances.imgToAnns[int(row.id)]
            expected = {names[a["category_id"]] for a in annotations} - {"person"}
            assert {coco.label_names[k] for k in np.flatnonzero(y)} == expected
            persons = [a for a in annotations if a["category_id"] == person]
            truth = np.maximum.reduce([instances.annToMask(a) for a in persons])
            record = masks.loc[row.id]
            mask = coco_mask.decode({"size": [record["height"], record["width"]], "counts": record["counts"]})
            assert (mask == truth).all()
            ys, xs = np.nonzero(truth)
            assert tuple(unions.loc[row.id]) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
            mine = boxes.loc[boxes["id"] == row.id, ["x0", "y0", "x1", "y1"]].to_numpy()
            x, y0, w, h = np.array([a["bbox"] for a in persons]).T
            assert np.allclose(mine, np.stack([x, y0, x + w, y0 + h], 1), atol=0.02)  # COCO rounds to hundredths


@pytest.mark.parametrize("words", shipped_lists())
def test_agreement_with_the_released_labels(official, words, tmp_path):
    """All 44 shared records have the gender and the 79 labels of the release of Wang et al."""
    coco = Coco(REAL / "coco-sample", tmp_path, words=words)
    released = np.load(REAL / "wang2019" / "coco_val.npz", allow_pickle=False)
    names = [n.replace("_", " ") for n in json.loads((REAL / "wang2019" / "coco_labels.json").read_text())]
    assert sorted(names) == sorted(coco.label_names)
    order = [names.index(n) for n in coco.label_names]
    rows = {int(i): k for k, i in enumerate(released["image_id"])}
    present = {i for part in official for i in official[part][0].getImgIds()} & set(rows)
    assert len(present) == 44
    seen = set()
    for split in SPLITS:
        table = coco.table(split)
        for image_id, g, y in zip(table["id"].astype(int), table["attribute/gender"], targets(table), strict=True):
            if image_id in rows:
                seen.add(image_id)
                assert g == released["gender"][rows[image_id]]
                assert (y == released["objects"][rows[image_id]][order]).all()
    assert seen == present
