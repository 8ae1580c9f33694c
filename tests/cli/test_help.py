"""Every --help is quick, complete and the same as in docs/cli.md."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from biasbench.cli.app import COMMANDS, app

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "pandas", "pydantic", "numpy", "sklearn", "rich", "pluggy")
PATHS = [
    (),
    *((name,) for name in COMMANDS),
    *(("data", name) for name in ("list", "make", "check", "download")),
    *(("plot", name) for name in ("frontier", "labels", "grid", "histogram", "embedding", "distribution", "training")),
]

ALL_HELPS = """
import io, json, sys, contextlib
from biasbench.__main__ import main
texts = {}
for path in json.loads(sys.argv[1]):
    for flag in ("--help", "-h"):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            assert main([*path, flag]) == 0, path
        texts[" ".join(path)] = out.getvalue()
main(["--version"])
print(json.dumps([texts, [m for m in json.loads(sys.argv[2]) if m in sys.modules]]))
"""


def test_no_help_imports_anything_heavy():
    done = subprocess.run(
        [sys.executable, "-c", ALL_HELPS, json.dumps(PATHS), json.dumps(HEAVY)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    texts, heavy = json.loads(done.stdout.splitlines()[-1])
    assert heavy == []
    assert all(text.startswith("Usage: biasbench") for text in texts.values())
    assert len(texts) == len(PATHS)


def test_listing_imports_no_torch():
    code = "import sys; from biasbench.__main__ import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    for arguments in (["list"], ["list", "--json"], ["list", "plugins"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "False", arguments


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_each_help_by_clicks_own_runner(path):
    result = CliRunner().invoke(app, [*path, "--help"], prog_name="biasbench")
    assert result.exit_code == 0
    assert " ".join(("Usage: biasbench", *path)) in result.stdout
    assert "-h, --help" in result.stdout


def test_the_options_that_scripts_rely_on_are_there():
    names = {name: {o for p in app.get_command(None, name).params for o in p.opts} for name in COMMANDS}
    assert names["run"] >= {
        "--method", "--dataset", "--backbone", "--seed", "--profile", "--data-root", "--results", "--plugin",
        "--device", "--precision", "--dry-run", "--set", "--weights", "--jobs", "--protocol", "--tensorboard",
        "--json", "--quiet", "-m", "-d", "-b",
    }  # fmt: skip
    assert names["leaderboard"] >= {"--results", "--format", "--sort", "--plugin"}
    assert "--json" in names["list"] & names["describe"] & names["doctor"] & names["measure"]


def test_the_help_names_every_exit_code(cli):
    from biasbench import errors

    said = cli("--help").out
    for name, code in vars(errors).items():
        if name.startswith("EXIT_"):
            assert f"\n    {code} " in said, name


def test_the_profiles_offered_are_those_there_are():
    from biasbench.cli.run import PROFILES
    from biasbench.recipe import profiles

    assert set(PROFILES) == set(profiles())


def test_the_documentation_is_up_to_date():
    spec = importlib.util.spec_from_file_location("cli_docs", ROOT / "scripts" / "cli_docs.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == made.generate(), "run scripts/cli_docs.py"
