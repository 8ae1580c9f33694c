"""COCO folders that are damaged, hostile or sloppy, through `biasbench data check coco`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.builtin.test_coco_strict import CONTENT, TEXT
from tests.corpus.said import calm, refused
from tests.helpers.commands import Said

pytestmark = pytest.mark.torch  # `data check` opens images
TRAIN, VAL, TEXTS = "instances_train2014.json", "instances_val2014.json", "captions_train2014.json"
FOLDER = "annotations"  # where no single file is to blame

Change = Callable[[Any], object]
Cli = Callable[..., Said]


def bytes_of(case: str) -> tuple[str, Callable[[bytes], bytes]]:
    name, change, _ = TEXT[case]
    return name, change


def polygon(values: list[float]) -> Change:
    return lambda f: f.instances["train"]["annotations"][0].update(segmentation=[values])


def named(name: str) -> Change:
    return lambda f: f.instances["train"]["images"][0].update(file_name=name)


BYTES = {  # the file's bytes: how they change, and what the message names beside the file
    "C1": (bytes_of("empty"), "the file is empty"),
    "C2": (bytes_of("object"), "missing required field"),
    "C3": (bytes_of("list"), "Expected `object`, got `array`"),
    "C4": (bytes_of("cut"), "truncated"),
    "C6": (bytes_of("utf-16"), "not valid JSON"),
    "C7": (bytes_of("latin-1"), ""),
    "C8": ((TRAIN, lambda _: b"[" * 10_000), ""),
    "C8, aside": (bytes_of("nested aside"), "nested too deeply"),
    "C9": (bytes_of("nan"), "not valid JSON"),
    "C10": (bytes_of("1e999 in box"), "out of range"),
    "C10, polygon": (bytes_of("1e999 in polygon"), "annotation 1000 of image 10"),
    "C11": (bytes_of("two keys"), "'image_id' stands twice in the object with id 1000"),
    "C26, NaN": (bytes_of("nan in polygon"), "not valid JSON"),
}
OBJECTS: dict[str, tuple[Change, str, str]] = {  # the content: how it changes, the file, and the place in it
    "C12": (CONTENT["twice an image"][0], TRAIN, "image id 10 stands twice"),
    "C13": (CONTENT["twice an annotation"][0], TRAIN, "annotation id 1000 stands twice"),
    "C14": (CONTENT["missing image"][0], TRAIN, "annotation 1000 is for image 777"),
    "C15": (CONTENT["unknown category"][0], TRAIN, "annotation 1000 has category id 9"),
    "C16": (CONTENT["id as text"][0], TRAIN, "$.images[0].id"),
    "C17, bool": (CONTENT["id as bool"][0], TRAIN, "$.annotations[0].id"),
    "C17, float": (CONTENT["id as float"][0], TRAIN, "$.annotations[0].image_id"),
    "C17, large": (CONTENT["id too large"][0], TRAIN, "$.annotations[0].id"),
    "C17, list": (lambda f: f.instances["train"]["images"][0].update(id=[1]), TRAIN, "$.images[0].id"),
    "C18": (CONTENT["annotations null"][0], TRAIN, "$.annotations"),
    "C19": (CONTENT["images as dict"][0], TRAIN, "$.images"),
    "C20": (CONTENT["twice a category"][0], TRAIN, "two categories have the name 'dog'"),
    "C23": (CONTENT["wrong size"][0], TRAIN, "annotation 1000 of image 10: run lengths of size [40, 30]"),
    "C24": (CONTENT["hostile size"][0], TRAIN, "annotation 1000 of image 10: run lengths of size"),
    "C25": (CONTENT["wrong sum"][0], TRAIN, "annotation 1000 of image 10: run lengths add up to 1199"),
    "C25, text": (CONTENT["cut text"][0], TRAIN, "annotation 1000 of image 10"),
    "C26": (polygon([1.0] * 1_000_000), TRAIN, "annotation 1000 of image 10: a polygon of 1000000 numbers"),
    "C27, ../": (named("../x.jpg"), TRAIN, "image 10 has the file name '../x.jpg'"),
    "C27, absolute": (named("/etc/passwd"), TRAIN, "'/etc/passwd'"),
    "C27, ..\\": (named("..\\x.jpg"), TRAIN, "image 10 has the file name"),
    "C27, NUL": (named("a\0.jpg"), TRAIN, r"x00.jpg'"),
    "C27, URL": (named("http://x/y.jpg"), TRAIN, "'http://x/y.jpg'"),
    "C27, 300 chars": (named("a" * 300), TRAIN, "image 10 has the file name"),
    "C27, environ": (named("/proc/self/environ"), TRAIN, "'/proc/self/environ'"),
    "C27, zero": (named("/dev/zero"), TRAIN, "'/dev/zero'"),
    "C27, dots": (named(".."), TRAIN, "image 10 has the file name '..'"),
    "C28": (CONTENT["swapped"][0], TRAIN, "captions_*.json in place of an instances_*.json"),
    "C29": (CONTENT["train is val"][0], FOLDER, "image id 50 is in instances_train2014.json and in instances_val"),
}


@pytest.mark.parametrize("case", BYTES)
def test_bytes(cli: Cli, coco_folder: Any, case: str) -> None:
    (name, change), place = BYTES[case]
    root = coco_folder(images=False)
    path = root / "annotations" / name
    path.write_bytes(change(path.read_bytes()))
    refused(cli("data", "check", "coco", "--data-root", root), 4, str(path), place)


@pytest.mark.parametrize("case", OBJECTS)
def test_objects(cli: Cli, coco_folder: Any, case: str) -> None:
    change, name, place = OBJECTS[case]
    root = coco_folder(change, images=False)
    where = root / "annotations" if name == FOLDER else root / "annotations" / name
    refused(cli("data", "check", "coco", "--data-root", root), 4, str(where), place)


def link(target: str) -> Callable[[Path], object]:
    def put(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return put


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)  # opening it would block for ever


PLACES: dict[str, tuple[Callable[[Path], object], str]] = {  # what lies where an image should
    "C27, link out": (link("/etc/passwd"), "refused the file name"),
    "C27, link to /dev/zero": (link("/dev/zero"), "refused the file name"),
    "C27, link to environ": (link("/proc/self/environ"), "refused the file name"),
    "C27, folder": (folder, "is not a regular file"),
    "C27, pipe": (pipe, "is not a regular file"),
}


@pytest.mark.parametrize("case", PLACES)
def test_places_of_images(cli: Cli, coco_folder: Any, case: str) -> None:
    put, why = PLACES[case]
    root = coco_folder()
    picture = min((root / "train2014").iterdir())
    put(picture)
    said = cli("data", "check", "coco", "--data-root", root)
    assert said.code == 4, said.text
    calm(said)
    (line,) = [line for line in said.out.splitlines() if picture.name in line]
    assert why in line


# -- what is read all the same ------------------------------------------------------------------
def test_c5_a_byte_order_mark_is_read(cli: Cli, coco_folder: Any) -> None:
    root = coco_folder()
    for path in (root / "annotations").iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert cli("data", "check", "coco", "--data-root", root).code == 0


def test_c21_names_of_categories_are_shown_escaped(cli: Cli, coco_folder: Any) -> None:
    names = ("<script>alert(1)</script>", "[/x]", "=1+1", "a\x1b[2Jb")

    def change(files: Any) -> None:
        for part in ("train", "val"):
            files.instances[part]["categories"] += [{"id": 90 + i, "name": n} for i, n in enumerate(names)]

    said = cli("data", "check", "coco", "--data-root", coco_folder(change))
    assert said.code == 0, said.text
    calm(said)
    assert all(name in said.out for name in (*names[:3], r"a\x1b[2Jb"))


def test_c22_boxes_outside_their_image_are_counted(cli: Cli, coco_folder: Any) -> None:
    boxes = [[-30.0, 0.0, 5.0, 5.0], [1.0, 1.0, 0.0, 5.0], [35.0, 25.0, 90.0, 90.0]]

    def change(files: Any) -> None:
        for annotation, box in zip(files.instances["train"]["annotations"], boxes, strict=False):
            annotation["bbox"] = box

    counts = []
    for changed in (None, change):
        root = coco_folder(changed)
        said = cli("data", "check", "coco", "--data-root", root, "--json")
        assert said.code == 0, said.text
        counts.append(json.loads(said.out)["notes"]["train2014"]["boxes outside their image or empty"])
    assert counts == [0, 3]


def test_c32_both_genders_in_the_captions_are_excluded_and_counted(cli: Cli, coco_folder: Any) -> None:
    def change(files: Any) -> None:
        files.captions["train"]["annotations"].append({"id": 999_999, "image_id": 10, "caption": "A woman."})

    found = []
    for changed in (None, change):
        report = json.loads(cli("data", "check", "coco", "--data-root", coco_folder(changed), "--json").out)
        found.append((report["images"]["train"], report["notes"]["train2014"]["both genders"]))
    assert found[1] == (found[0][0] - 1, found[0][1] + 1)
