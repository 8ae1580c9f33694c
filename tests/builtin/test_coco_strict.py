"""Every way in which a COCO file can be wrong gives one clear line."""

from __future__ import annotations

import json
import os
import re

import pytest
from pycocotools import mask as coco_mask

from biasbench import DataError
from biasbench.builtin.datasets.coco import Coco
from tests.helpers.unprivileged import unprivileged

TRAIN, VAL, TEXTS = "instances_train2014.json", "instances_val2014.json", "captions_train2014.json"


def annotation(files, **fields):
    files.instances["train"]["annotations"][0].update(fields)


def image(files, **fields):
    files.instances["train"]["images"][0].update(fields)


def rle(files, size, counts):
    annotation(files, segmentation={"size": size, "counts": counts}, iscrowd=1)


def without(key, of="annotations"):
    return lambda files: files.instances["train"][of][0].pop(key)


def repeat(part, of):
    return lambda files: part(files)[of].append(dict(part(files)[of][0]))


def train(files):
    return files.instances["train"]


def captions(files):
    return files.captions["train"]


CONTENT = {  # a change of the content, and what the message must say
    "annotations null": (lambda f: train(f).update(annotations=None), "Expected `array`, got `null`.*annotations"),
    "images as dict": (lambda f: train(f).update(images={}), "Expected `array`, got `object`.*images"),
    "no categories": (lambda f: train(f).pop("categories"), "missing required field `categories`"),
    "no image_id": (without("image_id"), "missing required field `image_id`.*annotations"),
    "no segmentation": (without("segmentation"), "missing required field `segmentation`"),
    "no file_name": (without("file_name", "images"), "missing required field `file_name`.*images"),
    "id as text": (lambda f: image(f, id="10"), "Expected `int`, got `str` - at `.*images.*id`"),
    "id as bool": (lambda f: annotation(f, id=True), "Expected `int`, got `bool`"),
    "id as float": (lambda f: annotation(f, image_id=10.5), "Expected `int`, got `float`"),
    "id too large": (lambda f: annotation(f, id=2**70), "Expected `int` <="),
    "id negative": (lambda f: annotation(f, id=-1), "Expected `int` >= 0"),
    "twice an image": (repeat(train, "images"), "image id 10 stands twice"),
    "twice a file": (lambda f: train(f)["images"][1].update(file_name=train(f)["images"][0]["file_name"]), "same|two"),
    "twice an annotation": (repeat(train, "annotations"), "annotation id 1000 stands twice"),
    "missing image": (lambda f: annotation(f, image_id=777), "annotation 1000 is for image 777, which is not in"),
    "unknown category": (lambda f: annotation(f, category_id=9), "annotation 1000 has category id 9"),
    "twice a category": (lambda f: train(f)["categories"].append({"id": 9, "name": "dog"}), "two categories .* 'dog'"),
    "twice a category id": (lambda f: train(f)["categories"].append({"id": 1, "name": "x"}), "category id 1 stands"),
    "no person": (lambda f: train(f)["categories"][0].update(name="human"), "no category 'person'"),
    "other categories": (
        lambda f: train(f)["categories"].append({"id": 90, "name": "cat"}),
        "the two instances files have different categories",
    ),
    "traversal": (lambda f: image(f, file_name="../x.jpg"), r"image 10 has the file name '\.\./x\.jpg'"),
    "absolute": (lambda f: image(f, file_name="/etc/passwd"), "has the file name"),
    "backslash": (lambda f: image(f, file_name="..\\x.jpg"), "has the file name"),
    "url": (lambda f: image(f, file_name="http://x/y.jpg"), "has the file name"),
    "nul": (lambda f: image(f, file_name="a\0.jpg"), r"has the file name 'a\\\\x00\.jpg'"),
    "long": (lambda f: image(f, file_name="a" * 300), "has the file name"),
    "no name": (lambda f: image(f, file_name=""), "has the file name ''"),
    "huge image": (lambda f: image(f, height=60_000, width=60_000), "claims 60000 by 60000 pixels"),
    "flat image": (lambda f: image(f, height=0), "Expected `int` >= 1.*height"),
    "wrong size": (lambda f: rle(f, [40, 30], [1200]), r"annotation 1000 of image 10: run lengths of size \[40, 30\]"),
    "hostile size": (lambda f: rle(f, [2**31 - 1, 2**20], [2**50]), "run lengths of size"),
    "wrong sum": (lambda f: rle(f, [30, 40], [1199]), "add up to 1199 pixels, the image has 1200"),
    "negative run": (lambda f: rle(f, [30, 40], [1300, -100]), "a negative run length"),
    "bad text": (lambda f: rle(f, [30, 40], "\u00ff\x01"), "not COCO's compressed text"),
    "cut text": (lambda f: rle(f, [30, 40], "o"), "cut off"),
    "endless text": (lambda f: rle(f, [30, 40], "o" * 99), "not COCO's compressed text"),
    "counts of float": (lambda f: rle(f, [30, 40], [0.5]), "neither polygons nor run lengths"),
    "no counts": (lambda f: annotation(f, segmentation={"size": [30, 40]}), "missing required field `counts`"),
    "odd polygon": (lambda f: annotation(f, segmentation=[[1, 2, 3, 4, 5]]), "a polygon of 5 numbers"),
    "far polygon": (lambda f: annotation(f, segmentation=[[1, 2, 3, 4e9, 5, 6]]), "far outside"),
    "long polygon": (lambda f: annotation(f, segmentation=[[1.0] * 200_002]), "a polygon of 200002 numbers"),
    "polygon of text": (lambda f: annotation(f, segmentation=[["x"]]), "neither polygons nor run lengths"),
    "segment null": (lambda f: annotation(f, segmentation=None), "neither polygons nor run lengths"),
    "short box": (lambda f: annotation(f, bbox=[1, 2, 3]), "length 4.*bbox"),
    "caption of nobody": (
        lambda f: captions(f)["annotations"][0].update(image_id=777),
        "caption 1000 is for image 777, which is not in the instances file",
    ),
    "twice a caption": (repeat(captions, "annotations"), "caption id 1000 stands twice"),
    "caption as number": (lambda f: captions(f)["annotations"][0].update(caption=7), "Expected `str`, got `int`"),
    "swapped": (
        lambda f: f.instances.update(train=f.captions["train"]),
        r"looks like a captions_\*\.json in place of an instances",
    ),
    "swapped back": (
        lambda f: f.captions.update(train=f.instances["train"]),
        r"looks like an instances_\*\.json in place of a captions",
    ),
    "train is val": (
        lambda f: (f.instances.update(train=f.instances["val"]), f.captions.update(train=f.captions["val"])),
        r"image id 50 is in .* \(and 12 more like it\).*must not share",
    ),
}


def refused(root, tmp_path, message, **options):
    with pytest.raises(DataError, match=message) as caught:
        Coco(root, tmp_path / "cache", **options).table("train")
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 700
    assert "annotations" in text  # names the file or its folder
    assert caught.value.exit_code == 4
    assert not list((tmp_path / "cache").rglob("*.parquet"))
    return text


@pytest.mark.parametrize("case", CONTENT)
def test_wrong_content(coco_folder, tmp_path, case):
    change, message = CONTENT[case]
    refused(coco_folder(change, images=False), tmp_path, message)


TEXT = {  # a change of the file's bytes
    "empty": (TRAIN, lambda _: b"", "the file is empty"),
    "no json": (TRAIN, lambda _: b"<html>404</html>", "not valid JSON"),
    "object": (TRAIN, lambda _: b"{}", "missing required field"),
    "list": (TRAIN, lambda _: b"[1, 2]", "Expected `object`, got `array`"),
    "cut": (TRAIN, lambda b: b[: len(b) // 2], "truncated"),
    "cut by one": (TRAIN, lambda b: b[:-1], "truncated"),
    "cut captions": (TEXTS, lambda b: b[: len(b) // 2], "truncated"),
    "cut val": (VAL, lambda b: b[: len(b) // 2], "truncated"),
    "rubbish behind": (TRAIN, lambda b: b + b"x", "not valid JSON"),
    "utf-16": (TRAIN, lambda b: b.decode().encode("utf-16"), "not valid JSON"),
    "latin-1": (TRAIN, lambda b: b.replace(b"COCO_", b"C\xe9CO_", 1), "not valid JSON|UTF-8|utf-8"),
    "nested": (TRAIN, lambda _: b'{"images": ' + b"[" * 100_000, "nested too deeply|Expected"),
    "nested aside": (TRAIN, lambda _: b'{"x": ' + b"[" * 100_000, "nested too deeply"),
    "nan": (TRAIN, lambda b: re.sub(rb'"bbox": \[[^]]*\]', b'"bbox": [NaN, 1, 2, 3]', b, count=1), "not valid JSON"),
    "nan in polygon": (
        TRAIN,
        lambda b: re.sub(rb'"segmentation": \[\[', b'"segmentation": [[NaN, NaN, ', b, count=1),
        "not valid JSON",
    ),
    "1e999 in box": (
        TRAIN,
        lambda b: re.sub(rb'"bbox": \[[^]]*\]', b'"bbox": [1e999, 1, 2, 3]', b, count=1),
        "out of range",
    ),
    "1e999 in polygon": (
        TRAIN,
        lambda b: re.sub(rb'"segmentation": \[\[', b'"segmentation": [[1e999, 1, ', b, count=1),
        "annotation 1000 of image 10: .*out of range",
    ),
    "two keys": (
        TRAIN,
        lambda b: b.replace(b'"image_id": 10,', b'"image_id": 10, "image_id": 11,', 1),
        "'image_id' stands twice in the object with id 1000",
    ),
}


@pytest.mark.parametrize("case", TEXT)
def test_damaged_files(coco_folder, tmp_path, case):
    name, change, message = TEXT[case]
    root = coco_folder(images=False)
    path = root / "annotations" / name
    path.write_bytes(change(path.read_bytes()))
    text = refused(root, tmp_path, message)
    assert name in text


def test_a_byte_order_mark_is_fine(coco_folder, tmp_path):
    root = coco_folder()
    path = root / "annotations" / TRAIN
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(Coco(root, tmp_path / "cache").table("train")) == 8


def test_strange_category_names_are_shown_escaped(coco_folder, tmp_path):
    def change(files):
        for part in ("train", "val"):
            files.instances[part]["categories"] = [
                *files.instances[part]["categories"],
                {"id": 90, "name": "[/x]\x1b[2J<script>"},
                {"id": 91, "name": "=1+1"},
            ]

    coco = Coco(coco_folder(change, images=False), tmp_path / "cache")
    assert coco.label_names[-2:] == ("[/x]\x1b[2J<script>", "=1+1")
    root = coco.root / "annotations" / TRAIN
    content = json.loads(root.read_text())
    content["categories"].append({"id": 92, "name": "[/x]\x1b[2J<script>"})
    root.write_text(json.dumps(content))
    assert "\x1b" not in refused_text(coco.root, tmp_path)


def refused_text(root, tmp_path):
    with pytest.raises(DataError) as caught:
        Coco(root, tmp_path / "cache").table("train")
    return str(caught.value)


def test_the_first_of_several_is_named_and_the_rest_counted(coco_folder, tmp_path):
    def change(files):
        for a in files.instances["train"]["annotations"][:5]:
            a["category_id"] = 4242

    root = coco_folder(change, images=False)
    refused(root, tmp_path, r"annotation 1000 has category id 4242.* \(and 4 more like it\)")


def test_missing_files_are_named_with_what_to_do(coco_folder, tmp_path):
    root = coco_folder(images=False)
    (root / "annotations" / TEXTS).unlink()
    (root / "annotations" / VAL).unlink()
    text = refused(root, tmp_path, "missing: instances_val2014.json, captions_train2014.json")
    assert "biasbench data download coco" in text
    assert "neither instances_train2014.json nor" in refused_text(tmp_path / "nowhere", tmp_path)


def test_something_else_in_place_of_a_file(coco_folder, tmp_path):
    root = coco_folder(images=False)
    path = root / "annotations" / TRAIN
    path.unlink()
    path.mkdir()
    refused(root, tmp_path, "cannot be read: Is a directory|not a regular file")
    path.rmdir()
    os.mkfifo(path)
    refused(root, tmp_path, "not a regular file")


def test_folders_that_may_not_be_read(coco_folder, tmp_path, tmp_path_factory):
    root = coco_folder(images=False)
    (root / "annotations" / TRAIN).chmod(0)
    with unprivileged():
        message = refused_text(root, tmp_path)
    (root / "annotations").chmod(0)
    with unprivileged():
        other = refused_text(root, tmp_path)
    (root / "annotations").chmod(0o755)
    assert f"{TRAIN}: cannot be read: Permission denied" in message
    assert "cannot be read: Permission denied" in other


def test_degenerate_polygons_are_counted_and_have_no_area(coco_folder, tmp_path):
    def change(files):
        annotation(files, segmentation=[[1, 2, 3, 4], [5, 5, 9, 5, 9, 9, 5, 9]])
        files.instances["train"]["annotations"][2]["segmentation"] = []

    coco = Coco(coco_folder(change, images=False), tmp_path / "cache")
    assert coco.notes()["train2014"]["annotations with a degenerate polygon"] == 1
    row = coco.region("train", "person").iloc[0]
    assert row["id"] == "10"
    assert coco_mask.area({"size": [30, 40], "counts": row["counts"]}) == 16
