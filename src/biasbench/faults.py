"""Named places at which a test may kill the process, or make the system refuse.

`point("file.synced")` does nothing unless the environment asks for a fault there:
`BIASBENCH_FAULT=file.synced:2:kill` ends the process the second time that it gets there, and
`BIASBENCH_FAULT=trace:FILE` notes every place it passes in a file, with the process's number.

| action | what happens |
|---|---|
| `kill` | SIGKILL: the process ends at once |
| `exit0` | it ends with exit code 0 and no word |
| `raise` | a `RuntimeError`, as from a bug |
| `enospc`, `eio`, `erofs`, `eacces` | the `OSError` of a full or broken disk, of a folder that may not be written |
| `stop:S` | it stands still for S seconds (SIGSTOP), whoever else waits for it |
| `term`, `int`, `usr1` | it is sent this signal |
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections import Counter

from biasbench.errors import UsageError, did_you_mean, printable

VARIABLE = "BIASBENCH_FAULT"
POINTS = {
    # files and folders (io)
    "file.opened": "a file is about to be written aside",
    "file.written": "its bytes are there, unsynced and under another name",
    "file.synced": "they are on the disk, under another name",
    "file.renamed": "it has its name; the folder is not synced",
    "folder.opened": "a folder was made aside",
    "folder.filled": "its files are there, unsynced and under another name",
    "folder.synced": "they are on the disk, under another name",
    "folder.renamed": "it has its name; the folder that holds it is not synced",
    # the runner
    "plan.written": "the plan is in the store, nothing was started",
    "claim.before": "a cell is about to be claimed",
    "claim.after": "it is claimed, no process works on it",
    "claim.released": "its claim was given back",
    "job.written": "a job's description is written, its process not started",
    "job.started": "its process runs",
    "training.before": "a training lies aside, complete; the store has no word of it",
    "training.committed": "it is in the store; its checkpoints are still there",
    "truth.written": "labels lie beside the predictions, aside",
    "run.before": "a run lies aside, complete; the store has no word of it",
    "run.committed": "it is in the store; its process has not been told",
    "measured.before": "figures have arrived and are not stored",
    "measured.stored": "they are stored; the cell is not counted",
    "unscored.noted": "why a cell has no score is stored",
    # the store
    "commit.manifest": "the manifest is written, the folder has not its name",
    "commit.renamed": "the folder has its name, an old note of failure is still there",
    "metrics.read": "earlier figures were read, the new ones are not written",
    # a cell's process
    "child.started": "the process has its job",
    "child.answered": "all was sent, the process has not ended",
    "train.step": "between two steps of training",
    "train.epoch_end": "an epoch is over, its checkpoint not written",
    "checkpoint.saved": "the new checkpoint is there, older ones too",
    "select.frozen": "the weights are chosen, nothing is written",
    "weights.written": "the training is written aside, the parent not told",
    "predict.before_test": "predictions of the test split are about to be made",
    "predictions.written": "all predictions are written aside, the parent not told",
    "features.computed": "activations are computed, not written",
    "features.written": "they are in the cache",
    "measure.metric": "a metric is about to be computed",
}  # fmt: skip
NUMBERS = {"enospc": errno.ENOSPC, "eio": errno.EIO, "erofs": errno.EROFS, "eacces": errno.EACCES}
SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT, "usr1": signal.SIGUSR1}

_seen: Counter[str] = Counter()


def point(name: str) -> None:
    """A place of `POINTS`: nothing happens here unless the environment variable `BIASBENCH_FAULT` asks for it.

    Raises:
        UsageError: When the variable cannot be read: a fault that is never met would prove nothing.
        OSError: When it asks for one here; so for a `RuntimeError`.

    Example:
        >>> point("file.synced")
    """
    wanted = os.environ.get(VARIABLE)
    if wanted:
        _meet(name, wanted)


def _meet(name: str, wanted: str) -> None:
    place, _, rest = wanted.partition(":")
    if place == "trace":
        with open(rest, "a", encoding="ascii") as file:
            file.write(f"{os.getpid()} {name}\n")
        return
    nth, _, action = rest.partition(":")
    kind, _, seconds = action.partition(":")
    known = (*NUMBERS, *SIGNALS, "exit0", "raise", "stop")
    if place not in POINTS or not nth.isdecimal() or kind not in known:
        fix = did_you_mean(place, POINTS) or f"Write NAME:NTH:ACTION, with an action of {', '.join(known)}"
        raise UsageError(f"cannot read {printable(wanted)!r}", where=VARIABLE, fix=fix)
    _seen[name] += 1
    if name == place and _seen[name] == int(nth):
        _act(name, kind, seconds)


def _act(name: str, kind: str, seconds: str) -> None:
    if kind in NUMBERS:
        raise OSError(NUMBERS[kind], os.strerror(NUMBERS[kind]), name)
    if kind in SIGNALS:
        os.kill(os.getpid(), SIGNALS[kind])
    elif kind == "exit0":
        os._exit(0)
    elif kind == "raise":
        raise RuntimeError(f"asked for at {name}")
    else:
        pid = str(os.getpid())
        waker = subprocess.Popen(["/bin/sh", "-c", 'sleep "$0"; kill -CONT "$1"', str(float(seconds)), pid])  # noqa: S603
        os.kill(os.getpid(), signal.SIGSTOP)
        waker.wait()
