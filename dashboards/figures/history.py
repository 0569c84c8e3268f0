"""Whether it got worse: the time of an image over days and commits."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from results.answers.history import IN_A_ROW, find_steps

from ..theme import LINES, color_of, finish, marker_of, safe
from .series import (
    LINE_AXES,
    MOST_SERIES,
    SERIES_COLUMNS,
    has_synthetic,
    interval,
    labels,
    note_of_rest,
    point_data,
    series_labels,
    with_device,
)

ALWAYS = ("model", "precision", "attention")  # in the name of a line, also if they do not vary


def measured_often(frame: pd.DataFrame) -> pd.DataFrame:
    """Cases that were measured more than once, each with the name of its series."""
    good = with_device(frame[(frame["status"] == "ok") & frame["image_s"].notna()])
    times = good.groupby([*SERIES_COLUMNS, "batch_size"])["image_s"].transform("size")
    often = good[times > 1]
    others = [axis for axis in LINE_AXES if axis not in ALWAYS]
    often = often.assign(label=series_labels(often, others))
    named = labels(often, ["label", *ALWAYS, "batch_size"])
    # Any text may stand there: what is no time has no place.
    at = pd.to_datetime(often["started_at"], format="ISO8601", utc=True, errors="coerce")
    often = often.assign(at=at, series=named)
    return often[at.notna()].sort_values("at", kind="stable")


def history_figure(frame: pd.DataFrame) -> go.Figure:
    """A line for each case that was measured more than once."""
    often = measured_often(frame)
    every = list(dict.fromkeys(often["series"][::-1]))  # those that were measured last first
    often = often[often["series"].isin(every[:MOST_SERIES])]
    models = list(dict.fromkeys(often["model"]))
    figure = go.Figure()
    for series, rows in often.groupby("series", sort=False):
        first = rows.iloc[0]
        name = safe(series)
        commits = rows["git_commit"].map(lambda commit: safe(str(commit)[:12]))
        low, high = rows["low_s"] / rows["median_s"], rows["high_s"] / rows["median_s"]
        values = rows["image_s"] * 1e3
        figure.add_trace(
            go.Scatter(
                x=rows["at"],
                y=values,
                name=name,
                mode="lines+markers",
                line={
                    "color": color_of(str(first["device_name"])), "width": 1,
                    "dash": LINES[models.index(first["model"]) % len(LINES)],
                },
                marker={"symbol": marker_of(str(first["precision"])), "size": 7},
                error_y=interval(values, values * low, values * high),
                customdata=point_data(
                    rows, commits, rows["n"], rows["torch"].map(safe), values * low, values * high
                ),
                hovertemplate=(
                    f"{name}<br>%{{y:.4g}} ms at commit %{{customdata[1]}}"
                    "<br>95 % %{customdata[4]:.4g} .. %{customdata[5]:.4g}, n %{customdata[2]}"
                    "<br>torch %{customdata[3]}<extra></extra>"
                ),
            )
        )  # fmt: skip
        for step in find_steps(list(rows["image_s"])):
            mark_step(figure, rows["at"].iloc[step.at], values.iloc[step.at], step.ratio)
    figure.update_xaxes(title="measured at")
    figure.update_yaxes(title="time of an image [ms]")
    note = note_of_rest(MOST_SERIES, len(every))
    title = f"Time of an image over time; arrow: {IN_A_ROW} sessions in a row at a new level [ms]"
    return finish(figure, title, has_synthetic(often), note=note)


def mark_step(figure: go.Figure, at: pd.Timestamp, value: float, ratio: float) -> None:
    """Where a new level begins, and by how much it is another."""
    figure.add_annotation(
        x=at, y=value, text=f"{(ratio - 1) * 100:+.1f} %", showarrow=True, arrowhead=2, ax=0,
        ay=-40 if ratio > 1 else 40,
    )  # fmt: skip
