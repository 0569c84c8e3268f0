"""A person's mistake, told in one line: what must hold, what came, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SweepError(ValueError):
    """A sweep can't be run as asked; the message says what must hold, what came, what to do."""


def quoted(value: object) -> str:
    """A person's value, safe to print: escaped, and cut where it is long."""
    try:
        text = ascii(value)
    except ValueError:  # Python writes no whole number of over 4,300 digits
        text = "a number too long to show"
    return text if len(text) <= 60 else text[:57] + "..."


def suggestion(word: object, known: Iterable[str]) -> str:
    """' Did you mean x?' or ' Known: ...'."""
    known = list(known)
    text = word[:100] if isinstance(word, str) else ""
    likeness = [difflib.SequenceMatcher(None, text, name).ratio() for name in known]
    closest = known[likeness.index(max(likeness))]  # the first of equals
    return f" Did you mean '{closest}'?" if max(likeness) >= 0.5 else f" Known: {', '.join(known)}."
