from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from pycocotools import mask as coco_mask

from biasbench import SPLITS, DataError, UsageError, check_table, targets
from biasbench.builtin.datasets.coco import Coco

# pycocotools 2.0.11 decodes into an array type that numpy 2 finds old-fashioned
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def coco(coco_folder, tmp_path):
    return Coco(coco_folder(), tmp_path / "cache")


def whole(coco, split_names=SPLITS):
    return pd.concat([coco.table(s) for s in split_names], ignore_index=True)


def test_tables_hold_what_the_files_say(coco):
    for split in SPLITS:
        check_table(coco.table(split), coco, split)
    assert list(coco.table("train")["id"]) == [str(i) for i in range(10, 18)]
    assert sorted(whole(coco, ("val", "test"))["id"]) == [str(i) for i in range(50, 58)]
    assert coco.label_names == ("dog", "sports ball", "bottle")  # by category id, without person
    table = whole(coco)
    numbers = table["id"].astype(int)
    assert (table["attribute/gender"] == numbers % 2).all()
    assert (table["label/dog"] == (numbers % 3 == 0)).all()
    assert (table["label/bottle"] == 1).all()
    assert (table["label/sports ball"] == 0).all()
    assert table["path"][0] == "train2014/COCO_train2014_000000000010.jpg"
    assert all((coco.root / p).is_file() for p in table["path"])
    assert targets(coco.table("train")).dtype == np.uint8
    assert coco.attribute_names == {"gender": ("man", "woman")}


def test_notes_count_each_reason(coco):
    notes = coco.notes()
    for part in ("train2014", "val2014"):
        counts = notes[part]
        reasons = ("no people", "no caption", "no gender word", "both genders", "no other object")
        assert [counts[r] for r in reasons] == [1, 1, 1, 1, 1]
        assert counts["images"] == 13
        assert counts["kept"] == 8
        assert counts["images with people"] == 12
        assert counts["images without a caption"] == 1
        # ids that are 0 mod 4 and 1 mod 4 have a crowd: 12, 13, 16, 17, and 52, 53, 56, 57
        assert counts["crowd annotations"] == 4
    assert notes["train"] == {"rows": 8, "man": 4, "woman": 4}
    assert notes["words"].startswith("man-woman (version 1, ")
    json.dumps(notes)


def test_keep_unlabelled_keeps_lonely_people(coco_folder, tmp_path):
    coco = Coco(coco_folder(), tmp_path / "cache", keep_unlabelled=True)
    assert "34" in set(coco.table("train")["id"])
    assert len(coco.region("train", "person")) == 9
    assert coco.notes()["train"]["rows"] == 9


def test_the_split_of_an_image_depends_on_its_id_alone(coco_folder, tmp_path, coco):
    before = {i: s for s in ("val", "test") for i in coco.table(s)["id"]}
    assert set(before.values()) == {"val", "test"}
    data = json.loads((coco.root / "annotations" / "instances_val2014.json").read_text())
    data["images"] = [i for i in data["images"] if i["id"] != 53]
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] != 53]
    texts = json.loads((coco.root / "annotations" / "captions_val2014.json").read_text())
    texts["annotations"] = [a for a in texts["annotations"] if a["image_id"] != 53]
    (coco.root / "annotations" / "instances_val2014.json").write_text(json.dumps(data))
    (coco.root / "annotations" / "captions_val2014.json").write_text(json.dumps(texts))
    other = Coco(coco.root, tmp_path / "cache")
    after = {i: s for s in ("val", "test") for i in other.table(s)["id"]}
    assert after == {i: s for i, s in before.items() if i != "53"}
    assert other.fingerprint() != coco.fingerprint()


def test_halves_are_nearly_equal():
    from biasbench.builtin.datasets.coco_splits import half

    share = Counter(half(i) for i in range(20_000))
    assert abs(share["val"] - 10_000) < 300  # 4 sigma


# -- regions -------------------------------------------------------------------------------
def by_hand(coco, image_id):
    """The union of an image's person segments, drawn with numpy alone."""
    part = "train" if image_id < 50 else "val"
    data = json.loads((coco.root / "annotations" / f"instances_{part}2014.json").read_text())
    mask = np.zeros((30, 40), bool)
    for a in data["annotations"]:
        if a["image_id"] != image_id or a["category_id"] != 1:
            continue
        if isinstance(a["segmentation"], list):
            xs, ys = a["segmentation"][0][::2], a["segmentation"][0][1::2]
            mask[int(min(ys)) : int(max(ys)), int(min(xs)) : int(max(xs))] = True
        else:
            mask[:4, -6:] = True
    return mask


def test_person_is_the_union_of_polygons_and_crowds(coco):
    assert {"masks:person", "masks:person-box-each", "masks:person-box-union"} == coco.provides
    for split in SPLITS:
        region = coco.region(split, "person")
        assert list(region["id"]) == list(coco.table(split)["id"])
        boxes = coco.region(split, "person-box-union").set_index("id")
        for row in region.itertuples():
            mask = coco_mask.decode({"size": [row.height, row.width], "counts": row.counts}).astype(bool)
            truth = by_hand(coco, int(row.id))
            assert (mask == truth).all()
            ys, xs = np.nonzero(truth)
            expected = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            assert list(boxes.loc[row.id, ["x0", "y0", "x1", "y1"]]) == expected


def test_person_box_each_has_every_annotated_box(coco):
    boxes = coco.region("train", "person-box-each")
    assert dict(Counter(boxes["id"])) == {str(i): 1 + (i % 4 < 2) for i in range(10, 18)}
    first = boxes[boxes["id"] == "10"].iloc[0]
    assert list(first[["x0", "y0", "x1", "y1"]]) == [2, 3, 12, 23]


def test_boxes_are_cut_at_the_edges(coco_folder, tmp_path):
    def change(files):
        people = [a for a in files.instances["train"]["annotations"] if a["category_id"] == 1]
        people[0]["bbox"] = [-5.0, 3.5, 100.0, 6.0]
        people[1]["bbox"] = [3.0, 3.0, 0.0, 6.0]

    coco = Coco(coco_folder(change), tmp_path / "cache")
    boxes = coco.region("train", "person-box-each")
    assert list(boxes.iloc[0][["x0", "y0", "x1", "y1"]]) == [0, 3.5, 40, 9.5]
    assert coco.notes()["train2014"]["boxes outside their image or empty"] == 2
    assert (boxes["x1"] > boxes["x0"]).all()


def test_unknown_region_names_the_nearest(coco):
    with pytest.raises(DataError, match=r"coco has no region 'persons'\. Did you mean 'person'"):
        coco.region("train", "persons")


# -- identity and cache ----------------------------------------------------------------------
def test_fingerprint_is_of_content_not_of_place(coco_files, tmp_path):
    one = Coco(coco_files.small_coco().write(tmp_path / "a"), tmp_path / "cache")
    two = Coco(coco_files.small_coco().write(tmp_path / "b"), tmp_path / "other")
    assert one.fingerprint() == two.fingerprint()
    assert Coco(tmp_path / "a", tmp_path / "cache", words="adults").fingerprint() != one.fingerprint()
    files = coco_files.small_coco()
    files.instances["train"]["annotations"][0]["segmentation"][0][0] += 1
    moved = Coco(files.write(tmp_path / "c"), tmp_path / "cache")
    assert moved.fingerprint() != one.fingerprint()  # only a person's outline differs


def test_later_starts_read_the_index_and_not_the_files(coco, tmp_path, monkeypatch):
    first = coco.table("train")
    region = coco.region("train", "person")
    import biasbench.builtin.datasets.coco_index as index
    import biasbench.builtin.datasets.coco_regions as regions

    def never(*args):
        raise AssertionError("the annotations are read again")

    monkeypatch.setattr(index, "read_file", never)
    monkeypatch.setattr(regions.sandbox, "read_apart", never)
    again = Coco(coco.root, tmp_path / "cache")
    pd.testing.assert_frame_equal(again.table("train"), first)
    pd.testing.assert_frame_equal(again.region("train", "person"), region)
    assert again.notes() == coco.notes()


@pytest.mark.parametrize("victim", ["images.parquet", "region-person.parquet", "masks-person.parquet", "index.json"])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_cache_is_made_again(coco, tmp_path, victim, damage):
    expected = [coco.region("train", "person"), coco.table("train")]
    (path,) = (tmp_path / "cache" / "coco").rglob(victim)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    else:
        content[40 if victim != "index.json" else 0] ^= 0x55
    path.write_bytes(content)
    again = Coco(coco.root, tmp_path / "cache")
    pd.testing.assert_frame_equal(again.region("train", "person"), expected[0])
    pd.testing.assert_frame_equal(again.table("train"), expected[1])


def test_a_change_of_the_files_is_seen(coco, tmp_path):
    coco.table("train")
    path = coco.root / "annotations" / "captions_train2014.json"
    path.write_text(path.read_text().replace("A woman with a bottle", "A man with a bottle!!"))  # the same length
    changed = Coco(coco.root, tmp_path / "cache")
    assert changed.notes()["train2014"]["both genders"] == 5


def test_a_caller_cannot_change_the_table(coco):
    table = coco.table("train")
    table["attribute/gender"] = 9
    assert set(coco.table("train")["attribute/gender"]) == {0, 1}


def test_progress_ends_at_its_total(coco):
    steps = []
    coco.prepare(lambda done, total: steps.append((done, total)))
    assert [d for d, _ in steps] == list(range(1, len(steps) + 1))
    assert steps[-1][0] == steps[-1][1]


def test_tables_need_no_torch(coco):
    code = (
        "import sys; from pathlib import Path; from biasbench.builtin.datasets.coco import Coco\n"
        f"c = Coco(Path({str(coco.root)!r}), Path({str(coco.cache)!r}))\n"
        "c.table('train'); c.region('train', 'person')\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- years, words, lists -----------------------------------------------------------------------
def test_years(coco_files, tmp_path):
    root = coco_files.small_coco("2017").write(tmp_path / "both")
    assert Coco(root, tmp_path).sources.year == "2017"
    assert Coco.recognises(root)
    assert not Coco.recognises(tmp_path)
    coco_files.small_coco("2014").write(root)
    assert Coco(root, tmp_path).sources.year == "2014"
    seventeen = Coco(root, tmp_path, year="2017")
    assert seventeen.table("train")["path"][0] == "train2017/000000000010.jpg"
    with pytest.raises(UsageError, match="unknown year '2015'"):
        Coco(root, tmp_path, year="2015")


def test_own_word_list(coco_folder, tmp_path):
    root = coco_folder()
    text = 'id = "mine"\nversion = "3"\nsource = "me"\n[words]\nman = ["salesman"]\nwoman = ["woman"]\n'
    (root / "mine.toml").write_text(text)
    coco = Coco(root, tmp_path / "cache", words="mine.toml")
    assert set(coco.table("train")["id"]) == {"11", "13", "15", "17", "32", "33"}  # 33: "A man.", "A woman."
    assert coco.notes()["words"].startswith("mine (version 3, ")


def test_id_lists(coco_folder, tmp_path):
    root = coco_folder()
    (root / "lists").mkdir()
    for split, ids in {"train": "10\n50 # moved\n", "val": "# none\n11\n\n30\n", "test": "51\n12\n"}.items():
        (root / "lists" / f"{split}.txt").write_text(ids)
    coco = Coco(root, tmp_path / "cache", split_ids="lists")
    assert {s: list(coco.table(s)["id"]) for s in SPLITS} == {
        "train": ["10", "50"],
        "val": ["11"],
        "test": ["12", "51"],
    }
    assert coco.notes()["listed but dropped"] == 1  # 30 has no people
    template = Coco(root, tmp_path / "cache", split_ids=str(root / "lists" / "{split}.txt"))
    assert list(template.table("test")["id"]) == ["12", "51"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("99", r"val\.txt: line 2: '99' is not the id of an image here"),
        ("x\x1b", r"val\.txt: line 2: 'x\\\\x1b' is not"),
        ("10", r"val\.txt: line 2: image 10 is listed already \(train\.txt, line 1\)"),
    ],
)
def test_id_lists_that_cannot_be_meant(coco_folder, tmp_path, line, message):
    root = coco_folder()
    for split in SPLITS:
        (root / f"{split}.txt").write_text({"train": "10\n", "val": f"11\n{line}\n", "test": "12\n"}[split])
    with pytest.raises(DataError, match=message):
        Coco(root, tmp_path / "cache", split_ids="{split}.txt").table("val")


def test_a_missing_id_list(coco, tmp_path):
    with pytest.raises(DataError, match=r"train\.txt: cannot be read"):
        Coco(coco.root, tmp_path / "cache", split_ids="nowhere").table("val")


# -- side tables -----------------------------------------------------------------------------
def side(files):
    for part, first in (("train", 10), ("val", 50)):
        rows = [f"{i},{['light', 'dark', ''][i % 3]},{'old' if i % 2 else 'young'}" for i in range(first, first + 7)]
        files.texts[f"attributes_{part}2014.csv"] = "# made by a test\nimage_id,skin,age\n" + "\n".join(rows) + "\n"
    files.texts["attribute_groups.json"] = json.dumps({"skin": ["light", "medium", "dark"]})
    for part, first in (("train", 10), ("val", 50)):
        faces = [{"image_id": first, "bbox": [1, 2, 3, 4]}, {"image_id": first, "bbox": [9, 2.5, 3, 4]}]
        files.texts[f"region_face_{part}2014.json"] = json.dumps(faces)
        hats = [{"image_id": first + 1, "segmentation": [[1, 1, 4, 1, 4, 5, 1, 5]]}]
        files.texts[f"region_hat_{part}2014.json"] = json.dumps(hats)


def test_side_tables_become_attributes_and_regions(coco_folder, tmp_path):
    coco = Coco(coco_folder(side), tmp_path / "cache")
    assert coco.attribute_names == {
        "gender": ("man", "woman"),
        "skin": ("light", "medium", "dark"),
        "age": ("old", "young"),
    }
    for split in SPLITS:
        check_table(coco.table(split), coco, split)
    table = coco.table("train")
    # 17 has no line in the table: unknown
    assert list(table["attribute/skin"]) == [{0: 0, 1: 2, 2: -1}[i % 3] if i < 17 else -1 for i in range(10, 18)]
    assert list(table["attribute/age"]) == [1 - i % 2 if i < 17 else -1 for i in range(10, 18)]
    assert {"masks:face", "masks:hat"} < coco.provides
    face = coco.region("train", "face")
    assert face.to_dict("list") == {"id": ["10", "10"], "x0": [1, 9], "y0": [2, 2.5], "x1": [4, 12], "y1": [6, 6.5]}
    hat = coco.region("train", "hat")
    assert list(hat["id"]) == ["11"]
    mask = coco_mask.decode({"size": [30, 40], "counts": hat["counts"][0]})
    assert mask.sum() == 12
    assert mask[1:5, 1:4].all()


def with_text(name, text):
    def change(files):
        side(files)
        files.texts[name] = text

    return change


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("attributes_val2014.csv", "image_id,skin\n50,dark\n", "differ from"),
        (
            "attributes_val2014.csv",
            "image_id,skin,age\n50,green,old\n",
            "skin: 'green' is not in attribute_groups",
        ),
        ("attributes_val2014.csv", "image_id,skin,age\n999,dark,old\n", "line 2: image 999 is not in"),
        ("attributes_val2014.csv", "image_id,skin,age\n50,dark,old\n50,dark,old\n", "line 3: image 50 stands twice"),
        ("attributes_val2014.csv", "image_id,skin,age\n50,dark\n", "line 2: expected 3 cells"),
        ("attributes_val2014.csv", "id,skin\n", "the first line is not"),
        ("attributes_val2014.csv", "image_id,gender\n50,man\n", "named 'gender'"),
        ("attributes_val2014.csv", "image_id,a*b\n50,man\n", r"unusable attribute name 'a\*b'"),
        ("attribute_groups.json", '{"skim": ["x"]}', "names 'skim', which is no column"),
        ("attribute_groups.json", '{"skin": ["x", "x"]}', "one twice"),
        ("attribute_groups.json", "[1]", "Expected `object`, got `array`"),
        ("region_face_val2014.json", '[{"image_id": 999, "bbox": [1, 1, 1, 1]}]', "entry 0: image 999 is not"),
        ("region_face_val2014.json", '[{"image_id": 50, "bbox": [1, 1, 0, 1]}]', "entry 0: the box has no area"),
        ("region_face_val2014.json", '[{"image_id": 50}]', "entry 0: each entry has a bbox"),
        ("region_face_val2014.json", '[{"image_id": 50, "segmentation": [[1, 1, 5]]}]', "entry 0: a polygon of 3"),
        ("region_face_val2014.json", '[{"image_id": 50, "segmentation": [[1,1,5,1,5,5]]}]', "both have boxes, or both"),
        ("region_person_train2014.json", "[]", "names that start with 'person' are taken"),
        ("region_eye_train2014.json", "[]", "region_eye_val2014.json is not"),
    ],
)
def test_side_tables_that_are_wrong(coco_folder, tmp_path, name, text, message):
    root = coco_folder(with_text(name, text))
    with pytest.raises(DataError, match=message) as caught:
        Coco(root, tmp_path / "cache").table("train")
    assert "\n" not in str(caught.value)
