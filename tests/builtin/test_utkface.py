"""UTKFace: labels from file names, malformed names, copies, splits."""

from __future__ import annotations

import hashlib

import pandas as pd
import pytest

from biasbench import SPLITS, DataError, UsageError, check_table, targets
from biasbench.builtin.datasets.face_ages import AGE_CLASSES
from biasbench.builtin.datasets.utkface import Utkface
from biasbench.builtin.datasets.utkface_names import listed, read_name
from tests.helpers import face_files as files
from tests.helpers.face_tables import everything, refused
from tests.helpers.unprivileged import unprivileged


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("utkface")
    files.write_utkface(folder)
    return folder


@pytest.fixture
def utkface(root, tmp_path):
    return lambda **options: Utkface(root, tmp_path / "cache", **options)


@pytest.mark.parametrize(("task", "protected"), [("age", "gender"), ("gender", "age"), ("ancestry", "gender")])
def test_tables_keep_the_contract(utkface, task, protected):
    faces = utkface(task=task)
    assert Utkface.recognises(faces.root)
    assert Utkface.recognises(faces.root / "UTKFace")
    assert not Utkface.recognises(faces.cache.parent)
    for split in SPLITS:
        check_table(faces.table(split), faces, split)
        assert (targets(faces.table(split)) == faces.table(split)[f"attribute/{task}"]).all()
        assert len(faces.table(split))
    assert faces.label_names == faces.attribute_names[task]
    assert set(faces.attribute_names) == {"age", "gender", "ancestry"}
    assert faces.primary_attribute == protected


def test_labels_are_those_of_the_names(utkface):
    table = everything(utkface(balanced=False))
    assert len(table) == 80
    for row in table.to_dict("records"):
        age, gender, race, _ = row["id"].split("_")
        low = AGE_CLASSES[row["attribute/age"]].rstrip("+").split("-")[0]
        assert int(low) <= int(age)
        assert (row["attribute/gender"], row["attribute/ancestry"]) == (int(gender), int(race))  # 0 is male
        assert row["path"] == f"UTKFace/{row['id']}"


NAMES = {  # why a name tells no labels
    "39_1_20170116174525125.jpg.chip.jpg": "not four parts",
    "61_1_20170109142408075.jpg": "not four parts",
    "1_2_3_4_5.jpg": "not four parts",
    "portrait.jpg": "not four parts",
    "24_0_1_20170116220224657 .jpg.chip.jpg": "the date is no number",
    "55_0_0_20170116232725357jpg.chip.jpg": "the date is no number",
    "26_1_2_.jpg": "the date is no number",
    "26_1_2_20170116184024662.png": "the date is no number",
    "x_1_2_20170116184024662.jpg": "age, gender or race is no number",
    "-3_1_2_20170116184024662.jpg": "age, gender or race is no number",
    "2٣_1_2_20170116184024662.jpg": "age, gender or race is no number",
    "26__2_20170116184024662.jpg": "age, gender or race is no number",
    "117_1_2_20170116184024662.jpg": "age above 116",
    "99999999999999999999_1_2_20170116184024662.jpg": "age above 116",
    "26_2_2_20170116184024662.jpg": "gender is not 0 or 1",
    "26_1_5_20170116184024662.jpg": "race is not 0 to 4",
}


@pytest.mark.parametrize("name", NAMES)
def test_malformed_names(name):
    with pytest.raises(ValueError, match=NAMES[name]):
        read_name(name)
    assert listed([name]).malformed == [(name, NAMES[name])]


def test_malformed_names_are_left_out_counted_and_named(tmp_path):
    good = files.write_utkface(tmp_path, count=20)
    odd = "28_1_2_201701161846515488.jpg.chip.jpg"  # a digit too many in the date, as in the release
    files.draw(tmp_path / "UTKFace", [*NAMES, odd])
    (tmp_path / "UTKFace" / "Thumbs.db").write_bytes(b"x")
    faces = Utkface(tmp_path, tmp_path / "cache", balanced=False)
    assert set(everything(faces)["id"]) == {*good, odd}
    notes = faces.notes()
    assert notes["files"] == 21
    assert notes["malformed names"] == len(NAMES)
    assert notes["malformed: not four parts"] == 4
    assert notes["malformed: the date is no number"] == 4
    assert len(notes["first malformed"]) == 10
    assert (notes["dates of another length"], notes["other files"]) == (1, 1)


def test_hostile_names_are_made_visible(tmp_path):
    files.write_utkface(tmp_path, count=4)
    (tmp_path / "UTKFace" / "a\x1b[2J.jpg").write_bytes(b"x")
    assert Utkface(tmp_path, tmp_path / "cache").notes()["first malformed"] == [r"a\x1b[2J.jpg"]


def test_copies_share_a_split_and_are_counted(tmp_path):
    names = files.write_utkface(tmp_path, count=30)
    folder = tmp_path / "UTKFace"
    copies = [f"{k % 90 + 1}_{k % 2}_0_20170117{k:09}.jpg.chip.jpg" for k in range(25)]
    for copy in copies:
        (folder / copy).write_bytes((folder / names[0]).read_bytes())
    faces = Utkface(tmp_path, tmp_path / "cache", balanced=False)
    table = everything(faces)
    assert len(table) == 55
    assert table.loc[table["id"].isin([*copies, names[0]]), "split"].nunique() == 1
    content = table["path"].map(lambda p: hashlib.sha256((tmp_path / p).read_bytes()).hexdigest())
    assert (table.groupby(content)["split"].nunique() == 1).all()
    notes = faces.notes()
    assert notes["files that are copies of another"] == 25
    assert notes["pictures in several copies"] == 1
    assert notes["of these with labels that contradict"] == 1


def test_splits_are_balanced_and_biased_as_for_imdb(utkface):
    test = utkface(task="gender", bias="eb1", val=0.2, test=0.4).table("test")
    counts = pd.crosstab(test["attribute/age"], test["attribute/gender"])
    assert (counts[0] == counts[1]).all()
    for split in ("train", "val"):
        table = utkface(task="gender", bias="eb1", val=0.2, test=0.4).table(split)
        years = table["id"].str.split("_").str[0].astype(int)
        assert (years[table["attribute/gender"] == 1] < 30).all()
        assert (years[table["attribute/gender"] == 0] >= 40).all()


def test_folders(tmp_path):
    names = files.write_utkface(tmp_path / "a", count=12, folder="crop_part1")
    assert everything(Utkface(tmp_path / "a", tmp_path / "c"))["path"].str.startswith("crop_part1/").all()
    files.write_utkface(tmp_path / "b", count=12, folder=".")
    assert set(everything(Utkface(tmp_path / "b", tmp_path / "c", balanced=False))["path"]) == set(names)
    files.write_utkface(tmp_path / "d", count=12, folder="part1")
    found = everything(Utkface(tmp_path / "d", tmp_path / "c", images="part1", balanced=False))
    assert set(found["path"]) == {f"part1/{name}" for name in names}


def refuse(root, message, start, **options):
    with pytest.raises(DataError) as error:
        Utkface(root, root.parent / "cache", **options).table("train")
    refused(error, message, start)


def test_folders_without_faces(tmp_path):
    refuse(tmp_path, r"no file is named \[age\]_\[gender\]_\[race\]_\[date\].jpg", tmp_path)
    refuse(tmp_path, "cannot be read: No such file", tmp_path / "part9", images="part9")
    (tmp_path / "portrait.jpg").write_bytes(b"x")
    refuse(tmp_path, "no file is named .*, such as 'portrait.jpg'", tmp_path)
    (tmp_path / "UTKFace").mkdir()
    refuse(tmp_path, "no file is named", tmp_path / "UTKFace")
    (tmp_path / "file").write_bytes(b"x")
    refuse(tmp_path, "cannot be read: Not a directory", tmp_path / "file", images="file")


def test_a_folder_that_may_not_be_read(tmp_path):
    (tmp_path / "UTKFace").mkdir(mode=0)
    with unprivileged():
        refuse(tmp_path, "cannot be read: Permission denied", tmp_path / "UTKFace")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "race"}, "utkface: task='race' is unknown"),
        ({"bias": "EB1"}, "utkface: bias='EB1' is unknown"),
        ({"thresholds": "30/45"}, "unknown thresholds"),
        ({"test": 0.0}, "must be above 0"),
        ({"images": "../faces"}, "leaves the data set's folder"),
    ],
)
def test_options_that_cannot_be_meant(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        Utkface(tmp_path, tmp_path, **options)


@pytest.mark.torch
def test_missing_and_damaged_images_are_named_by_the_check(tmp_path):
    from biasbench.datacheck import check

    names = files.write_utkface(tmp_path, count=40)
    faces = Utkface(tmp_path, tmp_path / "cache", balanced=False)
    assert check(faces)["ok"]
    (tmp_path / "UTKFace" / names[0]).write_bytes(b"")
    report = check(Utkface(tmp_path, tmp_path / "cache", balanced=False))
    assert report["undecodable"]["count"] == 1
    assert names[0] in report["undecodable"]["first"][0]
