"""The user's mistakes: one base class, and text that is safe to print in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def printable(text: str, keep: str = "") -> str:
    """Replace what could drive a terminal or break a line, except the characters to keep."""
    return "".join(char if char.isprintable() or char in keep else "?" for char in text)


class UserError(Exception):
    """Something can't be done as asked.

    The message is one printable line: what is wrong, what was expected, and what to do.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def quoted(value: object) -> str:
    """A value from outside, safe to print: escaped, and cut if it is long."""
    try:
        text = ascii(value)
    except ValueError:  # Python writes no whole number of over 4,300 digits
        return "a number too long to show"
    return text if len(text) <= 60 else text[:57] + "..."


def suggestion(word: object, known: Iterable[str]) -> str:
    """' Did you mean x?' or ' Known: ...'."""
    known = list(known)
    text = word[:100] if isinstance(word, str) else ""
    likeness = [difflib.SequenceMatcher(None, text, name).ratio() for name in known]
    closest = known[likeness.index(max(likeness))]  # the first of equals
    return f" Did you mean '{closest}'?" if max(likeness) >= 0.5 else f" Known: {', '.join(known)}."


def one_line(error: BaseException) -> str:
    """An error's message on one line, without a full stop, to put into another sentence."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, FileNotFoundError) and " " not in text:  # a name alone
        text = "No such file or directory"
    return " ".join(text.split())[:200].rstrip(".")
