"""Files are whole or absent, bytes are what they were, names stay inside their folder."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biasbench import io
from biasbench.errors import DataError, IntegrityError, StoreError


def left_aside(folder):
    return [p.name for p in folder.iterdir() if p.name.startswith(io.ASIDE)]


# ------------------------------------------------------------------ writing files
def test_writes_and_makes_folders(tmp_path):
    path = tmp_path / "a" / "b.txt"
    io.write_text(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    io.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert left_aside(path.parent) == []


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch, call, number):
    path = tmp_path / "a.txt"
    io.write_text(path, "old")

    def fail(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(io.os, call, fail)
    with pytest.raises(StoreError) as caught:
        io.write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert left_aside(tmp_path) == []
    full = number in (errno.ENOSPC, errno.EDQUOT)
    assert ("the disk is full" in str(caught.value)) == full
    assert str(path) in str(caught.value)


def test_a_full_disk_for_real(tmp_path):
    """A child that may write 4 kB per file: what the kernel refuses, in the middle of the bytes."""
    io.write_text(tmp_path / "a.txt", "old")
    code = (
        "import resource, signal, sys; from pathlib import Path; from biasbench import io\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: io.write_bytes(Path(sys.argv[1]), b'x' * 100_000)\n"
        "except io.StoreError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "a.txt"], capture_output=True, text=True, check=True)
    assert "cannot be written: File too large" in run.stdout
    assert (tmp_path / "a.txt").read_text() == "old"
    assert left_aside(tmp_path) == []


def test_another_exception_passes_through_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.txt"

    def write():
        with io.writing(path) as aside:
            aside.write_text("half")
            raise KeyError("mine")

    with pytest.raises(KeyError):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_the_old_file_and_sweep_clears_the_rest(tmp_path):
    path = tmp_path / "a.txt"
    io.write_text(path, "old")
    code = (
        "import os, signal, sys; from pathlib import Path; from biasbench import io\n"
        "with io.writing(Path(sys.argv[1])) as aside:\n"
        "    aside.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run([sys.executable, "-c", code, path], check=False)
    assert run.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(left_aside(tmp_path)) == 1
    assert io.sweep(tmp_path) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert io.sweep(tmp_path / "absent") == 0


def test_a_parent_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        io.write_text(tmp_path / "file" / "a.txt", "x")


# ------------------------------------------------------------------ writing folders
def test_folder_is_whole_or_absent(tmp_path):
    path = tmp_path / "run"
    with io.writing_folder(path) as aside:
        (aside / "sub").mkdir()
        (aside / "sub" / "a").write_text("1")
        assert not path.exists()
    assert (path / "sub" / "a").read_text() == "1"

    def fail():
        with io.writing_folder(tmp_path / "other") as aside:
            (aside / "a").write_text("1")
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(StoreError, match="the disk is full"):
        fail()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


def test_the_faster_writer_of_a_folder_wins(tmp_path):
    path = tmp_path / "run"
    with io.writing_folder(path) as aside:
        (aside / "a").write_text("slow")
        with io.writing_folder(path) as other:
            (other / "a").write_text("fast")
    assert (path / "a").read_text() == "fast"
    assert left_aside(tmp_path) == []


# ------------------------------------------------------------------ JSON
@given(st.dictionaries(st.text(max_size=4), st.one_of(st.integers(), st.floats(allow_nan=False), st.text(max_size=4))))
def test_canonical_json_reads_back_and_ignores_order(value):
    value = {k: v for k, v in value.items() if not isinstance(v, float) or abs(v) != float("inf")}
    text = io.canonical_json(value)
    assert json.loads(text) == value
    assert io.canonical_json(dict(reversed(value.items()))) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("nan")]}])
def test_json_refuses_what_is_no_number(tmp_path, value):
    with pytest.raises(ValueError, match="JSON"):
        io.canonical_json(value)
    with pytest.raises(ValueError, match="JSON"):
        io.write_json(tmp_path / "a.json", value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"\xff\xfe", b"[" * 100_000])
def test_damaged_json(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(StoreError, match="it is damaged"):
        io.read_json(tmp_path / "a.json")


def test_json_round_trip_and_absence(tmp_path):
    io.write_json(tmp_path / "a.json", {"b": [1, None, "é"]})
    assert io.read_json(tmp_path / "a.json") == {"b": [1, None, "é"]}
    with pytest.raises(StoreError, match="No such file"):
        io.read_json(tmp_path / "b.json")
    with pytest.raises(StoreError, match="directory"):
        io.read_json(tmp_path)


# ------------------------------------------------------------------ arrays
def test_array_round_trip_is_a_read_only_map(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]  # not contiguous
    io.write_array(tmp_path / "a.npy", array)
    again = io.read_array(tmp_path / "a.npy", io.hash_file(tmp_path / "a.npy"))
    assert (again == array).all()
    assert isinstance(again, np.memmap)
    assert not again.flags.writeable


def test_arrays_of_objects_are_refused(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle"):
        io.write_array(tmp_path / "a.npy", np.array([{}]))
    np.save(tmp_path / "b.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(StoreError, match="cannot be read as an array"):
        io.read_array(tmp_path / "b.npy")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_arrays_are_refused_or_still_arrays(tmp_path, data):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(20, dtype=np.float32))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, 127))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(StoreError):
        assert isinstance(io.read_array(path), np.ndarray)


def test_an_archive_is_no_array(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(2))
    with pytest.raises(StoreError):
        io.read_array(tmp_path / "a.npz")


# ------------------------------------------------------------------ hashes
def test_hashes():
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert io.hash_bytes(b"") == empty
    assert io.hash_bytes(memoryview(b"abc")).startswith("ba7816bf8f01cfea")


@pytest.mark.parametrize("position", [0, 77, -1])
def test_one_flipped_bit_is_noticed(tmp_path, position):
    path = tmp_path / "a.npy"
    io.write_array(path, np.arange(100.0))
    digest = io.hash_file(path)
    io.check_file(path, digest)
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="the file is damaged"):
        io.read_array(path, digest)


def test_checksums_and_absent_files(tmp_path):
    io.write_text(tmp_path / "b" / "c.txt", "1")
    io.write_text(tmp_path / "a.txt", "")
    assert list(io.checksums(tmp_path)) == ["a.txt", "b/c.txt"]
    assert io.checksums(tmp_path)["b/c.txt"] == io.hash_bytes(b"1")
    with pytest.raises(StoreError, match="cannot be read"):
        io.hash_file(tmp_path / "none")


# ------------------------------------------------------------------ names from data
@pytest.mark.parametrize(
    "name",
    [
        "", "/etc/passwd", "..", "../x", "a/../../x", "a/../x", "..\\x", "a\\..\\..\\x", "\\\\host\\share\\x", "\\x",
        "C:\\x", "C:x", "c:/x", "file:///etc/passwd", "http://host/x", "a\0b", "x" * 300, "a/" * 3000 + "b", "\ud800",
        "folder", "pipe", "out", "folder/out/secret", "folder/secret", "secret", "out/back/secret", "loop", "loop/x",
    ],
)  # fmt: skip
def test_hostile_names_are_refused(tmp_path, name):
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (tmp_path / "secret").write_text("")
    (root / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path)
    (root / "folder" / "out").symlink_to(tmp_path)
    (root / "folder" / "secret").symlink_to(tmp_path / "secret")
    (root / "secret").symlink_to(tmp_path / "secret")
    (root / "loop").symlink_to(root / "loop")
    os.mkfifo(root / "pipe")
    with pytest.raises(DataError) as caught:
        io.safe_join(root, name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["1.jpg", "train/1.jpg", "a b.jpg", "é.jpg", "a..b.jpg", "...", "-rf", "new/deep/x"])
def test_plain_names_are_joined(tmp_path, name):
    (tmp_path / "train").mkdir()
    (tmp_path / "1.jpg").write_text("")
    assert io.safe_join(tmp_path, name) == tmp_path / name


def test_a_link_inside_the_folder_is_fine(tmp_path):
    (tmp_path / "a.jpg").write_text("")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    assert io.safe_join(tmp_path, "b.jpg") == tmp_path / "b.jpg"


def test_a_folder_on_another_disk_is_fine(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.jpg").write_text("")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "train").symlink_to(tmp_path / "disk")
    assert io.safe_join(tmp_path / "root", "train/a.jpg") == tmp_path / "root" / "train" / "a.jpg"


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=()), max_size=30))
def test_any_name_is_refused_or_inside(tmp_path, name):
    try:
        path = io.safe_join(tmp_path, name)
    except DataError:
        return
    assert Path(os.path.normpath(path)).is_relative_to(tmp_path)
