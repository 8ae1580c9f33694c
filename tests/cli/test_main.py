"""Whatever happens ends as one line and an exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from biasbench import errors
from biasbench.cli.app import app


@pytest.fixture
def failing(monkeypatch):
    """Adds a command `fail` that raises what it is given."""

    def add(error: BaseException):
        @click.command("fail")
        def fail():
            raise error

        known = app.get_command
        monkeypatch.setattr(app, "get_command", lambda ctx, name: fail if name == "fail" else known(ctx, name))

    return add


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.BiasBenchError, 1),
        (errors.UsageError, 2),
        (errors.PluginError, 2),
        (errors.DataError, 4),
        (errors.StoreError, 5),
        (errors.IntegrityError, 6),
    ],
)
def test_our_errors_are_one_line_with_their_exit_code(cli, failing, kind, code):
    failing(kind("it is wrong", where="file.json", fix="Repair it"))
    said = cli("fail")
    assert (said.code, said.out) == (code, "")
    assert said.err == f"biasbench: error[{kind.code}]: file.json: it is wrong. Repair it.\n"


def test_a_bug_is_one_line_and_a_log_file(cli, failing, tmp_path):
    failing(ZeroDivisionError("division\nby\x1b[2J zero"))
    said = cli("fail")
    assert said.code == 3
    (line,) = said.err.splitlines()
    assert line.startswith(
        "biasbench: error[bug]: ZeroDivisionError: division. This is a bug in biasbench; please report"
    )
    log = Path(line.rsplit(" ", 1)[1])
    assert log.parent == tmp_path / "cache" / "biasbench" / "logs"
    assert "Traceback (most recent call last)" in log.read_text()
    assert "ZeroDivisionError" in log.read_text()


def test_a_bug_with_no_place_for_a_log_prints_its_traceback(cli, failing, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("BIASBENCH_CACHE", str(tmp_path / "file" / "below"))
    failing(ZeroDivisionError("x"))
    said = cli("fail")
    assert said.code == 3
    assert "Traceback (most recent call last)" in said.err
    assert "please report it with the traceback above" in said.err


def test_a_broken_configuration_does_not_hide_a_bug(cli, failing, home):
    (home / "biasbench.toml").write_text("[")
    failing(ZeroDivisionError("x"))
    said = cli("fail")
    assert said.code == 3
    log = Path(said.err.rsplit(" ", 1)[1].strip())
    assert "ZeroDivisionError" in log.read_text()
    log.unlink()


@pytest.mark.parametrize("how", ["option", "variable"])
@pytest.mark.parametrize("error", [errors.DataError("no data"), ZeroDivisionError("x")])
def test_debug_prints_the_traceback(cli, failing, monkeypatch, how, error):
    failing(error)
    if how == "variable":
        monkeypatch.setenv("BIASBENCH_DEBUG", "1")
    said = cli(*(["--debug"] if how == "option" else []), "fail")
    assert "Traceback (most recent call last)" in said.err
    assert said.code == (4 if isinstance(error, errors.DataError) else 3)


def test_no_traceback_without_debug(cli, failing, monkeypatch):
    monkeypatch.setenv("BIASBENCH_DEBUG", "0")
    failing(errors.DataError("no data"))
    assert "Traceback" not in cli("fail").err


def test_ctrl_c_says_what_is_kept(cli, failing):
    failing(KeyboardInterrupt("2 cells are kept"))
    said = cli("fail")
    assert said.code == 130
    assert said.err.strip() == "biasbench: interrupted; 2 cells are kept"


def test_a_closed_pipe_is_quiet(cli, failing):
    failing(BrokenPipeError())
    said = cli("fail")
    assert (said.code, said.out, said.err) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["rnu"], "no such command 'rnu'. Did you mean 'run'?"),
        (["\x1b[2J"], "no such command '\\\\x1b[2J'. Commands: run, leaderboard"),
        (["run", "--datset", "x"], "Did you mean one of: '--data-root', '--dataset'"),
        (["run", "--profile", "shrot"], "Did you mean 'short'?"),
        (["run", "--seed", "one"], "'one' is neither a seed nor a range such as 0..4"),
        (["run", "--seed", "-1"], "'-1' is neither a seed nor a range such as 0..4"),
        (["list", "methdos"], "Did you mean 'methods'?"),
        (["leaderboard", "--format", "cvs"], "Did you mean 'csv'?"),
        (["data", "chekc"], "Did you mean 'check'?"),
        (["data", "download", "cocoa"], "Did you mean 'coco'?"),
        (["run"], "nothing to run: --method and --dataset not given"),
        (["run", "-m", "original"], "nothing to run: --dataset not given"),
        (["run", "-m", "original", "-d", "scenes", "--set", "crop=3"], "Write --set recipe.KEY=VALUE"),
        (["run", "-m", "a", "-d", "b", "--set", "recipe.a=1", "--set", "recipe.a=2"], "is given twice"),
        (["run", "none.toml"], "none.toml: cannot be read: No such file"),
        (["list", "--plugin", "none.py"], "none.py: no such plugin file"),
    ],
)
def test_wrong_usage_is_told_and_ends_with_2(cli, arguments, expected):
    said = cli(*arguments)
    assert said.code == 2
    assert expected in said.err
    assert "Traceback" not in said.err
    assert "\x1b" not in said.err
    assert said.out == ""


@pytest.mark.parametrize("command", ["leaderboard", "measure"])
def test_a_folder_without_results_is_refused(cli, tmp_path, command):
    (tmp_path / "other").mkdir()
    (tmp_path / "file").touch()
    for name, expected in (("other", "holds no results"), ("none", "holds no results"), ("file", "is not a folder")):
        said = cli(command, "--results", tmp_path / name)
        assert (said.code, said.out) == (5, "")
        assert said.err.startswith(f"biasbench: error[store]: {tmp_path / name}: {expected}")
        assert len(said.err.splitlines()) == 1


def test_no_arguments_show_the_help(cli):
    said = cli()
    assert said.code == 2
    assert "Usage: biasbench" in said.err


def test_a_failed_cells_exit_code_comes_from_the_command(cli, monkeypatch):
    @click.command("seven")
    @click.pass_context
    def seven(ctx):
        ctx.exit(1)

    known = app.get_command
    monkeypatch.setattr(app, "get_command", lambda ctx, name: seven if name == "seven" else known(ctx, name))
    assert cli("seven").code == 1


WAITING = """
import sys, time, click
from biasbench.cli.app import app
from biasbench.__main__ import main
@click.command("wait")
def wait():
    print("ready", flush=True)
    time.sleep(60)
known = app.get_command
app.get_command = lambda ctx, name: wait if name == "wait" else known(ctx, name)
sys.exit(main(["wait"]))
"""


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGTERM, 143, "biasbench: terminated"),
        (signal.SIGINT, 130, "biasbench: interrupted"),
        (signal.SIGUSR1, 75, "biasbench: asked to end by SIGUSR1"),
    ],
)
def test_signals_end_a_process_with_their_code(number, code, line):
    with subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert err.strip() == line


def test_the_reader_of_a_pipe_may_leave(tmp_path):
    """More output than a pipe holds, and a reader that takes one line."""
    plugin = tmp_path / "many.py"
    plugin.write_text(
        "from biasbench import Entry, hookimpl\n"
        "@hookimpl\n"
        "def biasbench_methods():\n"
        "    return [Entry(f'm{i}', 'a:B', 'x' * 200) for i in range(2000)]\n"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "biasbench", "list", "methods", "--plugin", str(plugin)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(60) == 0
    assert err == b""


def test_a_terminal_without_unicode_gets_question_marks():
    code = "import sys; from biasbench.cli.output import emit; from biasbench.__main__ import main; main(['--version'])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; emit('72.3 ± 0.4')"],
        capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == b"72.3 ? 0.4"


def test_the_package_is_a_program():
    done = subprocess.run([sys.executable, "-m", "biasbench", "list", "--json"], capture_output=True, check=True)
    assert json.loads(done.stdout)["schema"] == "biasbench/list"


def test_signal_handlers_are_put_back(cli):
    handled = (signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in handled]
    cli("--version")
    assert [signal.getsignal(number) for number in handled] == before


def test_main_works_outside_the_main_thread():
    import threading

    from biasbench.__main__ import main

    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(["nonsense"])))
    thread.start()
    thread.join()
    assert codes == [2]
