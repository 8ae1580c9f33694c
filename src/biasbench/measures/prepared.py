"""What every leakage measurement begins with: checked samples, constants, and the groups that are large enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
        protocol: Constants.
    """

    samples: Samples
    width: int
    names: tuple[str, ...]
    dropped: Mapping[str, Any]
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
    return Prepared(large, width, names, dropped, constants)
