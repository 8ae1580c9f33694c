"""Every way in which imSitu's files or a prepared list can be wrong gives one clear line."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from biasbench import DataError
from biasbench.builtin.datasets.imsitu import Imsitu

HELPER = Path(__file__).parents[1] / "helpers" / "imsitu_files.py"


@pytest.fixture(scope="session")
def files() -> ModuleType:
    name = "biasbench_test_helpers_imsitu_files"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HELPER)
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


def refused(root, tmp_path, message, name=""):
    """One line that names the file; returns it."""
    with pytest.raises(DataError, match=message) as caught:
        Imsitu(root, tmp_path / "cache").table("train")
    text = str(caught.value)
    assert "\n" not in text
    assert "\x1b" not in text
    assert len(text) < 900
    assert name in text
    assert text.startswith(str(root))
    assert caught.value.fix
    assert caught.value.exit_code == 4
    assert not list((tmp_path / "cache").rglob("images.parquet"))
    return text


# -- official files -------------------------------------------------------------------------
IMAGE = "jumping_0.jpg"


def record(files, **fields):
    files.parts["train"][IMAGE].update(fields)


def renamed(name):
    return lambda f: f.parts["train"].update({name: f.parts["train"].pop(IMAGE)})


CONTENT = {  # a change of the content, the file, and what the message must say
    "no verb": (lambda f: f.parts["train"][IMAGE].pop("verb"), "train", "image 'jumping_0.jpg': .*`verb`"),
    "verb as number": (lambda f: record(f, verb=3), "train", "image 'jumping_0.jpg': Expected `str`, got `int`"),
    "unknown verb": (
        lambda f: record(f, verb="jumpin"),
        "train",
        "'jumping_0.jpg' has the verb 'jumpin', which is not",
    ),
    "hostile verb": (lambda f: record(f, verb="a\x1b[2J"), "train", r"the verb 'a\\\\x1b\[2J'"),
    "no frames": (lambda f: f.parts["train"][IMAGE].pop("frames"), "train", "image 'jumping_0.jpg': .*`frames`"),
    "empty frames": (lambda f: record(f, frames=[]), "train", "image 'jumping_0.jpg' has no frame"),
    "frames as object": (lambda f: record(f, frames={}), "train", "Expected `array`, got `object`.*frames"),
    "agent as number": (lambda f: record(f, frames=[{"agent": 7}]), "train", "image 'jumping_0.jpg': Expected `str"),
    "unknown agent": (lambda f: record(f, frames=[{"agent": "n9"}]), "train", "has the agent 'n9', which is not in"),
    "record null": (lambda f: f.parts["train"].update({IMAGE: None}), "train", "image 'jumping_0.jpg': Expected"),
    "box of three": (lambda f: record(f, bb={"agent": [1, 2, 3]}), "train", "image 'jumping_0.jpg': .*length 4"),
    "box of text": (lambda f: record(f, bb={"agent": ["1", 2, 3, 4]}), "train", "Expected `float`, got `str`"),
    "box without size": (lambda f: f.parts["train"][IMAGE].pop("width"), "train", "has boxes, but not its width"),
    "flat": (lambda f: record(f, height=0), "train", "image 'jumping_0.jpg': Expected `int` >= 1"),
    "traversal": (renamed("../x.jpg"), "train", r"image '\.\./x\.jpg' has no plain file name"),
    "absolute": (renamed("/etc/passwd"), "train", "has no plain file name"),
    "backslash": (renamed("..\\x.jpg"), "train", "has no plain file name"),
    "url": (renamed("http://x/y.jpg"), "train", "has no plain file name"),
    "nul": (renamed("a\0.jpg"), "train", r"image 'a\\\\x00\.jpg' has no plain file name"),
    "no name": (renamed(""), "train", "image '' has no plain file name"),
    "two splits": (
        lambda f: f.parts["test"].update({IMAGE: f.parts["train"][IMAGE]}),
        "",
        "image 'jumping_0.jpg' is in train.json and in test.json",
    ),
    "in test": (lambda f: f.parts["test"]["jumping_200.jpg"].update(verb=""), "test", "'jumping_200.jpg' has the verb"),
    "no nouns": (lambda f: f.space.update(nouns={}), "imsitu_space", "no nouns or no verbs"),
    "no verbs": (lambda f: f.space.pop("verbs"), "imsitu_space", "missing required field `verbs`"),
    "gloss as text": (
        lambda f: next(iter(f.space["nouns"].values())).update(gloss="man"),
        "imsitu_space",
        "Expected `array`, got `str`.*gloss",
    ),
    "no roles": (lambda f: f.space["verbs"]["jumping"].pop("roles"), "imsitu_space", "missing required field `roles`"),
}


@pytest.mark.parametrize("case", CONTENT)
def test_wrong_content(files, tmp_path, case):
    change, part, message = CONTENT[case]
    content = files.small_imsitu()
    change(content)
    root = content.write(tmp_path / "imsitu", size=None)
    refused(root, tmp_path, message, f"{part}.json" if part else "")


TEXT = {  # a change of the file's bytes
    "empty": ("train", lambda _: b"", "the file is empty"),
    "no json": ("train", lambda _: b"<html>404</html>", "not valid JSON"),
    "list": ("train", lambda _: b"[1, 2]", "Expected `object`, got `array`"),
    "cut": ("dev", lambda b: b[: len(b) // 2], "truncated|not valid JSON"),
    "cut by one": ("train", lambda b: b[:-1], "truncated"),
    "rubbish behind": ("test", lambda b: b + b"x", "not valid JSON"),
    "utf-16": ("train", lambda b: b.decode().encode("utf-16"), "not valid JSON"),
    "nested": ("train", lambda _: b'{"a.jpg": ' + b"[" * 100_000, "nested too deeply|truncated"),
    "nan": ("train", lambda b: b.replace(b"[12, ", b"[NaN, ", 1), "not valid JSON|image 'jumping_0.jpg'"),
    "twice": (
        "train",
        lambda b: b.replace(b'"rowing_2.jpg"', b'"jumping_0.jpg"', 1),
        "image 'jumping_0.jpg' stands twice",
    ),
    "space cut": ("imsitu_space", lambda b: b[:-9], "truncated"),
}


@pytest.mark.parametrize("case", TEXT)
def test_damaged_files(files, tmp_path, case):
    name, change, message = TEXT[case]
    root = files.small_imsitu().write(tmp_path / "imsitu", size=None)
    path = root / f"{name}.json"
    path.write_bytes(change(path.read_bytes()))
    refused(root, tmp_path, message, path.name)


def test_missing_files_are_named_with_what_to_do(files, tmp_path):
    root = files.small_imsitu().write(tmp_path / "imsitu", size=None)
    for name in ("dev.json", "imsitu_space.json"):
        (root / name).unlink()
    text = refused(root, tmp_path, "missing: dev.json, imsitu_space.json")
    assert "https://github.com/my89/imSitu" in text
    (tmp_path / "nothing").mkdir()
    refused(tmp_path / "nothing", tmp_path, "missing: train.json, dev.json, test.json, imsitu_space.json")


def test_missing_grounded_files(files, tmp_path):
    root = files.small_imsitu().write(tmp_path / "imsitu", size=None)
    files.small_imsitu().write(root / "SWiG_jsons", size=None)
    (root / "SWiG_jsons" / "imsitu_space.json").unlink()  # the one at the root will do
    assert Imsitu(root, tmp_path / "cache").provides
    (root / "SWiG_jsons" / "test.json").unlink()
    with pytest.raises(DataError, match=r"SWiG_jsons: missing: test\.json"):
        Imsitu(root, tmp_path / "cache").table("train")


def test_the_first_of_several_is_named_and_the_rest_counted(files, tmp_path):
    content = files.small_imsitu()
    for entry in list(content.parts["train"].values())[:5]:
        entry["verb"] = "x"
    refused(content.write(tmp_path / "imsitu", size=None), tmp_path, r"'jumping_0.jpg' .* \(and 4 more like it\)")


def test_something_else_in_place_of_a_file(files, tmp_path):
    root = files.small_imsitu().write(tmp_path / "imsitu", size=None)
    (root / "train.json").unlink()
    os.mkfifo(root / "train.json")
    refused(root, tmp_path, "not a regular file", "train.json")


# -- prepared lists ----------------------------------------------------------------------------
CSV = {  # new text of train.csv (lines 2 to 4), and what the message must say
    "empty": ("", "the file is empty"),
    "no column": ("image,verb\nrowing_0.jpg,rowing\n", "there is no column gender"),
    "two image columns": ("image,image_name,verb,gender\na.jpg,a.jpg,rowing,man\n", "both image and image_name"),
    "a column twice": ("image,verb,verb,gender\na.jpg,rowing,rowing,man\n", "a column stands twice"),
    "short line": ("image,verb,gender\nrowing_0.jpg,rowing\n", "line 2: expected 3 cells, found 2"),
    "long line": ("image,verb,gender\na.jpg,rowing,man\nb.jpg,rowing,man,x\n", "line 3: expected 3 cells, found 4"),
    "open quote": ('image,verb,gender\n"a.jpg,rowing,man\n', "not a CSV file"),
    "unknown verb": ("image,verb,gender\na.jpg,rowin,man\n", "line 2: unknown verb 'rowin'. Did you mean 'rowing'"),
    "no verb": ("image,verb,gender\na.jpg,,man\n", "line 2: unknown verb ''"),
    "unknown code": (
        "image,verb,gender\na.jpg,3,man\n",
        "line 2: unknown verb '3'.*3 verbs of labels.json, with codes",
    ),
    "negative code": ("image,verb,gender\na.jpg,-1,man\n", "line 2: unknown verb '-1'"),
    "gender of 2": ("image,verb,gender\na.jpg,rowing,man\nb.jpg,rowing,2\n", "line 3: gender is '2'"),
    "no gender": ("image,verb,gender\na.jpg,rowing,\n", "line 2: gender is ''"),
    "nan gender": ("image,verb,gender\na.jpg,rowing,nan\n", "line 2: gender is 'nan'"),
    "hostile gender": ("image,verb,gender\na.jpg,rowing,\x1b[2J\n", r"line 2: gender is '\\\\x1b\[2J'"),
    "twice": (
        "image,verb,gender\na.jpg,rowing,man\na.jpg,rowing,man\n",
        r"line 3: image 'a.jpg' is listed already \(tr",
    ),
    "in val too": (
        "image,verb,gender\ncooking_3.jpg,cooking,man\n",
        r"cooking_3.jpg' is listed already \(train.csv, l",
    ),
    "traversal": ("image,verb,gender\n../a.jpg,rowing,man\n", "line 2: '../a.jpg' is no plain file name"),
    "absolute": ("image,verb,gender\n/etc/passwd,rowing,man\n", "line 2: '/etc/passwd' is no plain file name"),
    "no image": ("image,verb,gender\n,rowing,man\n", "line 2: '' is no plain file name"),
}


@pytest.mark.parametrize("case", CSV)
def test_wrong_csv_lists(files, tmp_path, case):
    text, message = CSV[case]
    root = files.write_lists(tmp_path / "imsitu")
    (root / "train.csv").write_text(text)
    refused(root, tmp_path, message, "val.csv" if case == "in val too" else "train.csv")


def test_a_csv_list_that_is_no_utf8(files, tmp_path):
    root = files.write_lists(tmp_path / "imsitu")
    (root / "train.csv").write_bytes("image,verb,gender\nä.jpg,rowing,man\n".encode("latin-1"))
    refused(root, tmp_path, "not a UTF-8 file", "train.csv")
    (root / "train.csv").write_bytes(b"\xef\xbb\xbfimage,verb,gender\na.jpg,rowing,man\n")  # a byte-order mark is fine
    assert len(Imsitu(root, tmp_path / "cache").table("train")) == 1


GOOD = {"image": ["a.jpg", "b.jpg"], "verb": [0, 1], "gender": [0, 1]}
NPZ = {  # arrays in place of those of train.npz, and what the message must say
    "object array": ({"gender": np.array([0, None], object)}, "an array holds Python objects, which are never read"),
    "missing": ({"verb": None}, "there is no column verb"),
    "lengths": ({"gender": [0, 1, 1]}, "columns of different lengths: image 2, verb 2, gender 3"),
    "two dimensions": ({"gender": [[0, 1], [1, 0]]}, "'gender' has 2 dimensions"),
    "float": ({"gender": [0.0, 1.0]}, "'gender' holds float64, not integers or text"),
    "nan": ({"verb": [0.0, np.nan]}, "'verb' holds float64"),
    "bool": ({"gender": [True, False]}, "'gender' holds bool"),
    "bytes": ({"image": np.array([b"a.jpg", b"b.jpg"])}, r"'image' holds \|S5"),
    "gender of 2": ({"gender": [0, 2]}, "row 1: gender is '2'"),
    "gender of -1": ({"gender": [0, -1]}, "row 1: gender is '-1'"),
    "code 3": ({"verb": [0, 3]}, "row 1: unknown verb '3'"),
    "numbered images": ({"image": [1, 2]}, "the images are numbers"),
    "twice": ({"image": ["a.jpg", "a.jpg"]}, r"row 1: image 'a.jpg' is listed already \(train.npz, row 0\)"),
    "scalar": ({"gender": 1}, "'gender' has 0 dimensions"),
}


@pytest.mark.parametrize("case", NPZ)
def test_wrong_npz_lists(files, tmp_path, case):
    changed, message = NPZ[case]
    root = files.write_lists(tmp_path / "imsitu", "npz", names=False)
    np.savez(root / "train.npz", **{k: v for k, v in (GOOD | changed).items() if v is not None})
    refused(root, tmp_path, message, "train.npz")


@pytest.mark.parametrize("kind", ["npz", "parquet"])
@pytest.mark.parametrize("damage", ["cut", "text", "array"])
def test_damaged_lists(files, tmp_path, kind, damage):
    root = files.write_lists(tmp_path / "imsitu", kind)
    path = root / f"train.{kind}"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-30])
    elif damage == "text":
        path.write_bytes(b"image,verb,gender\n")
    else:
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))
    refused(root, tmp_path, f"cannot be read as {'an npz file' if kind == 'npz' else 'Parquet'}", path.name)


PARQUET = {
    "null verb": ({"verb": ["rowing", None]}, "row 1: verb is missing"),
    "null gender": ({"gender": pd.array([0, None], "Int64")}, "row 1: gender is missing"),
    "float gender": ({"gender": [0, np.nan]}, "row 1: gender is missing|'gender' holds float64"),
    "no image": ({"image": ["a.jpg", None]}, "row 1: image is missing"),
    "list": ({"verb": [["rowing"], ["rowing"]]}, "'verb' has 2 dimensions"),
    "lists": ({"verb": [["rowing"], ["rowing", "x"]]}, "cannot be read as Parquet"),
    "dates": ({"verb": pd.to_datetime(["2020-01-01", "2020-01-02"])}, "row 0: verb is 2020-01-01 .*, not text"),
    "bool": ({"gender": [True, False]}, "'gender' holds bool"),
}


@pytest.mark.parametrize("case", PARQUET)
def test_wrong_parquet_lists(files, tmp_path, case):
    changed, message = PARQUET[case]
    root = files.write_lists(tmp_path / "imsitu", "parquet")
    pd.DataFrame(GOOD | changed).to_parquet(root / "train.parquet")
    refused(root, tmp_path, message, "train.parquet")


LABELS = {
    "no list": ('{"a": 1}', "Expected `array`, got `object`"),
    "numbers": ("[1, 2]", "Expected `str`, got `int`"),
    "twice": ('["rowing", "jumping", "rowing"]', "no list of different names"),
    "empty name": ('["rowing", ""]', "no list of different names"),
    "nothing": ("[]", "no list of different names"),
    "damaged": ('["rowing"', "truncated"),
}


@pytest.mark.parametrize("case", LABELS)
def test_wrong_names(files, tmp_path, case):
    text, message = LABELS[case]
    root = files.write_lists(tmp_path / "imsitu")
    (root / "labels.json").write_text(text)
    refused(root, tmp_path, message, "labels.json")


def test_codes_without_names(files, tmp_path):
    for kind in ("csv", "npz"):
        root = files.write_lists(tmp_path / kind, kind, names=False, labels=False)
        text = refused(root, tmp_path, "the verbs are codes, and no file names them", f"train.{kind}")
        assert "labels.json" in text


def test_lists_that_are_missing_or_there_twice(files, tmp_path):
    root = files.write_lists(tmp_path / "imsitu")
    (root / "dev.csv").write_bytes((root / "val.csv").read_bytes())
    refused(root, tmp_path, "two lists for val: val.csv and dev.csv")
    (root / "val.csv").unlink()
    (root / "dev.csv").unlink()
    refused(root, tmp_path, "there is a list for train and none for val.*val.{npz,parquet,csv} or dev.{npz")


def test_names_from_data_are_shown_escaped(files, tmp_path):
    root = files.write_lists(tmp_path / "imsitu", labels=False)
    (root / "labels.json").write_text(json.dumps(["rowing\x1b[2J", "jumping"]))
    refused(root, tmp_path, "line 2: unknown verb 'rowing'", "train.csv")
