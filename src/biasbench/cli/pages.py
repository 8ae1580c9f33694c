r"""Tables for papers and web pages: LaTeX and HTML, in which every name is text.

Example:
    >>> sheet = Sheet(["method", "λ_M %"], [["a_b", "-0.5 ± 0.1"]])
    >>> print(latex([sheet]).splitlines()[6])
    a\_b & $-$0.5 $\pm$ 0.1 \\
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from biasbench.errors import printable

LONGEST = 2000
"""Characters of a cell or line that are shown."""


@dataclass(frozen=True)
class Sheet:
    """A table with what stands above and below it, as plain text.

    Attributes:
        head: Headings of the columns.
        rows: Cells, as many in each row as there are headings.
        rules: Numbers of the rows that begin a part of their own.
        title: Above the table; empty for none.
        below: Lines of a legend.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    rules: Collection[int] = ()
    title: str = ""
    below: Sequence[str] = ()


# -- LaTeX -----------------------------------------------------------------------------------------

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "'": r"\textquotesingle{}", "`": r"\textasciigrave{}",
    "[": "{[}", "]": "{]}", "*": "{*}",  # after \\ these would be arguments
    "-": "-{}",  # two would be joined
}  # fmt: skip
SIGNS = {
    "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\to$", "≈": r"$\approx$", "√": r"$\surd$",
    "·": r"$\cdot$", "²": "$^2$", "≤": r"$\leq$", "≥": r"$\geq$", "∞": r"$\infty$", "Δ": r"$\Delta$",
    "λ": r"$\lambda$", "α": r"$\alpha$", "β": r"$\beta$", "σ": r"$\sigma$", "–": "--", "…": r"\dots{}",  # noqa: RUF001
}  # fmt: skip
TOKEN = re.compile(r"(?P<index>λ_(?P<letter>[A-Za-z]))|(?P<minus>(?<![\w)-])-(?=\d))|.", re.DOTALL)
PREAMBLE = (
    "% \\usepackage{booktabs} is needed; names beyond Latin letters need LuaLaTeX or XeLaTeX.",
    "% Each line below the table is a note: set what the reader must know of the figures.",
)


def latex(sheets: Iterable[Sheet], closing: Iterable[str] = ()) -> str:
    """A `tabular` for each sheet, ruled by booktabs, with its legend as small print.

    Args:
        sheets: The tables.
        closing: Lines below the last one.
    """
    lines = list(PREAMBLE)
    for sheet in sheets:
        if sheet.title:
            lines.append(rf"\textbf{{{tex(sheet.title)}}}\par")
        lines += [rf"\begin{{tabular}}{{{'l' * len(sheet.head)}}}", r"\toprule", _row(sheet.head), r"\midrule"]
        for number, row in enumerate(sheet.rows):
            lines += [r"\midrule"] * (number in sheet.rules) + [_row(row)]
        lines += [r"\bottomrule", r"\end{tabular}", *_small(sheet.below), ""]
    return "\n".join([*lines, *_small(closing)]).rstrip("\n") + "\n"


def _row(cells: Iterable[str]) -> str:
    return " & ".join(map(tex, cells)) + r" \\"


def _small(lines: Iterable[str]) -> list[str]:
    shown = [rf"{tex(line)}\par" for line in lines]
    return [r"\par{\footnotesize\noindent", *shown, "}"] if shown else []


def tex(text: str) -> str:
    r"""Text that LaTeX sets as it is.

    Example:
        >>> tex("λ_M of a_b: -0.5")
        '$\\lambda_M$ of a\\_b: $-$0.5'
    """
    return TOKEN.sub(_tex, printable(text, LONGEST))


def _tex(found: re.Match[str]) -> str:
    if found["index"]:
        return rf"$\lambda_{found['letter']}$"
    if found["minus"]:
        return "$-$"
    return SPECIAL.get(found[0]) or SIGNS.get(found[0], found[0])


# -- HTML ------------------------------------------------------------------------------------------

STYLE = (
    "body{font:15px/1.4 system-ui,sans-serif;margin:2em}table{border-collapse:collapse;margin:1em 0}"
    "th,td{padding:.2em .8em .2em 0;text-align:left;vertical-align:top}"
    "thead th{border-bottom:2px solid}tbody+tbody tr:first-child td{border-top:1px solid}p{margin:.1em 0;color:#555}"
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(sheets: Iterable[Sheet], closing: Iterable[str] = (), title: str = "biasbench") -> str:
    """One static HTML page that loads nothing and runs nothing.

    Args:
        sheets: The tables; the rows of each part stand in a `tbody` of their own.
        closing: Lines below the last one.
        title: Of the page.
    """
    lines = [
        '<!DOCTYPE html>', '<html lang="en">', '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        f"<title>{said(title)}</title>", f"<style>{STYLE}</style>",
    ]  # fmt: skip
    for sheet in sheets:
        if sheet.title:
            lines.append(f"<h2>{said(sheet.title)}</h2>")
        lines += ["<table>", f"<thead>{_cells(sheet.head, 'th')}</thead>", "<tbody>"]
        for number, row in enumerate(sheet.rows):
            lines += ["</tbody>", "<tbody>"] * (number in sheet.rules) + [_cells(row, "td")]
        lines += ["</tbody>", "</table>", *(f"<p>{said(line)}</p>" for line in sheet.below)]
    return "\n".join([*lines, *(f"<p>{said(line)}</p>" for line in closing), "</html>"]) + "\n"


def _cells(cells: Iterable[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{said(cell)}</{tag}>' for cell in cells)}</tr>"


def said(text: str) -> str:
    """Text that a page shows as it is.

    Example:
        >>> said("<b> & 'c'")
        '&lt;b&gt; &amp; &#x27;c&#x27;'
    """
    return html.escape(printable(text, LONGEST))
