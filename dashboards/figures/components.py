"""Where the time of SAM's pipeline goes, from files to masks."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from ..theme import finish, part_color, safe
from .series import (
    LINE_AXES,
    SERIES_COLUMNS,
    has_synthetic,
    newest,
    note_of_rest,
    point_data,
    series_labels,
)

MOST_BARS = 40


def components_figure(
    frame: pd.DataFrame, scale: str = "absolute", batch: str | None = None
) -> go.Figure:
    """Bars of the pipeline's parts, of an image.

    Args:
        frame: Of components.
        scale: `absolute` in milliseconds, or each part's `share`.
        batch: Size of the batches shown; by default the smallest of each series.
    """
    good = frame[(frame["status"] == "ok") & (frame["pipeline"] == "prompts")]
    cases = newest(good.drop_duplicates("record_id"))
    sizes = cases.groupby(SERIES_COLUMNS)["batch_size"].transform("min")
    cases = cases[cases["batch_size"].eq(int(batch) if batch else sizes)]
    named = cases.assign(label=series_labels(cases, ("model", *LINE_AXES)).map(safe))
    rows = good.merge(named[["record_id", "label"]], on="record_id")
    rows = rows.assign(image_s=rows["median_s"] / rows["batch_size"])
    every = list(dict.fromkeys(rows["label"]))
    rows = rows[rows["label"].isin(every[:MOST_BARS])]
    is_share = scale == "share"
    figure = go.Figure()
    for position, (part, own) in enumerate(rows.groupby("component", sort=False)):
        figure.add_trace(part_bars(str(part), own, position, is_share))
    figure.update_layout(barmode="stack", legend={"traceorder": "normal"})
    unit = "%" if is_share else "ms"
    figure.update_xaxes(
        title=f"share of an image's time [{unit}]" if is_share else f"time of an image [{unit}]"
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    height = 160 + 22 * rows["label"].nunique()
    title = f"Time across SAM components [{unit}]"
    return finish(figure, title, has_synthetic(rows), height, note_of_rest(MOST_BARS, len(every)))


def part_bars(part: str, rows: pd.DataFrame, position: int, is_share: bool) -> go.Bar:
    """One component's piece of all bars."""
    milliseconds, percent = rows["image_s"] * 1e3, rows["share"] * 100
    per_image = 1e3 / rows["batch_size"]
    told = [
        milliseconds, percent, rows["n"], rows["batch_size"], rows["prompts"],
        rows["low_s"] * per_image, rows["high_s"] * per_image,
    ]  # fmt: skip
    return go.Bar(
        y=rows["label"],
        x=percent if is_share else milliseconds,
        name=safe(part.replace("_", " ")),
        orientation="h",
        marker={"color": part_color(part, position)},
        customdata=point_data(rows, *told),
        hovertemplate=(
            "%{y}<br>%{fullData.name}: %{customdata[1]:.4g} ms an image, %{customdata[2]:.3g} %"
            "<br>95 % %{customdata[6]:.4g} .. %{customdata[7]:.4g} ms, n %{customdata[3]}"
            "<br>batch %{customdata[4]}, %{customdata[5]} prompts"
            "<extra></extra>"
        ),
    )
