"""How far cases and modules are from what their device can do."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from results.records.measurement import ENCODER

from ..theme import PALETTE, color_of, finish, marker_of, safe
from .series import (
    LINE_AXES,
    MOST_SERIES,
    has_synthetic,
    in_order,
    labels,
    newest,
    note_of_rest,
    point_data,
    series_labels,
    varying,
    with_device,
)

# What holds a case back: a colour, and a pattern.
BOUNDS = {
    "compute": (PALETTE[0], ""),
    "memory": (PALETTE[1], "/"),
    "launch": (PALETTE[4], "x"),
}
ROOFS = {"roof": ("dash", "by its maker"), "measured_roof": ("solid", "as measured")}


def roofline_figure(frame: pd.DataFrame, level: str = "cases") -> go.Figure:
    """Achieved FLOP/s over the FLOPs for each byte moved, below the device's roofs.

    Args:
        frame: Of limits.
        level: `cases`, or the `modules` of the encoder.
    """
    of_level = (frame["module"] == ENCODER) == (level == "cases")
    good = (frame["status"] == "ok") & frame["flops_per_s"].notna()
    known = with_device(frame[of_level & good])
    known = known.assign(moved=known["moved_bytes"].fillna(known["least_bytes"]))
    known = known[known["moved"] > 0]
    known = known.assign(intensity=known["flops"] / known["moved"])
    known = known[known["intensity"] > 0]  # what computes nothing has no place on a logarithm
    span = known["intensity"].min(), known["intensity"].max()
    figure = go.Figure()
    for (device, precision), rows in known.groupby(["device_name", "precision"], sort=False):
        label = safe(f"{device} {precision}")
        figure.add_trace(points(rows, label, str(device), str(precision)))
        figure.add_traces(list(roof_lines(rows, label, str(device), span)))
    figure.update_xaxes(type="log", title="FLOP for each byte that operations move")
    figure.update_yaxes(type="log", title="achieved [TFLOP/s]")
    title = "How far from the roof: dashed by its maker, solid as measured [TFLOP/s]"
    return finish(figure, title, has_synthetic(known), 560)


def distance_figure(frame: pd.DataFrame, level: str = "cases") -> go.Figure:
    """How many times as long as the roof allows: the nearest case of each series.

    Args:
        frame: Of limits.
        level: `cases`, or the `modules` of the encoder.
    """
    of_level = (frame["module"] == ENCODER) == (level == "cases")
    good = frame[of_level & (frame["status"] == "ok") & frame["floor_times"].notna()]
    cases = newest(good.drop_duplicates("record_id"))
    known = with_device(good[good["record_id"].isin(cases["record_id"])])
    known = known.assign(
        label=labels(
            known.assign(series=series_labels(known, ("model", *LINE_AXES))),
            ["series", *varying(known, ["module"])],
        ),
        whose=known["floor_measured_s"].notna().map({True: "as measured", False: "by its maker"}),
        floor_s=known["floor_measured_s"].fillna(known["floor_s"]),
    )
    every = known.sort_values("floor_times", kind="stable").drop_duplicates("label")
    rows = every.head(MOST_SERIES)
    figure = go.Figure()
    for bound, own in rows.groupby("bound_by", sort=False):
        color, pattern = BOUNDS[str(bound)]
        figure.add_trace(
            go.Bar(
                y=own["label"].map(safe),
                x=own["floor_times"],
                orientation="h",
                name=f"bound by {safe(bound)}",
                marker={"color": color, "pattern": {"shape": pattern}},
                customdata=point_data(
                    own, own["batch_size"], own["total_s"] * 1e3, own["floor_s"] * 1e3, own["whose"]
                ),
                hovertemplate=(
                    "%{y}<br>%{x:.3g} times the floor at batch %{customdata[1]}: "
                    "%{customdata[2]:.4g} ms, where the roof %{customdata[4]} allows "
                    "%{customdata[3]:.4g} ms<extra></extra>"
                ),
            )
        )
    figure.add_vline(x=1, line={"width": 1})
    figure.update_xaxes(title="time / least time that the roof allows", rangemode="tozero")
    in_order(figure, rows["label"])
    note = note_of_rest(len(rows), len(every))
    title = "Distance to the limit; 1 is what the hardware allows [times the floor]"
    return finish(figure, title, has_synthetic(rows), 200 + 20 * len(rows), note)


def points(rows: pd.DataFrame, label: str, device: str, precision: str) -> go.Scatter:
    # As measured, or else by its maker.
    flops_per_s = rows["measured_roof_flops_per_s"].fillna(rows["roof_flops_per_s"])
    bytes_per_s = rows["measured_roof_bytes_per_s"].fillna(rows["roof_bytes_per_s"])
    allowed = (rows["intensity"] * bytes_per_s).clip(upper=flops_per_s)
    shares = rows["flops_per_s"] / allowed * 100
    return go.Scatter(
        x=rows["intensity"],
        y=rows["flops_per_s"] * 1e-12,
        name=label,
        legendgroup=label,
        mode="markers",
        marker={"symbol": marker_of(precision), "color": color_of(device), "size": 9},
        text=[
            safe(f"{row['model']} {row['attention']} batch {row['batch_size']} {row['module']}")
            for row in rows.to_dict("records")
        ],
        customdata=point_data(rows, shares, rows["bound_by"]),
        hovertemplate=(
            f"{label}<br>%{{text}}<br>%{{y:.4g}} TFLOP/s, %{{x:.4g}} FLOP/byte"
            "<br>%{customdata[1]:.3g} % of the roof there, bound by %{customdata[2]}"
            "<extra></extra>"
        ),
    )


def roof_lines(
    rows: pd.DataFrame, label: str, device: str, span: tuple[float, float]
) -> Iterator[go.Scatter]:
    """The slope of memory and the ceiling of computing, by the maker and as measured."""
    for prefix, (dash, whose) in ROOFS.items():
        known = rows[rows[f"{prefix}_flops_per_s"].notna()].sort_values("started_at")
        if known.empty:
            continue
        last = known.iloc[-1]
        flops_per_s, bytes_per_s = last[f"{prefix}_flops_per_s"], last[f"{prefix}_bytes_per_s"]
        ridge = flops_per_s / bytes_per_s
        intensity = np.unique(np.clip([span[0], ridge, max(span[1], ridge)], span[0], None))
        yield go.Scatter(
            x=intensity,
            y=np.minimum(intensity * bytes_per_s, flops_per_s) * 1e-12,
            mode="lines",
            name=label,
            legendgroup=label,
            showlegend=False,
            line={"color": color_of(device), "dash": dash, "width": 1},
            hovertemplate=f"{label}: roof {whose}, %{{y:.4g}} TFLOP/s<extra></extra>",
        )
