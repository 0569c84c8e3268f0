"""Tables for a terminal or as Markdown, and the lines around them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from results.records.case import AXES
from results.records.errors import printable
from results.records.schema import Record, SweepEnd
from results.tables import markdown as md

if TYPE_CHECKING:
    import pandas as pd


class TextHeading(str):
    """The heading of a column of text, which is aligned to the left; others hold numbers."""


def text_headings(*headings: str) -> list[TextHeading]:
    return [TextHeading(heading) for heading in headings]


@dataclass
class TextTable:
    """A table ready to be shown: text cells, what is the same in every row, and what it says.

    headings: Those of columns of text are of `text_headings`.
    faint: Row and column of cells that are no more than noise; in parentheses too.
    sentences: What a person should take from it, below.
    """

    title: str
    headings: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    caption: str = ""
    faint: set[tuple[int, int]] = field(default_factory=set)
    sentences: list[str] = field(default_factory=list)


def print_table(view: TextTable, console: Console) -> None:
    table = Table(
        title=escape(printable(view.title)),
        title_justify="left",
        title_style="bold",
        caption=escape(printable(view.caption)) or None,
        caption_justify="left",
    )
    for heading in view.headings:
        justify: Literal["left", "right"] = "left" if isinstance(heading, TextHeading) else "right"
        # Folded where the terminal is narrow: a cut number would be a wrong one.
        table.add_column(escape(heading), justify=justify, overflow="fold")
    for row_index, row in enumerate(view.rows):
        cells = []
        for column, cell in enumerate(row):
            text = escape(printable(cell))
            cells.append(f"[dim]{text}[/dim]" if (row_index, column) in view.faint else text)
        table.add_row(*cells)
    console.print(table)
    for sentence in view.sentences:
        console.print(printable(sentence), markup=False, highlight=False, soft_wrap=True)


def markdown(view: TextTable) -> str:
    """The view as a Markdown table, whoever wrote what it shows."""
    below = "\n\n".join(md.cell(text) for text in (view.caption, *view.sentences) if text)
    return f"**{md.cell(view.title)}**\n\n{md.table(view.headings, view.rows)}\n{below}".strip()


def two_lines(heading: str) -> str:
    """The unit below the title, for narrow terminals."""
    return heading.replace(" [", "\n[")


def varying_axes(frame: pd.DataFrame) -> tuple[list[TextHeading], str]:
    """The axes, and the sweep, that differ between rows; and a line that names the other axes."""
    axes = text_headings("sweep_id", *AXES)
    varying = [axis for axis in axes if frame[axis].nunique() > 1 or axis == "batch_size"]
    if frame.empty:
        return varying, ""
    first = frame.iloc[0]
    told = (axis for axis in AXES if axis not in varying and first[axis] is not None)
    fixed = (f"{axis} {first[axis]}" for axis in told)
    cases = frame.drop_duplicates(["sweep_id", "case_id"])
    total, warned, invalid = cases[["checks", "warnings", "invalid_checks"]].sum().astype(int)
    checks = f"self-checks: {total} made, {warned} warn, {invalid} invalid"
    return varying, f"in all rows: {', '.join(fixed)}; {checks}"


def failure_lines(records: Sequence[Record]) -> list[str]:
    """A line for each case that has no number, with its reason."""
    return [
        printable(f"{record.status}: {record.case.label}: {record.message}")
        for record in records
        if record.status != "ok"
    ]


def note_lines(records: Iterable[Record]) -> list[str]:
    """What a person should know of the measurements, each note once."""
    notes = {
        f"note: {subject}: {text}"
        for record in records
        if record.measurement is not None
        for subject, text in record.measurement.notes.items()
    }
    return sorted(notes)


def end_lines(end: SweepEnd | None) -> list[str]:
    """What the sweep cost beside its measuring, and its own checks that did not pass."""
    if end is None:
        return []
    lines = []
    if end.measured_s > 0:
        times = f"{end.wall_s / end.measured_s:.2f} times its timed and warm-up work"
        lines.append(f"It took {end.wall_s:.0f} s, {times}.")
    lines += [
        printable(f"self-check {name}: {check.verdict}: {check.reason}")
        for name, check in end.checks.items()
        if check.verdict != "pass"
    ]
    return lines


def status_line(planned: int, records: Iterable[Record]) -> str:
    """'12 cases planned: 10 ok, 1 oom, 1 not run'; the parts always add up."""
    counts = Counter(record.status for record in records)
    not_run = planned - sum(counts.values())
    parts = [f"{count} {status}" for status, count in counts.items()]
    parts += [f"{not_run} not run"] if not_run else []
    return f"{planned} cases planned: {', '.join(parts)}"
