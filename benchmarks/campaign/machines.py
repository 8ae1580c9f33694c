"""Promises on cells in a cluster: a machine that is killed in the middle of a run costs nothing but time.

Two machines of a Ray cluster run torch-free cells; every process of one is killed at a random time. `tests/faults`
holds a short version.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from kill import CODE, FAKES
from promises import HERE, Kept, Parts, Promise

from biasbench import generator, io

sys.path.insert(0, str(FAKES))
try:
    import cluster_trial
finally:
    sys.path.remove(str(FAKES))


TRAINING = {"stages.0.epochs": 1, "stages.1.epochs": 2, "crop": 32, "short_side": 32, "select": "last"}


def promises() -> list[Promise]:
    """All of this file."""
    code = (*CODE, FAKES.parent / "helpers" / "clusters.py", HERE / "machines.py")
    every: dict[str, Callable[[Parts], Kept]] = {
        "ray-raylet": partial(killed, hosts=False),
        "ray-host": partial(killed, hosts=True),
        "ray-cells": cells,
    }
    return [Promise(name, check, code) for name, check in every.items()]


def killed(parts: Parts, *, hosts: bool, times: int = 5) -> Kept:
    """One of two machines is killed up to five seconds after both had written a checkpoint."""
    if importlib.util.find_spec("ray") is None:
        return Kept(0, 0, "Ray is not installed")
    if hosts:
        with cluster_trial.clusters.two_hosts() as made:
            if made is None:
                return Kept(0, 0, "no network namespaces may be made here")
    with tempfile.TemporaryDirectory(prefix="biasbench-machines-") as folder:
        whole = cluster_trial.straight(Path(folder) / "straight")
        found = [parts(partial(once, whole), hosts=hosts, number=number) for number in range(times)]
    bad = [f"{number}: {'; '.join(part['wrong'][:3])}" for number, part in enumerate(found) if part["wrong"]]
    lost = sum(part["lost"] for part in found)
    text = f"one of two {'hosts' if hosts else 'raylets'} killed at random times, {lost} jobs started again"
    return Kept(times - len(bad), times, "\n".join([text, *bad]))


def cells(parts: Parts) -> Kept:
    """Real cells with a tiny network: the files of `--engine ray` and of the local engine have the same hashes."""
    if importlib.util.find_spec("ray") is None:
        return Kept(0, 0, "Ray is not installed")
    found = parts(both_engines, seeds=2)
    text = f"{found['files']} files of {found['cells']} cells by both engines"
    return Kept(found["files"] - len(found["differ"]), found["files"], "\n".join([text, *found["differ"][:10]]))


def both_engines(seeds: int) -> dict[str, Any]:
    """The same command with either engine."""
    command = [sys.executable, "-m", "biasbench", "run", "-d", "plain", "-b", "tiny", "--profile", "smoke", "--quiet"]
    command += ["--device", "cpu", "-m", "original", "-m", "adv-conv5(warmup=1)", "-s", f"0..{seeds - 1}"]
    command += [f"--set=recipe.{field}={value}" for field, value in TRAINING.items()]
    command += [f"--plugin={FAKES.parent / 'helpers' / name}.py" for name in ("tiny", "trouble")]
    engines = {"ray": ["--engine", "ray", "--address", "local"], "local": []}
    with tempfile.TemporaryDirectory(prefix="biasbench-machines-") as folder:
        env = {**cluster_trial.clusters.environment(), "BIASBENCH_CACHE": f"{folder}/cache"}
        for name, options in engines.items():
            subprocess.run([*command, *options, "--results", f"{folder}/{name}"], env=env, check=True, timeout=1800)  # noqa: S603
        ray, local = (_files(Path(folder) / name) for name in engines)
    differ = sorted(name for name in ray.keys() | local.keys() if ray.get(name) != local.get(name))
    return {"cells": 2 * seeds, "files": len(ray.keys() | local.keys()), "differ": differ}


def _files(results: Path) -> dict[str, str]:
    """The hash of every file of a run or training, as its manifest has it."""
    return {
        f"{manifest.parent.name}/{name}": digest
        for manifest in results.glob("*/*/manifest.json")
        for name, digest in io.read_json(manifest)["files"].items()
    }


def once(whole: dict[str, str], hosts: bool, number: int) -> dict[str, Any]:
    """One cluster, one run, one machine killed."""
    wait = float(generator("machines", hosts, number).uniform(0, 5))
    with (
        tempfile.TemporaryDirectory(prefix="biasbench-machines-") as folder,
        cluster_trial.two_machines(Path(folder), hosts=hosts) as there,
    ):
        wrong, lost = cluster_trial.lose(*there, Path(folder) / "run", whole, wait)
        return {"wrong": wrong, "lost": lost}
