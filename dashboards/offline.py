"""A report as one file of HTML, which opens without a network and without a server."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape

import pandas as pd
from plotly.offline import get_plotlyjs

from results.tables.metrics import METRICS

from .data import Frames
from .drawing import drawn
from .figures import FIGURES
from .figures.series import has_synthetic
from .tables import TABLES, shown_table

REPORTED = tuple(name for name, spec in FIGURES.items() if spec.in_report)
TABLED = ("sweeps", "cases", "capacity", "prices", "comparison")
OPEN_ROWS = 30  # of a table that is shown at once
STYLE = """
:root { color-scheme: light; --ink: #1a1a1a; --line: #ccc; --soft: #f5f5f5; }
body { font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; color: var(--ink);
  max-width: 1500px; margin: 0 auto; padding: 24px; background: #fff; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
nav a { margin-right: 1rem; }
.synthetic { background: #fff3cd; border: 1px solid #b38600; padding: 8px 12px; }
details { margin: 8px 0 24px; } summary { cursor: pointer; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 4px 0; }
th, td { border: 1px solid var(--line); padding: 3px 8px; text-align: right; }
th { background: var(--soft); } td { white-space: nowrap; } td.text, th.text { text-align: left; }
"""
# Figures are drawn when they come near: the page is there at once, however many there are.
DRAW = """
const draw = (place) => {
  const figure = figures[place.id];
  if (!figure) return;
  delete figures[place.id];
  Plotly.newPlot(place, figure.data, figure.layout, {
    responsive: true, displaylogo: false, showSendToCloud: false });
};
const places = document.querySelectorAll(".plot");
const near = new IntersectionObserver(
  (entries) => entries.filter((each) => each.isIntersecting).forEach((each) => draw(each.target)),
  { rootMargin: "400px" });
places.forEach((place) => near.observe(place));
addEventListener("beforeprint", () => places.forEach(draw));
"""


def report(frames: Frames, title: str, notes: Iterable[str] = ()) -> str:
    """All figures, each with the table that it is made of.

    Args:
        frames: Of the view that is reported.
        title: Of the page; any text.
        notes: Lines below it; any text.
    """
    parts = [
        f"<header><h1>{escape(title)}</h1>",
        '<p class="synthetic" role="note">Synthetic: some records here were made up, not measured.'
        "</p>"
        if has_synthetic(frames["cases"])
        else "",
        *(f"<p>{escape(note)}</p>" for note in notes),
        "</header><nav>"
        + "".join(f'<a href="#{name}">{name}</a>' for name in (*REPORTED, *TABLED))
        + "</nav>",
        "<main>",
        *(section_of_figure(name, frames) for name in REPORTED),
        *(section_of_table(name, frames) for name in TABLED),
        "</main>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
        f"<script>{get_plotlyjs()}</script><script>const figures = {{}};</script></head>\n"
        f"<body>{''.join(parts)}<script>{DRAW}</script></body></html>\n"
    )


def section_of_table(name: str, frames: Frames) -> str:
    spec = TABLES[name]
    table = shown_table(frames[spec.frame], spec.columns)
    is_open = " open" if len(table) <= OPEN_ROWS else ""
    rows = f"<summary>{len(table)} rows</summary>{html_table(table)}"
    details = f"<details{is_open}>{rows}</details>"
    return f'<section id="{name}"><h2>{escape(spec.title)}</h2>{details}</section>'


def section_of_figure(name: str, frames: Frames) -> str:
    summary = FIGURES[name].summary
    figure = drawn(name, frames, "light")
    title = escape(summary[:1].upper() + summary[1:])
    # A label can't end the script.
    data = json.dumps(json.loads(figure.to_json())).replace("<", "\\u003c")
    return (
        f'<section id="{name}"><h2>{title}</h2>'
        f'<div id="plot-{name}" class="plot" role="group" aria-label="{escape(name)}" '
        f'style="height: {figure.layout.height}px"></div>'
        f"<script>figures['plot-{name}'] = {data};</script></section>"
    )


def html_table(table: pd.DataFrame) -> str:
    """A frame of texts; numbers to the right."""
    numbers = {metric.heading for metric in METRICS.values()}
    classes = ["" if column in numbers else ' class="text"' for column in table.columns]
    head = "".join(
        f'<th scope="col"{kind}>{escape(str(column))}</th>'
        for column, kind in zip(table.columns, classes, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{kind}>{escape(str(cell))}</td>" for cell, kind in zip(row, classes, strict=True)
        )
        + "</tr>"
        for row in table.itertuples(index=False)
    )
    content = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="table" tabindex="0">{content}</div>'
