"""How groups and classes look in a picture: a colour and a marker each, names along an axis, a page of panels."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from biasbench.errors import printable
from biasbench.plots.style import COLOURS, MARKERS, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ORDER = (0, 6, 1, 2, 7, 4, 3, 5)  # of COLOURS: neighbours differ in brightness too, so that grey print tells them apart
HATCHES = ("", "////", "....", "xxxx", "----")
BESIDE = 16  # classes up to which panels stand side by side
LONGEST = 24  # characters of a name along an axis


@dataclass(frozen=True)
class Look:
    """What tells one group from the others.

    Attributes:
        colour: Of lines, markers and bars.
        marker: On a line.
        hatch: In a bar.
    """

    colour: str
    marker: str
    hatch: str


def look(group: int) -> Look:
    """The look of a group by its number; the first 40 differ.

    Example:
        >>> look(0).marker != look(1).marker, len({look(i) for i in range(40)})
        (True, 40)
    """
    colour = COLOURS[ORDER[group % len(ORDER)]]
    return Look(colour, MARKERS[group % len(MARKERS)], HATCHES[group % len(HATCHES)])


@dataclass(frozen=True)
class Page:
    """Panels that share classes: side by side while classes are few, below each other where they are many.

    Attributes:
        rows: Of panels.
        columns: Of panels.
        width: Of one panel, inches.
    """

    rows: int
    columns: int
    width: float

    @classmethod
    def of(cls, panels: int, classes: int) -> Page:
        """The page for some panels with so many classes along their axes."""
        columns = min(panels, 3) if classes <= BESIDE else 1
        narrow = 5.4 if columns == 1 else 3.4
        return cls(-(-panels // columns), columns, max(narrow, 0.16 * classes + 1))


def name_classes(axes: Axes, names: Sequence[str], width: float) -> None:
    """Names of classes along the x axis, upright where they would touch, cut where they are long.

    Args:
        axes: Where 0..K-1 are the classes.
        names: K names.
        width: Of the axes, inches.
    """
    shown = [literal(printable(name, LONGEST)) for name in names]
    touching = 0.075 * sum(len(name) + 2 for name in shown) > width - 0.8
    size = 8 if len(names) <= 2 * BESIDE else 6
    axes.set_xticks(range(len(names)), shown, rotation=90 if touching else 0, fontsize=size)
    axes.set_xlim(-0.7, len(names) - 0.3)


def lines_of(text: str, width: float, size: float = 10) -> str:
    r"""A title cut into lines that fit into so many inches at a font size.

    Example:
        >>> lines_of("a title that is too long", 1.0)
        'a title that\nis too long'
    """
    most = max(12, int(120 * width / size))
    return "\n".join(textwrap.wrap(literal(text), most, break_on_hyphens=False)) or " "


def head(picture: Figure, title: str, width: float, names: int) -> None:
    """The title above all panels, and one legend below them.

    Args:
        picture: With panels whose first one has labelled artists.
        title: What is shown.
        width: Inches.
        names: Characters of the longest entry of the legend.
    """
    picture.suptitle(lines_of(title, width, 9), fontsize=9)
    handles, labels = picture.axes[0].get_legend_handles_labels()
    most = max(1, int(width / (0.6 + 0.075 * names)))  # entries that fit beside each other
    rows = -(-len(labels) // most)
    columns = -(-len(labels) // max(rows, 1))
    picture.legend(handles, labels, loc="outside lower center", ncols=max(columns, 1), frameon=False, fontsize=8)
