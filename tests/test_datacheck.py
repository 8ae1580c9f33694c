"""What `data check` reports, against counts worked out apart from it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from biasbench import SPLITS, DataError
from biasbench.builtin.datasets.coco import Coco
from biasbench.datacheck import check

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "real" / "coco-sample"


@pytest.fixture
def coco(coco_folder, tmp_path):
    return Coco(coco_folder(), tmp_path / "cache")


def test_a_sound_folder(coco):
    steps = []
    report = check(coco, lambda *s: steps.append(s))
    json.dumps(report, allow_nan=False)
    assert report["ok"]
    assert steps[-1] == (16, 16)
    assert report["images"]["train"] == 8
    assert report["images"]["total"] == sum(report["images"][s] for s in SPLITS) == 16
    for kind in ("missing", "undecodable", "wrong_size"):
        assert report[kind] == {"count": 0, "first": []}
    # by the rules of the little folder: ids 10..17 train, 50..57 val and test; id % 3 == 0 has a dog
    assert report["labels"]["train"] == {"dog": 2, "sports ball": 0, "bottle": 8}
    assert report["attributes"]["gender"]["train"] == {"man": 4, "woman": 4}
    assert Counter(report["labels"]["val"]) + Counter(report["labels"]["test"]) == {"dog": 3, "bottle": 8}
    assert report["regions"]["person"] == {s: report["images"][s] for s in SPLITS}
    assert report["notes"]["train2014"]["both genders"] == 1
    assert report["fingerprint"] == coco.fingerprint()


def test_files_that_are_missing_damaged_or_of_another_size(coco):
    paths = [coco.root / p for s in SPLITS for p in coco.table(s)["path"]]
    for path in paths[:11]:
        path.unlink()
    paths[11].write_bytes(b"no image")
    paths[12].write_bytes(paths[12].read_bytes()[:300])
    paths[13].unlink()
    paths[13].symlink_to("/etc/hostname")
    Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(paths[14])
    report = check(coco)
    assert not report["ok"]
    assert report["missing"]["count"] == 11
    assert report["missing"]["first"] == [p.relative_to(coco.root).as_posix() for p in paths[:10]]
    assert report["undecodable"]["count"] == 3
    assert all(p.name in line for p, line in zip(paths[11:14], report["undecodable"]["first"], strict=True))
    (line,) = report["wrong_size"]["first"]
    assert line.endswith(f"{paths[14].name}: 30x40 pixels, annotated as 40x30")
    quick = check(coco, decode=False)
    assert quick["missing"] == report["missing"]
    assert quick["undecodable"]["count"] == 1  # the link that leaves the folder
    assert not quick["decoded"]


def test_a_folder_without_images(coco_folder, tmp_path):
    coco = Coco(coco_folder(images=False), tmp_path / "cache")
    report = check(coco)
    assert report["missing"]["count"] == 16
    assert len(report["missing"]["first"]) == 10
    assert report["attributes"]["gender"]["train"] == {"man": 4, "woman": 4}


def test_unknown_groups_are_counted(coco_folder, tmp_path):
    def change(files):
        for part, first in (("train", 10), ("val", 50)):
            files.texts[f"attributes_{part}2014.csv"] = f"image_id,age\n{first},old\n"

    report = check(Coco(coco_folder(change), tmp_path / "cache"))
    assert report["attributes"]["age"]["train"] == {"old": 1, "unknown": 7}


def test_a_table_that_breaks_the_contract_is_refused(coco, monkeypatch):
    table = coco.table("train")
    table.loc[0, "attribute/gender"] = 7
    tables = {s: coco.table(s) for s in SPLITS} | {"train": table}
    monkeypatch.setattr(coco, "table", lambda split: tables[split])
    with pytest.raises(DataError, match=r"coco, split train: attribute 'gender' is outside -1\.\.1"):
        check(coco)


@pytest.mark.skipif(not REAL.is_dir(), reason="the sample of real COCO records is not here")
def test_real_records_by_hand(tmp_path):
    """Every figure again with plain JSON and COCO's documented format, none of our code."""
    report = check(Coco(REAL, tmp_path))
    assert report["ok"]
    labels: dict[str, Counter[str]] = {s: Counter() for s in SPLITS}
    genders: dict[str, Counter[str]] = {s: Counter() for s in SPLITS}
    people = {}
    ids = {s: set(Coco(REAL, tmp_path).table(s)["id"].astype(int)) for s in SPLITS}
    for part in ("train", "val"):
        data = json.loads((REAL / "annotations" / f"instances_{part}2017.json").read_text())
        texts = json.loads((REAL / "annotations" / f"captions_{part}2017.json").read_text())
        name = {c["id"]: c["name"] for c in data["categories"]}
        objects: dict[int, set[str]] = {}
        for a in data["annotations"]:
            objects.setdefault(a["image_id"], set()).add(name[a["category_id"]])
        people[part] = sum("person" in o for o in objects.values())
        words: dict[int, set[str]] = {}
        for c in texts["annotations"]:
            plain = "".join(x if x.isalpha() else " " for x in c["caption"].lower())
            words.setdefault(c["image_id"], set()).update(plain.split())
        for image_id, found in objects.items():
            said = words[image_id] & {"man", "woman"}
            keep = "person" in found and len(found) > 1 and len(said) == 1
            homes = [s for s in SPLITS if image_id in ids[s]]
            assert len(homes) == keep
            if keep:
                assert (homes[0] == "train") == (part == "train")
                labels[homes[0]].update(found - {"person"})
                genders[homes[0]].update(said)
    assert people == {"train": 62, "val": 109}
    assert [report["notes"][f"{p}2017"]["images with people"] for p in ("train", "val")] == [62, 109]
    for split in SPLITS:
        assert {k: v for k, v in report["labels"][split].items() if v} == labels[split]
        assert report["attributes"]["gender"][split] == genders[split]
        assert report["images"][split] == genders[split].total()
