"""What all pictures share: colours, axes, and files that are the same bytes for the same content."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from biasbench import io
from biasbench.errors import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, BAND, QUIET, RULE, ACCENT = "#1f4e79", "#9fbfdf", "#8c8c8c", "#e5e5e5", "#b3471d"
# Told apart also by the colour-blind (Okabe and Ito), and by their markers in print.
COLOURS = ("#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#f0e442", "#0072b2", "#000000")
MARKERS = ("s", "^", "v", "D", "P", "X", "<", ">", "p", "h")
UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


@contextmanager
def drawing(path: Path, width: float = 6.4, height: float = 4.8) -> Iterator[Figure]:
    """An empty picture that is written to `path` when the block ends well: whole, and free of dates.

    Args:
        path: Where to; the ending tells the format (.svg, .png, .pdf).
        width: Inches.
        height: Inches.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(width, height), layout="constrained")
    ending = path.suffix.lstrip(".")
    with rc_context({"svg.hashsalt": "biasbench"}):  # it names a drawing's parts: else they are random
        yield picture
        with io.writing(path) as aside:
            picture.savefig(aside, format=ending, dpi=150, metadata=UNDATED.get(ending))


def tidy(axes: Axes, title: str) -> None:
    """Title and grid; no box around."""
    axes.set_title(literal(title), fontsize=10)
    axes.grid(color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def literal(text: str) -> str:
    r"""Text from data as it is: a dollar sign starts no formula, and control characters are shown.

    Example:
        >>> print(literal("a$b"))
        a\$b
    """
    return printable(text, 2000).replace("$", r"\$")
