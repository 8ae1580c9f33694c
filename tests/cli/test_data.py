from __future__ import annotations

import functools
import http.server
import json
import threading
import zipfile
from pathlib import Path

import pytest

from biasbench.cli.data import plain, text_of, with_options
from biasbench.errors import UsageError

TINY = Path(__file__).parent / "tiny.py"
PLUGIN = ("--plugin", TINY)


def test_list_says_where_a_data_set_is_or_how_to_get_it(cli, tmp_path):
    said = json.loads(cli("data", "list", "--json", "--data-root", tmp_path, *PLUGIN).out)
    found = {d["name"]: d for d in said["datasets"]}
    assert found["coco"]["state"] == "not here"
    assert found["coco"]["looked_in"] == [str(tmp_path / "coco"), str(tmp_path)]
    assert any("biasbench data download coco" in way for way in found["coco"]["obtain"])
    assert found["tiny"]["state"] == "made when needed"
    assert found["scenes"]["state"] == "made when needed"
    text = cli("data", "list").out
    assert "coco" in text
    assert "not here" in text


def test_make_is_done_once_and_tells_its_rows(cli, tmp_path):
    first = json.loads(cli("data", "make", "tiny", "gap=0.2", "--json", *PLUGIN).out)
    assert first["dataset"] == "tiny(gap=0.2)"
    assert first["rows"] == {"train": 48, "val": 20, "test": 22}
    folder = Path(first["path"])
    assert folder.is_relative_to(tmp_path / "cache")
    stamp = (folder / "done").stat().st_mtime_ns
    assert json.loads(cli("data", "make", "tiny(gap=0.2)", "--json", *PLUGIN).out) == first
    assert (folder / "done").stat().st_mtime_ns == stamp
    assert json.loads(cli("data", "list", "--json", *PLUGIN).out)["datasets"][-1]["state"] == "made when needed"
    text = cli("data", "make", "tiny", "gap=0.2", *PLUGIN).out
    assert "  train: 48" in text.splitlines()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("tiny", "gap"), "cannot read the option 'gap'. Write OPTION=VALUE."),
        (("tiny", "a.b=1"), "cannot read the option 'a.b=1'"),
        (("tiny(gap=0.1)", "gap=0.2"), "options stand in the name and after it"),
        (("tiny", "gapp=0.2"), "Options: gap: float = 0.4"),
        (("tiny", "gap=much"), "gap: Input should be a valid number"),
        (("tniy",), "Did you mean 'tiny'?"),
    ],
)
def test_wrong_options_are_told(cli, arguments, expected):
    said = cli("data", "make", *arguments, *PLUGIN)
    assert said.code == 2
    assert expected in said.err


def test_options_after_the_name():
    assert with_options("scenes", ()) == "scenes"
    assert with_options("scenes", ("bias=0.5", "words=a b", "on=true")) == "scenes(bias=0.5, words='a b', on=True)"
    with pytest.raises(UsageError):
        with_options("scenes", ("=1",))


@pytest.mark.torch
def test_check_counts_and_names_what_is_damaged(cli):
    whole = cli("data", "check", "tiny", *PLUGIN)
    assert whole.code == 0
    # Of 48, 20 and 22 rows every third is red: 16, 7 and 8.
    assert " label red 16 7 8" in [" " + " ".join(line.split()) for line in whole.out.splitlines()]
    assert "The data set is whole" in whole.out
    said = json.loads(cli("data", "check", "tiny", "--json", *PLUGIN).out)
    assert said["schema"] == "biasbench/data-check"
    assert said["attributes"]["gender"]["val"] == {"a": 10, "b": 10}
    folder = Path(said["path"])
    for i in range(12):
        (folder / f"train-{i}.png").unlink()
    (folder / "val-3.png").write_bytes((folder / "val-3.png").read_bytes()[:100])
    damaged = cli("data", "check", "tiny", *PLUGIN)
    assert damaged.code == 4
    for part in ("missing files: 12", "  train-0.png", "  … and 2 more", "undecodable files: 1", "  val-3.png"):
        assert part in damaged.out
    assert "The data set is damaged" in damaged.out


def test_a_missing_data_set_is_one_line_with_exit_code_4(cli, tmp_path):
    said = cli("data", "check", "coco", "--data-root", tmp_path)
    assert (said.code, said.out) == (4, "")
    (line,) = said.err.splitlines()
    assert line.startswith("biasbench: error[data]: the data set 'coco' was not found. Looked in: ")
    assert str(tmp_path / "coco") in line
    assert "biasbench data download coco" in line


@pytest.fixture
def server(tmp_path):
    """Serves a folder with a release of one picture on loopback; gives its address."""
    folder = tmp_path / "mirror" / "zips"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "val2017.zip", "w") as packed:
        packed.writestr("val2017/1.jpg", b"not a picture")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """Says nothing."""

    handler = functools.partial(Quiet, directory=str(folder.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_download_goes_to_the_data_sets_own_folder(cli, tmp_path, server):
    asked = ("data", "download", "coco", "--year", "2017", "--part", "val", "--base-url", server)
    said = cli(*asked, "--data-root", tmp_path / "root")
    folder = tmp_path / "root" / "coco" / "val2017"
    assert (said.code, said.out.strip()) == (0, str(folder))
    assert (folder / "1.jpg").read_bytes() == b"not a picture"
    # A root that is a COCO folder already gets the rest.
    (tmp_path / "old" / "annotations").mkdir(parents=True)
    assert cli(*asked, "--data-root", tmp_path / "old").out.strip() == str(tmp_path / "old" / "val2017")


def test_a_download_that_cannot_be_had_is_exit_code_4(cli, tmp_path, server):
    said = cli("data", "download", "coco", "--part", "train", "--base-url", server, "--data-root", tmp_path / "r")
    assert said.code == 4
    assert said.err.startswith("biasbench: error[data]: ")
    assert len(said.err.splitlines()) == 1


def test_facts_become_plain_values_and_lines():
    import numpy as np

    facts = {"a": np.arange(2), "b": {"c": float("nan"), "d": np.float64(0.5)}, 3: (1, Path("x")), "e": {}}
    assert plain(facts) == {"a": [0, 1], "b": {"c": None, "d": 0.5}, "3": [1, "x"], "e": {}}
    assert text_of(plain(facts)).splitlines() == ["a: 0, 1", "b:", "  c: none", "  d: 0.5", "3: 1, x", "e: none"]
    assert text_of({"long": list(range(30))}) == "long: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, … (30 in all)"
    assert text_of({"name": "\x1b[2J"}) == "name: \\x1b[2J"
