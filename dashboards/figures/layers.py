"""Each layer of the encoder: against the batch size, at one batch, and against another run."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from results.records.case import case_label
from results.records.measurement import ENCODER

from ..theme import finish, kind_color, safe
from .series import (
    LINE_AXES,
    SERIES_COLUMNS,
    has_synthetic,
    interval,
    labels,
    point_data,
    series_labels,
    varying,
    with_device,
)

OF_A_RUN = ["sweep_id", *SERIES_COLUMNS]


def timed_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a record of a good case that tells of its modules, the newest last, with the set of
    batch sizes that it belongs to: `series_id` is its name in addresses, whatever else is shown.
    """
    is_timed = (frame["status"] == "ok") & frame["total_s"].notna()
    is_first = is_timed & ~frame["record_id"].where(is_timed).duplicated()
    runs = with_device(frame[is_first]).sort_values("started_at", kind="stable")
    rows = runs[OF_A_RUN].itertuples(index=False)
    digests = [hashlib.sha256(repr(tuple(row)).encode()).hexdigest() for row in rows]
    return runs.assign(series_id=[digest[:10] for digest in digests])


def series_names(frame: pd.DataFrame) -> dict[str, str]:
    """The sets of batch sizes whose layers can be shown, the newest first: a name for a person by
    that in addresses.
    """
    runs = timed_runs(frame).drop_duplicates("series_id", keep="last")
    named = runs.assign(series=series_labels(runs, ("model", *LINE_AXES)))
    label = labels(named, ["series", *varying(named, ["sweep_id"])])
    return dict(zip(named["series_id"][::-1], label[::-1], strict=True))


def of_series(
    frame: pd.DataFrame, runs: pd.DataFrame, series: str | None, depth: str
) -> pd.DataFrame:
    """The modules of a series, in milliseconds per image; of the newest if none has this name.

    Args:
        frame: Of modules.
        runs: As `timed_runs` tells them.
        series: Of the runs.
        depth: `blocks`, or the `parts` of blocks where they were timed.
    """
    newest = None if runs.empty else runs["series_id"].iloc[-1]
    own = runs[runs["series_id"] == (series if series in set(runs["series_id"]) else newest)]
    modules = frame[frame["record_id"].isin(own["record_id"]) & frame["total_s"].notna()]
    modules = modules.merge(own[["record_id", "series_id"]], on="record_id", sort=False)
    modules = per_image(with_device(modules))
    is_outermost = modules["parent"] == ENCODER
    if depth == "parts" and not is_outermost.all():
        return with_rest(modules)
    return modules[is_outermost]


def per_image(modules: pd.DataFrame) -> pd.DataFrame:
    an_image = 1e3 / modules["batch_size"]
    whole_s = modules.groupby("record_id")["self_s"].transform("sum")
    return modules.assign(
        image_ms=modules["total_s"] * an_image,
        low_ms=modules["low_s"] * an_image,
        high_ms=modules["high_s"] * an_image,
        percent=modules["total_s"] / whole_s * 100,
    )


def with_rest(modules: pd.DataFrame) -> pd.DataFrame:
    """The innermost modules, and of those that contain them only the rest, so that all adds up."""
    is_block = ~modules["is_innermost"].astype(bool)
    own_ms = modules["self_s"] / modules["batch_size"] * 1e3
    whole_s = modules.groupby("record_id")["self_s"].transform("sum")
    return modules.assign(
        module=modules["module"].where(~is_block, modules["module"] + " rest"),
        kind=modules["kind"].where(~is_block, "rest of block"),
        image_ms=modules["image_ms"].where(~is_block, own_ms),
        low_ms=modules["low_ms"].mask(is_block),
        high_ms=modules["high_ms"].mask(is_block),
        percent=modules["percent"].where(~is_block, modules["self_s"] / whole_s * 100),
    )


def note_of(runs: pd.DataFrame, rows: pd.DataFrame, asked: str | None) -> str:
    """Which of all it is; and that it is another than was asked for."""
    if rows.empty:
        return ""
    count, first = runs["series_id"].nunique(), rows.iloc[0]
    told = f"sweep {safe(first['sweep_id'])}; 1 of {count} series shown"
    is_other = asked and asked != first["series_id"]
    return f"not the series that was asked for, which is not here; {told}" if is_other else told


def name_of(rows: pd.DataFrame) -> str:
    """Which series is shown, for the title."""
    if rows.empty:
        return ""
    first = rows.iloc[0]
    return safe(f"{first['device_name']}, {case_label(first.to_dict(), ('model', *LINE_AXES))}")


def layers_figure(
    frame: pd.DataFrame,
    series: str | None = None,
    against: str | None = None,
    depth: str = "blocks",
) -> go.Figure:
    """A heat map of modules and batch sizes: milliseconds an image, or the change to another run.

    Args:
        frame: Of modules.
        series: Cases that differ in the batch size alone, by their name.
        against: The same, that they are compared with.
        depth: `blocks`, or the `parts` of blocks where they were timed.
    """
    runs = timed_runs(frame)
    rows = of_series(frame, runs, series, depth)
    table = by_batch(rows, "image_ms")
    title, unit, bar = name_of(rows), "ms/image", "ms/image"
    colors: dict[str, Any] = {"colorscale": "Viridis"}
    if against and against in set(runs["series_id"]):
        other = by_batch(of_series(frame, runs, against, depth), "image_ms")
        table = (table / other.reindex(index=table.index, columns=table.columns) - 1) * 100
        title += f", against {safe(series_names(frame)[against])}"
        unit, bar = "% of change", "%"
        colors = {"colorscale": "RdBu_r", "zmid": 0}
    figure = go.Figure()
    if table.size:
        records = by_batch(rows, "record_id")
        others = (by_batch(rows, name).reindex_like(records) for name in ("n", "low_ms", "high_ms"))
        cells = [each.to_numpy(dtype=object) for each in (records, *others)]
        kinds = rows.drop_duplicates("module").set_index("module")["kind"]
        figure.add_trace(
            go.Heatmap(
                z=table.to_numpy(),
                x=[str(size) for size in table.columns],
                y=[safe(f"{name} ({kinds[name]})") for name in table.index],
                colorbar={"title": bar},
                customdata=np.stack(cells, axis=-1),
                hovertemplate=(
                    f"%{{y}}<br>batch %{{x}}: %{{z:.4g}} {unit}<br>n %{{customdata[1]}}, 95 % "
                    "%{customdata[2]:.4g} .. %{customdata[3]:.4g} ms/image<extra></extra>"
                ),
                **colors,
            )
        )
    figure.update_xaxes(title="batch size", type="category")
    figure.update_yaxes(autorange="reversed", automargin=True, type="category")
    title = f"Batching speed per layer: {title} [{unit}]"
    height = 200 + 18 * len(table)
    note = note_of(runs, rows, series)
    return finish(figure, title, has_synthetic(rows), height, note)


def by_batch(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """A row a module, a column a batch size; what was not measured is missing."""
    table = rows.pivot_table(
        index="module", columns="batch_size", values=column, sort=False, aggfunc="first"
    )
    return table[sorted(table.columns)]


def layer_bars_figure(
    frame: pd.DataFrame,
    series: str | None = None,
    layer_batch: str | None = None,
    depth: str = "blocks",
) -> go.Figure:
    """Each module at one batch size; window and global blocks in colours of their own.

    Args:
        frame: Of modules.
        series: Cases that differ in the batch size alone, by their name.
        layer_batch: Size of the batch; the largest where there is none of it.
        depth: `blocks`, or the `parts` of blocks where they were timed.
    """
    runs = timed_runs(frame)
    rows = of_series(frame, runs, series, depth)
    sizes = sorted(rows["batch_size"].unique())
    asked = int(layer_batch or 0)
    chosen = asked if asked in sizes else max(sizes, default=0)
    rows = rows[rows["batch_size"] == chosen].drop_duplicates("module", keep="last")
    figure = go.Figure()
    for kind, own in rows.groupby("kind", sort=False):
        is_short = own["is_resolved"].eq(False).fillna(False)
        figure.add_trace(
            go.Bar(
                x=own["module"].map(safe),
                y=own["image_ms"],
                name=safe(kind),
                marker={
                    "color": kind_color(str(kind)),
                    "pattern": {"shape": ["/" if short else "" for short in is_short]},
                },
                error_y=interval(own["image_ms"], own["low_ms"], own["high_ms"]),
                customdata=point_data(
                    own, own["percent"], own["n"], own["low_ms"], own["high_ms"],
                    is_short.map({True: "<br>too short for the timer to tell", False: ""}),
                ),
                hovertemplate=(
                    "%{x} (%{fullData.name}): %{y:.4g} ms an image"
                    "<br>95 % %{customdata[3]:.4g} .. %{customdata[4]:.4g}, n %{customdata[2]}"
                    "<br>%{customdata[1]:.3g} % of the encoder%{customdata[5]}<extra></extra>"
                ),
            )
        )  # fmt: skip
    names = [safe(name) for name in rows["module"]]
    figure.update_xaxes(type="category", tickangle=-60, categoryorder="array", categoryarray=names)
    figure.update_yaxes(title="time of an image [ms]", rangemode="tozero")
    title = f"Layers at batch {chosen}: {name_of(rows)} [ms/image]"
    return finish(figure, title, has_synthetic(rows), note=note_of(runs, rows, series))
