"""What an axis of a sweep is: one row says all that flags, tables, figures and estimates need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from pydantic import BaseModel

# work: what is computed. way: how, so that `recommend` may choose among its values. place: where.
Role = Literal["work", "way", "place"]

MISSING: Final = object()


@dataclass(frozen=True)
class Axis:
    """One dimension of a sweep, as the annotation of a field of Case.

    title: For tables, filters and axis labels.
    help: For the flag.
    default: Values of the flag; the value of older records if empty.
    role: Whether it says what is computed, how, or where.
    choices: All values that it may have; empty if they are listed elsewhere or have no list.
    short: A one-letter flag.
    splits_worker: Whether another value needs another worker process.
    splits_series: Whether another value is another line in a figure.
    shown: Its value in labels; empty if it goes without saying.
    since: The value that records made before this axis have. It is the default of the field; an
        axis that all records have had from the start has none.
    """

    title: str
    help: str
    default: tuple[object, ...] = ()
    role: Role = "way"
    choices: tuple[str, ...] = ()
    short: str | None = None
    splits_worker: bool = True
    splits_series: bool = True
    shown: Callable[[Any], str] = str
    since: object = MISSING

    def label(self, value: object) -> str:
        """A value in a label; empty if it is missing or goes without saying."""
        is_missing = value is None or value != value  # as pandas marks it
        return "" if is_missing or value == self.since else self.shown(value)


def axes_of(model: type[BaseModel]) -> dict[str, Axis]:
    """The axes that annotate the fields of a model, by field.

    Raises:
        TypeError: A field has no axis.
    """
    axes = {}
    for name, field in model.model_fields.items():
        found = [each for each in field.metadata if isinstance(each, Axis)]
        if len(found) != 1:
            raise TypeError(f"{model.__name__}.{name} must be annotated with one Axis.")
        since = MISSING if field.is_required() else field.default
        default = found[0].default or (since,)
        axes[name] = replace(found[0], since=since, default=default)
    return axes
