"""Every way in which imdb.mat or a file of predictions can be wrong gives one clear line."""

from __future__ import annotations

import os
import struct
import zlib

import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csc_array

from biasbench import DataError
from biasbench.builtin.datasets import face_mat
from biasbench.builtin.datasets.imdb import Imdb
from biasbench.builtin.datasets.imdb_clean import find_mat
from biasbench.builtin.datasets.imdb_index import read_metadata
from biasbench.builtin.datasets.wiki import Wiki
from tests.helpers import face_files as files
from tests.helpers.face_tables import refused


def load(root, **options):
    """The struct is read in this process, once: a process of its own for each case would cost most of the time."""
    if not options:
        return read_metadata(find_mat(root, "imdb"), "imdb")
    return Imdb(root, root.parent / "cache", **options).table("train")


# -- the struct's content ------------------------------------------------------------------------
def at(name, value, where=3):
    def change(files, fields):
        fields[name] = fields[name].copy()
        if fields[name].dtype != object:
            fields[name] = fields[name].astype(float)
        fields[name][0, where] = value

    return change


def to(name, make):
    def change(files, fields):
        fields[name] = make(fields[name])

    return change


def without(name):
    return lambda _, fields: fields.pop(name)


FIELDS = {
    "no dob": (without("dob"), "no field 'dob'.* Its fields are photo_taken"),
    "no paths": (without("full_path"), "no field 'full_path'"),
    "no second score": (without("second_face_score"), "no field 'second_face_score'"),
    "no identity": (lambda _, f: (f.pop("celeb_id"), f.pop("name")), "no field 'name'"),
    "misspelt": (lambda _, f: f.update(Gender=f.pop("gender")), "no field 'gender'. Did you mean 'Gender'"),
    "short": (to("gender", lambda a: a[:, :-2]), "'gender' has 245 entries, others have 247"),
    "long": (to("dob", lambda a: np.hstack([a, a])), "'dob' has 494 entries, others have 247"),
    "square": (to("photo_taken", lambda a: np.vstack([a, a])), "'photo_taken' is 2 x 247, not a row"),
    "ages as text": (to("dob", lambda _: np.array(["x" * 9])), "'dob' does not hold real numbers"),
    "complex": (to("dob", lambda a: a + 1j), "'dob' does not hold real numbers"),
    "sparse": (to("face_score", lambda a: csc_array(np.nan_to_num(a, neginf=0))), "'face_score' is no plain array"),
    "cell of numbers": (to("gender", lambda a: a.astype(object)), "'gender' does not hold real numbers"),
    "paths as numbers": (to("full_path", lambda a: np.ones(a.shape)), "'full_path' is no cell array of texts"),
    "paths as a matrix": (to("full_path", lambda _: np.array(["abc"])), "'full_path' is no cell array of texts"),
    "path a number": (at("full_path", np.array([[7.0]])), "entry 4: 'full_path' is no text"),
    "path missing": (at("full_path", np.zeros((0, 0))), "entry 4: full_path '' is no plain path"),
    "traversal": (at("full_path", "../../x.jpg"), r"entry 4: full_path '../../x.jpg' is no plain path"),
    "inner traversal": (at("full_path", "01/../x.jpg"), "is no plain path"),
    "absolute": (at("full_path", "/etc/passwd"), "entry 4: full_path '/etc/passwd' is no plain path"),
    "drive": (at("full_path", "c:/x.jpg"), "is no plain path"),
    "backslash": (at("full_path", "01\\x.jpg"), "is no plain path"),
    "url": (at("full_path", "http://x/y.jpg"), "is no plain path"),
    "escape": (at("full_path", "01/\x1b[2J.jpg"), r"full_path '01/\\\\x1b\[2J.jpg' is no plain path"),
    "gender of three": (at("gender", 3), "'03/nm0000003_.*.jpg' has gender 3. The release has 1"),
    "half a gender": (at("gender", 0.5), "has gender 0.5"),
    "infinite gender": (at("gender", np.inf), "has gender inf"),
    "no celebrity": (at("celeb_id", np.nan), "entry 4: celeb_id is nan"),
    "half a celebrity": (at("celeb_id", 1.5), "entry 4: celeb_id is 1.5"),
    "no entries": (
        lambda files, f: f.update({k: (files.cells([]) if v.dtype == object else v[:, :0]) for k, v in f.items()}),
        "the struct has no entry",
    ),
}


@pytest.mark.parametrize("case", FIELDS)
def test_wrong_fields(tmp_path, case):
    change, message = FIELDS[case]
    small = files.small_imdb()
    fields = small.fields()
    change(files, fields)
    path = small.write(tmp_path / "imdb", fields)
    with pytest.raises(DataError) as error:
        load(tmp_path / "imdb")
    refused(error, message, path)
    assert not list((tmp_path / "cache").rglob("*.parquet"))


def test_the_first_of_several_is_named_and_the_rest_counted(tmp_path):
    small = files.small_imdb()
    fields = small.fields()
    fields["gender"][0, 2:7] = 9
    small.write(tmp_path / "imdb", fields)
    with pytest.raises(DataError, match=r"'02/.*' has gender 9 \(and 4 more like it\)"):
        load(tmp_path / "imdb")


def test_dates_that_are_none_are_counted_not_refused(tmp_path):
    small = files.small_imdb()
    fields = small.fields()
    fields["dob"] = fields["dob"].astype(float)
    fields["dob"][0, :4] = [np.nan, np.inf, 1e18, -1e300]
    small.write(tmp_path / "imdb", fields)
    notes = Imdb(tmp_path / "imdb", tmp_path / "cache", clean="none").notes()
    assert notes["entries with a defect"]["no date"] == 4


# -- the file ----------------------------------------------------------------------------------------
def bomb(content):
    """The file with an element behind it that unfolds into 40 MB of zeros."""
    packed = zlib.compress(bytes(40 << 20), 9)
    return content + struct.pack("<II", 15, len(packed)) + packed


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


BYTES = {
    "empty": (lambda _: b"", "the file is empty"),
    "web page": (lambda _: b"<html>404</html>", "does not start as one"),
    "tar": (lambda _: bytes(512), "does not start as one"),
    "version 7.3": (lambda b: b[:128].ljust(512, b"\0") + b"\x89HDF\r\n\x1a\n" + bytes(99), "version 7.3 .HDF5."),
    "plain HDF5": (lambda _: b"\x89HDF\r\n\x1a\n" + bytes(999), "version 7.3 .HDF5."),
    "version 4": (lambda _: struct.pack("<5i", 0, 1, 1, 0, 2) + b"x\0" + struct.pack("<d", 1), "does not start as one"),
    "header alone": (lambda b: b[:128], "no variable 'imdb'"),
    "half a header": (lambda b: b[:100], "does not start as one"),
    "cut": (lambda b: b[: len(b) // 2], "it ends too early"),
    "cut by one": (lambda b: b[:-1], "it ends too early"),
    "cut in a tag": (lambda b: b[:132], "it ends too early"),
    "flipped": (flipped, "damaged"),
    "rubbish behind": (lambda b: b + b"rubbish, rubbish", "damaged .an element of kind"),
    "no zlib stream": (lambda b: b[:136] + b"x" * (len(b) - 136), "damaged"),
    "cut stream": (
        lambda b: b[:132] + struct.pack("<I", 100) + b[136:236],
        "damaged .an element ends too early.",
    ),
    "bomb": (bomb, "unfolds into more than 32 MB"),
}


@pytest.mark.parametrize("case", BYTES)
def test_damaged_files(tmp_path, case, monkeypatch):
    change, message = BYTES[case]
    monkeypatch.setattr(face_mat, "MAX_BYTES", 32 << 20)
    path = files.small_imdb().write(tmp_path / "imdb")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError) as error:
        load(tmp_path / "imdb")
    refused(error, message, path)


def test_every_cut_is_told(tmp_path):
    """Wherever a download stops, and whichever byte is wrong, there is one line."""
    small = files.small_imdb(people=3)
    path = small.write(tmp_path / "imdb")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for size in rng.integers(0, len(whole), 40):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"ends too early|does not start as one|is empty|no variable 'imdb'"):
            face_mat.read_struct(path, "imdb")


def test_no_byte_makes_a_traceback(tmp_path):
    """An uncompressed file with one byte changed is read, or refused in one line."""
    small = files.small_imdb(people=3)
    path = tmp_path / "imdb.mat"
    savemat(path, {"imdb": small.fields()}, long_field_names=True)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    outcomes = set()
    for place in rng.integers(0, len(whole), 150):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            load(tmp_path)
            outcomes.add("read")
        except DataError as error:
            outcomes.add(str(error).partition(": ")[0])
    assert outcomes == {"read", str(path)}


VARIABLES = {
    "the other part": ({"wiki": {"dob": 1.0}}, "no variable 'imdb'. It has wiki"),
    "misspelt": ({"IMDB": {"dob": 1.0}}, "no variable 'imdb'"),
    "a number": ({"imdb": 7.0}, "'imdb' is no struct"),
    "several": ({"imdb": np.array([(1.0,), (2.0,)], [("dob", object)])}, "'imdb' is no struct"),
}


@pytest.mark.parametrize("case", VARIABLES)
def test_wrong_variables(tmp_path, case):
    content, message = VARIABLES[case]
    savemat(tmp_path / "imdb.mat", content)
    with pytest.raises(DataError) as error:
        load(tmp_path)
    refused(error, message, tmp_path / "imdb.mat")


def test_a_missing_file_is_told_with_where_it_may_lie(tmp_path):
    for cls in (Imdb, Wiki):
        assert not cls.recognises(tmp_path)
        with pytest.raises(DataError) as error:
            cls(tmp_path, tmp_path / "cache").table("train")
        refused(error, f"no {cls.name}.mat, nor in {cls.name}_crop or {cls.name}", tmp_path)


def test_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "imdb.mat")  # reading it would block for ever
    with pytest.raises(DataError) as error:
        load(tmp_path)
    refused(error, "not a regular file", tmp_path / "imdb.mat")


# -- predictions ---------------------------------------------------------------------------------------
HEAD = "file,gender,age\n"
PREDICTIONS = {
    "empty": (b"", "the file is empty"),
    "header alone": (HEAD, "it has no row"),
    "no age": ("file,gender\na.jpg,man\n", "no column 'age'"),
    "misspelt": ("files,gender,age\na.jpg,man,1\n", "no column 'file'. Is it 'files'"),
    "age twice": ("file,gender,age,age\na.jpg,man,1,2\n", "the column 'age' stands twice"),
    "ragged": (HEAD + "P,man\n", "line 2: expected 3 cells, found 2"),
    "gender as number": (HEAD + "P,1,40\n", "line 2: gender is '1'. Use man or woman"),
    "no gender": (HEAD + "P,,40\n", "line 2: gender is ''"),
    "age as text": (HEAD + "P,man,old\n", "line 2: age is 'old'"),
    "age nan": (HEAD + "P,man,nan\n", "line 2: age is 'nan'"),
    "age infinite": (HEAD + "P,man,inf\n", "line 2: age is 'inf'"),
    "age below 0": (HEAD + "P,man,-1\n", "line 2: age is '-1'"),
    "age with a comma": (HEAD + 'P,man,"40,5"\n', "line 2: age is '40,5'"),
    "twice": (HEAD + "P,man,40\nP,man,41\n", "line 3: file is '.*', which stands twice"),
    "other files": (HEAD + "x/y.jpg,man,40\n", "no file is one of the metadata, such as 'x/y.jpg'"),
    "with the folder": (HEAD + "imdb_crop/P,man,40\n", "Did you mean '"),
    "open quote": (HEAD + 'P,"man,40\n', "not a CSV file"),
    "latin-1": ((HEAD + "P,m\xe4nnlich,40\n").encode("latin-1"), "not a UTF-8 file"),
    "utf-16": ((HEAD + "P,man,40\n").encode("utf-16"), "not a UTF-8 file"),
    "escape": (HEAD + "P,\x1b[2J,40\n", r"gender is '\\\\x1b\[2J'"),
}


@pytest.mark.parametrize("case", PREDICTIONS)
def test_wrong_predictions(tmp_path, case):
    content, message = PREDICTIONS[case]
    small = files.small_imdb()
    small.write(tmp_path / "imdb")
    known = small.entries[0]["full_path"]
    path = tmp_path / "imdb" / "p.csv"
    if isinstance(content, str):
        path.write_text(content.replace("P,", f"{known},"))
    else:
        path.write_bytes(content.replace(b"P,", f"{known},".encode()))
    with pytest.raises(DataError) as error:
        load(tmp_path / "imdb", clean="predictions", predictions="p.csv")
    refused(error, message, path)


@pytest.mark.parametrize(
    ("name", "message"),
    [("p.csv", "there is no file 'p.csv'"), ("../p.csv", "refused the file name"), ("/p.csv", "refused the file name")],
)
def test_predictions_that_are_not_there(tmp_path, name, message):
    files.small_imdb().write(tmp_path / "imdb")
    (tmp_path / "p.csv").write_text(HEAD)
    with pytest.raises(DataError) as error:
        load(tmp_path / "imdb", clean="predictions", predictions=name)
    refused(error, message, tmp_path / "imdb")
