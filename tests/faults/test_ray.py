"""Cells in a Ray cluster: what a lost machine did not finish runs elsewhere, and every result is there once."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))
try:
    import cluster_trial
    from cluster_trial import RUN, clusters, trial
finally:
    sys.path.remove(str(Path(__file__).parent))

from biasbench.cli.engine import Engine, check_gpus
from biasbench.errors import ClusterError, UsageError
from biasbench.executors.cluster import Cluster, Demand, Node, _refused, demand_of
from biasbench.executors.head import AGAIN
from biasbench.executors.ray import RayExecutor, Seat, _unready
from biasbench.job import DataInput, ImagesJob
from biasbench.recipe import load_recipe

needs_ray = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra biasbench[ray])"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc"),
    pytest.mark.timeout(900),
]


# -- without a cluster -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("cpus", "gpus", "fit"),
    [(1, 0, 8), (3, 0, 2), (1, 0.5, 4), (1, 1, 2), (1, 2, 1), (1, 3, 0), (9, 0, 0), (4, 0.5, 2)],
)
def test_what_a_machine_holds(cpus: int, gpus: float, fit: int) -> None:
    assert Node("10.0.0.2", 8, 2).holds(Demand(cpus, gpus)) == fit


@pytest.mark.parametrize(
    ("gpus", "device", "said"),
    [
        (1.5, "auto", "--gpus 1.5 cannot be had"), (1.0, "cpu", "contradict"), (0.0, "cuda", "contradict"),
        (None, "cuda:1", "Ray chooses which GPU"), (None, "mps", "Ray chooses which GPU"),
    ],
)  # fmt: skip
def test_gpus_that_make_no_sense_are_refused(gpus: float | None, device: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_gpus(gpus, device)


def test_gpus_that_make_sense_are_not() -> None:
    for gpus, device in ((0.5, "auto"), (2.0, "cuda"), (0.0, "cpu"), (None, "cpu"), (None, "cuda"), (0.25, "cuda")):
        check_gpus(gpus, device)
    assert Engine("cpu").fit([]) is None


class Machines(Cluster):
    """A cluster that is not there, with machines of so many processors and GPUs."""

    def __init__(self, *machines: tuple[int, int]) -> None:
        self.there = [Node(f"10.0.0.{i}", *has) for i, has in enumerate(machines, 1)]

    def nodes(self) -> list[Node]:
        return self.there


def cells(threads: int, processes: int) -> list[SimpleNamespace]:
    recipe = load_recipe("smoke", {"threads": threads, "processes": processes})
    return [SimpleNamespace(reason=None, spec=SimpleNamespace(recipe=recipe))] * 3


@pytest.mark.parametrize(
    ("gpus", "processes", "at_once"), [(None, 1, 6), (None, 2, 3), (2.0, 2, 3), (0.5, 1, 8), (2.0, 1, 3), (0.0, 4, 2)]
)
def test_a_cell_gets_a_gpu_for_each_of_its_processes(gpus: float | None, processes: int, at_once: int) -> None:
    assert Engine("cuda", gpus, Machines((8, 4), (8, 2))).fit(cells(2, processes)) == at_once


@pytest.mark.parametrize(
    ("gpus", "processes", "said"),
    [
        (None, 4, "the cluster has 10.0.0.1 (8 CPUs and 2 GPUs), 10.0.0.2 (8 CPUs and 2 GPUs)"),  # four in all
        (2.0, 4, "a cell needs 8 CPUs and 4 GPUs on one machine"),
        (1.0, 2, "2 processes of a cell need a GPU each, not 1 together. Use --gpus 2, or leave it out"),
        (0.0, 5, "a cell needs 10 CPUs on one machine"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_refused_with_what_there_is(gpus: float | None, processes: int, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        Engine("cuda", gpus, Machines((8, 2), (8, 2))).fit(cells(2, processes))
    assert said in str(refused.value)


def test_pictures_are_decoded_on_a_processor_and_no_gpu(tmp_path: Path) -> None:
    data = DataInput(root=tmp_path, tables={}, regions={}, stores={}, task="multilabel", label_names=(), groups={},
                     identity="")  # fmt: skip
    assert demand_of(ImagesJob(data=data, short_side=96), 2.0) == Demand(1, 0)


def biasbench(*options: str, env: dict[str, str]) -> tuple[int, str]:
    """A run that can only be refused."""
    command = [sys.executable, "-m", "biasbench", "run", "-m", "original", "-d", "scenes", *options]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_options_of_a_cluster_need_one() -> None:
    code, said = biasbench("--gpus", "1", env=clusters.environment())
    assert (code, "--gpus is for a cluster. Add --engine ray" in said) == (2, True), said


def test_without_ray_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ImportError('not here')")
    env = clusters.environment()
    code, said = biasbench("--engine", "ray", env={**env, "PYTHONPATH": f"{tmp_path}{os.pathsep}{env['PYTHONPATH']}"})
    assert (code, 'Run: pip install "biasbench[ray]"' in said) == (2, True), said


MISMATCH = """Version mismatch: The cluster was started with:
    Ray: 2.60.0
    Python: 3.12.1
This process on 10.0.0.2 was started with:
    Ray: 2.52.0
    Python: 3.12.1
"""


@pytest.mark.parametrize(
    ("error", "noise", "said"),
    [
        (RuntimeError(MISMATCH), "", "other versions than this machine (Ray: 2.60.0; Python: 3.12.1; Ray: 2.52.0;"),
        (ConnectionError("Failed to connect"), "Unauthenticated: RPC error: InvalidAuthToken", "our token"),
        (ConnectionError("Could not find any running Ray instance. Please"), "", "no Ray cluster to join: Could not"),
        (RuntimeError("no token: no authentication token was found. Ensure"), "", "there is none here"),
        (OSError("something else\nand more"), "", "cannot be joined: something else. The driver must run on"),
    ],
)
def test_why_a_cluster_was_not_joined(error: Exception, noise: str, said: str) -> None:
    assert said in str(_refused(error, noise, "--address a:1"))


def test_a_machine_without_a_working_biasbench_is_named() -> None:
    trace = "ray::Place.__init__() (pid=31, ip=10.0.0.2, actor_id=5)\nImportError: no such library on this machine"
    said = f"The actor died because of an error raised in its creation task, {trace}"
    expected = "machine 10.0.0.2: cannot load biasbench: ImportError: no such library on this machine. Install the same"
    assert str(_unready(RuntimeError(said))).startswith(expected)


def test_a_job_that_no_machine_could_hold_any_more_ends_the_run_after_a_while(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (extra biasbench[ray])")
    there = [Node("10.0.0.1", 4, 1)]
    cluster = SimpleNamespace(nodes=lambda: there, head="10.0.0.1:6379")
    executor = RayExecutor(tmp_path, cluster, patience=0.1)
    executor.running["cell"] = Seat(None, Demand(1, 1), since=0.0)
    executor._check_room()
    there[:] = [Node("10.0.0.2", 8, 0)]  # the machine with the GPU is lost
    executor._check_room()
    time.sleep(0.15)
    with pytest.raises(
        ClusterError, match=r"no machine had 1 CPU and 1 GPU for a cell; the cluster has 10.0.0.2 \(8 CPUs\)"
    ):
        executor._check_room()
    executor.running["cell"].node = "10.0.0.1"  # it has its place: nothing to wait for
    executor._check_room()


# -- one machine -----------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the local engine makes of the same cells."""
    return cluster_trial.straight(tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory):
    with clusters.cluster(tmp_path_factory.mktemp("one"), "--num-cpus=2", "--num-gpus=1") as cluster:
        yield cluster


def forked(pid: int) -> bool:
    """Whether it is a fork server of a place, or a job."""
    try:
        return b"multiprocessing.forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


class TestOneMachine:
    pytestmark = needs_ray

    def test_half_a_gpu_each_and_the_bits_of_the_local_engine(self, one, straight, tmp_path):
        count = tmp_path / "count"
        run = cluster_trial.start(one, tmp_path, gpus=0.5, BIASBENCH_FAKE_COUNT=str(count))
        assert run.wait(600) == 0, (tmp_path / "log.txt").read_text()
        assert trial.picture(tmp_path / "results") == straight
        done = count.read_text().splitlines()
        assert len(done) == len(set(done)) == 10
        found = cluster_trial.engines(tmp_path / "results")
        assert [(e["name"], e["gpus"], e["lost"]) for e in found] == [("ray", "0", [])] * 4
        assert [n for n in trial.left(tmp_path / "results") if "ray.log" not in n] == []

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
    def test_a_run_that_ends_early_leaves_no_process_and_goes_on_later(self, one, straight, tmp_path, number, code):
        run = cluster_trial.start(one, tmp_path, count=1, BIASBENCH_FAKE_PAUSE="0.7")
        places = tmp_path / "results" / "work" / "checkpoints"
        while not list(places.glob("*/[0-9]*")):
            assert run.poll() is None, (tmp_path / "log.txt").read_text()
            time.sleep(0.02)
        before = sum(map(len, (list(p.iterdir()) for p in places.iterdir())))
        run.send_signal(number)
        assert run.wait(60) == code
        if number == signal.SIGTERM:  # it was given the time to write another one
            assert sum(map(len, (list(p.iterdir()) for p in places.iterdir()))) > before
        deadline = time.monotonic() + 120
        while jobs := [p for p in clusters.of_session(one.machines[0].process.pid) if forked(p)]:
            assert time.monotonic() < deadline, jobs
            time.sleep(0.2)
        assert cluster_trial.start(one, tmp_path, count=1).wait(600) == 0, (tmp_path / "log.txt").read_text()
        found = trial.picture(tmp_path / "results")
        assert {n: h for n, h in found.items() if n != "plan.json"} == {
            n: straight[n] for n in found if n != "plan.json"
        }
        assert any(n.endswith("metrics.json") for n in found)

    def test_what_no_machine_has_is_refused_at_once_with_what_there_is(self, one, tmp_path):
        run = cluster_trial.start(one, tmp_path, gpus=2.0)
        assert run.wait(300) == 2
        said = (tmp_path / "log.txt").read_text()
        assert "a cell needs 1 CPU and 2 GPUs on one machine, and the cluster has" in said
        assert "(2 CPUs and 1 GPU)" in said
        assert not (tmp_path / "results").exists()

    def test_another_token_or_none_is_told_in_a_line(self, one, tmp_path):
        wrong = {**one.env, "RAY_AUTH_TOKEN": "0" * 64}
        code, said = biasbench("--engine", "ray", "--address", one.address, env=wrong)
        assert (code, "the cluster does not accept our token" in said) == (2, True), said
        none = {k: v for k, v in one.env.items() if not k.startswith("RAY_AUTH")} | {"HOME": str(tmp_path)}
        code, said = biasbench("--engine", "ray", "--address", one.address, env=none)
        assert (code, "there is none here" in said) == (2, True), said

    @pytest.mark.parametrize(
        ("address", "said"),
        [("127.0.0.1:1", "no Ray cluster answers there"), ("ray://127.0.0.1:1", "Ray Client"), ("x", "HOST:PORT")],
    )
    def test_no_cluster_at_the_address(self, address, said):
        code, text = biasbench("--engine", "ray", "--address", address, env=clusters.environment())
        assert (code, said in text) == (2, True), text

    def test_another_version_on_a_machine_stops_the_run(self, one, tmp_path):
        assert cluster_trial.start(one, tmp_path, count=1, FAKE_VERSION="9.9").wait(600) == 2
        said = (tmp_path / "log.txt").read_text()
        assert "has biasbench 0" in said
        assert "this machine 9.9. Install the same version on every machine." in said

    def test_a_folder_that_machines_do_not_share_stops_the_run(self, one, tmp_path):
        hidden = tmp_path / "hidden"
        hidden.mkdir()
        command = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {hidden} && exec "$@"', "sh"]
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
            pytest.skip("no file system may be mounted here")
        command += [*RUN, one.address, str(hidden / "results"), "1", "1"]
        done = subprocess.run(command, env=one.env, capture_output=True, text=True, timeout=300, check=False)
        assert (done.returncode, "does not see the folder" in done.stderr) == (5, True), done.stderr


# -- machines that are lost ------------------------------------------------------------------------
class TestLostMachines:
    pytestmark = needs_ray

    def test_what_a_killed_machine_did_not_finish_runs_elsewhere(self, straight, tmp_path):
        with cluster_trial.two_machines(tmp_path, hosts=True) as there:
            if there is not None:
                assert self.lost(there, tmp_path, straight) == "10.77.0.2"
                return
        with cluster_trial.two_machines(tmp_path, hosts=False) as there:  # no second host without root and iproute2
            self.lost(there, tmp_path, straight)

    def test_a_killed_head_ends_the_run_in_a_line_of_ours_and_another_goes_on(self, straight, tmp_path):
        log, foreign = tmp_path / "log.txt", ("gcs", "raylet", "Traceback", "biasbench: ")
        with clusters.cluster(tmp_path, "--num-cpus=1") as there:
            run = cluster_trial.start(there, tmp_path, BIASBENCH_FAKE_PAUSE="1.5")
            while not list((tmp_path / "results").glob("runs/*/manifest.json")):
                assert run.poll() is None, log.read_text()
                time.sleep(0.05)
            there.machines[0].kill()
            assert run.wait(120) == 1
        lines = log.read_text().splitlines()
        (said,) = (line for line in lines if any(word in line.casefold() for word in map(str.casefold, foreign)))
        assert said == lines[-1]
        assert said.startswith("biasbench: error[cluster]: ")
        assert said.endswith(f": the head of the cluster has not answered for 20 s. {AGAIN}.")
        (tmp_path / "other").mkdir()
        with clusters.cluster(tmp_path / "other", "--num-cpus=1") as other:
            assert cluster_trial.start(other, tmp_path).wait(600) == 0, log.read_text()
        assert trial.picture(tmp_path / "results") == straight

    @staticmethod
    def lost(there, folder, straight):
        """The machine that the manifests say was lost."""
        assert cluster_trial.lose(*there, folder / "run", straight) == ([], 1)
        (told,) = (e["lost"] for e in cluster_trial.engines(folder / "run" / "results") if e["lost"])
        return told[0].split(":")[0]
