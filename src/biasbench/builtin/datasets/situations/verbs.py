"""Which verbs are labels."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources

import pandas as pd

from biasbench import UsageError, did_you_mean, printable

VERB_SETS = ("wang2019", "agent")


@cache
def published_verbs() -> tuple[str, ...]:
    """The 211 verbs of Wang et al., ICCV 2019, in the order of their codes.

    Example:
        >>> len(published_verbs()), published_verbs()[:2]
        (211, ('curling', 'braiding'))
    """
    file = resources.files(__package__).joinpath("wang2019.toml")
    return tuple(tomllib.loads(file.read_text(encoding="utf-8"))["verbs"])


def check_verb_set(name: str) -> None:
    """Refuse a name that is none of `VERB_SETS`.

    Raises:
        UsageError: Naming the nearest.

    Example:
        >>> check_verb_set("agent")
    """
    if name not in VERB_SETS:
        hint = did_you_mean(name, VERB_SETS) or f"Use {' or '.join(VERB_SETS)}"
        raise UsageError(f"imsitu: unknown verb set {printable(name)!r}", fix=hint)


def agent_verbs(images: pd.DataFrame, with_agent: frozenset[str]) -> tuple[str, ...]:
    """Verbs that people do: those with a role `agent` that a man or a woman has in training.

    Args:
        images: Columns `split`, `verb` and `gender` (0 or 1, negative for images to be dropped).
        with_agent: Verbs that have the role, as `imsitu_space.json` says.

    Returns:
        Verbs in alphabetical order.

    Example:
        >>> images = pd.DataFrame({"split": ["train", "train", "val"], "verb": ["jumping", "raining", "rowing"],
        ...                        "gender": [0, -1, 1]})
        >>> agent_verbs(images, frozenset({"jumping", "rowing"}))
        ('jumping',)
    """
    done = images.loc[(images["split"] == "train") & (images["gender"] >= 0), "verb"]
    return tuple(sorted(set(done) & with_agent))
