"""AFLW files that are missing, damaged, hostile or contradictory: one clear line each."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest

from biasbench import DataError
from biasbench.builtin.datasets.aflw import Aflw
from tests.helpers import aflw_files as files

SIZES = {"train": 100, "val": 20, "test": 30}


def refused(root, tmp_path, message, where=""):
    with pytest.raises(DataError, match=message) as caught:
        Aflw(root, tmp_path / "cache", **SIZES).prepare()
    text = str(caught.value)
    assert "\n" not in text
    assert where in text
    assert not list((tmp_path / "cache").rglob("*.jpg"))
    return text


def set_in(table, column, value, row=3):
    """A change of one value, named by its column's place."""

    def change(made):
        old = list(made.rows[table][row])
        old[column] = value
        made.rows[table][row] = tuple(old)

    return change


def again(table, row=3):
    return lambda made: made.rows[table].append(made.rows[table][row])


def schema(table, columns):
    def change(made):
        made.schema[table] = columns
        made.rows[table] = []

    return change


def without(table):
    def change(made):
        del made.schema[table]

    return change


LOOSE = "face_id, file_id, db_id"
CASES = {
    "no table": (without("FacePose"), "there is no table FacePose"),
    "no column": (
        schema("FacePose", "face_id, roll, pitch, yawn"),
        "FacePose has no column 'yaw'.*Did you mean 'yawn'",
    ),
    "yaw is text": (set_in("FacePose", 3, "left"), "FacePose: row 4: yaw is 'left', not a number"),
    "yaw is bytes": (set_in("FacePose", 3, b"\x1b"), "FacePose: row 4: yaw is .*, not a number"),
    "yaw in degrees": (set_in("FacePose", 3, 30.0), "FacePose: yaw of face 39344 is 30 radians, beyond half a turn"),
    "yaw is infinite": (set_in("FacePose", 3, float("inf")), "FacePose: yaw of face 39344 is inf"),
    "rectangle is text": (set_in("FaceRect", 1, "x1"), "FaceRect: row 4: x is 'x1', not a number"),
    "rectangle is infinite": (set_in("FaceRect", 3, float("inf")), "FaceRect: w of face 39344 is inf"),
    "rectangle far away": (set_in("FaceRect", 1, 2e6), "FaceRect: x of face 39344 is 2e"),
    "rectangle outside": (set_in("FaceRect", 1, 500), "the rectangle of face 39344.* lies outside of 'flickr/.*'"),
    "sex": (set_in("FaceMetaData", 1, "x"), "FaceMetaData: sex of face 39344 is 'x'.*'m', 'f' or empty"),
    "sex is bytes": (set_in("FaceMetaData", 1, b"m"), "FaceMetaData: row 4: sex is .*b'm'.*, not text"),
    "photo unknown": (set_in("Faces", 1, "other.jpg"), "Faces: file_id 'other.jpg' is not in FaceImages"),
    "photo twice": (again("FaceImages"), "FaceImages: file_id 'image39344.jpg' stands twice"),
    "path leaves": (set_in("FaceImages", 3, "../../x.jpg"), r"filepath '../../x.jpg' is no path below"),
    "path is absolute": (set_in("FaceImages", 3, "/etc/passwd"), "filepath '/etc/passwd' is no path below"),
    "path drives the terminal": (set_in("FaceImages", 3, "0/\x1b[2J.jpg"), r"filepath '0/\\\\x1b\[2J.jpg' is no path"),
    "photo missing": (set_in("FaceImages", 3, "0/none.jpg"), "1 of .* photos are missing: flickr/0/none.jpg"),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_databases(tmp_path, case):
    change, message = CASES[case]
    made = files.small_aflw()
    if case == "photo twice":
        made.schema["FaceImages"] = made.schema["FaceImages"].replace(" PRIMARY KEY", "")
    made_photos = dict(made.photos)
    change(made)
    path = made.write(tmp_path / "aflw")
    assert made_photos == made.photos
    refused(path.parent, tmp_path, message)


def test_a_face_twice(tmp_path):
    made = files.small_aflw()
    made.schema["Faces"] = LOOSE
    again("Faces")(made)
    refused(made.write(tmp_path / "aflw").parent, tmp_path, "Faces: face_id '39344' stands twice", "aflw.sqlite")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda _: b"", "not an SQLite database"),
        (lambda _: b"face_id,yaw\n", "not an SQLite database"),
        (lambda content: content[:3000], "cannot be read as the database"),
        (lambda content: content[:100] + b"\xff" * 400 + content[500:], "cannot be read as the database"),
        (lambda content: content[: len(content) // 2], "cannot be read as the database"),
    ],
)
def test_damaged_databases(tmp_path, damage, message):
    path = files.small_aflw().write(tmp_path / "aflw")
    path.write_bytes(damage(path.read_bytes()))
    refused(path.parent, tmp_path, message, "aflw.sqlite")


def test_a_folder_in_place_of_the_database(tmp_path):
    (tmp_path / "aflw" / "aflw.sqlite").mkdir(parents=True)
    refused(tmp_path / "aflw", tmp_path, "not a regular file", "aflw.sqlite")


def test_nothing_there(tmp_path):
    (tmp_path / "aflw").mkdir()
    assert not Aflw.recognises(tmp_path / "aflw")
    refused(tmp_path / "aflw", tmp_path, "missing: aflw.sqlite, or image.*mat.*ask for AFLW")


@pytest.mark.parametrize(
    "statements",
    [
        "CREATE VIEW FacePose AS SELECT face_id, load_extension('x') AS yaw FROM Old",
        "CREATE VIEW FacePose AS SELECT face_id, abs(yaw) AS yaw FROM Old",
        "CREATE VIEW FacePose AS WITH RECURSIVE n(y)AS (SELECT 1 UNION SELECT y FROM n) SELECT 1 face_id, y yaw FROM n",
        "CREATE VIRTUAL TABLE FacePose USING fts5(face_id, yaw)",
    ],
)
def test_a_database_that_wants_to_compute_is_refused(tmp_path, statements):
    path = files.small_aflw().write(tmp_path / "aflw")
    database = sqlite3.connect(path)
    database.execute("ALTER TABLE FacePose RENAME TO Old")
    database.execute(statements)
    database.commit()
    database.close()
    refused(path.parent, tmp_path, "FacePose is a (view|virtual table), not a table", "aflw.sqlite")


def test_text_in_another_encoding(tmp_path):
    path = files.small_aflw().write(tmp_path / "aflw")
    database = sqlite3.connect(path)
    database.execute("UPDATE FaceMetaData SET sex = CAST(x'e9' AS TEXT) WHERE face_id = 39344")
    database.commit()
    database.close()
    refused(path.parent, tmp_path, "a text in it is not UTF-8", "aflw.sqlite")


def test_a_value_of_many_bytes(tmp_path):
    made = files.small_aflw()
    set_in("FaceMetaData", 1, "m" * 200_000)(made)
    refused(made.write(tmp_path / "aflw").parent, tmp_path, "cannot be read as the database: .*too big", "aflw.sqlite")


def test_a_photo_that_is_none(tmp_path):
    made = files.small_aflw()
    root = made.write(tmp_path / "aflw").parent
    for name in made.photos.values():
        (root / "flickr" / name).write_bytes(b"\xff\xd8\xff\xe0 no picture")
    refused(root, tmp_path, "cannot be used as an image", ".jpg")


def test_a_photo_that_is_a_link_out_of_the_folder(tmp_path):
    made = files.small_aflw()
    root = made.write(tmp_path / "aflw").parent
    (tmp_path / "secret.jpg").write_bytes(b"")
    for name in made.photos.values():
        (root / "flickr" / name).unlink()
        (root / "flickr" / name).symlink_to(tmp_path / "secret.jpg")
    refused(root, tmp_path, "refused the file name")


MATS = {
    "no pose": ({"Pose_Para": None}, "there is no variable 'Pose_Para'"),
    "no landmarks": ({"pt3d_68": None}, "there is no variable 'pt3d_68'"),
    "pose of another shape": ({"Pose_Para": np.zeros((1, 3))}, "'Pose_Para' is not 1 x 7 real numbers"),
    "pose is text": ({"Pose_Para": "left"}, "'Pose_Para' is not 1 x 7 real numbers"),
    "pose is complex": ({"Pose_Para": np.full((1, 7), 1j)}, "'Pose_Para' is not 1 x 7 real numbers"),
    "pose is a cell": ({"Pose_Para": np.array([[1, "a"]], object)}, "'Pose_Para' is not 1 x 7 real numbers"),
    "yaw is NaN": ({"Pose_Para": np.full((1, 7), np.nan)}, "'Pose_Para' holds a number that is not finite"),
    "yaw in degrees": ({"Pose_Para": np.full((1, 7), 30.0)}, "yaw is 30 radians, beyond half a turn"),
    "landmarks of two rows": ({"pt3d_68": np.zeros((2, 68))}, "'pt3d_68' is not 3 x 68 real numbers"),
    "landmarks infinite": ({"pt3d_68": np.full((3, 68), np.inf)}, "'pt3d_68' holds a number that is not finite"),
}


@pytest.mark.parametrize("case", MATS)
def test_wrong_mats(tmp_path, case):
    changed, message = MATS[case]
    root = files.write_mats(tmp_path / "mats", [0.0] * 3, **changed)
    refused(root, tmp_path, message, "image00001.mat")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda _: b"", "empty"),
        (lambda _: b"no mat" * 50, "does not start as one"),
        (lambda content: content[:200], "ends too early"),
        (lambda content: b"\x89HDF\r\n\x1a\n" + content, "version 7.3"),
        (lambda content: content + b"\0" * 5_000_000, "4 MB, at most 3 are read"),
    ],
)
def test_damaged_mats(tmp_path, damage, message):
    root = files.write_mats(tmp_path / "mats", [0.0] * 3)
    path = root / "AFLW2000" / "image00002.mat"
    path.write_bytes(damage(path.read_bytes()))
    refused(root, tmp_path, message, "image00002.mat")


def test_a_mat_without_its_photo(tmp_path):
    root = files.write_mats(tmp_path / "mats", [(-70, -30, 0, 30, 70)[k % 5] for k in range(100)])
    for path in (root / "AFLW2000").glob("*.jpg"):
        path.unlink()
    refused(root, tmp_path, "100 of 100 photos are missing|photos are missing: AFLW2000/image")
