"""Promises on cheating, isolation, keys and numbers that are not finite.

What is tried is what the tests try, on more positions and seeds: `tests/zoo`, `tests/test_nonfinite.py` and
`tests/test_keys.py`.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from promises import HERE, SRC, Kept, Parts, Promise

from biasbench import BiasBenchError, generator

TESTS = HERE.parent.parent / "tests"
ZOO = TESTS / "zoo"
BUILT_IN = (
    "original", "alpha-2", "balance", "adv-conv4(warmup=1)", "adv-conv5(warmup=1)", "blackout-segm", "blackout-box",
    "blur-segm", "noise", "crf", "crf+rba(support=2)",
    "adv-image(channels=2, warmup=1, mask_steps=1, repeat=1)",
)  # fmt: skip


def promises() -> list[Promise]:
    """All of this file."""
    guard = (SRC / "guard", SRC / "predict.py", SRC / "cell.py", SRC / "source.py", HERE / "cheats.py")
    numbers = (SRC / "steps.py", SRC / "engine.py", SRC / "predict.py", SRC / "data.py", SRC / "features.py")
    return [
        Promise("cheats", cheats, (*guard, ZOO)),
        Promise("closed", closed, (SRC / "guard", ZOO / "native.py", HERE / "cheats.py")),
        Promise("nonfinite", nonfinite, (*numbers, TESTS / "test_nonfinite.py", HERE / "cheats.py")),
        Promise("keys", keys, (SRC / "spec.py", SRC / "recipe.py", TESTS / "test_keys.py", HERE / "cheats.py")),
    ]


# -- the zoo ------------------------------------------------------------------------------------
def cheats(parts: Parts, seeds: Sequence[int] = (0, 1, 2)) -> Kept:
    """Each cheat is void, marked or harmless; no honest method is any of these for what it does not declare."""
    ok, total, text = 0, 0, []
    for seed in seeds:
        found = parts(one_zoo, seed=seed)
        ok, total = ok + found["ok"], total + found["total"]
        text.append(f"seed {seed}: {found['ok']} of {found['total']}{found['text']}")
    return Kept(ok, total, "\n".join(text))


def one_zoo(seed: int) -> dict[str, Any]:
    """Runs the whole zoo, and our own methods, with one seed."""
    sys.path[:0] = [str(ZOO), str(TESTS / "helpers")]
    coco_files, world = importlib.import_module("coco_files"), importlib.import_module("world")
    tests = importlib.import_module("test_zoo")
    with tempfile.TemporaryDirectory(prefix="biasbench-zoo-") as folder:
        zoo = world.Zoo.open(coco_files, Path(folder))
        zoo.run(*BUILT_IN, seeds=(seed,))
        zoo.run(*tests.FLAGGED, *tests.HARMLESS, *tests.MARKED, seeds=(seed,))
        records, honest = zoo.records(), zoo.predictions("original")
        wrong = [m for m, said in tests.FLAGGED.items() if said not in (records[m]["reason"] or "")]
        weak = () if tests.landlock() else tests.KERNEL
        harmless = [m for m in tests.HARMLESS if m not in weak]
        wrong += [m for m in harmless if records[m]["status"] != "ok" or zoo.predictions(m) != honest]
        wrong += [m for m, marks in tests.MARKED.items() if not _marked(records[m]["flags"], marks)]
        wrong += [m for m in BUILT_IN if records[m]["status"] != "ok" or _marked(records[m]["flags"], ("in the key",))]
    total = len(tests.FLAGGED) + len(harmless) + len(tests.MARKED) + len(BUILT_IN)
    left_out = f", without {', '.join(weak)}: this kernel cannot close folders" if weak else ""
    named = f": not {', '.join(wrong)}" if wrong else ""
    return {"ok": total - len(wrong), "total": total, "text": left_out + named}


def _marked(flags: Sequence[str], marks: Sequence[str]) -> bool:
    return all(any(flag.endswith(mark) for flag in flags) for mark in marks)


# -- what the kernel keeps ----------------------------------------------------------------------
def closed(parts: Parts, tries: int = 100) -> Kept:
    """A file that a cell may not know cannot be read by native code either; the same code reads it before."""
    found = parts(read_natively, tries=tries)
    if not found["kept"]:
        return Kept(0, 0, "this kernel has no Landlock")
    return Kept(found["refused"], tries, f"read before {found['before']} of {tries}, after {tries - found['refused']}")


def read_natively(tries: int) -> dict[str, Any]:
    """Opens a file with the C library before and after its folder is closed, in a process of its own."""
    native = _module(ZOO / "native.py")
    with tempfile.TemporaryDirectory(prefix="biasbench-closed-") as folder:
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=native.attempt, args=(folder, tries, there))
        process.start()
        said: dict[str, Any] = here.recv()
        process.join()
    return said


# -- numbers that are not finite ------------------------------------------------------------------
def nonfinite(parts: Parts, positions: int = 100) -> Kept:
    """NaN, infinity or 1e38 at random places of a training or prediction: the cell fails and says why."""
    text = parts(spoiled, positions=positions)
    return Kept(positions - len(text), positions, "\n".join(text))


def spoiled(positions: int) -> list[str]:
    """Positions at which a bad number went through."""
    tests = _module(TESTS / "test_nonfinite.py")
    through, rng = [], generator("campaign", "nonfinite")
    with tempfile.TemporaryDirectory(prefix="biasbench-spoil-") as folder:
        plugin = Path(folder) / "spoil.py"
        plugin.write_text(tests.PLUGIN)
        for i in range(positions):
            place, value = tests.PLACES[i % len(tests.PLACES)], tests.VALUES[int(rng.integers(len(tests.VALUES)))]
            row, column = rng.integers(0, 500, 2).tolist()
            try:
                tests.train(plugin, place, value, row, column)
                through.append(f"{value} in {place} at {row}, {column}: no error")
            except BiasBenchError as error:
                if "not finite" not in str(error) and "as large as" not in str(error):
                    through.append(f"{value} in {place} at {row}, {column}: {error}")
    return through


# -- keys -----------------------------------------------------------------------------------------
def keys(parts: Parts, pairs: int = 2000) -> Kept:
    """Keys of random specs are equal exactly if the specs are."""
    found = parts(compared, pairs=pairs)
    return Kept(found["ok"], pairs, f"{found['equal']} of {pairs} pairs were equal specs")


def compared(pairs: int) -> dict[str, int]:
    """Pairs that agree, and how many were equal."""
    tests, rng = _module(TESTS / "test_keys.py"), generator("campaign", "keys")
    texts = {"dataset": "ab", "fingerprint": "ab", "backbone": "ab", "weights_digest": "ab", "pictures": "ab",
             "boxes": "ab", "precision": ("fp32", "bf16"), "device": ("cpu", "cuda")}  # fmt: skip
    ok = equal = 0
    for _ in range(pairs):
        one = {name: str(rng.choice(list(of))) for name, of in texts.items()} | {"seed": int(rng.integers(3))}
        other = dict(one)
        for name in rng.permutation(list(one))[: int(rng.integers(3))]:
            other[name] = int(rng.integers(3)) if name == "seed" else str(rng.choice(list(texts[name])))
        order = rng.permutation(list(other)).tolist()
        same = tests.spec(tests.BASE, **one).key() == tests.spec(tests.BASE, **{k: other[k] for k in order}).key()
        ok += same is (one == other)
        equal += one == other
    return {"ok": ok, "equal": equal}


def _module(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"biasbench_campaign_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
