"""Tables in Markdown, of texts that anybody may have written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..records.errors import printable

INVISIBLE = "\u200b"  # a space of no width, that keeps a word from being a link


def cell(value: object) -> str:
    """Anybody's text in a cell: it can't end the cell, call a person or an issue, nor drive a
    terminal that it is printed to.
    """
    plain = printable(" ".join(str(value).split()))
    for sign in ("\\", "|", "`", "~", "]("):  # a bracket alone is none: headings read "[ms]"
        plain = plain.replace(sign, f"\\{sign}")
    plain = re.sub(r"<(?![ =0-9])", "&lt;", plain.replace("&", "&amp;"))  # "<= 5" stays legible
    plain = plain.replace("@", f"@{INVISIBLE}").replace("#", f"#{INVISIBLE}")
    # A link may begin after an underscore, where a word does not.
    plain = re.sub(r"(?i)(?<![^\W_])(GH-)(?=[0-9])", rf"\1{INVISIBLE}", plain)
    return re.sub(r"(?i)(?<![^\W_])(https?|ftp|www)(?=[:.])", rf"\1{INVISIBLE}", plain)


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Headings, the rule below them, and a line a row."""
    lines = [line(headings), "|" + " --- |" * len(headings), *map(line, rows)]
    return "\n".join(lines) + "\n"


def line(values: Iterable[object]) -> str:
    return "| " + " | ".join(map(cell, values)) + " |"
