"""A reader that dies of a file takes nobody along: what is said names the file."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scipy.io import savemat

from biasbench import DataError, StoreError, sandbox
from biasbench.builtin.datasets.imdb import Imdb
from tests.helpers import aflw_files, face_files

HERE = Path(__file__).parent

DEATHS = {
    "segfault": "its reader crashed on it (SIGSEGV)",
    "abort": "its reader crashed on it (SIGABRT)",
    "endless": "its reader took more than 1 s",
    "memory": "its reader needs more than 600 MB",
    "exit": "its reader ended with code 0",
    "leave": "its reader ended with code 3",
    "raise": "its reader failed: ZeroDivisionError: a parser's mistake",
    "lie": "gone",
}


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The readers of these tests can be found by the child."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))


def read(path: Path, how: str, **limits: Any) -> str:
    with sandbox.read_apart("readers:misbehave", path, {"how": how}, **limits) as folder:
        return (folder / "made.txt").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="limits on memory are those of Linux")
@pytest.mark.parametrize("how", DEATHS)
def test_every_death_is_one_line_with_the_file(tmp_path: Path, importable: None, how: str) -> None:
    path = tmp_path / "first.mat"
    path.write_bytes(b"anything")
    with pytest.raises(DataError) as caught:
        read(path, how, memory=600 << 20, seconds=1)
    text = str(caught.value)
    assert DEATHS[how] in text
    assert "\n" not in text
    assert how == "lie" or text.startswith(str(tmp_path / "second.mat"))  # the one that it was at


def test_what_a_reader_prints_and_refuses(tmp_path: Path, importable: None, capfd: pytest.CaptureFixture[str]) -> None:
    assert read(tmp_path, "print") == "fine"
    assert capfd.readouterr() == ("", "")
    with pytest.raises(DataError) as caught:
        read(tmp_path, "refuse")
    assert (caught.value.what, caught.value.where, caught.value.fix) == ("no good", "here", "Mend it")


def test_nothing_is_left_behind(tmp_path: Path, importable: None) -> None:
    for how in ("print", "segfault"):
        with contextlib.suppress(DataError):
            read(tmp_path, how, scratch=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["work"]
    with pytest.raises(StoreError, match="no folder can be made"):
        read(tmp_path, "print", scratch=tmp_path / "absent")


def test_a_module_in_the_working_folder_is_not_taken_for_a_reader(tmp_path: Path, home: Path) -> None:
    (home / "json.py").write_text("import pathlib; pathlib.Path('canary').touch()")
    (home / "shutil.py").write_text("import pathlib; pathlib.Path('canary').touch()")
    (tmp_path / "a.txt").write_text("x")
    with sandbox.read_apart("shutil:copy", tmp_path / "a.txt") as folder:
        assert (folder / "a.txt").read_text() == "x"
    assert not (home / "canary").exists()


# -- the data sets behind it --------------------------------------------------------------------
HOSTILE = {  # a plain double matrix's header, whose sizes promise more than is there
    "M16": struct.pack("<2I", 14, 56) + struct.pack("<4I", 6, 8, 6, 0) + struct.pack("<2I2i", 5, 8, 1_000_000_000, 1)
    + struct.pack("<2I8s", 1, 4, b"imdb\0\0\0\0") + struct.pack("<2I", 9, 8) + bytes(8),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_matrix(tmp_path: Path, case: str) -> None:
    path = tmp_path / "imdb.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM" + HOSTILE[case])
    with pytest.raises(DataError) as caught:
        Imdb(tmp_path, tmp_path / "cache").table("train")
    assert str(caught.value).startswith(str(path))


DEADLY = ((2153, 179), (4600, 95))  # place and value of one byte
LOAD = "import sys; from scipy.io import loadmat; loadmat(sys.argv[1], variable_names=['imdb'])"


def test_m4_mutants_that_end_scipys_reader_are_a_line(tmp_path: Path) -> None:
    """Of 1,500 changes of one byte, 44 end the process that gives this file to scipy 1.17; these are two."""
    path = tmp_path / "imdb.mat"
    savemat(path, {"imdb": face_files.small_imdb(people=3).fields()}, long_field_names=True)
    whole, dead = path.read_bytes(), 0
    for place, value in DEADLY:
        path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        plain = subprocess.run([sys.executable, "-c", LOAD, path], capture_output=True, check=False)
        if plain.returncode < 0:  # without a process of its own, this would be ours
            dead += 1
            with pytest.raises(DataError) as caught:
                Imdb(tmp_path, tmp_path / "cache", clean="none").table("train")
            assert f"{path}: its reader crashed on it (SIG" in str(caught.value)
    if not dead:
        pytest.skip("this scipy dies of none of them")


def test_masks_and_poses_are_read_apart(tmp_path: Path, coco_folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from biasbench.builtin.datasets.aflw_mat import read_mats
    from biasbench.builtin.datasets.coco import Coco

    seen: list[str] = []
    real = sandbox._run

    def run(request: Any, folder: Path) -> int | None:
        seen.append(request["reader"])
        return real(request, folder)

    monkeypatch.setattr(sandbox, "_run", run)
    coco = Coco(coco_folder(images=False), tmp_path / "cache")
    assert len(coco.region("train", "person"))
    root = aflw_files.write_mats(tmp_path / "mats", [0.0] * 2)
    assert len(read_mats(root, "AFLW2000").rows) == 2
    face_files.small_imdb(people=3).write(tmp_path / "imdb")
    assert len(Imdb(tmp_path / "imdb", tmp_path / "cache", clean="none").table("train"))
    told = [name.rpartition(".")[2] for name in seen]
    assert told == ["coco_regions:draw", "aflw_mat:write_mats", "imdb_index:write_metadata"]
