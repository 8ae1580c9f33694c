"""The promise on trainings that stop and go on: the weights and the log of an uninterrupted one, to the bit."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from promises import HERE, SRC, Kept, Parts, Promise

from biasbench import generator, io

METHODS = ("original", "adv-conv5(warmup=2)", "groupdro", "jlu(attributes=('age',), steps=3, warmup=4)")
EPOCHS, STEPS = 3, 4
"""Of each of two stages; between two steps, and after an epoch, a training is asked whether to end."""


def promises() -> list[Promise]:
    """All of this file."""
    names = ("engine", "steps", "checkpoint", "randomness", "cell", "streams", "model", "method")
    files = [SRC / f"{name}.py" for name in names]
    return [Promise("resume", resume, (*files, SRC / "builtin" / "methods", HERE / "resume.py"))]


def resume(parts: Parts, each: int = 15) -> Kept:
    """Asked to end, or killed, up to three times at random places, then run to the end."""
    text, ok = [], 0
    for method in METHODS:
        whole = parts(trained, method=method, stops=[], politely=True)
        for number in range(each):
            rng = generator("resume", method, number)
            stops = sorted(int(k) for k in rng.integers(1, 2 * EPOCHS * STEPS, 1 + number % 3))
            politely = number % 2 == 0
            found = parts(trained, method=method, stops=stops, politely=politely)
            if found == whole:
                ok += 1
            else:
                text.append(f"{method}, {'asked' if politely else 'killed'} at {stops}: differs")
    control = parts(forgetful, method=METHODS[0], stops=[STEPS + 1]) != parts(
        trained, method=METHODS[0], stops=[], politely=True
    )
    text.append(f"an optimiser that starts afresh is {'noticed' if control else 'NOT noticed'}")
    return Kept(ok + control, each * len(METHODS) + 1, "\n".join([f"weights and log of {', '.join(METHODS)}", *text]))


def forgetful(method: str, stops: list[int]) -> dict[str, str]:
    """The control: a training whose optimisers do not come back."""
    from biasbench import engine

    kept, engine.restore = engine.restore, lambda *_: None
    try:
        return trained(method, stops, politely=True)
    finally:
        engine.restore = kept


def trained(method: str, stops: list[int], politely: bool) -> dict[str, str]:
    """Hashes of what a training leaves that ended early at some of its places, once at each."""
    from biasbench.stopping import Stopped
    from biasbench.store import Store

    with tempfile.TemporaryDirectory(prefix="biasbench-resume-") as name:
        folder = Path(name)
        store = Store(folder / "results", create=True)
        for place in [*stops, None]:
            try:
                aside = subject(method).cell(folder).train(store, asked(place, politely))
            except (Stopped, _Killed):
                continue
            return {file: io.hash_file(aside / file) for file in ("weights.safetensors", "log.jsonl")}
    raise AssertionError("it never ended")


class _Killed(BaseException):
    """In place of the end of the process."""


def asked(place: int | None, politely: bool) -> Callable[[], bool]:
    """Says yes, or ends the training at once, when it is asked for the nth time."""
    times = 0

    def stop() -> bool:
        nonlocal times
        times += 1
        if times == place and not politely:
            raise _Killed
        return times == place

    return stop


def subject(method: str) -> Any:
    """The conformance kit's cell with two stages: the head alone, then everything, with batch statistics."""
    from biasbench.recipe import Stage
    from biasbench.testing._subject import Subject

    class Longer(Subject):
        def _job(self, folder: Path) -> Any:
            job = super()._job(folder)
            first = Stage(train="head", epochs=EPOCHS, lr=1e-2, batch_size=8, norm="eval")
            second = Stage(train="all", epochs=EPOCHS, lr=1e-3, batch_size=8, norm="batch")
            recipe = job.recipe.model_copy(update={"stages": (first, second), "select": "best"})
            return job.model_copy(update={"recipe": recipe})

    return Longer(method)
