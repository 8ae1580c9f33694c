"""The same work by one process and by several: forked, joined, and what the first one found handed back."""

from __future__ import annotations

import multiprocessing
import os
import traceback
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from biasbench.job import Member

Found = dict[str, Any]
Work = Callable[[Member | None], Mapping[str, Any]]


def found_by(size: int, work: Work, folder: Path) -> Found:
    """What `work(member)` returns in the first of `size` processes; one process alone is given None.

    Raises:
        RuntimeError: With the text of every process that failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex[:8]
    context = multiprocessing.get_context("fork")
    members = [Member(rank, size, folder / f"meet-{mark}") if size > 1 else None for rank in range(size)]
    outs = [folder / f"{mark}-{rank}" for rank in range(size)]
    processes = [context.Process(target=_one, args=(p, work, o)) for p, o in zip(members, outs, strict=True)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        process.kill()
    failed = [out.with_suffix(".txt").read_text() for out in outs if out.with_suffix(".txt").exists()]
    if failed or not outs[0].with_suffix(".npz").exists():
        raise RuntimeError("\n".join(failed) or "no process had a word")
    with np.load(outs[0].with_suffix(".npz")) as file:
        return {name: file[name] for name in file.files}


def _one(member: Member | None, work: Work, out: Path) -> None:
    torch.set_num_threads(1)
    try:
        found = work(member)
        if member is None or member.rank == 0:
            np.savez(out.with_suffix(".npz"), **{k: np.asarray(v) for k, v in found.items()})
    except BaseException:
        out.with_suffix(".txt").write_text(traceback.format_exc())
        os._exit(1)  # the others of the group are not waited for
