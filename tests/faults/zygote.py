"""Forks runners from a process that has imported everything once: `python zygote.py MODULE`.

Reads a JSON request a line, answers with one a line.
`{"do": "start", "call": NAME, "with": {...}, "env": {...}, "log": FILE, "stop": BOOL}`: call a function of the
module in a fresh process, through the command line's own handling of errors and signals; its pid.
`{"do": "wait", "pid": N, "seconds": S}`: its exit code, negative for a signal; null if it still runs.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))


def start(module: Any, request: dict[str, Any]) -> int:
    """Fork; the child never returns."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        os.setpgid(0, 0)
        os.environ.update(request["env"])
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for stream, source in ((0, nothing), (1, log), (2, log)):
            os.dup2(source, stream)
        if request["stop"]:
            os.kill(os.getpid(), signal.SIGSTOP)
        code = through_main(getattr(module, request["call"]), request["with"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def through_main(call: Any, given: dict[str, Any]) -> int:
    """What `biasbench` makes of a command that does this."""
    import click

    from biasbench import __main__
    from biasbench.cli.app import app

    @click.command("faked")
    def faked() -> int:
        result: int = call(**given)
        return result

    app.lazy["faked"] = ""
    app.get_command = lambda _ctx, _name: faked  # type: ignore[method-assign]
    return __main__.main(["faked"])


def wait(pid: int, seconds: float) -> int | None:
    """The exit code as soon as there is one."""
    deadline = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.005)


def main() -> None:
    """Serve until the other side is gone."""
    module = importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        answer = start(module, request) if request["do"] == "start" else wait(request["pid"], request["seconds"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
