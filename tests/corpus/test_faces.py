"""IMDB, LAOFIW and AFLW, through `biasbench data check`."""

from __future__ import annotations

import json
import shutil
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tests.builtin.test_aflw_strict import set_in
from tests.builtin.test_imdb_strict import BYTES, FIELDS, VARIABLES, at
from tests.corpus.said import calm, refused
from tests.helpers import aflw_files, face_files
from tests.helpers.commands import Said

pytestmark = pytest.mark.torch
Cli = Callable[..., Said]


# -- IMDB ---------------------------------------------------------------------------------------
def classed(kind: int) -> bytes:
    """A file whose field `dob` says that it is of another class: 16 is a function, 17 an opaque object."""
    path = Path("classed.mat")
    savemat(path, {"imdb": face_files.small_imdb(people=3).fields()}, long_field_names=True)
    whole = path.read_bytes()
    path.unlink()
    found = whole.index(struct.pack("<3I", 6, 8, 4))  # the flags of a row of uint32 or double
    return whole[: found + 8] + bytes([kind]) + whole[found + 9 :]


def other_variable(name: bytes) -> bytes:
    path = Path("named.mat")
    savemat(path, {"imdb": face_files.small_imdb(people=3).fields()}, long_field_names=True)
    whole = path.read_bytes()
    path.unlink()
    return whole.replace(b"imdb", name, 1)


MATS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "M1": (BYTES["empty"][0], "the file is empty"),
    **{f"M2, {k}/10": (lambda b, k=k: b[: len(b) * k // 10], "too early") for k in (3, 4, 5, 6, 7, 8, 9)},  # type: ignore[misc]
    "M2, header": (lambda b: b[:90], "does not start as one"),
    "M2, name": (lambda b: b[:20], "does not start as one"),
    "M2, tag": (lambda b: b[:132], "too early"),
    "M3": (BYTES["version 7.3"][0], "version 7.3"),
    "M17": (lambda _: other_variable(b"__gl"), "there is no variable 'imdb'"),
}
STRUCTS: dict[str, tuple[Callable[[Any, Any], object], str]] = {
    "M8": (FIELDS["short"][0], "'gender' has 245 entries, others have 247"),
    "M9, half": (FIELDS["half a gender"][0], "has gender 0.5"),
    "M9, two": (at("gender", 2), "has gender 2"),
    "M13": (FIELDS["traversal"][0], "entry 4: full_path '../../x.jpg'"),
    "M14": (at("celeb_id", 99_999), "entry 4: celeb_id is 99999, of"),
    "M14, nobody": (at("celeb_id", 0), "entry 4: celeb_id is 0, of"),
}


@pytest.mark.parametrize("case", MATS)
def test_mat_files(cli: Cli, tmp_path: Path, case: str) -> None:
    change, place = MATS[case]
    path = face_files.small_imdb(people=3).write(tmp_path / "imdb")
    path.write_bytes(change(path.read_bytes()))
    refused(cli("data", "check", "imdb", "--data-root", tmp_path), 4, str(path), place)


@pytest.mark.parametrize("case", STRUCTS)
def test_structs(cli: Cli, tmp_path: Path, case: str) -> None:
    change, place = STRUCTS[case]
    small = face_files.small_imdb()
    fields = small.fields()
    change(face_files, fields)
    path = small.write(tmp_path / "imdb", fields)
    refused(cli("data", "check", "imdb", "--data-root", tmp_path), 4, str(path), place)


@pytest.mark.parametrize("case", ["the other part", "misspelt"])
def test_m6_m7_other_variables(cli: Cli, tmp_path: Path, case: str) -> None:
    (tmp_path / "imdb").mkdir()
    savemat(tmp_path / "imdb" / "imdb.mat", VARIABLES[case][0])
    said = cli("data", "check", "imdb", "--data-root", tmp_path)
    refused(said, 4, "imdb.mat", "there is no variable 'imdb'", *(["It has wiki"] if case == "the other part" else []))


@pytest.mark.parametrize("kind", [16, 17])
def test_m18_functions_and_objects(cli: Cli, tmp_path: Path, kind: int) -> None:
    (tmp_path / "imdb").mkdir()
    path = tmp_path / "imdb" / "imdb.mat"
    path.write_bytes(classed(kind))
    refused(cli("data", "check", "imdb", "--data-root", tmp_path), 4, str(path))


def test_m9_m10_m11_defects_are_excluded_and_counted(cli: Cli, tmp_path: Path) -> None:
    small = face_files.small_imdb()
    path = small.write(tmp_path / "imdb", images=True)
    said = cli("data", "check", "imdb", "--data-root", tmp_path, "--json")
    assert said.code == 0, said.text
    found = json.loads(said.out)["notes"]["entries with a defect"]
    assert (found["gender unknown"], found["no face found"], found["a second face"]) == (1, 1, 1)  # as small_imdb adds
    assert found["impossible age"] >= 2
    assert path.is_file()


# -- LAOFIW -------------------------------------------------------------------------------------
def laofiw(tmp_path: Path, **options: Any) -> Path:
    face_files.write_laofiw(tmp_path / "laofiw", each=10, **options)
    return tmp_path / "laofiw"


def check(cli: Cli, root: Path, *more: str) -> Said:
    said = cli("data", "check", root.name, "--data-root", root.parent, *more)
    calm(said)
    return said


def test_l1_a_folder_of_an_origin_is_missing(cli: Cli, tmp_path: Path) -> None:
    root = laofiw(tmp_path, listed=False)
    shutil.rmtree(root / "indian")
    said = check(cli, root)
    refused(said, 4, str(tmp_path))


def test_l2_l3_images_are_missing(cli: Cli, tmp_path: Path) -> None:
    root = laofiw(tmp_path)
    (root / "white" / "3.jpg").unlink()
    said = check(cli, root)
    assert said.code == 4
    assert "missing files: 1" in said.out
    assert "white/3.jpg" in said.out
    for folder in face_files.LAOFIW:
        shutil.rmtree(root / folder)
    said = check(cli, root)
    assert said.code == 4
    assert "missing files: 40" in said.out


BROKEN_IMAGES = {"L4": b"<!DOCTYPE html><title>404 Not Found</title>", "L10": b""}


@pytest.mark.parametrize("case", BROKEN_IMAGES)
def test_files_that_are_no_images(cli: Cli, tmp_path: Path, case: str) -> None:
    root = laofiw(tmp_path)
    (root / "black" / "1.jpg").write_bytes(BROKEN_IMAGES[case])
    said = check(cli, root)
    assert said.code == 4
    assert "black/1.jpg: cannot be used as an image" in said.out


def test_l5_l9_copies_and_placeholders_are_counted(cli: Cli, tmp_path: Path) -> None:
    root = laofiw(tmp_path)
    for name in ("black/1.jpg", "white/2.jpg", "white/3.jpg"):
        Image.new("RGB", (1, 1)).save(root / name)
    said = check(cli, root, "--json")
    assert said.code == 0, said.text
    found = json.loads(said.out)["notes"]["exact duplicates"]
    assert (found["groups"], found["images beyond the first"], found["groups of two classes"]) == (1, 2, 1)


LISTS: dict[str, tuple[bytes, str]] = {
    "L7, semicolons": (b"file;class_id\nblack/0.jpg;1\n", "there is no column 'file'"),
    "L8": (b"file,class_id\nblack/0.jpg,1\nblack/1.jpg,2\n", "line 3: class_id is '2', which contradicts"),
    "L8, folder": (b"file\nblak/0.jpg\n", "line 2: file is 'blak/0.jpg'"),
    "L9": (b"file,class_id\nblack/0.jpg,1\nblack/0.jpg,1\n", "line 3: file is 'black/0.jpg', which stands twice"),
}


@pytest.mark.parametrize("case", LISTS)
def test_lists(cli: Cli, tmp_path: Path, case: str) -> None:
    content, place = LISTS[case]
    root = laofiw(tmp_path)
    (root / "list.csv").write_bytes(content)
    refused(check(cli, root), 4, str(root / "list.csv"), place)


def test_l6_l7_line_ends_quotes_and_case(cli: Cli, tmp_path: Path) -> None:
    root = laofiw(tmp_path)
    names = [f"{folder}/{k}.jpg" for folder in face_files.LAOFIW for k in range(10)] + ['black/a"b.jpg', "black/A.jpg"]
    names.append("black/a.jpg")
    face_files.draw(root, names[-3:])
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    (root / "list.csv").write_bytes(("file\r\n" + "".join(f"{q}\r\n" for q in quoted)).encode())
    said = check(cli, root, "--json")
    assert said.code == 0, said.text
    assert json.loads(said.out)["images"]["total"] == len(names)


# -- AFLW ---------------------------------------------------------------------------------------
def page_flipped(content: bytes) -> bytes:
    """The second page says that it has more cells than it can hold."""
    return content[:4096] + content[4096:4099] + b"\xff\xff" + content[4101:]


def cells_flipped(content: bytes) -> bytes:
    """Rows out of their order: every value can be read, and the tree is wrong."""
    pointers = struct.unpack(">2H", content[4096 + 8 : 4096 + 12])
    return content[: 4096 + 8] + struct.pack(">2H", *pointers[::-1]) + content[4096 + 12 :]


DATABASES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "A1": (lambda _: b"face_id,yaw\n", "not an SQLite database"),
    "A2": (lambda b: b[: len(b) // 2], "cannot be read as the database"),
    "A3": (page_flipped, "cannot be read as the database"),
    "A3, order": (cells_flipped, "cannot be read as the database"),
    "A15": (lambda b: np.random.default_rng(0).bytes(len(b)), "not an SQLite database"),
}
STATEMENTS: dict[str, tuple[str, str]] = {
    "A5": ("CREATE VIEW FacePose AS SELECT face_id, yaw FROM Old", "FacePose is a view"),
    "A7": (
        "CREATE VIEW FacePose AS WITH RECURSIVE n(y)AS(SELECT 1 UNION SELECT y+1 FROM n) SELECT 1 face_id,y yaw FROM n",
        "FacePose is a view",
    ),
    "A8": ("CREATE TABLE FacePose (face_id INTEGER, yaw AS (abs(face_id)))", "FacePose has no column 'yaw'"),
    "A16": ("CREATE VIEW FacePose AS SELECT a.face_id, a.yaw FROM Old a, Old b, Old c", "FacePose is a view"),
    "A17": (
        "CREATE TABLE FacePose AS SELECT face_id, CAST(x'e9ff' AS TEXT) AS yaw FROM Old", "a text in it is not UTF-8"
    ),
}  # fmt: skip
ROWS: dict[str, tuple[Callable[[Any], object], str]] = {
    "A9, blob": (set_in("FaceMetaData", 1, b"m"), "FaceMetaData: row 4: sex"),
    "A9, number": (set_in("FaceMetaData", 1, 7), "FaceMetaData: sex of face 39344 is '7'"),
    "A9, space": (set_in("FaceMetaData", 1, "M "), "FaceMetaData: sex of face 39344 is 'M '"),
    "A11": (set_in("Faces", 1, "other.jpg"), "Faces: file_id 'other.jpg' is not in FaceImages"),
    "A12": (set_in("FaceImages", 3, "../../x.jpg"), "filepath '../../x.jpg'"),
}


def aflw(cli: Cli, path: Path) -> Said:
    said = cli("data", "check", "aflw(train=100, val=20, test=30)", "--data-root", path.parents[1])
    calm(said)
    return said


@pytest.mark.parametrize("case", DATABASES)
def test_databases(cli: Cli, tmp_path: Path, case: str) -> None:
    change, place = DATABASES[case]
    path = aflw_files.small_aflw().write(tmp_path / "aflw", images=False)
    whole = path.read_bytes()
    assert change(whole) != whole
    path.write_bytes(change(whole))
    refused(aflw(cli, path), 4, str(path), place)


@pytest.mark.parametrize("case", STATEMENTS)
def test_statements(cli: Cli, tmp_path: Path, case: str) -> None:
    statement, place = STATEMENTS[case]
    path = aflw_files.small_aflw().write(tmp_path / "aflw", images=False)
    database = sqlite3.connect(path)
    database.execute("ALTER TABLE FacePose RENAME TO Old")
    database.execute(statement)
    if case == "A8":
        database.execute("INSERT INTO FacePose (face_id) SELECT face_id FROM Old")
    database.commit()
    database.close()
    refused(aflw(cli, path), 4, str(path), place)


@pytest.mark.parametrize("case", ROWS)
def test_rows(cli: Cli, tmp_path: Path, case: str) -> None:
    change, place = ROWS[case]
    made = aflw_files.small_aflw()
    change(made)
    path = made.write(tmp_path / "aflw", images=False)
    refused(aflw(cli, path), 4, str(path), place)


def test_a13_a_journal_beside_it_is_not_ignored(cli: Cli, tmp_path: Path) -> None:
    path = aflw_files.small_aflw().write(tmp_path / "aflw", images=False)
    copy = tmp_path / "other" / "aflw" / "aflw.sqlite"
    copy.parent.mkdir(parents=True)
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("UPDATE FacePose SET yaw = 0")
    database.commit()  # in the journal, not yet in the file
    for file in path.parent.glob("aflw.sqlite*"):
        shutil.copy(file, copy.parent)
    database.close()
    refused(aflw(cli, copy), 4, str(copy), "a part of it lies in aflw.sqlite-wal")


def test_a6_a14_triggers_never_fire_and_nothing_is_written(cli: Cli, tmp_path: Path) -> None:
    path = aflw_files.small_aflw().write(tmp_path / "aflw")
    database = sqlite3.connect(path)
    database.execute("CREATE TRIGGER t AFTER UPDATE ON FacePose BEGIN DELETE FROM Faces; END")
    database.commit()
    database.close()
    before = path.read_bytes()
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        said = aflw(cli, path)
    finally:
        path.parent.chmod(0o755)
    assert said.code == 0, said.text
    assert path.read_bytes() == before
    assert not list(path.parent.glob("aflw.sqlite-*"))
