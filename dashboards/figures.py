"""Figures, each a pure function of a tidy frame: for the live pages and the offline report alike.

Frames are in base units; milliseconds and GiB exist here alone. A missing value is a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from results.metrics import METRICS
from results.schema import AXES, ENCODER

from .theme import LINES, color_of, dash_of, finish, marker_of, part_color

MOST_SERIES = 40
TIMED = ("image_s", "images_per_s")  # whose interval is that of the forward's median
NAMED_BY = ("device_name", "model", "precision", "attention")
SERIES_AXES = ("precision", "attention", "execution", "image_size", "input", "weights")
FAMILY = ["device_name", "model", *SERIES_AXES]


def with_device(frame: pd.DataFrame) -> pd.DataFrame:
    """With the name of the device that a person compares by: a GPU's, or a CPU's."""
    return frame.assign(device_name=frame["gpu"].where(frame["gpu"].notna(), frame["cpu"]))


def measured(frame: pd.DataFrame) -> pd.DataFrame:
    """Cases that have a latency; of equal ones the last that was measured."""
    good = with_device(frame[(frame["status"] == "ok") & frame["median_s"].notna()])
    return good.sort_values("started_at", kind="stable").drop_duplicates(
        [*FAMILY, "batch_size"], keep="last"
    )


@dataclass(frozen=True)
class Series:
    """Cases that differ in the batch size alone."""

    device: str
    precision: str
    attention: str
    name: str
    rows: pd.DataFrame


def series_of(frame: pd.DataFrame, named_by: list[str]) -> Iterator[Series]:
    """In the order of the frame.

    Args:
        frame: Cases of one model.
        named_by: Axes that tell a series from others, besides the device.
    """
    for _, rows in frame.groupby(FAMILY, sort=False):
        first = rows.iloc[0]
        words = [first["device_name"], *(str(first[axis]) for axis in named_by)]
        yield Series(
            device=str(first["device_name"]),
            precision=str(first["precision"]),
            attention=str(first["attention"]),
            name=safe(" ".join(map(str, words))),
            rows=rows.sort_values("batch_size"),
        )


def safe(text: str) -> str:
    """Plotly shows a subset of HTML, and a label is anybody's text."""
    return escape(text, quote=False).replace("%{", "% {")  # which would be filled in


def scaling_figure(frame: pd.DataFrame, column: str, title: str) -> go.Figure:
    """A column against the batch size: a panel a model, a line each of what else differs."""
    cases, metric = measured(frame), METRICS[column]
    models = list(dict.fromkeys(cases["model"]))
    figure = panels(models)
    varying = [axis for axis in SERIES_AXES if cases[axis].nunique() > 1]
    shown: set[str] = set()
    every: set[str] = set()
    for position, model in enumerate(models, start=1):
        for series in series_of(cases[cases["model"] == model], varying):
            every.add(series.name)
            if series.name not in shown and len(shown) >= MOST_SERIES:
                continue
            figure.add_trace(
                batch_line(series, column, is_first=series.name not in shown), row=1, col=position
            )
            shown.add(series.name)
    ticks = sorted(cases["batch_size"].unique())
    figure.update_xaxes(
        type="log", title="batch size", tickvals=ticks, ticktext=list(map(str, ticks))
    )
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title=metric.heading, col=1)
    note = f"; {len(shown)} of {len(every)} series shown" if len(shown) < len(every) else ""
    return finish(figure, f"{title} [{metric.unit or metric.title}]{note}", has_synthetic(cases))


def panels(titles: list[str]) -> go.Figure:
    titles = [safe(title) for title in titles] or [""]
    return make_subplots(rows=1, cols=len(titles), subplot_titles=titles, horizontal_spacing=0.06)


def batch_line(series: Series, column: str, is_first: bool) -> go.Scatter:
    """With the 95 % interval, where it follows from that of the forward's median."""
    rows, metric = series.rows, METRICS[column]
    values = rows[column] * metric.scale
    hover = f"{series.name}<br>batch %{{x}}: %{{y:.4g}} {metric.unit}<br>n %{{customdata[0]}}, "
    hover += "%{customdata[1]} outliers"
    line = go.Scatter(
        x=rows["batch_size"],
        y=values,
        name=series.name,
        legendgroup=series.name,
        showlegend=is_first,
        mode="lines+markers",
        line={"color": color_of(series.device), "dash": dash_of(series.attention), "width": 1.5},
        marker={"symbol": marker_of(series.precision), "size": 8},
        customdata=rows[["n", "outliers"]].to_numpy(),
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
        customdata=np.stack([rows["n"], rows["outliers"], *bounds], axis=-1),
        hovertemplate=(
            f"{hover}<br>95 % %{{customdata[2]:.4g}} .. %{{customdata[3]:.4g}}<extra></extra>"
        ),
    )  # fmt: skip


def has_synthetic(frame: pd.DataFrame) -> bool:
    return bool(frame["is_synthetic"].fillna(False).astype(bool).any())


def latency_figure(frame: pd.DataFrame) -> go.Figure:
    return scaling_figure(frame, "image_s", "Time of an image against batch size")


def throughput_figure(frame: pd.DataFrame) -> go.Figure:
    return scaling_figure(frame, "images_per_s", "Batching speed")


def memory_figure(frame: pd.DataFrame) -> go.Figure:
    return scaling_figure(frame, "peak_bytes", "Peak memory against batch size")


def components_figure(frame: pd.DataFrame) -> go.Figure:
    """Bars of the pipeline's parts, at each series' smallest batch; of an image."""
    good = frame[(frame["status"] == "ok") & (frame["pipeline"] == "prompts")]
    good = with_device(good)
    smallest = good["batch_size"].eq(good.groupby(FAMILY)["batch_size"].transform("min"))
    rows = good[smallest].assign(image_s=lambda each: each["median_s"] / each["batch_size"])
    varying = [axis for axis in ("device_name", "model", *SERIES_AXES) if rows[axis].nunique() > 1]
    labels = rows[varying or ["model"]].astype(str).agg(" ".join, axis=1).map(safe)
    rows = rows.assign(label=labels).drop_duplicates(["label", "component"], keep="last")
    figure = go.Figure()
    for position, (part, own) in enumerate(rows.groupby("component", sort=False)):
        figure.add_trace(
            go.Bar(
                y=own["label"],
                x=own["image_s"] * 1e3,
                name=safe(str(part).replace("_", " ")),
                orientation="h",
                marker={"color": part_color(str(part), position)},
                customdata=np.stack([own["share"] * 100, own["n"], own["batch_size"]], axis=-1),
                hovertemplate=(
                    "%{y}<br>%{fullData.name}: %{x:.4g} ms, %{customdata[0]:.3g} %"
                    "<br>batch %{customdata[2]}, n %{customdata[1]}<extra></extra>"
                ),
            )
        )
    figure.update_layout(barmode="stack")
    figure.update_xaxes(title="time of an image [ms]")
    figure.update_yaxes(autorange="reversed", automargin=True)
    height = 160 + 22 * rows["label"].nunique()
    return finish(figure, "Time across SAM components [ms]", has_synthetic(rows), height)


def layers_figure(frame: pd.DataFrame) -> go.Figure:
    """A heat map of modules and batch sizes, of the first family of the frame."""
    modules = with_device(frame[(frame["status"] == "ok") & frame["total_s"].notna()])
    axes = ["sweep_id", *(axis for axis in AXES if axis != "batch_size")]
    groups = modules.groupby(axes, sort=False)
    family = next((rows for _, rows in groups), modules)
    outer = family[~family["module"].str.contains(r"^blocks\.\d+\.", regex=True)]
    image_ms = outer.assign(image_ms=outer["total_s"] / outer["batch_size"] * 1e3)
    table = image_ms.pivot_table(
        index="module", columns="batch_size", values="image_ms", sort=False
    )
    table = table[sorted(table.columns)]
    kinds = outer.drop_duplicates("module").set_index("module")["kind"]
    labels = [safe(f"{name} ({kinds[name]})") for name in table.index]
    figure = go.Figure()
    if table.size:
        figure.add_trace(
            go.Heatmap(
                z=table.to_numpy(),
                x=[str(batch) for batch in table.columns],
                y=labels,
                colorscale="Viridis",
                colorbar={"title": "ms/image"},
                hovertemplate="%{y}<br>batch %{x}: %{z:.4g} ms an image<extra></extra>",
            )
        )
    figure.update_xaxes(title="batch size", type="category")
    figure.update_yaxes(autorange="reversed", automargin=True, type="category")
    own = ""
    if len(family):
        first = family.iloc[0]
        own = ", ".join(str(first[axis]) for axis in NAMED_BY)
    note = f"; 1 of {groups.ngroups} families shown" if groups.ngroups > 1 else ""
    title = f"Batching speed per layer: {safe(own)} [ms/image]{note}"
    return finish(figure, title, has_synthetic(family), 200 + 18 * len(labels))


def roofline_figure(frame: pd.DataFrame) -> go.Figure:
    """Every case against its device's roof: achieved FLOP/s over the FLOPs for each byte moved."""
    cases = frame[(frame["module"] == ENCODER) & frame["flops_per_s"].notna()]
    cases = with_device(cases.assign(moved=cases["moved_bytes"].fillna(cases["least_bytes"])))
    cases = cases[cases["moved"] > 0]
    cases = cases.assign(intensity=cases["flops"] / cases["moved"])
    figure = go.Figure()
    for (device, precision), rows in cases.groupby(["device_name", "precision"], sort=False):
        label = safe(f"{device} {precision}")
        color = color_of(str(device))
        figure.add_trace(
            go.Scatter(
                x=rows["intensity"],
                y=rows["flops_per_s"] * 1e-12,
                name=label,
                legendgroup=label,
                mode="markers",
                marker={"symbol": marker_of(str(precision)), "color": color, "size": 9},
                text=[
                    safe(f"{row['model']} {row['attention']} batch {row['batch_size']}")
                    for row in rows.to_dict("records")
                ],
                hovertemplate=(
                    f"{label}<br>%{{text}}<br>%{{y:.4g}} TFLOP/s, %{{x:.4g}} FLOP/byte"
                    "<extra></extra>"
                ),
            )
        )
        roof = roof_of(rows)
        if roof is not None:
            figure.add_trace(
                go.Scatter(
                    x=rows["intensity"].agg(["min", "max"]),
                    y=[roof * 1e-12] * 2,
                    mode="lines",
                    line={"color": color, "dash": "dot", "width": 1},
                    legendgroup=label,
                    showlegend=False,
                    hovertemplate=f"{label}: roof %{{y:.4g}} TFLOP/s<extra></extra>",
                )
            )
    figure.update_xaxes(type="log", title="FLOP for each byte that operations move")
    figure.update_yaxes(type="log", title="achieved [TFLOP/s]")
    return finish(figure, "How far from the roof [TFLOP/s]", has_synthetic(cases))


def roof_of(rows: pd.DataFrame) -> float | None:
    """FLOP/s that the device can do: as measured, or else as its maker says."""
    for column in ("mfu_measured", "mfu"):
        known = rows[rows[column].notna() & (rows[column] > 0)]
        if len(known):
            row = known.iloc[0]
            return float(row["least_flops"] / row["total_s"] / row[column])
    return None


def history_figure(frame: pd.DataFrame) -> go.Figure:
    """The time of an image over the days, for cases that were measured more than once."""
    good = with_device(frame[(frame["status"] == "ok") & frame["image_s"].notna()])
    times = good.groupby([*FAMILY, "batch_size"])["image_s"].transform("size")
    figure = go.Figure()
    often = good[times > 1]
    models = list(dict.fromkeys(often["model"]))
    for _, rows in often.groupby([*FAMILY, "batch_size"], sort=False):
        rows = rows.assign(at=pd.to_datetime(rows["started_at"], format="ISO8601", utc=True))
        first, rows = rows.iloc[0], rows.sort_values("at")
        name = safe(
            f"{first['device_name']} {first['model']} {first['precision']} {first['attention']} "
            f"batch {first['batch_size']}"
        )
        figure.add_trace(
            go.Scatter(
                x=rows["at"],
                y=rows["image_s"] * 1e3,
                name=name,
                mode="lines+markers",
                line={
                    "color": color_of(str(first["device_name"])),
                    "dash": LINES[models.index(first["model"]) % len(LINES)],
                },
                marker={"symbol": marker_of(str(first["precision"])), "size": 7},
                text=[safe(str(commit)[:12]) for commit in rows["git_commit"]],
                hovertemplate=f"{name}<br>%{{y:.4g}} ms at commit %{{text}}<extra></extra>",
            )
        )
    figure.update_xaxes(title="measured at")
    figure.update_yaxes(title="time of an image [ms]")
    return finish(figure, "Time of an image over time [ms]", has_synthetic(often))


@dataclass(frozen=True)
class FigureSpec:
    """A figure, and the frame that it is made of."""

    frame: str
    make: Callable[[pd.DataFrame], go.Figure]
    summary: str


FIGURES: dict[str, FigureSpec] = {
    "components": FigureSpec("components", components_figure, "where the pipeline's time goes"),
    "throughput": FigureSpec("cases", throughput_figure, "what a larger batch brings"),
    "latency": FigureSpec("cases", latency_figure, "what an image costs at each batch size"),
    "layers": FigureSpec("modules", layers_figure, "each layer at each batch size"),
    "memory": FigureSpec("cases", memory_figure, "what a batch needs"),
    "roofline": FigureSpec("limits", roofline_figure, "how far from what the device can do"),
    "history": FigureSpec("cases", history_figure, "whether it got worse"),
}
