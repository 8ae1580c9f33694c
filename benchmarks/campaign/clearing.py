"""The promise that clearing away beside a run changes nothing of it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from promises import HERE, SRC, Kept, Parts, Promise

from biasbench import generator, io
from biasbench.cli.gc import gc_command
from biasbench.store import Store

TINY = HERE.parents[1] / "tests" / "cli" / "tiny.py"
RUN = ("run", "--plugin", str(TINY), "-d", "tiny", "-m", "original", "--profile", "smoke", "--device", "cpu",
       "--quiet", "--set", "recipe.crop=32", "--set", "recipe.short_side=32")  # fmt: skip
AT_WORK = "a run is at work in the results folder"


def promises() -> list[Promise]:
    """All of this file."""
    names = ("leftovers.py", "presence.py", "claims.py", "runner.py", "store.py", "cli/gc.py")
    return [Promise("gc-beside", gc_beside, (*(SRC / name for name in names), HERE / "clearing.py", TINY))]


def gc_beside(parts: Parts, rounds: int = 30) -> Kept:
    """A run beside which `gc --cache --days 0` runs over and over stores what it stores alone; then nothing is left."""
    expected = parts(alone)
    tried = [parts(beside, number=number) for number in range(rounds)]
    ok = sum(
        part["code"] == 0 and part["stored"] == expected and part["dead gone"] and not part["left"] and part["held"] > 0
        for part in tried
    )
    held, calls = (sum(part[name] for part in tried) for name in ("held", "calls"))
    text = [f"{calls} calls of gc, {held} of them while the run held its folder"]
    text += [f"round {n}: {part}" for n, part in enumerate(tried) if part["code"] or part["stored"] != expected]
    return Kept(ok, rounds, "\n".join(text))


def alone() -> dict[str, Any]:
    """What a run stores beside which nothing happens."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        done = subprocess.run(  # noqa: S603
            command(place), env=environment(place), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return stored(place)


def beside(number: int) -> dict[str, Any]:
    """A run with `gc` beside it, at times that differ from round to round, and something dead to clear away."""
    pause = float(generator("gc beside", number).uniform(0, 0.2))
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        dead, calls, held = None, 0, 0
        with open(place / "said", "w+") as said:
            with subprocess.Popen(command(place), env=environment(place), stdout=said, stderr=said) as run:  # noqa: S603
                while run.poll() is None:
                    time.sleep(0.05 + pause)
                    if (place / "results" / "plan.json").exists():
                        dead = dead or Store(place / "results").aside("run", "0" * 20)
                        calls, held = calls + 1, held + (AT_WORK in clear(place))
            said.seek(0)
            text = said.read()
        found = stored(place) if run.returncode == 0 else text[-500:]
        gone = dead is not None and not dead.exists()
        clear(place)
        left = [str(p.relative_to(place)) for p in (place / "results" / "work").rglob("*") if p.is_file()]
    return {"code": run.returncode, "stored": found, "calls": calls, "held": held, "dead gone": gone, "left": left}


def command(place: Path) -> list[str]:
    """The run."""
    return [sys.executable, "-m", "biasbench", *RUN, "--results", str(place / "results")]


def environment(place: Path) -> Mapping[str, str]:
    """With folders of its own."""
    return {
        **os.environ,
        **{f"XDG_{kind}_HOME": str(place / kind.lower()) for kind in ("CONFIG", "CACHE", "DATA")},
        "BIASBENCH_CACHE": str(place / "cache"),
        "OMP_NUM_THREADS": "1",
    }


def clear(place: Path) -> str:
    """What `biasbench gc` says."""
    before, said = os.environ.get("BIASBENCH_CACHE"), StringIO()
    os.environ["BIASBENCH_CACHE"] = str(place / "cache")
    try:
        with contextlib.redirect_stdout(said):
            arguments = ["--results", str(place / "results"), "--cache", "--days", "0"]
            gc_command.main(arguments, standalone_mode=False)
    finally:
        if before is None:
            del os.environ["BIASBENCH_CACHE"]
        else:
            os.environ["BIASBENCH_CACHE"] = before
    return said.getvalue()


def stored(place: Path) -> dict[str, Any]:
    """Hashes of every file of the runs, and their figures."""
    store = Store(place / "results")
    files = {key: store.verify(store.run(key))["files"] for key in store.runs()}
    figures = {key: io.hash_json(store.metrics(key)) for key in store.runs()}
    return {"files": files, "figures": figures}
