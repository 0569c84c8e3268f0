"""What a larger batch brings: speed, time, memory against the batch size, and the way there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb

from results.capacity import KNEE, capacity_of_cases
from results.metrics import METRICS, Metric

from ..theme import color_of, dash_of, finish, marker_of
from .series import (
    FAMILY,
    Series,
    batch_axes,
    has_synthetic,
    labelled,
    measured,
    newest,
    panels,
    point_data,
    series_of,
)

TIMED = ("image_s", "images_per_s", "speedup", "efficiency")  # bound as the forward's median is


def scaling_figure(frame: pd.DataFrame, column: str, title: str) -> go.Figure:
    """A column against the batch size: a panel a model, a line each of what else differs."""
    every = with_gains(measured(frame))
    cases, note = labelled(every)
    metric = METRICS[column]
    models = list(dict.fromkeys(every["model"]))
    figure = panels(models)
    shown: set[str] = set()
    failures = out_of_memory(frame, cases)
    for position, model in enumerate(models, start=1):
        for series in series_of(cases[cases["model"] == model]):
            for trace in series_traces(series, column, metric, failures):
                trace.showlegend = trace.showlegend and series.name not in shown
                figure.add_trace(trace, row=1, col=position)
            shown.add(series.name)
    batch_axes(figure, pd.concat([cases, failures]) if len(failures) else cases)
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title=metric.heading, col=1)
    unit = metric.unit or metric.title
    return finish(figure, f"{title} [{unit}]{note}", has_synthetic(cases))


def with_gains(cases: pd.DataFrame) -> pd.DataFrame:
    """With the speed-up over the smallest batch that was measured, and its share of the ideal."""
    in_order = cases.sort_values("batch_size", kind="stable")
    first = in_order.groupby(FAMILY, sort=False)[["images_per_s", "batch_size"]].transform("first")
    speedup = in_order["images_per_s"] / first["images_per_s"]
    larger = in_order["batch_size"] / first["batch_size"]
    gains = in_order.assign(speedup=speedup, efficiency=speedup / larger)
    return gains.loc[cases.index]


def out_of_memory(frame: pd.DataFrame, cases: pd.DataFrame) -> pd.DataFrame:
    """The smallest batch of each series that did not fit, where one was tried."""
    tried = newest(frame)
    failed = tried[tried["status"] == "oom"].sort_values("batch_size", kind="stable")
    failed = failed.drop_duplicates(FAMILY)
    return failed.merge(cases[[*FAMILY, "label"]].drop_duplicates(FAMILY), on=FAMILY)


def series_traces(
    series: Series, column: str, metric: Metric, failures: pd.DataFrame
) -> list[go.Scatter]:
    """The line, the knee on it, and a cross where memory ended."""
    traces = [batch_line(series, column, metric)]
    values = series.rows[column] * metric.scale
    if column == "images_per_s" and len(series.rows) > 1 and values.notna().any():
        first = series.rows[values >= KNEE * values.max()].iloc[0]
        traces.append(knee_mark(series, first, metric))
    first_row = series.rows.iloc[0]
    own = failures[(failures[FAMILY] == first_row[FAMILY]).all(axis=1)]
    if len(own) and values.notna().any():
        traces.append(frontier(series, own, float(values.iloc[-1])))
    return traces


def batch_line(series: Series, column: str, metric: Metric) -> go.Scatter:
    """With the 95 % interval, where it follows from that of the forward's median."""
    rows = series.rows
    values = rows[column] * metric.scale
    hover = f"{series.name}<br>batch %{{x}}: %{{y:.4g}} {metric.unit or metric.title}"
    hover += "<br>n %{customdata[1]}, %{customdata[2]} outliers"
    line = go.Scatter(
        x=rows["batch_size"],
        y=values,
        name=series.name,
        legendgroup=series.name,
        mode="lines+markers",
        showlegend=True,
        line={"color": color_of(series.device), "dash": dash_of(series.attention), "width": 1.5},
        marker={"symbol": marker_of(series.precision), "size": 8},
        customdata=point_data(rows, rows["n"], rows["outliers"]),
        hovertemplate=f"{hover}<extra></extra>",
    )
    if column not in TIMED:
        return line
    low, high = rows["low_s"] / rows["median_s"], rows["high_s"] / rows["median_s"]
    if metric.better == "higher":
        low, high = 1 / high, 1 / low
    bounds = values * low, values * high
    return line.update(
        error_y={
            "type": "data", "array": bounds[1] - values, "arrayminus": values - bounds[0],
            "thickness": 1, "width": 3,
        },
        customdata=point_data(rows, rows["n"], rows["outliers"], *bounds),
        hovertemplate=(
            f"{hover}<br>95 % %{{customdata[3]:.4g}} .. %{{customdata[4]:.4g}}<extra></extra>"
        ),
    )  # fmt: skip


def knee_mark(series: Series, row: pd.Series, metric: Metric) -> go.Scatter:
    """A ring around the smallest batch that is as good as the best, but for 5 %."""
    value = row["images_per_s"] * metric.scale
    return go.Scatter(
        x=[row["batch_size"]],
        y=[value],
        name=series.name,
        mode="markers",
        legendgroup=series.name,
        showlegend=False,
        marker={
            "symbol": "circle-open", "size": 16, "color": color_of(series.device),
            "line": {"width": 2},
        },
        customdata=[[row["record_id"]]],
        hovertemplate=f"{series.name}<br>knee at batch %{{x}}: within 5 % of the best"
        "<extra></extra>",
    )  # fmt: skip


def frontier(series: Series, failed: pd.DataFrame, height: float) -> go.Scatter:
    """Where memory ended; its height tells nothing, and it is at that of the last that fitted."""
    return go.Scatter(
        x=failed["batch_size"],
        y=[height] * len(failed),
        name=series.name,
        mode="markers",
        legendgroup=series.name,
        showlegend=False,
        marker={
            "symbol": "x-thin", "size": 11,
            "color": color_of(series.device),
            "line": {"width": 2, "color": color_of(series.device)},
        },
        customdata=point_data(failed),
        hovertemplate=f"{series.name}<br>batch %{{x}}: out of memory<extra></extra>",
    )  # fmt: skip


def latency_figure(frame: pd.DataFrame) -> go.Figure:
    return scaling_figure(frame, "image_s", "Time of an image against batch size")


def throughput_figure(frame: pd.DataFrame) -> go.Figure:
    return scaling_figure(
        frame, "images_per_s", "Batching speed: ring = knee, cross = out of memory"
    )


def speedup_figure(frame: pd.DataFrame) -> go.Figure:
    return scaling_figure(frame, "speedup", "Images/s over those of the smallest batch")


def efficiency_figure(frame: pd.DataFrame) -> go.Figure:
    return scaling_figure(frame, "efficiency", "Speed-up over that of an ideal batch")


def memory_figure(frame: pd.DataFrame) -> go.Figure:
    """The peak, the line through it up to the device's memory, and where memory ended."""
    figure = scaling_figure(frame, "peak_bytes", "Peak memory against batch size")
    metric = METRICS["peak_bytes"]
    cases, _ = labelled(measured(frame))
    models = list(dict.fromkeys(cases["model"]))
    for position, model in enumerate(models, start=1):
        for series in series_of(cases[cases["model"] == model]):
            for row in capacity_of_cases(series.rows).to_dict("records"):
                if row["predicted_batch"]:
                    figure.add_trace(fitted_line(series, row, metric), row=1, col=position)
    for device, rows in cases.groupby("device_name", sort=False):
        limit = float(rows["device_bytes"].max()) * metric.scale
        if np.isfinite(limit):
            figure.add_hline(
                y=limit,
                line={"color": color_of(str(device)), "dash": "dot", "width": 1},
            )
    return figure


def fitted_line(series: Series, row: dict[Any, Any], metric: Metric) -> go.Scatter:
    """Memory whatever the batch and of each image, to the largest batch that it leaves room for."""
    batches = np.array([1.0, row["predicted_batch"]])
    red, green, blue = hex_to_rgb(color_of(series.device))
    return go.Scatter(
        x=batches,
        y=(row["fixed_bytes"] + row["image_bytes"] * batches) * metric.scale,
        mode="lines",
        name=series.name,
        legendgroup=series.name,
        showlegend=False,
        line={"color": f"rgba({red}, {green}, {blue}, 0.35)", "width": 1, "dash": "dot"},
        hovertemplate=f"{series.name}<br>fitted: batch %{{x}} is the largest predicted"
        "<extra></extra>",
    )
