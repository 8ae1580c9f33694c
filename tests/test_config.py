from __future__ import annotations

import os
from pathlib import Path

import pytest

from biasbench.config import load_settings
from biasbench.errors import UsageError


@pytest.fixture
def places(tmp_path):
    """A working folder and the environment of a user whose home is below tmp_path."""
    work = tmp_path / "work"
    work.mkdir()
    environ = {f"XDG_{k}_HOME": str(tmp_path / k.lower()) for k in ("CONFIG", "CACHE", "DATA")}
    return work, environ


def user_file(environ: dict[str, str], text: str) -> Path:
    path = Path(environ["XDG_CONFIG_HOME"]) / "biasbench" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_defaults_are_the_users_own_folders(places, tmp_path):
    work, environ = places
    s = load_settings(environ=environ, folder=work)
    assert s.data_roots == (tmp_path / "data" / "biasbench",)
    assert s.cache == tmp_path / "cache" / "biasbench"
    assert s.results == Path("results")
    assert set(s.origins.values()) == {"default"}


def test_each_layer_yields_to_the_stronger_one(places):
    work, environ = places
    user = user_file(environ, 'data = "/user"\nresults = "/user-r"\ncache = "/user-c"')
    said = [load_settings(environ=environ, folder=work)]
    (work / "biasbench.toml").write_text('data = ["/project"]\nresults = "/project-r"')
    said.append(load_settings(environ=environ, folder=work))
    environ = {**environ, "BIASBENCH_DATA": "/env", "BIASBENCH_RESULTS": ""}
    said.append(load_settings(environ=environ, folder=work))
    said.append(load_settings(environ=environ, folder=work, data=["/flag"]))
    assert [s.data_roots for s in said] == [(Path(p),) for p in ("/user", "/project", "/env", "/flag")]
    # An empty variable says nothing.
    assert [str(s.results) for s in said] == ["/user-r", "/project-r", "/project-r", "/project-r"]
    assert [str(s.cache) for s in said] == ["/user-c"] * 4
    project = str(work / "biasbench.toml")
    assert [s.origins["data"] for s in said] == [str(user), project, "BIASBENCH_DATA", "command line"]


def test_relative_paths_in_a_file_count_from_that_file_and_data_may_be_several(places):
    work, environ = places
    (work / "biasbench.toml").write_text('data = ["a", "/b"]\nresults = "r"')
    s = load_settings(environ=environ, folder=work)
    assert s.data_roots == (work / "a", Path("/b"))
    assert s.results == work / "r"


def test_several_data_roots_are_joined_like_a_search_path(places):
    work, environ = places
    joined = os.pathsep.join(("/a", "", "/b"))
    assert load_settings(environ={**environ, "BIASBENCH_DATA": joined}, folder=work).data_roots == (
        Path("/a"),
        Path("/b"),
    )
    assert load_settings(data=[joined, "/c"], environ=environ, folder=work).data_roots == (
        Path("/a"),
        Path("/b"),
        Path("/c"),
    )
    # A results folder may have a colon in its name.
    assert load_settings(results=f"/x{os.pathsep}y", environ=environ, folder=work).results == Path(f"/x{os.pathsep}y")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dat = '/x'", ["unknown key 'dat'", "Did you mean 'data'?"]),
        ("results = 3", ["results must be a path, not 3"]),
        ("results = ['/a', '/b']", ["results must be a path, not"]),
        ("data = ['/a', 3]", ["data must be a path or a list of paths"]),
        ("data = '/a'\nfoo = 1\ncache = ''", ["unknown key 'foo'", "cache must be a path"]),
        ("data = [", ["is not TOML"]),
        ("\x00", ["is not TOML"]),
    ],
)
def test_a_wrong_file_is_one_line_with_every_mistake(places, text, expected):
    work, environ = places
    (work / "biasbench.toml").write_text(text)
    with pytest.raises(UsageError) as error:
        load_settings(environ=environ, folder=work)
    said = str(error.value)
    assert said.startswith(str(work / "biasbench.toml"))
    assert "\n" not in said
    for part in expected:
        assert part in said


def test_a_file_that_is_not_text_is_one_line(places):
    work, environ = places
    (work / "biasbench.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is not TOML"):
        load_settings(environ=environ, folder=work)


def test_a_folder_in_the_files_place_is_one_line(places):
    work, environ = places
    (work / "biasbench.toml").mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        load_settings(environ=environ, folder=work)
