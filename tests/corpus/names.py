"""Names that a file, a plugin or a shell may bring: each is shown, and none drives a terminal, a table or a sheet."""

from __future__ import annotations

NAMES: tuple[str, ...] = (
    "[/x]", "[link=https://x.example]y[/link]", "[bold]b", "[", "]", "[[x]]", "[/]", "\\[x]",  # rich's markup
    "\x1b[2J", "\x1b[31mred", "\x1b]0;title\x07", "\x1b]8;;https://x.example\x1b\\y", "\x1b]52;c;aGk=\x07", "\x9b2J",
    "\r over", "a\nb", "a\tb", "\x00", "\x07", "\x08\x08", "\x7f", "\x85", "\u2028", "\u2029",  # control characters
    "\u202eabc", "\u2066x\u2069", "\u200b", "\ufeff", "\u00ad",  # directions, and what takes no room
    "=1+1", "+1", "-1+1", "@SUM(A1)", "=cmd|'/C calc'!A0", " =1+1", "\t=1",  # what a sheet takes for a formula
    "<script>alert(1)</script>", "a|b", "`x` *y* _z_", "$x^2$",
    "\\textbf{x}", "%s{0}", "🏳️‍🌈", "é", "x" * 10_000, "\ud800",
)  # fmt: skip
