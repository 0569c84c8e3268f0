"""What a larger batch brings: speed, time and memory against the batch size, until memory ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb

from results.answers.capacity import FITTING, KNEE, capacity_of_cases
from results.tables.metrics import METRICS

from ..theme import color_of, dash_of, finish, marker_of, safe
from .series import (
    SERIES_COLUMNS,
    batch_axes,
    has_synthetic,
    labelled,
    measured,
    models_of,
    newest,
    panels,
    point_data,
    series_labels,
    with_device,
)

TIMED = ("image_s", "images_per_s", "speedup", "efficiency")  # bound as the forward's median is
RELATIVE = ("speedup", "efficiency")
POINT, KNEE_POINT = 8, 15  # pixels
LINE = ["model", "label"]  # what tells lines apart
LEGEND_COLUMNS, LEGEND_ROW = 4, 26  # on a laptop; pixels
FAR = 2  # times the largest batch measured, that a fitted line is drawn to

TITLES = {
    "image_s": "Time of an image; cross: out of memory",
    "images_per_s": "Batching speed; large: the knee, cross: out of memory",
    "speedup": "Images/s over those of the smallest batch",
    "efficiency": "Speed-up over that of an ideal batch",
    "peak_bytes": "Peak memory; dotted: fitted, dashed: what the device has",
}

Trace = dict[str, Any]  # one of plotly's, which are slow to make one by one


def scaling_figure(frame: pd.DataFrame, column: str) -> go.Figure:
    """A column against the batch size: a panel a model, a line each of what else differs."""
    if column == "peak_bytes":  # what can't be trusted did fit
        every = newest(frame[frame["status"].isin(FITTING) & frame["peak_bytes"].notna()])
    else:
        every = measured(frame)
    cases, note = labelled(every)
    models = models_of(every)
    points, failures = points_of(cases, column), out_of_memory(frame, every)
    never = failures["label"].isna().sum()
    if never:
        note = "; ".join(filter(None, [note, f"{never} series ran out of memory at every batch"]))
    failures = failures[failures["label"].notna() & failures["label"].isin(cases["label"])]
    if column in RELATIVE:  # where what did not fit has no place
        failures = failures.head(0)
    traces = [*lines(points, column), *crosses(failures, points)]
    if column == "peak_bytes":
        traces += [*fitted_lines(cases), *device_lines(cases)]
    metric = METRICS[column]
    figure = panels(models, [placed(trace, models) for trace in traces])
    batch_axes(figure, [*cases["batch_size"], *failures["batch_size"]])
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title=metric.heading, col=1)
    legend_height = LEGEND_ROW * -(-cases["label"].nunique() // LEGEND_COLUMNS)
    height = 440 + legend_height
    title = f"{TITLES[column]} [{metric.unit or metric.title}]"
    finish(figure, title, has_synthetic(cases), height, note)
    return figure.update_layout(
        legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0},
        margin={"b": 80 + legend_height},
    )


def with_gains(cases: pd.DataFrame) -> pd.DataFrame:
    """With the speed-up over the smallest batch that was measured, and its share of the ideal;
    missing where a case was not measured, or has been measured again.
    """
    in_order = measured(cases).sort_values("batch_size", kind="stable")
    columns = ["images_per_s", "batch_size"]
    first = in_order.groupby(SERIES_COLUMNS, sort=False)[columns].transform("first")
    speedup = in_order["images_per_s"] / first["images_per_s"]
    larger = in_order["batch_size"] / first["batch_size"]
    return cases.assign(speedup=speedup, efficiency=speedup / larger)


def points_of(cases: pd.DataFrame, column: str) -> pd.DataFrame:
    """By batch size: the value in its unit, its 95 % interval, and whether it is the knee."""
    metric = METRICS[column]
    rows = cases.sort_values("batch_size", kind="stable")
    value = rows[column] * metric.scale
    low, high = rows["low_s"] / rows["median_s"], rows["high_s"] / rows["median_s"]
    if metric.better == "higher":
        low, high = 1 / high, 1 / low
    if column in RELATIVE:  # the batch that all is divided by has an interval too
        bounds = rows.assign(low=low, high=high).groupby(LINE, sort=False)[["low", "high"]]
        first = bounds.transform("first")
        is_first = ~rows.duplicated(LINE)
        low, high = (low / first["high"]).mask(is_first), (high / first["low"]).mask(is_first)
    rows = rows.assign(value=value, low=value * low, high=value * high)
    best = rows.groupby(LINE, sort=False)["image_s"].transform("min")
    rows = rows.assign(is_knee=rows["image_s"] <= best / KNEE)
    # Only the first of those that are good enough.
    return rows.assign(is_knee=rows["is_knee"] & ~rows[rows["is_knee"]].duplicated(LINE))


def lines(points: pd.DataFrame, column: str) -> Iterator[Trace]:
    """A line a series; its knee, the batch that is as good as the best but for 5 %, is large."""
    metric = METRICS[column]
    unit, shows_knee = metric.unit or metric.title, column == "images_per_s"
    for _, rows in points.groupby(LINE, sort=False):
        name, trace = line_of(rows)
        hover = f"{name}<br>batch %{{x}}: %{{y:.4g}} {unit}"
        hover += "<br>n %{customdata[1]}, %{customdata[2]} outliers"
        knees = rows["is_knee"].to_numpy(dtype=bool) & shows_knee & (len(rows) > 1)
        trace |= {
            "x": rows["batch_size"].tolist(),
            "y": rows["value"].tolist(),
            "mode": "lines+markers",
            "customdata": point_data(rows, *(rows[each] for each in ("n", "outliers"))),
        }
        trace["marker"] |= {"size": np.where(knees, KNEE_POINT, POINT).tolist()}
        if column in TIMED:
            hover += "<br>95 % %{customdata[3]:.4g} .. %{customdata[4]:.4g}"
            told = (rows[each] for each in ("n", "outliers", "low", "high"))
            trace["customdata"] = point_data(rows, *told)
            trace["error_y"] = {
                "type": "data", "array": (rows["high"] - rows["value"]).tolist(),
                "arrayminus": (rows["value"] - rows["low"]).tolist(), "thickness": 1, "width": 3,
            }  # fmt: skip
        yield trace | {"hovertemplate": f"{hover}<extra></extra>"}


def line_of(rows: pd.DataFrame) -> tuple[str, Trace]:
    """What all traces of a series share, and its name."""
    first = rows.iloc[0]
    name, color = safe(first["label"]), color_of(str(first["device_name"]))
    return name, {
        "type": "scatter",
        "model": first["model"],
        "name": name,
        "legendgroup": name,
        "line": {"color": color, "dash": dash_of(str(first["attention"])), "width": 1.5},
        "marker": {"symbol": marker_of(str(first["precision"])), "color": color},
    }


def out_of_memory(frame: pd.DataFrame, cases: pd.DataFrame) -> pd.DataFrame:
    """The smallest batch of each series that did not fit, where one was tried; without a label
    where none of the series fitted.
    """
    failed = newest(frame[frame["status"] == "oom"]).sort_values("batch_size", kind="stable")
    key = [*SERIES_COLUMNS, "batch_size"]
    fitted = failed[key].merge(cases[key].drop_duplicates(), how="left", indicator=True)["_merge"]
    failed = failed[(fitted == "left_only").to_numpy()].drop_duplicates(SERIES_COLUMNS)
    named = cases.assign(label=series_labels(cases)).drop_duplicates(SERIES_COLUMNS)
    return failed.merge(named[[*SERIES_COLUMNS, "label"]], on=SERIES_COLUMNS, how="left")


def crosses(failures: pd.DataFrame, points: pd.DataFrame) -> Iterator[Trace]:
    """Where memory ended; as high as the last batch that fitted, since it has no height itself."""
    last = points.drop_duplicates(LINE, keep="last").set_index(LINE)["value"].to_dict()
    for line, rows in failures.groupby(LINE, sort=False):
        name, trace = line_of(rows)
        color = trace["line"]["color"]
        yield trace | {
            "x": rows["batch_size"].tolist(),
            "y": [last[line]] * len(rows),
            "mode": "markers",
            "showlegend": False,
            "marker": {"symbol": "x-thin", "size": 11, "line": {"width": 2, "color": color}},
            "customdata": point_data(rows),
            "hovertemplate": f"{name}<br>batch %{{x}}: out of memory<extra></extra>",
        }


def fitted_lines(cases: pd.DataFrame) -> Iterator[Trace]:
    """Memory whatever the batch and of each image, to the largest batch that it leaves room for."""
    metric = METRICS["peak_bytes"]
    named = cases[[*SERIES_COLUMNS, "label"]].drop_duplicates(SERIES_COLUMNS)
    fitted = with_device(capacity_of_cases(cases)).merge(named, on=SERIES_COLUMNS)
    for _, rows in fitted[fitted["predicted_batch"].notna()].groupby(LINE, sort=False):
        name, trace = line_of(rows)
        row = rows.iloc[0]
        faint = f"rgba{(*hex_to_rgb(trace['line']['color']), 0.5)}"
        most = min(row["predicted_batch"], FAR * row["largest_batch"])
        batches = np.geomspace(1, max(1, most), 20)  # a line bends where batch sizes double
        yield trace | {
            "x": batches.tolist(),
            "y": ((row["fixed_bytes"] + row["image_bytes"] * batches) * metric.scale).tolist(),
            "mode": "lines",
            "showlegend": False,
            "line": {"color": faint, "width": 1, "dash": "dot"},
            "hovertemplate": (
                f"{name}<br>fitted: {metric.show(row['fixed_bytes'])} MiB and "
                f"{metric.show(row['image_bytes'])} MiB an image; batch "
                f"{row['predicted_batch']:.0f} should fit<extra></extra>"
            ),
        }


def device_lines(cases: pd.DataFrame) -> Iterator[Trace]:
    """The memory of each device, across its model's panels."""
    metric = METRICS["peak_bytes"]
    for (model, device), rows in cases.groupby(["model", "device_name"], sort=False):
        most = float(rows["device_bytes"].max()) * metric.scale
        sizes = cases.loc[cases["model"] == model, "batch_size"]
        yield {
            "type": "scatter",
            "model": model,
            "name": safe(f"{device} has"),
            "x": [int(sizes.min()), int(sizes.max())],
            "y": [most, most],
            "mode": "lines",
            "showlegend": False,
            "line": {"color": color_of(str(device)), "width": 3, "dash": "longdash"},
            "hovertemplate": f"{safe(device)} has %{{y:.4g}} MiB<extra></extra>",
        }


def placed(trace: Trace, models: list[str]) -> Trace:
    """A trace on the axes of its model's panel; named in the legend but once."""
    position = models.index(trace["model"]) + 1
    suffix = str(position) if position > 1 else ""
    own = {name: value for name, value in trace.items() if name != "model"}
    return own | {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
