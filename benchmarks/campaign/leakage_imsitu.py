"""Promises on the figures that Wang et al. 2019 publish for imSitu, through the command line."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promises import HERE, SRC, Kept, Parts, Promise

from biasbench import SPLITS, CellError, io

PROTOCOL = "wang2019"


@dataclass(frozen=True)
class Published:
    """A figure of the paper, and where ours has to lie.

    Attributes:
        title: What it is.
        options: Of `biasbench leakage`.
        figure: Its name in the JSON.
        low: Least that is accepted, percent.
        high: Most.
        theirs: Mean and standard deviation over 5 rounds as published; None where the paper has none.
    """

    title: str
    options: tuple[str, ...]
    figure: str
    low: float
    high: float
    theirs: str | None


# Tables 1 and 2 of the paper. Where alpha = 1 every verb has equally many men and women in training, and what is
# found is owed to the choice of the best epoch: the last epoch is at chance.
PUBLISHED = (
    Published("full", (), "lambda_D", 68.26 - 0.7, 68.26 + 0.7, "68.26 ± 0.31"),
    Published("alpha = 3", ("--method", "alpha-3"), "lambda_D", 66.0, 69.0, "68.11 ± 0.55"),
    Published("alpha = 2", ("--method", "alpha-2"), "lambda_D", 66.0, 69.0, "68.15 ± 0.32"),
    Published("alpha = 1", ("--method", "alpha-1"), "lambda_D", 51.0, 55.5, "53.99 ± 0.69"),
    Published("alpha = 1, last epoch", ("--method", "alpha-1"), "last_epoch", 48.0, 52.0, None),
    Published("full, F1 = 40.11", ("--f1", "40.11"), "lambda_D_F1", 55.0, 58.0, "56.46"),
)


def promise(real: Path | None, protocol: str = PROTOCOL) -> Promise:
    """The promise, on the lists in a folder, or in its folder `wang2019`."""
    return Promise(
        "leakage-imsitu", functools.partial(imsitu, real=real, protocol=protocol), (SRC, HERE / "leakage_imsitu.py")
    )


def imsitu(parts: Parts, real: Path | None, protocol: str = PROTOCOL) -> Kept:
    """Dataset leakage of the released lists is what is published, as a user measures it."""
    if real is None:
        return Kept(0, 0, "name the folder of the released imSitu lists with --real or $BIASBENCH_REAL")
    root = next((folder for folder in (real, real / "wang2019") if lists(folder)), None)
    if root is None:
        return Kept(0, 0, f"no imsitu_train.npz, imsitu_val.npz and imsitu_test.npz in {real}")
    hashes = {file.name: io.hash_file(file) for file in lists(root)}
    cache = parts.results / "cache" / parts.code[:16]  # attackers of older code are not taken for its own
    text, ok = [], 0
    for case in PUBLISHED:
        command = ["leakage", "--dataset", "imsitu", "--protocol", protocol, *case.options, "--no-noise", "--json"]
        report = parts(functools.partial(measure, root, cache), command=command, lists=hashes)
        found = report[case.figure]
        held = case.low <= found["mean"] <= case.high
        ok += held
        text.append(
            f"{case.title}: published {case.theirs or 'nothing'}, measured {found['mean']:.2f} ± {found['std']:.2f} "
            f"({found['n']} rounds), wanted {case.low:.2f} to {case.high:.2f}{'' if held else ': OUTSIDE'}"
        )
    return Kept(ok, len(PUBLISHED), "\n".join(text))


def lists(folder: Path) -> list[Path]:
    """The released lists of all splits in a folder, or none."""
    files = [folder / f"imsitu_{split}.npz" for split in SPLITS]
    return files if all(file.is_file() for file in files) else []


def measure(root: Path, cache: Path, command: list[str], lists: dict[str, str]) -> Any:
    """The figures that a command prints.

    Args:
        root: Folder of the lists.
        cache: Where attackers are kept that several commands need.
        command: What follows `biasbench`, but for the folder.
        lists: SHA-256 of each list, by which the figures are known again.

    Raises:
        IntegrityError: When a list is another by now.
        CellError: When it fails; what it said is on standard error.
    """
    for name, sha256 in lists.items():
        io.check_file(root / name, sha256)
    whole = [sys.executable, "-m", "biasbench", *command, "--data-root", str(root)]
    env = {**os.environ, "BIASBENCH_CACHE": str(cache)}
    done = subprocess.run(whole, env=env, stdout=subprocess.PIPE, check=False)  # noqa: S603  # our own interpreter
    if done.returncode:
        raise CellError(f"biasbench {' '.join(command)} ended with {done.returncode}")
    report = json.loads(done.stdout)
    return {name: report[name] for name in {case.figure for case in PUBLISHED} if name in report}
