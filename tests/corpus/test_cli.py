"""Configurations, benchmark files, options and surroundings that cannot be meant."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.said import calm, refused
from tests.helpers.commands import Said
from tests.helpers.unprivileged import unprivileged

pytestmark = pytest.mark.torch  # a plan needs the backbone's outline
HELPERS = Path(__file__).parents[1] / "helpers"
Cli = Callable[..., Said]


@pytest.fixture
def plan(cli: Cli) -> Callable[..., Said]:
    """A dry run: everything is checked, nothing is run."""

    def call(*more: object) -> Said:
        plugins = [w for name in ("tiny.py", "trouble.py") for w in ("--plugin", HELPERS / name)]
        return cli("run", "--dry-run", "--quiet", "--device", "cpu", *plugins, *more)

    return call


GOOD = """
name = "good"
datasets = ["plain"]
backbones = ["tiny"]
seeds = [0, 1]
profile = "smoke"

[[rows]]
method = "original"
"""


def changed(old: str, new: str) -> bytes:
    assert old in GOOD
    return GOOD.replace(old, new).encode()


FILES: dict[str, tuple[bytes, str]] = {  # a benchmark file, and the place in it
    "K1": (changed("datasets", "dataset"), "dataset: Extra inputs are not permitted"),
    "K1, row": (changed("method =", "metod ="), "Did you mean 'method'?"),
    "K2": (changed("[0, 1]", '"0 and 1"'), "seeds"),
    "K2, text": (changed('"original"', "7"), "rows.0.method"),
    "K3": (changed("[0, 1]", "[1, 1]"), "seeds: a seed is named twice"),
    "K3, a range": (changed("[0, 1]", '"4..1"'), "seeds: Value error, 4..1 ends before it begins"),
    "K3, a large range": (changed("[0, 1]", '"0..999999999999"'), "seeds: Value error, more than 100,000 seeds"),
    "K4, nan": (GOOD.encode() + b"[recipe.stages.0]\nlr = nan\n", "recipe.stages.0.lr"),
    "K4, inf": (GOOD.encode() + b"[recipe.stages.0]\nlr = inf\n", "recipe.stages.0.lr"),
    "K4, negative": (GOOD.encode() + b"[recipe.stages.0]\nlr = -0.1\n", "recipe.stages.0.lr"),
    "K5": (changed("[0, 1]", '["0..1000000000"]'), "seeds.0"),
    "K6": (b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n", "is not TOML"),
    "K7": (b"!!python/object/apply:os.system ['touch canary']\n", "is not TOML"),
    "K8": (changed('name = "good"', 'name = "good"\nname = "other"'), "line 3"),
    "K9, empty": (b"", "name: Field required"),
    "K9, tabs": (changed("\nseeds", "\n\t\x0bseeds"), "line 5"),
    "K9, latin-1": (changed("good", "g\xf6\xf6d").decode().encode("latin-1"), "is not TOML"),
    "K10, no": (changed('"smoke"', "no"), "is not TOML"),
    "K10, 1e3": (changed("[0, 1]", "[1e3]"), "seeds.0"),
    "K10, true": (changed("[0, 1]", "[true]"), "seeds.0"),
    "K10, date": (changed('"good"', "2024-01-01"), "name"),
}


@pytest.mark.parametrize("case", FILES)
def test_benchmark_files(plan: Any, home: Path, case: str) -> None:
    content, place = FILES[case]
    (home / "table.toml").write_bytes(content)
    where = "" if case.startswith("K4") else "table.toml"  # a recipe's field is named by itself
    refused(plan("table.toml"), 2, where, place)
    assert sorted(p.name for p in home.iterdir()) == ["table.toml"]  # no canary, no results


@pytest.mark.parametrize("content", [GOOD.encode(), b"\xef\xbb\xbf" + GOOD.encode(), changed("[0, 1]", "[0o7]")])
def test_benchmark_files_that_are_read(plan: Any, home: Path, content: bytes) -> None:
    (home / "table.toml").write_bytes(content)
    said = plan("table.toml")
    assert said.code == 0, said.text
    calm(said)


CONFIGS: dict[str, tuple[bytes, str]] = {
    "K1": (b'result = "x"\n', "unknown key 'result' (Did you mean 'results'?)"),
    "K2": (b"results = 3\n", "results must be a path"),
    "K8": (b'results = "a"\nresults = "b"\n', "line 2"),
    "K9": (b"\xff\xfe", "is not TOML"),
    "K14": (b'results = "a\\u0000b"\n', "results: no folder can have this path"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_configurations(cli: Cli, home: Path, case: str) -> None:
    content, place = CONFIGS[case]
    (home / "biasbench.toml").write_bytes(content)
    refused(cli("leaderboard"), 2, str(home / "biasbench.toml"), place)


def test_k9_an_empty_configuration_and_one_with_a_mark_are_read(cli: Cli, home: Path) -> None:
    for content, folder in ((b"", "results"), (b'\xef\xbb\xbfresults = "mine"\n', "mine")):
        (home / "biasbench.toml").write_bytes(content)
        refused(cli("leaderboard"), 5, folder)  # read, and nothing is there


def test_k11_a_variable_in_a_path_is_a_name_like_any(cli: Cli, home: Path) -> None:
    (home / "biasbench.toml").write_text('results = "$NOWHERE/x"\n')
    refused(cli("leaderboard"), 5, str(home / "$NOWHERE" / "x"))


RUN = ("-d", "plain", "-b", "tiny", "--profile", "smoke")
OPTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "K1": (("-m", "original", "--sead", "1"), ("--sead", "--seed")),
    "K4, negative": (("-m", "original", "--set", "recipe.stages.0.lr=-1"), ("recipe.stages.0.lr", "greater than 0")),
    "K4, nan": (("-m", "original", "--set", "recipe.stages.0.lr=nan"), ("recipe.stages.0.lr", "finite")),
    "K4, inf": (("-m", "original", "--set", "recipe.stages.0.lr=1e999"), ("recipe.stages.0.lr", "finite")),
    "K5": (("-m", "original", "--seed", "0..1000000000"), ("1,000,000,001 cells", "--yes")),
    "K15, device": (("-m", "original", "--device", "cuda:99"), ("there is no device 'cuda:99' here",)),
    "K15, unknown": (("-m", "original", "--device", "gpu"), ("unknown device 'gpu'",)),
    "K16": (("-m", "original", "--jobs", "0"), ("--jobs",)),
    "K16, negative": (("-m", "original", "--jobs", "-1"), ("--jobs",)),
    "K16, seed": (("-m", "original", "--seed", "-1"), ("--seed",)),
    "K14, long": (("-m", "original", "--results", "a" * 300), ("results: no folder can have this path",)),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options(plan: Any, home: Path, case: str) -> None:
    options, parts = OPTIONS[case]
    refused(plan(*RUN, *options), 2, *parts)
    assert not list(home.iterdir())


@pytest.mark.parametrize("twice", [("--seed", "1", "--seed", "1"), ("-m", "original")])
def test_k3_what_is_said_twice_is_run_once(plan: Any, twice: tuple[str, ...]) -> None:
    said = plan(*RUN, "-m", "original", *twice)
    assert said.code == 0, said.text
    assert "1 cells: 0 finished, 1 to run" in said.out


def test_k13_a_data_root_that_is_nowhere(cli: Cli, home: Path) -> None:
    refused(cli("data", "check", "coco", "--data-root", home / "absent"), 4, str(home / "absent"), "download coco")


# -- where results go ---------------------------------------------------------------------------
@pytest.fixture
def write(cli: Cli) -> Callable[[object], Said]:
    """A run that would write, in a folder of results that it cannot have."""

    def call(results: object) -> Said:
        plugins = [w for name in ("tiny.py", "trouble.py") for w in ("--plugin", HELPERS / name)]
        return cli("run", "-q", "--device", "cpu", *plugins, *RUN, "-m", "original", "--results", results)

    return call


def test_k14_a_file_in_place_of_the_folder(write: Any, home: Path) -> None:
    (home / "file").write_text("mine")
    refused(write(home / "file"), 5, str(home / "file"), "is not a folder")
    assert (home / "file").read_text() == "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_k14_a_place_that_holds_no_files(write: Any) -> None:
    refused(write("/proc/biasbench"), 5, "/proc/biasbench")


def test_k14_a_folder_that_may_not_be_written(write: Any, home: Path) -> None:
    (home / "results").mkdir(mode=0o555)
    with unprivileged():
        said = write(home / "results")
    refused(said, 5, str(home / "results"), "cannot be written")


def test_k14_a_name_that_drives_the_terminal(cli: Cli, home: Path) -> None:
    refused(cli("leaderboard", "--results", home / "a\nb\x1b[2J"), 5, r"a\nb\x1b[2J", "holds no results")


# -- the process's surroundings -----------------------------------------------------------------
def shell(script: str, **environ: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "BB": f"{sys.executable} -m biasbench", **environ}
    return subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, check=False)


def quiet(done: subprocess.CompletedProcess[str], code: int = 0) -> None:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "bug in biasbench" not in done.stderr


def test_k18_the_reader_of_a_pipe_leaves() -> None:
    quiet(shell("set -o pipefail; $BB list backbones | head -1"))


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_k19_streams_that_are_closed(closed: str, tmp_path: Path) -> None:
    quiet(shell(f"$BB list methods {closed}"))
    quiet(shell(f"$BB leaderboard --results {tmp_path} {closed}"), 5)


def test_k19_nothing_is_written_into_a_file_that_takes_a_closed_stream(cli: Cli) -> None:
    code = "import os, biasbench.__main__ as m; m.main(['list', 'metrics']); print(os.open('/dev/null', os.O_RDONLY))"
    done = shell(f'{sys.executable} -c "{code}" <&- 2>&-')
    quiet(done)
    assert int(done.stdout.split()[-1]) > 2


def test_k19_a_dumb_and_narrow_terminal() -> None:
    done = shell("$BB list methods; $BB leaderboard --results .", TERM="dumb", COLUMNS="1", LC_ALL="C", PYTHONUTF8="0")
    quiet(done, 5)
    assert "adv-conv5" in done.stdout


def test_k20_no_home(tmp_path: Path) -> None:
    quiet(shell("unset HOME XDG_CACHE_HOME XDG_DATA_HOME XDG_CONFIG_HOME; $BB list methods"))


def test_k20_the_working_folder_is_gone(tmp_path: Path) -> None:
    done = shell(f"mkdir {tmp_path}/w; cd {tmp_path}/w; rmdir {tmp_path}/w; $BB leaderboard")
    quiet(done, 2)
    assert "the working folder is gone" in done.stderr
    quiet(shell(f"mkdir {tmp_path}/w; cd {tmp_path}/w; rmdir {tmp_path}/w; $BB list methods"))
