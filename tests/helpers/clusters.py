"""Ray clusters on this machine, whose machines can be killed with everything that runs on them."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

FAULTS = Path(__file__).parents[1] / "faults"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def of_session(session: int) -> list[int]:
    """Every process of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(folder.name))
    return found


class Machine:
    """`ray start --block` in a session of its own: all that it starts stays in there.

    Args:
        cluster: Its cluster.
        options: More for `ray start`.
        within: What to run the command with, such as `ip netns exec NAME`.
    """

    def __init__(self, cluster: Cluster, *options: str, within: Sequence[str] = ()) -> None:
        command = [
            *within, sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats",
            "--object-store-memory=100000000", *options,
        ]  # fmt: skip
        self.log = open(cluster.folder / f"ray-{len(cluster.machines)}.log", "wb")  # noqa: SIM115
        self.process = subprocess.Popen(
            command, env=cluster.env, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def kill(self) -> int:
        """Kill every process of it at once; how many there were."""
        killed = 0
        while there := of_session(self.process.pid):
            for pid in there:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
            time.sleep(0.02)
        self.process.wait()
        self.log.close()
        return killed


class Cluster:
    """A head, and machines beside it.

    Args:
        folder: For logs; Ray's own files go elsewhere, since paths of sockets must be short.
        options: More for the head's `ray start`.
        host: The head's address.
        within: As for `Machine`.
    """

    def __init__(self, folder: Path, *options: str, host: str = "127.0.0.1", within: Sequence[str] = ()) -> None:
        self.folder, self.machines = folder, []
        self.temporary = tempfile.mkdtemp(prefix="bb-ray-", dir="/tmp")
        self.env = environment()
        port = free_port()
        self.address = f"{host}:{port}"
        self.add(
            "--head", f"--port={port}", f"--node-ip-address={host}", f"--temp-dir={self.temporary}",
            "--include-dashboard=false", *options, within=within,
        )  # fmt: skip
        reach = f"import socket; socket.create_connection(('{host}', {port}), timeout=1)"
        while subprocess.run([*within, sys.executable, "-c", reach], capture_output=True, check=False).returncode:
            assert self.machines[0].process.poll() is None, "Ray did not start"
            time.sleep(0.2)

    def add(self, *options: str, within: Sequence[str] = ()) -> Machine:
        self.machines.append(Machine(self, *options, within=within))
        return self.machines[-1]

    def join(self, *options: str, within: Sequence[str] = ()) -> Machine:
        """Another machine."""
        return self.add(f"--address={self.address}", *options, within=within)

    def close(self) -> None:
        for machine in reversed(self.machines):
            machine.kill()
        shutil.rmtree(self.temporary, ignore_errors=True)


def environment() -> dict[str, str]:
    """Variables for every process of a cluster and for drivers: a token, and where the tests' modules are."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    paths = [str(Path(__import__("biasbench").__file__).parents[1]), str(FAULTS)]
    return {
        **kept, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32), "PYTHONDONTWRITEBYTECODE": "1",
        "RAY_worker_niceness": "0",  # Ray's own 15 starves a cell on a busy machine
    }  # fmt: skip


@contextlib.contextmanager
def cluster(folder: Path, *options: str, **more: object) -> Iterator[Cluster]:
    """A cluster that is gone afterwards."""
    started = Cluster(folder, *options, **more)  # type: ignore[arg-type]
    try:
        yield started
    finally:
        started.close()


class Host(NamedTuple):
    """A network namespace: its address, and what runs a command inside."""

    address: str
    within: tuple[str, ...]


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host] | None]:
    """Two network namespaces joined by a cable; None where none may be made."""
    mark = secrets.token_hex(3)
    hosts = [Host(f"10.77.0.{n}", ("ip", "netns", "exec", f"bb{mark}{n}")) for n in (1, 2)]
    names = [host.within[3] for host in hosts]
    steps = [
        *(f"netns add {name}" for name in names),
        f"link add v{mark}1 netns {names[0]} type veth peer name v{mark}2 netns {names[1]}",
    ]
    for n, (host, name) in enumerate(zip(hosts, names, strict=True), 1):
        steps += [
            f"-n {name} addr add {host.address}/24 dev v{mark}{n}", f"-n {name} link set v{mark}{n} up",
            f"-n {name} link set lo up",
        ]  # fmt: skip
    try:
        made = all(subprocess.run(["ip", *s.split()], capture_output=True, check=False).returncode == 0 for s in steps)
        yield (hosts[0], hosts[1]) if made else None
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
