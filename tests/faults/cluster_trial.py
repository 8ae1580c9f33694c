"""Runs of torch-free cells in a Ray cluster, and what becomes of them when a machine is killed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "helpers")]
try:
    import clusters
    import trial
finally:
    del sys.path[:2]

RUN = [sys.executable, str(Path(__file__).parent / "cluster_run.py")]


def straight(folder):
    """What the local engine makes of the four cells."""
    zygote = trial.Zygote()
    local = trial.Trial(zygote, folder, count=4)
    assert local.run() == 0, local.text()
    zygote.close()
    return local.picture()


def start(cluster, folder, count=4, jobs=2, gpus=0.0, machines=1, within=(), **env):
    """Start a run that writes into `log.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [*within, *RUN, cluster.address, str(folder / "results"), *map(str, (count, jobs, gpus, machines))]
    with open(folder / "log.txt", "wb") as log:
        return subprocess.Popen(command, env={**cluster.env, **env}, stdout=log, stderr=log)


def engines(results):
    """What each run's manifest says of where it was computed."""
    return [json.loads(path.read_text())["engine"] for path in sorted(results.glob("runs/*/manifest.json"))]


@contextlib.contextmanager
def two_machines(folder, *, hosts):
    """A head and another machine of a processor each, on two hosts or on this; what the driver runs within.

    Nothing where there can be no two hosts.
    """
    if not hosts:
        with clusters.cluster(folder, "--num-cpus=1") as cluster:
            yield cluster, cluster.join("--num-cpus=1"), ()
        return
    with clusters.two_hosts() if os.geteuid() == 0 and shutil.which("ip") else contextlib.nullcontext() as made:
        if made is None:
            yield None
            return
        a, b = made
        with clusters.cluster(folder, "--num-cpus=1", host=a.address, within=a.within) as cluster:
            yield cluster, cluster.join("--num-cpus=1", f"--node-ip-address={b.address}", within=b.within), a.within


def lose(cluster, machine, within, folder, whole, wait=0.0):
    """Kill every process of a machine in the middle of a run of four cells.

    Returns:
        What is wrong afterwards, and how often the run said that a job was lost.
    """
    count = folder / "count"
    met = folder / "both-have-begun"
    env = {"BIASBENCH_FAKE_PAUSE": "1.5", "BIASBENCH_FAKE_COUNT": str(count), "BIASBENCH_FAKE_TOGETHER": str(met)}
    run = start(cluster, folder, machines=2, within=within, **env)
    log = folder / "log.txt"
    while not met.exists():  # each machine has a training, each training a checkpoint
        assert run.poll() is None, log.read_text()
        time.sleep(0.05)
    time.sleep(wait)
    killed = machine.kill()
    code, said = run.wait(600), log.read_text()
    now, told = trial.picture(folder / "results"), engines(folder / "results")
    lost = said.count("it starts again")
    wrong = [f"it ended with {code}: {said[-300:]}"] * (code != 0)
    wrong += [f"differs: {name}" for name in sorted(set(whole) | set(now)) if whole.get(name) != now.get(name)]
    wrong += ["no machine was killed"] * (killed < 5)
    wrong += ["a claim is held"] * any(left.startswith("held") for left in trial.left(folder / "results"))
    again = Counter(count.read_text().splitlines())
    wrong += [f"computed {again.total() - len(again)} jobs again and lost {lost}"] * (again.total() - len(again) > lost)
    wrong += ["a loss is not recorded"] * (bool(lost) and "node has died" not in said)
    wrong += [f"recorded: {told}"] * (sum(len(e["lost"]) for e in told) > lost)
    return wrong, lost
