"""What figures share: which cases make a line, what a line is called, what a point tells.

Frames are in base units; milliseconds and GiB exist in figures alone. A missing value is a gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from results.records.case import PLACE_AXES, SERIES_AXES

from ..theme import safe

MOST_SERIES = 40
# What tells one line from another, beside its device and its model.
LINE_AXES = tuple(axis for axis in SERIES_AXES if axis not in (*PLACE_AXES, "model"))
SERIES_COLUMNS = ["device_name", "model", *LINE_AXES, "apart"]
UID_DIGITS = 8


def with_device(frame: pd.DataFrame) -> pd.DataFrame:
    """With the name of the device that a person compares by, and with what sets cases apart that
    have the same: another device of that name, a memory limit, being made up.
    """
    device_name = frame["gpu"].where(frame["gpu"].notna(), frame["cpu"])
    limit = frame["memory_limit_bytes"].astype(float)
    gib = (limit / 2**30).map(" {:.3g} GiB".format).where(limit.notna(), "").astype(str)
    is_made_up = frame["is_synthetic"].fillna(False).astype(bool)
    made_up = is_made_up.map({True: " synthetic", False: ""}).astype(str)
    uid = frame["device_uid"].astype(str).str[-UID_DIGITS:]
    return frame.assign(
        device_name=device_name, apart=frame["device"].astype(str) + " " + uid + gib + made_up
    )


def series_labels(cases: pd.DataFrame, axes: Sequence[str] = LINE_AXES) -> pd.Series:
    """A name for each row of the series that it belongs to: the device, and what varies."""
    same = [name for name in SERIES_COLUMNS if name != "apart"]
    is_clash = cases.groupby(same)["apart"].nunique().gt(1).any() if len(cases) else False
    named = ["device_name", *varying(cases, axes), *(["apart"] if is_clash else [])]
    return labels(cases, named)


def newest(frame: pd.DataFrame) -> pd.DataFrame:
    """Of equal cases the one that was measured last."""
    in_time = with_device(frame).sort_values("started_at", kind="stable")
    return in_time.drop_duplicates([*SERIES_COLUMNS, "batch_size"], keep="last")


def current(frame: pd.DataFrame) -> pd.DataFrame:
    """Of equal cases that tell the same the newest: all that figures without a past are made of."""
    told = {
        f"has_{name}": frame[name].notna() for name in ("median_s", "peak_bytes", "image_joules")
    }
    in_time = with_device(frame).assign(**told).sort_values("started_at", kind="stable")
    rows = in_time.drop_duplicates([*SERIES_COLUMNS, "batch_size", "status", *told], keep="last")
    return frame.loc[rows.index.sort_values()]


def measured(frame: pd.DataFrame) -> pd.DataFrame:
    """The newest cases that have a latency."""
    return newest(frame[(frame["status"] == "ok") & frame["median_s"].notna()])


def varying(frame: pd.DataFrame, axes: Sequence[str]) -> list[str]:
    """The axes in which rows differ."""
    return [axis for axis in axes if frame[axis].nunique(dropna=False) > 1]


def labels(frame: pd.DataFrame, axes: Sequence[str]) -> pd.Series:
    """A name for each row, of its values on some axes; any text."""
    named = frame[axes[0]].astype(str)
    for axis in axes[1:]:
        named = named + " " + frame[axis].astype(str)
    return named


def labelled(cases: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Cases with the label of their series, but no more series than can be told apart.

    Returns:
        The cases, and for a person how many series were left out; none silently.
    """
    named = cases.assign(label=series_labels(cases))
    every = named["label"].unique()
    shown = named[named["label"].isin(every[:MOST_SERIES])]
    return shown, note_of_rest(MOST_SERIES, len(every))


def note_of_rest(shown: int, count: int) -> str:
    return f"{shown} of {count} series shown" if count > shown else ""


def in_order(figure: go.Figure, labels: pd.Series) -> None:
    """Bars in the order of their labels, the first on top."""
    figure.update_yaxes(
        automargin=True, autorange="reversed", categoryorder="array",
        categoryarray=labels.map(safe).tolist(),
    )  # fmt: skip


def models_of(cases: pd.DataFrame) -> list[str]:
    """From the model that has the least work to the one that has the most."""
    work = cases.groupby("model", sort=False)["flops_per_image"].min()
    return list(work.sort_values(kind="stable").index)


def panels(titles: list[str], traces: list[dict[str, Any]]) -> go.Figure:
    """A figure with a panel for each title, beside one another.

    Args:
        titles: Of the panels; any text.
        traces: On the panels' axes; one of each name stands in the legend.
    """
    shown = [safe(title) for title in titles] or [""]
    figure = make_subplots(rows=1, cols=len(shown), subplot_titles=shown, horizontal_spacing=0.06)
    named: set[str] = set()
    for trace in traces:
        trace["showlegend"] = trace.get("showlegend", True) and trace["name"] not in named
        if trace["showlegend"]:
            named.add(trace["name"])
    figure.add_traces(traces)
    return figure


def batch_axes(figure: go.Figure, sizes: Iterable[int]) -> None:
    """Batch sizes double, so that steps are even; each that was measured has its tick."""
    ticks = sorted({int(size) for size in sizes})
    figure.update_xaxes(
        type="log", title="batch size", tickvals=ticks, ticktext=[str(tick) for tick in ticks]
    )


def point_data(rows: pd.DataFrame, *columns: pd.Series) -> list[list[object]]:
    """What a point carries: the record it is of, which a click opens, then what hovering shows."""
    return [list(each) for each in zip(rows["record_id"], *columns, strict=True)]


def interval(value: pd.Series, low: pd.Series, high: pd.Series, **more: Any) -> dict[str, Any]:
    """Error bars from the ends of an interval."""
    ends = {"array": high - value, "arrayminus": value - low}
    return {"type": "data", "thickness": 1, "width": 2} | ends | more


def has_synthetic(frame: pd.DataFrame) -> bool:
    return bool(frame["is_synthetic"].fillna(False).astype(bool).any())
