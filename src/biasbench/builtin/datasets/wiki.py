"""WIKI: faces of people in Wikipedia with age and gender, the other part of IMDB-WIKI (Rothe et al. 2015).

The folder, as released:

    ROOT/
      wiki_crop/wiki.mat              or in ROOT, or in ROOT/wiki
      wiki_crop/00/ ... wiki_crop/99/
"""

from __future__ import annotations

from typing import ClassVar

from biasbench.builtin.datasets.imdb import PAGE, Imdb


class Wiki(Imdb):
    """Faces of people in Wikipedia with age (12 classes) and gender; about one image of each person.

    Read like `imdb`, with the same options. The file has no number of the person: people of one name count as
    one, and a nameless entry as a person of its own.
    """

    name: ClassVar[str] = "wiki"
    obtain: ClassVar[tuple[str, ...]] = (
        f"unpack {PAGE}static/wiki_crop.tar",
        "and name the folder that then holds wiki_crop with --data-root",
    )
