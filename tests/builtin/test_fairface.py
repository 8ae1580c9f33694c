"""FairFace: labels from CSV, ages that a spreadsheet has damaged, and bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from biasbench import SPLITS, DataError, UsageError, check_table, targets
from biasbench.builtin.datasets.fairface import Fairface
from biasbench.builtin.datasets.fairface_csv import AGES, ANCESTRIES, undated
from tests.helpers import face_files as files
from tests.helpers.face_tables import everything, refused


@pytest.fixture
def root(tmp_path):
    files.write_fairface(tmp_path / "fairface")
    return tmp_path / "fairface"


def read(root, **options):
    return Fairface(root, root.parent / "cache", **options)


@pytest.mark.parametrize(("task", "protected"), [("age", "gender"), ("gender", "age"), ("ancestry", "gender")])
def test_tables_keep_the_contract(root, task, protected):
    faces = read(root, task=task)
    assert Fairface.recognises(root)
    assert not Fairface.recognises(root.parent)
    for split in SPLITS:
        check_table(faces.table(split), faces, split)
        assert (targets(faces.table(split)) == faces.table(split)[f"attribute/{task}"]).all()
    assert faces.attribute_names == {"gender": ("man", "woman"), "age": AGES, "ancestry": ANCESTRIES}
    assert faces.primary_attribute == protected


def test_labels_are_those_of_the_files(root):
    raw = pd.concat([pd.read_csv(root / f"fairface_label_{s}.csv") for s in ("train", "val")]).set_index("file")
    table = everything(read(root)).set_index("id")
    assert set(table.index) == set(raw.index)
    raw = raw.loc[table.index]
    assert [AGES[k] for k in table["attribute/age"]] == raw["age"].tolist()
    assert [("Male", "Female")[k] for k in table["attribute/gender"]] == raw["gender"].tolist()
    assert [ANCESTRIES[k] for k in table["attribute/ancestry"]] == raw["race"].tolist()


def test_the_released_val_is_the_test_split_and_val_is_a_fixed_part_of_train(root):
    faces = read(root, val=0.3)
    assert len(faces.table("test")) == 20
    assert faces.table("test")["id"].str.startswith("val/").all()
    assert len(faces.table("train")) + len(faces.table("val")) == 60
    before = set(faces.table("val")["id"])
    files.write_fairface(root, train=50)
    assert set(read(root, val=0.3).table("val")["id"]) == {n for n in before if int(n[6:-4]) <= 50}
    assert set(read(root, val=0.1).table("val")["id"]) < before
    assert faces.notes()["rows"] == {s: len(faces.table(s)) for s in SPLITS}


@pytest.mark.parametrize("folder", ["fairface-img-margin025-trainval", "fairface-img-margin125-trainval"])
def test_images_lie_in_the_released_folder_or_beside(root, folder):
    assert read(root).table("test")["path"][0] == "val/1.jpg"
    (root / folder).mkdir()
    assert read(root).table("test")["path"][0] == f"{folder}/val/1.jpg"
    assert read(root, images="small").table("test")["path"][0] == "small/val/1.jpg"


# -- spreadsheets --------------------------------------------------------------------------------
DATES = {"03-Sep": "3-9", "3-Sep": "3-9", "09-Mar": "3-9", "9-Mar": "3-9", "Mar-09": "3-9", "Oct-19": "10-19"}


def test_groups_as_a_spreadsheet_shows_them():
    assert {text: undated(text) for text in DATES} == DATES
    assert undated("19-Oct") == "10-19"
    for other in (*AGES, "04-Sep", "03-Xyz", "Sep", "2003-09-03", "3/9", "", "03-Sep-2020", "٣-Sep"):
        assert undated(other) is None


def test_three_groups_can_be_taken_for_a_date():
    """Those of which one number can be a month, 0-2 in the year 2000; no date can be two of them."""
    from itertools import product

    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    read_as = {undated(f"{day}-{month}") for day, month in product(range(100), months)}
    assert read_as == {None, "0-2", "3-9", "10-19"}


def test_damaged_ages_are_read_back_counted_and_named(root):
    whole = everything(read(root))
    path = root / "fairface_label_train.csv"
    path.write_text(path.read_text().replace(",3-9,", ",03-Sep,").replace(",10-19,", ",Oct-19,"))
    damaged = read(root)
    assert everything(damaged).equals(whole)
    counts = whole.loc[whole["split"] != "test", "attribute/age"]
    assert damaged.notes()["dates"] == {"03-Sep": int((counts == 1).sum()), "Oct-19": int((counts == 2).sum())}
    told = damaged.notes()["ages that a spreadsheet has turned into dates, and that were read back"]
    assert told == int(counts.isin([1, 2]).sum()) > 0
    assert read(root).fingerprint() == damaged.fingerprint()


HEAD = "file,age,gender,race,service_test\n"
ROW = "train/1.jpg,3-9,Male,White,True\n"
FILES = {
    "empty": (b"", "the file is empty"),
    "header alone": (HEAD, "it has no row"),
    "no header": (ROW, "no column 'file'"),
    "no age": ("file,gender,race\ntrain/1.jpg,Male,White\n", "no column 'age'"),
    "misspelt": (HEAD.replace("race", "races") + ROW, "no column 'race'. Is it 'races'"),
    "age twice": ("file,age,age,gender,race\na,3-9,3-9,Male,White\n", "the column 'age' stands twice"),
    "ragged": (HEAD + ROW + "train/2.jpg,3-9\n", "line 3: expected 5 cells, found 2"),
    "semicolons": ((HEAD + ROW).replace(",", ";"), "no column 'file'"),
    "open quote": (HEAD + '"' + ROW, "not a CSV file"),
    "latin-1": ((HEAD + ROW.replace("White", "Wei\xdf")).encode("latin-1"), "not a UTF-8 file"),
    "utf-16": ((HEAD + ROW).encode("utf-16"), "not a UTF-8 file"),
    "xlsx": (b"PK\x03\x04" + bytes(range(256)), "not a UTF-8 file"),
    "web page": (b"<html>404</html>\n", "no column 'file'"),
    "no age given": (HEAD + ROW.replace("3-9", ""), "line 2: age is ''. Known: 0-2, 3-9"),
    "unknown age": (HEAD + ROW + ROW.replace("3-9", "70+").replace("1", "2"), r"line 3: age is '70\+'"),
    "years": (HEAD + ROW.replace("3-9", "7"), "line 2: age is '7'"),
    "another date": (
        HEAD + ROW.replace("3-9", "04-Sep"),
        "line 2: age is '04-Sep', a date that a spreadsheet has made",
    ),
    "date with slashes": (HEAD + ROW.replace("3-9", "3/9/2020"), "'3/9/2020', a date that a spreadsheet has made"),
    "unknown gender": (HEAD + ROW.replace("Male", "M"), "line 2: gender is 'M'. Known: Male, Female"),
    "unknown race": (HEAD + ROW.replace("White", "white"), "line 2: race is 'white'"),
    "twice": (HEAD + ROW + ROW, "line 3: file is 'train/1.jpg', which stands twice"),
    "traversal": (HEAD + ROW.replace("train/", "../"), "line 2: file is '../1.jpg', no plain path"),
    "absolute": (HEAD + ROW.replace("train/", "/"), "no plain path"),
    "no file name": (HEAD + ROW.replace("train/1.jpg", ""), "line 2: file is '', no plain path"),
    "escape": (HEAD + ROW.replace("3-9", "\x1b[2J"), r"age is '\\\\x1b\[2J'"),
    "nul": (HEAD + ROW.replace("3-9", "a\0b"), r"line contains NUL|age is 'a\\\\x00b'"),
}


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("split", ["train", "val"])
def test_wrong_files(root, case, split):
    content, message = FILES[case]
    path = root / f"fairface_label_{split}.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as error:
        read(root).table("train")
    refused(error, message, path)


def test_the_first_of_several_is_named_and_the_rest_counted(root):
    path = root / "fairface_label_train.csv"
    path.write_text(path.read_text().replace("White", "Weiss"))
    with pytest.raises(DataError, match=r"line 2: race is 'Weiss' \(and 8 more like it\)"):
        read(root).table("train")


def test_quoted_line_breaks_do_not_shift_line_numbers(root):
    path = root / "fairface_label_train.csv"
    path.write_text(HEAD + ROW.replace("True", '"True\n\nor not"') + ROW.replace("1", "2").replace("Male", "M"))
    with pytest.raises(DataError, match="line 5: gender is 'M'"):
        read(root).table("train")


def test_a_byte_order_mark_and_blank_lines_are_passed_over(root):
    before = read(root).fingerprint()
    path = root / "fairface_label_train.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    assert read(root).fingerprint() == before


def test_missing_files(root):
    (root / "fairface_label_val.csv").unlink()
    with pytest.raises(DataError) as error:
        read(root).table("train")
    assert "joojs/fairface" in refused(error, "missing: fairface_label_val.csv", root)


def test_an_image_in_both_files(root):
    path = root / "fairface_label_val.csv"
    path.write_text(path.read_text().replace("val/3.jpg", "train/3.jpg"))
    with pytest.raises(DataError) as error:
        read(root).table("train")
    refused(error, "'train/3.jpg' is in fairface_label_train.csv and in fairface_label_val.csv", root)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "race"}, "fairface: task='race' is unknown"),
        ({"val": 0.0}, "val must be above 0"),
        ({"val": 1.0}, "below 1"),
        ({"images": "/x"}, "leaves the data set's folder"),
    ],
)
def test_options_that_cannot_be_meant(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        Fairface(tmp_path, tmp_path, **options)


def test_groups_are_counted_as_they_are(root):
    table = everything(read(root))
    assert np.bincount(table["attribute/gender"]).tolist() == [40, 40]
