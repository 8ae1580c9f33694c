"""What a run ran on: versions and hardware, hashed so that boards can mark mixed ones."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any

from biasbench import __version__, io

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pandas", "scikit-learn", "scipy", "pillow", "pycocotools")


@cache
def environment() -> Mapping[str, Any]:
    """Versions, machine and their hash; reads package metadata only, imports nothing.

    Example:
        >>> sorted(environment())
        ['biasbench', 'hash', 'machine', 'packages', 'processor', 'python']
    """
    found = {
        "biasbench": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "packages": {name: _version(name) for name in PACKAGES},
    }
    return {**found, "hash": io.hash_json(found)[:12]}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
