"""What a page shows, as its address says it: the whole state of a view stands there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode

from results.records.case import AXES, PLACE_AXES

MOST_CHARACTERS = 8_000  # of an address; a longer one is no view of ours
MOST_FIELDS = 300
LONGEST_VALUE = 300
MOST_DIGITS = 10


@dataclass(frozen=True)
class Filter:
    """A column of the cases, of which only some values are shown."""

    title: str
    column: str


@dataclass(frozen=True)
class Option:
    """A choice of how a figure is drawn.

    choices: Words, the first by default; none where they follow from what is shown.
    is_number: Whether it is a whole number.
    """

    title: str
    choices: tuple[str, ...] = ()
    is_number: bool = False

    def takes(self, value: str) -> bool:
        if self.is_number:
            return value.isascii() and value.isdigit() and len(value) < MOST_DIGITS
        return not self.choices or value in self.choices


@dataclass(frozen=True)
class ViewState:
    """What is shown.

    filters: Values by the filter's name; all where there are none.
    options: By name.
    notes: What of the address could not be used, for a person.
    """

    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def option(self, name: str) -> str | None:
        """What was chosen, or the first choice; None where nothing says."""
        option, chosen = OPTIONS[name], self.options.get(name)
        if chosen and option.takes(chosen):
            return chosen
        return next(iter(option.choices), None)

    def link(self, path: str, **options: str) -> str:
        """The address of a page that shows the same, but for some options."""
        pairs = [(name, value) for name, values in self.filters.items() for value in values]
        query = urlencode([*pairs, *(dict(self.options) | options).items()])
        return f"{path}?{query}" if query else path

    @property
    def key(self) -> str:
        """The same for views that show the same."""
        pairs = [(name, value) for name, values in self.filters.items() for value in values]
        return urlencode(sorted([*pairs, *self.options.items()]))


def parse_view(search: str | None) -> ViewState:
    """The query of an address to a view; what can't be used is named, never obeyed."""
    text = (search or "").removeprefix("?").encode(errors="replace").decode()
    if len(text) > MOST_CHARACTERS:
        told = "This address is too long to be one of these pages: nothing of it is used."
        return ViewState(notes=(told,))
    try:
        pairs = parse_qsl(text, max_num_fields=MOST_FIELDS)
    except ValueError:
        told = f"This address has more than {MOST_FIELDS} parts: nothing of it is used."
        return ViewState(notes=(told,))
    filters: dict[str, tuple[str, ...]] = {}
    options: dict[str, str] = {}
    notes: list[str] = []
    for name, value in pairs:
        if len(value) > LONGEST_VALUE:
            notes.append(f"A value of {len(value)} characters was left out.")
        elif name in FILTERS:
            filters[name] = (*filters.get(name, ()), value)
        elif name in OPTIONS:
            options[name] = value
        else:
            notes.append(f"Nothing here is called {name[:60]!a}: it was left out.")
    for name, value in options.items():
        option = OPTIONS[name]
        if not option.takes(value):
            wanted = "a whole number" if option.is_number else " or ".join(option.choices)
            notes.append(f"{option.title} must be {wanted}, got {value[:60]!a}.")
    return ViewState(filters, options, tuple(notes))


FILTERS: dict[str, Filter] = {
    "device": Filter("Device", "device_name"),
    **{name: Filter(axis.title, name) for name, axis in AXES.items() if name not in PLACE_AXES},
    "sweep": Filter("Sweep", "sweep_id"),
}
OPTIONS: dict[str, Option] = {
    "scale": Option("Scale", ("absolute", "share")),
    "batch": Option("Batch", is_number=True),
    "series": Option("Series"),
    "against": Option("Against"),
    "layer_batch": Option("Batch", is_number=True),
    "depth": Option("Depth", ("blocks", "parts")),
    "level": Option("Points", ("cases", "modules")),
    "prices": Option("What if, in USD an hour"),
    "before": Option("Before"),
    "after": Option("After"),
    "case": Option("Case"),
    "run": Option("Run"),
}
