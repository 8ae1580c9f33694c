"""IMDB and WIKI from small files in the true format, against counts by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biasbench import SPLITS, UsageError, check_table, targets
from biasbench.builtin.datasets.face_ages import AGE_CLASSES
from biasbench.builtin.datasets.imdb import Imdb
from biasbench.builtin.datasets.wiki import Wiki
from tests.helpers import face_files as files
from tests.helpers.face_tables import everything


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imdb")
    files.small_imdb().write(folder)
    files.small_imdb("wiki").write(folder)
    return folder


@pytest.fixture
def imdb(root, tmp_path):
    return lambda cls=Imdb, **options: cls(root, tmp_path / "cache", **options)


@pytest.mark.parametrize("cls", [Imdb, Wiki])
@pytest.mark.parametrize("task", ["age", "gender"])
def test_tables_keep_the_contract(imdb, cls, task):
    faces = imdb(cls, task=task)
    assert cls.recognises(faces.root)
    for split in SPLITS:
        table = faces.table(split)
        check_table(table, faces, split)
        assert len(table)
        assert table["path"].str.startswith(f"{cls.name}_crop/").all()
        assert (targets(table) == table[f"attribute/{task}"]).all()
        table["label"] = -7  # a copy: nobody else sees it
        assert (faces.table(split)["label"] >= 0).all()
    assert faces.task == "multiclass"
    assert faces.label_names == faces.attribute_names[task]
    assert faces.attribute_names == {"gender": ("man", "woman"), "age": AGE_CLASSES}
    assert faces.primary_attribute == {"age": "gender", "gender": "age"}[task]
    assert cls.primary_attribute == "gender"  # an instance's choice is its own


def test_known_defects_are_counted_and_dropped(imdb):
    notes = imdb(balanced=False).notes()
    assert notes["entries with a defect"] == {
        "no date": 0,
        "impossible age": 3,
        "gender unknown": 1,
        "no face found": 1,
        "a second face": 1,
        "listed twice": 0,
    }
    assert notes["entries dropped, in this order"] == {
        "entries": 247,
        "no possible age": 3,
        "gender unknown": 1,
        "listed twice": 0,
        "no face, or a score below min_score": 2,
        "a second face": 1,
        "kept": 240,
    }
    assert sum(notes[s]["rows"] for s in SPLITS) == 240
    assert sum(notes[s]["identities"] for s in SPLITS) == 120


def test_no_cleaning_keeps_what_has_an_age_and_a_gender(imdb):
    assert len(everything(imdb(clean="none", balanced=False))) == 243
    assert len(everything(imdb(min_score=0.8, balanced=False))) == 241
    assert len(everything(imdb(min_score=3.5, balanced=False))) == 0


def test_labels_are_those_of_the_entries(tmp_path):
    small = files.ImdbFiles()
    wanted = {}
    for k, (age, gender) in enumerate([(14, 1.0), (15, 0.0), (64, 1.0), (65, 0.0), (30, 1.0), (100, 0.0)]):
        path = small.add(f"P{k}", age, gender)
        wanted[path] = (min(max((age - 10) // 5, 0), 11), {1.0: 0, 0.0: 1}[gender])
    small.write(tmp_path)
    table = everything(Imdb(tmp_path, tmp_path / "cache", balanced=False))
    columns = (table["id"], table["attribute/age"], table["attribute/gender"])
    found = {name: (age, gender) for name, age, gender in zip(*columns, strict=True)}
    assert found == wanted


def test_all_photos_of_a_person_are_in_one_split(root, imdb):
    people = {e["full_path"]: e["name"] for e in files.small_imdb().entries}
    for cls in (Imdb, Wiki):
        table = everything(imdb(cls, clean="none", balanced=False))
        assert (table.groupby(table["id"].map(people))["split"].nunique() == 1).all()
        assert table["split"].nunique() == 3


def test_the_unbiased_test_split(imdb):
    for bias in ("none", "eb1", "eb2"):
        test = imdb(task="gender", bias=bias).table("test")
        counts = pd.crosstab(test["attribute/age"], test["attribute/gender"])
        assert (counts[0] == counts[1]).all()
        assert len(test) > 10
        assert test["id"].tolist() == imdb().table("test")["id"].tolist()


@pytest.mark.parametrize(("bias", "young", "old"), [("eb1", 1, 0), ("eb2", 0, 1)])
@pytest.mark.parametrize("thresholds", ["30/40", "35/45"])
def test_extreme_biases(imdb, bias, young, old, thresholds):
    faces = imdb(task="gender", bias=bias, thresholds=thresholds)
    entries = files.small_imdb().entries
    years = {e["full_path"]: e["photo_taken"] - int(e["full_path"].split("_")[1][:4]) for e in entries}
    low, high = map(int, thresholds.split("/"))
    for split in ("train", "val"):
        table = faces.table(split)
        age = table["id"].map(years)
        assert (age[table["attribute/gender"] == young] < low).all()
        assert (age[table["attribute/gender"] == old] >= high).all()
    assert set(faces.table("train")["attribute/gender"]) == {0, 1}


def test_the_identity_balanced_subset(tmp_path):
    many = files.ImdbFiles()
    for k in range(30):
        for photo in range(1 + k % 10):
            many.add(f"P{k}", 20 + photo, year=2000 + photo)
    many.write(tmp_path)
    faces = Imdb(tmp_path, tmp_path / "cache", subset=60, balanced=False)
    table = everything(faces)
    people = {e["full_path"]: e["name"] for e in many.entries}
    given = table["id"].map(people).value_counts()
    assert len(table) == 60
    assert given.max() == 3  # 3 from each of 24 that have three or more would be 72, and two give 57
    had = pd.Series([e["name"] for e in many.entries]).value_counts()
    assert all(given[p] >= min(had[p], 2) for p in had.index)
    assert faces.notes()["entries dropped, in this order"]["not in the identity-balanced subset"] == 165 - 60


def test_cleaning_by_predictions(tmp_path):
    small = files.ImdbFiles()
    told = {"agrees": ("Male", 40), "ten away": ("m", 50), "more than ten": ("man", 50.5), "woman": ("female", 40)}
    paths = {name: small.add(name, 40) for name in (*told, "not predicted")}
    small.add("no age", -3)
    small.write(tmp_path)
    lines = [f"{paths[n]},{g},{a}\n" for n, (g, a) in told.items()]
    (tmp_path / "azure.csv").write_text("file,gender,age\n" + "".join(lines) + "elsewhere.jpg,woman,3\n")
    faces = Imdb(tmp_path, tmp_path / "cache", clean="predictions", predictions="azure.csv", balanced=False)
    assert set(everything(faces)["id"]) == {paths["agrees"], paths["ten away"]}
    dropped = faces.notes()["entries dropped, in this order"]
    assert dropped == {
        "entries": 6,
        "no possible age": 1,
        "gender unknown": 0,
        "listed twice": 0,
        "predictions for other files": 1,
        "no prediction": 1,
        "gender predicted otherwise": 1,
        "age predicted more than 10 years away": 1,
        "kept": 2,
    }


def test_predictions_change_the_fingerprint(tmp_path):
    small = files.small_imdb()
    small.write(tmp_path)
    prints = []
    for age in (40, 20):
        rows = [f"{e['full_path']},{'man' if e['gender'] == 1 else 'woman'},{age}\n" for e in small.entries]
        (tmp_path / "p.csv").write_text("file,gender,age\n" + "".join(rows))
        options = {"clean": "predictions", "predictions": "p.csv", "balanced": False}
        prints.append(Imdb(tmp_path, tmp_path / "cache", **options).fingerprint())
    assert prints[0] != prints[1]


def test_the_index_is_kept_and_follows_the_content(tmp_path):
    path = files.small_imdb().write(tmp_path)
    first = Imdb(tmp_path, tmp_path / "cache")
    first.prepare()
    (kept,) = (tmp_path / "cache" / "imdb").glob("*.parquet")
    again = Imdb(tmp_path, tmp_path / "cache")
    assert again.table("train").equals(first.table("train"))
    assert again.fingerprint() == first.fingerprint()
    kept.write_bytes(b"damaged")
    assert Imdb(tmp_path, tmp_path / "cache").table("train").equals(first.table("train"))
    changed = files.small_imdb(people=60)
    changed.write(tmp_path)
    assert path.exists()
    assert len(everything(Imdb(tmp_path, tmp_path / "cache", clean="none", balanced=False))) == 123


def test_names_of_people_are_not_kept(imdb):
    faces = imdb(Wiki)
    faces.prepare()
    kept = pd.concat([pd.read_parquet(p) for p in (faces.cache / "wiki").glob("*.parquet")])
    assert not kept["identity"].str.contains("Person").any()


@pytest.mark.parametrize("place", ["imdb.mat", "imdb_crop/imdb.mat", "imdb/imdb.mat"])
def test_the_file_may_lie_in_three_places(tmp_path, place):
    made = files.small_imdb().write(tmp_path / "made")
    target = tmp_path / "root" / place
    target.parent.mkdir(parents=True)
    made.rename(target)
    faces = Imdb(tmp_path / "root", tmp_path / "cache")
    assert Imdb.recognises(faces.root)
    folder = Path(place).parent
    assert faces.table("train")["path"][0] == (folder / faces.table("train")["id"][0]).as_posix()
    assert Imdb(faces.root, tmp_path / "cache", images="faces/small").table("val")["path"][0].startswith("faces/small/")


def test_a_path_that_is_listed_twice_is_kept_once(tmp_path):
    small = files.small_imdb()
    small.add("Person 0", 30, path=small.entries[0]["full_path"])
    small.write(tmp_path)
    faces = Imdb(tmp_path, tmp_path / "cache", clean="none", balanced=False)
    assert len(everything(faces)) == 243
    assert faces.notes()["entries with a defect"]["listed twice"] == 1


def test_options_do_not_reshuffle_what_they_do_not_concern(imdb):
    plain, gender, eb1 = imdb(), imdb(task="gender"), imdb(bias="eb1")
    assert gender.table("train")["id"].tolist() == plain.table("train")["id"].tolist()
    assert set(eb1.table("train")["id"]) < set(plain.table("train")["id"])
    assert set(imdb(subset=150).table("train")["id"]) < set(plain.table("train")["id"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "pose"}, "imdb: task='pose' is unknown. Known: gender, age"),
        ({"task": "gendre"}, "Did you mean 'gender'"),
        ({"clean": "azure"}, "clean='azure' is unknown"),
        ({"clean": "predictions"}, "needs a file"),
        ({"predictions": "azure.csv"}, "no other rule uses one"),
        ({"subset": -1}, "subset must be at least 0"),
        ({"bias": "eb3"}, "bias='eb3' is unknown"),
        ({"thresholds": "30"}, "unknown thresholds '30'"),
        ({"val": 0.5, "test": 0.5}, "leave something to train on"),
        ({"images": "../x"}, "leaves the data set's folder"),
        ({"images": "/x"}, "leaves the data set's folder"),
    ],
)
def test_options_that_cannot_be_meant(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        Imdb(tmp_path, tmp_path, **options)


@pytest.mark.torch
def test_every_image_of_the_rows_is_opened_by_the_check(tmp_path):
    from biasbench.datacheck import check

    small = files.small_imdb(people=12)
    small.write(tmp_path, images=True)
    faces = Imdb(tmp_path, tmp_path / "cache", clean="none", balanced=False)
    assert check(faces)["ok"]
    (tmp_path / "imdb_crop" / small.entries[0]["full_path"]).unlink()
    (tmp_path / "imdb_crop" / small.entries[1]["full_path"]).write_bytes(b"no picture")
    report = check(faces)
    assert (report["missing"]["count"], report["undecodable"]["count"]) == (1, 1)
    assert np.isclose(sum(report["images"][s] for s in SPLITS), report["images"]["total"])
