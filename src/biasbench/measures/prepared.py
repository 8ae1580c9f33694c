"""What every leakage measurement begins with: checked samples, constants, and the groups that are large enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench.data import SPLITS, Split
from biasbench.errors import DataError
from biasbench.measures.checks import large_groups
from biasbench.measures.named import AnyProtocol, protocol_named
from biasbench.measures.sample import Samples, check_samples


@dataclass(frozen=True)
class Prepared:
    """What is measured, and by which constants.

    Attributes:
        samples: Train, val and test; groups that are too small are unknown.
        width: K labels.
        names: Of the groups that are left.
        dropped: What was left out; see `large_groups`.
        unknown_share: By split, the share of rows whose attribute is unknown in the data; None without rows.
        dropped_share: By split, the share of rows whose group is known and was left out; None without rows.
        protocol: Constants.
    """

    samples: Samples
    width: int
    names: tuple[str, ...]
    dropped: Mapping[str, Any]
    unknown_share: Mapping[Split, float | None]
    dropped_share: Mapping[Split, float | None]
    protocol: AnyProtocol


def prepare(samples: Samples, protocol: str | AnyProtocol, groups: Sequence[str], minimum: int | None) -> Prepared:
    """Check samples and read the protocol; the arguments are those of `leakage`.

    Raises:
        DataError: When the samples do not fit together, or a code has no name.
        UsageError: For an unknown protocol.
    """
    width, found = check_samples(samples)
    names = tuple(groups) if groups else tuple(map(str, range(max(found, 2))))
    if found > len(names):
        raise DataError(f"the attribute has codes up to {found - 1}, and {len(names)} groups are named")
    constants = protocol_named(protocol, samples["train"].single) if isinstance(protocol, str) else protocol
    large, names, dropped = large_groups(samples, names, minimum)
    before, after = ({s: samples_[s].attribute < 0 for s in SPLITS} for samples_ in (samples, large))
    unknown = {split: _share(before[split]) for split in SPLITS}
    left_out = {split: _share(after[split] & ~before[split]) for split in SPLITS}
    return Prepared(large, width, names, dropped, unknown, left_out, constants)


def _share(rows: NDArray[np.bool_]) -> float | None:
    return float(rows.mean()) if len(rows) else None
