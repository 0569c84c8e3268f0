"""Views of records on a console, or as csv, json or Markdown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
from rich.console import Console

from results.records.errors import printable

from .printing import markdown, print_table
from .views import VIEWS

if TYPE_CHECKING:
    from results.hardware.specs import Spec
    from results.records.schema import Record


def show_views(
    records: list[Record],
    peaks: dict[str, Spec],
    names: tuple[str, ...],
    form: str,
    console: Console,
) -> None:
    for name in names:
        frame = VIEWS[name].frame(records, peaks)
        if form == "csv":
            click.echo(frame.to_csv(index=False), nl=False)
        elif form == "json":
            rows = json.loads(frame.to_json(orient="records", double_precision=15))
            click.echo(json.dumps(rows, indent=1))
        elif form == "md":
            click.echo("\n\n".join(markdown(view) for view in VIEWS[name].views(frame)))
        elif len(frame):
            for view in VIEWS[name].views(frame):
                print_table(view, console)


def show_sentences(
    records: list[Record], peaks: dict[str, Spec], names: tuple[str, ...], console: Console
) -> None:
    """What views say in words, without their tables."""
    for name in names:
        for view in VIEWS[name].views(VIEWS[name].frame(records, peaks)):
            for sentence in view.sentences:
                console.print(printable(sentence), markup=False, highlight=False, soft_wrap=True)
