"""What images cost: dollars for a million, joules for one, and what a shorter wait costs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from results.records.case import AXES
from results.tables.metrics import METRICS

from ..theme import color_of, finish, marker_of, safe
from .series import (
    LINE_AXES,
    MOST_SERIES,
    has_synthetic,
    in_order,
    labels,
    measured,
    note_of_rest,
    point_data,
    series_labels,
    varying,
)

# Cases that differ in one of these do not do the same.
WORK_AXES = [axis for axis in LINE_AXES if AXES[axis].role == "work"]
TITLES = {
    "million_usd": "A million images at the cheapest batch",
    "image_joules": "Energy of an image at the best batch, whole board",
}
# What else hovering tells of a price: what its interval and its source are.
TOLD = {
    "million_usd": (
        "<br>95 % %{customdata[5]:.4g} .. %{customdata[6]:.4g} USD"
        "<br>%{customdata[3]} USD/h: %{customdata[4]}"
    )
}


def bars_figure(frame: pd.DataFrame, column: str) -> go.Figure:
    """The least of each series, with the batch size where it is; the least first."""
    metric = METRICS[column]
    cases = measured(frame)
    known = cases[cases[column].notna()]
    known = known.assign(label=series_labels(known, ("model", *LINE_AXES)))
    every = known.sort_values(column, kind="stable").drop_duplicates("label")
    rows = every.head(MOST_SERIES)
    figure = go.Figure()
    for device, own in rows.groupby("device_name", sort=False):
        price = own["usd_per_hour"].map(METRICS["usd_per_hour"].show)
        source = (own["price_source"].astype(str) + ", " + own["price_date"].astype(str)).map(safe)
        values = own[column] * metric.scale
        low, high = own["low_s"] / own["median_s"], own["high_s"] / own["median_s"]
        told = [own["batch_size"], own["n"], price, source, values * low, values * high]
        figure.add_trace(
            go.Bar(
                y=own["label"].map(safe),
                x=values,
                orientation="h",
                name=safe(device),
                marker={"color": color_of(str(device))},
                customdata=point_data(own, *told),
                hovertemplate=f"%{{y}}<br>%{{x:.4g}} {metric.unit} at batch %{{customdata[1]}}, "
                f"n %{{customdata[2]}}{TOLD.get(column, '')}<extra></extra>",
            )
        )
    figure.update_xaxes(title=metric.heading)
    in_order(figure, rows["label"])
    note = note_of_rest(len(rows), len(every))
    height = 200 + 20 * len(rows)
    return finish(figure, f"{TITLES[column]} [{metric.unit}]", has_synthetic(rows), height, note)


def pareto_figure(frame: pd.DataFrame) -> go.Figure:
    """How long a batch takes against what a million images cost; a line joins the best choices."""
    cases = measured(frame)
    known = cases[cases["million_usd"].notna()]
    figure = go.Figure()
    for (device, precision), rows in known.groupby(["device_name", "precision"], sort=False):
        label = safe(f"{device} {precision}")
        what = rows["model"].astype(str) + " " + rows["attention"].astype(str)
        figure.add_trace(
            go.Scatter(
                x=rows["median_s"] * 1e3,
                y=rows["million_usd"],
                name=label,
                mode="markers",
                marker={
                    "symbol": marker_of(str(precision)), "color": color_of(str(device)), "size": 8,
                },
                customdata=point_data(rows, what.map(safe), rows["batch_size"], rows["n"]),
                hovertemplate=(
                    f"{label} %{{customdata[1]}} batch %{{customdata[2]}}<br>%{{x:.4g}} ms, "
                    "%{y:.4g} USD a million, n %{customdata[3]}<extra></extra>"
                ),
            )
        )  # fmt: skip
    known = known.assign(task=labels(known, ["model", *varying(known, WORK_AXES)]))
    for position, (task, rows) in enumerate(known.groupby("task", sort=False)):
        front = pareto_front(rows)
        figure.add_trace(
            go.Scatter(
                x=front["median_s"] * 1e3,
                y=front["million_usd"],
                mode="lines",
                name=safe(f"best of {task}"),
                line={
                    "color": "#8a8a8a",
                    "width": 1,
                    "shape": "hv",
                    "dash": ("solid", "dash", "dot")[position % 3],
                },
                hovertemplate=safe(f"nothing measured of {task} is faster and cheaper")
                + "<extra></extra>",
            )
        )
    figure.update_xaxes(type="log", title="time of a batch [ms]")
    figure.update_yaxes(type="log", title="a million images [USD]")
    return finish(figure, "Waiting or paying [USD a million images]", has_synthetic(known))


def pareto_front(rows: pd.DataFrame) -> pd.DataFrame:
    """Cases that nothing beats in time and cost at once, by time."""
    in_order = rows.sort_values(["median_s", "million_usd"], kind="stable")
    costs = in_order["million_usd"].to_numpy()
    before = np.minimum.accumulate(np.concatenate([[np.inf], costs[:-1]])) if len(costs) else costs
    return in_order[costs < before]
