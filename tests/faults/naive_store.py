"""How results are kept where nobody thinks of kills: controls, which the same faults have to break.

`json`: one document, rewritten after every cell. `jsonl`: a line appended for every cell; what is done is
read from the file when a run starts.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

CELLS = 5
VALUES = 1000  # a record of some 20 kB: more than a buffer


def compute(cell):
    """A record."""
    return {"cell": cell, "scores": [(cell + 1) / (k + 3) for k in range(VALUES)]}


def run_json(results, **_):
    """Compute what is not there and rewrite the document."""
    path = Path(results) / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    done = json.loads(path.read_text()) if path.exists() else {}
    for cell in range(CELLS):
        if str(cell) not in done:
            done[str(cell)] = compute(cell)
            with open(path, "w") as file:
                json.dump(done, file)
    return 0


def run_jsonl(results, runners=1, **_):
    """Compute what is not there and append it; begin when so many runners know what is there."""
    path = Path(results) / "results.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    done = {json.loads(line)["cell"] for line in path.read_text().splitlines()} if path.exists() else set()
    (path.parent / f"{os.getpid()}.ready").touch()
    while len(list(path.parent.glob("*.ready"))) < runners:
        time.sleep(0.01)
    with open(path, "a") as file:
        for cell in range(CELLS):
            if cell not in done:
                json.dump(compute(cell), file)
                file.write("\n")
                file.flush()
    return 0


def wrong(results):
    """What is not as it should be: unreadable, lost, twice, or another value."""
    folder = Path(results)
    try:
        if (folder / "results.json").exists():
            found = list(json.loads((folder / "results.json").read_text()).values())
        else:
            found = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    except (ValueError, OSError):
        return ["unreadable"]
    if sorted(found, key=lambda r: r["cell"]) != [compute(cell) for cell in range(CELLS)]:
        return ["lost, doubled or changed"]
    return []
