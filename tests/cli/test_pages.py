"""Boards as LaTeX and HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biasbench import printable
from biasbench.cli.pages import LONGEST, SPECIAL, Sheet, latex, page, tex
from tests.cli import matrix_store, stored
from tests.corpus.names import NAMES

TAGS = {"html", "meta", "title", "style", "h2", "table", "thead", "tbody", "tr", "th", "td", "p"}


class Read(HTMLParser):
    """Cells by row, tags, and texts of a page, by Python's own parser."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.tags, self.texts, self.attributes = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag in ("p", "h2", "title"):
            self.texts.append("")

    def handle_data(self, data):
        tag = self.tags[-1] if self.tags and data != "\n" else ""
        if tag in ("td", "th"):
            self.rows[-1][-1] += data
        elif tag in ("p", "h2", "title"):
            self.texts[-1] += data


def plain(text):
    """What LaTeX would set, of the commands that `tex` may use; anything else is an error."""
    back = {value: key for key, value in SPECIAL.items()}
    token = re.compile(r"\$-\$|\$\\lambda_([A-Za-z])\$|" + "|".join(map(re.escape, back)) + r"|[^\\{}$&%#_~^]")
    out, at = "", 0
    while at < len(text):
        found = token.match(text, at)
        assert found, text[at : at + 20]
        out += "-" if found[0] == "$-$" else f"λ_{found[1]}" if found[1] else back.get(found[0], found[0])
        at = found.end()
    return out


@given(
    st.text(st.characters(max_codepoint=0x17F), max_size=30) | st.sampled_from([n for n in NAMES if len(n) < LONGEST])
)
def test_names_are_text_in_latex(name):
    signs = str.maketrans({"±": "+", "²": "2", "·": ".", "…": "."})
    shown = printable(name, LONGEST).translate(signs)
    assert plain(tex(shown)) == shown


@given(st.lists(st.lists(st.text(max_size=12) | st.sampled_from(NAMES), min_size=2, max_size=2), max_size=4))
def test_names_are_text_in_html(rows):
    sheet = Sheet(["a", "b"], rows, rules=range(1, len(rows)), title="t<i>", below=["<p onload=x>"])
    read = Read(page([sheet], ["'\"&"]))
    assert read.rows == [["a", "b"], *([printable(cell, LONGEST) for cell in row] for row in rows)]
    assert read.texts == ["biasbench", "t<i>", "<p onload=x>", "'\"&"]
    assert set(read.tags) <= TAGS
    assert {name for name, _ in read.attributes} <= {"lang", "charset", "http-equiv", "content"}
    assert read.tags.count("tbody") == max(1, len(rows))


def test_a_script_would_be_noticed():
    read = Read("<table><tr><td><script>x</script></td></tr></table>")
    assert not set(read.tags) <= TAGS
    with pytest.raises(AssertionError):
        plain("a_b")


def test_a_tabular_by_hand():
    sheet = Sheet(["method", "Δ % →0"], [["[x]", "-1.0 ± 0.5"], ["rba (t)", "– (1/2)"]], [1], "a & b", ["50 % only."])  # noqa: RUF001
    assert latex([sheet], ["end"]).splitlines()[2:] == [
        r"\textbf{a \& b}\par",
        r"\begin{tabular}{ll}",
        r"\toprule",
        r"method & $\Delta$ \% $\to$0 \\",
        r"\midrule",
        r"{[}x{]} & $-$1.0 $\pm$ 0.5 \\",
        r"\midrule",
        r"rba (t) & -- (1/2) \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par{\footnotesize\noindent",
        r"50 \% only.\par",
        "}",
        "",
        r"\par{\footnotesize\noindent",
        r"end\par",
        "}",
    ]


@pytest.mark.parametrize("command", [("leaderboard",), ("matrix",), ("leaderboard", "--against", "published")])
def test_every_board_in_both(cli, tmp_path, command):
    names = [name for name in NAMES if "\ud800" not in name and len(name) < LONGEST / 2]
    stored.commit(tmp_path / "results", "original", dataset="coco")
    for name in names:
        # What is compared has to parse.
        method, dataset = (f"{kind}(tag={name!r})" if len(command) > 1 else name for kind in ("mine", "other"))
        stored.commit(tmp_path / "results", method, dataset=dataset)
        matrix_store.unscored(tmp_path / "results", method, "failed", f"because {name}")
    made = {form: cli(*command, "--results", tmp_path / "results", "--format", form) for form in ("html", "tex")}
    assert {said.code for said in made.values()} == {0}, made["tex"].err
    read = Read(made["html"].out)
    assert set(read.tags) <= TAGS
    assert len({len(row) for row in read.rows[:3]}) == 1
    lines = [line for line in made["tex"].out.splitlines() if line.endswith(r" \\")]
    assert len(lines) == len(read.rows) >= 2
    for line, row in zip(lines, read.rows, strict=True):
        assert len(re.findall(r"(?<!\\)&", line)) == len(row) - 1
    assert all(c == "\n" or c.isprintable() for said in made.values() for c in said.out)
