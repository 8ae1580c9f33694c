"""Promises on files that are damaged at random: whatever the bytes, the process that reads them goes on.

Each mutant is a small true file of a format with a few bytes changed, or cut. A process of its own reads a batch of
them one after the other, through the readers that data sets use, and says of each what became of it: read, refused in
one line that names the file, or anything else. A process that ends early has died of the mutant it was at. The control
gives the same mutants of `imdb.mat` to scipy's reader as it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from typing import Any

from mutants import FORMATS, HELPERS, NAIVE, READ, REFUSED
from promises import HERE, SRC, Kept, Parts, Promise

MUTANTS, BATCH = 1500, 250
READERS = HERE / "mutants.py"
CODE = (
    SRC / "sandbox.py", SRC / "images", SRC / "regions.py", SRC / "builtin" / "datasets", HELPERS, READERS,
    HERE / "inputs.py",
)  # fmt: skip


def batch(kind: str, first: int, count: int) -> dict[str, Any]:
    """What became of some mutants of a format: counts, and the numbers of those that no reader may end with.

    Args:
        kind: One of `FORMATS` or `NAIVE`.
        first: The first mutant's number.
        count: How many.

    Returns:
        `counts` by outcome; `died` and `odd` list mutants.
    """
    outcomes: dict[int, str] = {}
    at = first
    while at < first + count:
        command = [sys.executable, "-W", "ignore", str(READERS), kind, str(at), str(first + count - at)]
        done = subprocess.run(  # noqa: S603  # our own interpreter
            command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        told = done.stdout.splitlines()
        outcomes |= {at + k: line for k, line in enumerate(told)}
        at += len(told)
        if at < first + count:
            outcomes[at] = f"died ({done.returncode}): {done.stderr.strip()[-200:]}"
            at += 1
    odd = {n: o for n, o in outcomes.items() if o not in (READ, REFUSED)}
    died = [n for n, o in odd.items() if o.startswith("died")]
    return {"counts": dict(Counter(o.partition(" ")[0] for o in outcomes.values())), "died": died, "odd": odd}


def promises() -> list[Promise]:
    """All of this file."""
    return [Promise("mutants", mutants, CODE)]


def mutants(parts: Parts, count: int = MUTANTS, size: int = BATCH) -> Kept:
    """No mutant of a file ends the process that reads it, or is told in any way but one line with the file."""
    ok = total = 0
    text = []
    for kind in (*FORMATS, *NAIVE):
        found = [parts(batch, kind=kind, first=n, count=min(size, count - n)) for n in range(0, count, size)]
        counts: Counter[str] = sum((Counter(part["counts"]) for part in found), Counter())
        shown = ", ".join(f"{n} {what}" for what, n in sorted(counts.items()))
        if kind in NAIVE:
            total += 1
            ok += bool(counts["died"])
            text.append(f"control, {kind}: {shown}")
            continue
        total += count
        ok += counts[READ] + counts[REFUSED]
        text.append(f"{kind}: {shown}")
        text += [f"  {kind} {n}: {what}" for part in found for n, what in part["odd"].items()]
    return Kept(ok, total, "\n".join(text))
