"""What this machine takes for each thing that a run does, as measured once and kept in the cache folder."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from biasbench import __version__, io
from biasbench.environment import environment
from biasbench.errors import BiasBenchError

IDLE = 0.8
"""Share of the processor time below which a machine was too busy to be measured."""


class Request(BaseModel):
    """What is to be measured.

    Attributes:
        backbone: Its name.
        text: Its canonical text.
        options: Its options.
        crop: Side of its input, pixels.
        short_side: Of stored images, pixels.
        batch: Images in a training step.
        width: Labels that attackers read.
        protocols: Of leakage.
        device: Torch device.
        precision: `fp32`, `bf16` or `fp16`.
        threads: CPU threads of a cell.
        channels_last: Memory format.
        plugins: Files given with `--plugin`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str
    text: str
    options: dict[str, Any] = {}
    crop: int
    short_side: int
    batch: int
    width: int
    protocols: tuple[str, ...]
    device: str
    precision: str
    threads: int
    channels_last: bool
    plugins: tuple[str, ...] = ()


class Cost(BaseModel):
    """A figure that was measured several times.

    Attributes:
        value: The median.
        spread: Largest less smallest, as a share of the median.
        times: How often it was measured.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float
    spread: float
    times: int


class Network(BaseModel):
    """A backbone at one size of input.

    Attributes:
        crop: Side of the input, pixels.
        batch: Images in a pass.
        forward: Seconds per image by segment.
        both: The same forwards and backwards, the optimiser's step included.
        base: Bytes of a process that has the network and has passed nothing.
        peak: Bytes at most while all of it was trained.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    crop: int
    batch: int
    forward: dict[str, Cost]
    both: dict[str, Cost]
    base: int
    peak: int


class Attacker(BaseModel):
    """An attacker of a protocol.

    Attributes:
        seconds: For one, all its epochs and kinds.
        epochs: Of it.
        size: What it is by `biasbench.costs.attackers.size`; others take time in proportion.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: Cost
    epochs: int
    size: float


class Rates(BaseModel):
    """What a machine takes.

    Attributes:
        decode: Seconds to decode one file and resize it, on one core.
        crop: Seconds to cut one image out of stored pixels.
        crop_side: Side of that, pixels.
        start: Seconds until a cell's process does its own work.
        hash: Seconds per byte whose hash is checked.
        write: Seconds per byte written and synced.
        cores: Cores.
        share: Of the processor time that its threads could have, what the measuring process got for the network; 1
            where an accelerator computes. Far below 1 the machine was busy, and all figures are too high.
        networks: By the backbone's canonical text.
        attackers: By protocol.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    decode: Cost
    crop: Cost
    crop_side: int
    start: Cost
    hash: Cost
    write: Cost
    cores: int
    share: float
    networks: dict[str, Network] = {}
    attackers: dict[str, Attacker] = {}

    @property
    def busy(self) -> bool:
        """Whether something else had the machine while it was measured."""
        return self.share < IDLE

    def merged(self, older: Rates | None) -> Rates:
        """These figures, with networks and protocols that only the older ones have."""
        if older is None:
            return self
        return self.model_copy(
            update={
                "networks": {**older.networks, **self.networks},
                "attackers": {**older.attackers, **self.attackers},
            }
        )


class Machine(BaseModel):
    """What a measurement holds for: another machine, device, thread count or version is measured anew."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str
    environment: str
    device: str
    precision: str
    threads: int

    @classmethod
    def here(cls, device: str, precision: str, threads: int) -> Machine:
        """This machine."""
        found = f"{environment()['hash']} biasbench {__version__}"
        return cls(host=platform.node(), environment=found, device=device, precision=precision, threads=threads)

    @property
    def key(self) -> str:
        """Name of its file."""
        return io.hash_json(self.model_dump())[:16]


def rates_file(cache: Path, machine: Machine) -> Path:
    """Where a machine's rates are kept."""
    return cache / "costs" / f"{machine.key}.json"


def save_rates(cache: Path, machine: Machine, rates: Rates) -> Path:
    """Keep rates, beside networks and protocols measured before."""
    path = rates_file(cache, machine)
    whole = rates.merged(load_rates(cache, machine))
    io.write_json(path, {"schema": 1, "machine": machine.model_dump(), "rates": whole.model_dump(mode="json")})
    return path


def load_rates(cache: Path, machine: Machine) -> Rates | None:
    """A machine's rates; None where nothing was measured, or the file is damaged: it is no result."""
    try:
        found: Mapping[str, Any] = io.read_json(rates_file(cache, machine))
        return Rates.model_validate(found["rates"])
    except (BiasBenchError, KeyError, TypeError, ValidationError):
        return None
