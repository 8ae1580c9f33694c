"""Gender from the role `agent`: the rule of Zhao et al. (EMNLP 2017), which Wang et al. (ICCV 2019) follow.

A noun tells a gender if one of its glosses has the word "man" or the word "woman", between spaces and
in lower case: "old man" and "young woman" do, "fireman", "boy" and "Man" do not. An image tells
what its frames tell together; a frame whose agent tells nothing is passed over. An image that tells
both genders, or none, is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

GENDERS = ("man", "woman")
NONE, MAN, WOMAN, BOTH = 0, 1, 2, 3  # one bit for each gender
RULE = "an agent whose glosses in imsitu_space.json have the word man or woman, in any frame; both or neither drops"


def noun_genders(nouns: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """What each noun tells, as bits; nouns that tell nothing are left out.

    Args:
        nouns: Glosses by noun id.

    Source: Zhao et al., EMNLP 2017, section 4 and the code released with it.

    Example:
        >>> noun_genders({"n1": ["man", "adult male"], "n2": ["girl", "young woman"], "n3": ["fireman", "Isle of Man"]})
        {'n1': 1, 'n2': 2}
    """
    found = {}
    for noun, glosses in nouns.items():
        words = {word for gloss in glosses for word in gloss.split()}
        if bits := sum(bit for bit, word in zip((MAN, WOMAN), GENDERS, strict=True) if word in words):
            found[noun] = bits
    return found


def told(agents: Iterable[str], genders: Mapping[str, int]) -> int:
    """What the agents of an image's frames tell together, as bits.

    Example:
        >>> told(["n2", "n3", ""], {"n1": 1, "n2": 2}), told(["n1", "n2"], {"n1": 1, "n2": 2})
        (2, 3)
    """
    bits = NONE
    for agent in agents:
        bits |= genders.get(agent, NONE)
    return bits
