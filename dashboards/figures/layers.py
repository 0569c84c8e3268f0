"""Each layer of the encoder: against the batch size, at one batch, and against another run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from results.schema import AXES

from ..theme import finish, kind_color, safe
from .series import FAMILY, has_synthetic, labels, varying, with_device

INNER = r"^blocks\.\d+\."  # norm1, attn, norm2 and mlp of a block
OF_A_RUN = ("sweep_id", *(axis for axis in AXES if axis != "batch_size"))


def timed_modules(frame: pd.DataFrame) -> pd.DataFrame:
    """Modules of good cases, each with the name of the set of batch sizes that it belongs to."""
    modules = with_device(frame[(frame["status"] == "ok") & frame["total_s"].notna()])
    axes = ["device_name", *OF_A_RUN]
    differing = varying(modules, axes)
    # What a person reads first comes first; the sweep only where nothing else tells them apart.
    named = [axis for axis in FAMILY if axis in differing] or ["model"]
    if "sweep_id" in differing:
        named.append("sweep_id")
    family = labels(modules, named) if len(modules) else pd.Series([], dtype=object)
    image_s = modules["total_s"] / modules["batch_size"]
    return modules.assign(family=family, image_ms=image_s * 1e3)


def families(frame: pd.DataFrame) -> list[str]:
    """Names of the sets of batch sizes whose layers can be shown."""
    return list(dict.fromkeys(timed_modules(frame)["family"]))


def of_family(modules: pd.DataFrame, family: str | None, depth: str) -> pd.DataFrame:
    """The first family where there is none of that name."""
    names = list(dict.fromkeys(modules["family"]))
    chosen = family if family in names else next(iter(names), None)
    own = modules[modules["family"] == chosen]
    is_inner = own["module"].str.contains(INNER, regex=True)
    if depth == "parts":
        blocks = own["module"].str.fullmatch(r"blocks\.\d+")
        return own[~blocks] if is_inner.any() else own
    return own[~is_inner]


def note_of(modules: pd.DataFrame) -> str:
    count = modules["family"].nunique()
    return f"1 of {count} series shown" if count > 1 else ""


def name_of(rows: pd.DataFrame) -> str:
    """What of the family is shown, for the title."""
    if rows.empty:
        return ""
    first = rows.iloc[0]
    named = ("device_name", "model", "precision", "attention")
    return safe(", ".join(str(first[axis]) for axis in named))


def layers_figure(
    frame: pd.DataFrame,
    family: str | None = None,
    against: str | None = None,
    depth: str = "blocks",
) -> go.Figure:
    """A heat map of modules and batch sizes: milliseconds an image, or the change to another run.

    Args:
        frame: Of modules.
        family: Cases that differ in the batch size alone, by their name.
        against: The same, that they are compared with.
        depth: `blocks`, or the `parts` of blocks where they were timed.
    """
    modules = timed_modules(frame)
    rows = of_family(modules, family, depth)
    table = by_batch(rows, "image_ms")
    title, unit, bar = name_of(rows), "ms/image", "ms/image"
    colors: dict[str, Any] = {"colorscale": "Viridis"}
    if against and against in set(modules["family"]):
        other = by_batch(of_family(modules, against, depth), "image_ms")
        table = (table / other.reindex(index=table.index, columns=table.columns) - 1) * 100
        title += f", against {safe(against)}"
        unit, bar = "% of change", "%"
        colors = {"colorscale": "RdBu_r", "zmid": 0}
    figure = go.Figure()
    if table.size:
        figure.add_trace(
            go.Heatmap(
                z=table.to_numpy(),
                x=[str(size) for size in table.columns],
                y=row_labels(rows, table.index),
                colorbar={"title": bar},
                customdata=cell_data(rows),
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
    return finish(figure, title, has_synthetic(rows), height, note_of(modules))


def cell_data(rows: pd.DataFrame) -> np.ndarray:
    """What each cell carries: its record, n, and the interval of an image's time."""
    scale = 1e3 / rows["batch_size"]
    told = rows.assign(low_ms=rows["low_s"] * scale, high_ms=rows["high_s"] * scale)
    records = by_batch(told, "record_id")
    others = (by_batch(told, name).reindex_like(records) for name in ("n", "low_ms", "high_ms"))
    return np.stack([each.to_numpy(dtype=object) for each in (records, *others)], axis=-1)


def by_batch(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """A row a module, a column a batch size; what was not measured is missing."""
    table = rows.pivot_table(
        index="module", columns="batch_size", values=column, sort=False, aggfunc="first"
    )
    return table[sorted(table.columns)]


def row_labels(rows: pd.DataFrame, modules: pd.Index) -> list[str]:
    kinds = rows.drop_duplicates("module").set_index("module")["kind"]
    return [safe(f"{name} ({kinds[name]})") for name in modules]


def layer_bars_figure(
    frame: pd.DataFrame,
    family: str | None = None,
    layer_batch: str | None = None,
    depth: str = "blocks",
) -> go.Figure:
    """Each module at one batch size; window and global blocks in colours of their own.

    Args:
        frame: Of modules.
        family: Cases that differ in the batch size alone, by their name.
        layer_batch: Size of the batch; the largest where there is none of it.
        depth: `blocks`, or the `parts` of blocks where they were timed.
    """
    modules = timed_modules(frame)
    rows = of_family(modules, family, depth)
    sizes = sorted(rows["batch_size"].unique())
    chosen = (
        int(layer_batch) if layer_batch and int(layer_batch) in sizes else max(sizes, default=0)
    )
    rows = rows[rows["batch_size"] == chosen].drop_duplicates("module", keep="last")
    figure = go.Figure()
    for kind, own in rows.groupby("kind", sort=False):
        low, high = own["low_s"] / own["total_s"], own["high_s"] / own["total_s"]
        figure.add_trace(
            go.Bar(
                x=own["module"].map(safe),
                y=own["image_ms"],
                name=safe(kind),
                marker={"color": kind_color(str(kind))},
                error_y={
                    "type": "data", "array": own["image_ms"] * (high - 1),
                    "arrayminus": own["image_ms"] * (1 - low), "thickness": 1, "width": 2,
                },
                customdata=[
                    list(each)
                    for each in zip(own["record_id"], own["share"] * 100, own["n"], strict=True)
                ],
                hovertemplate=(
                    "%{x} (%{fullData.name}): %{y:.4g} ms an image"
                    "<br>%{customdata[1]:.3g} % of the encoder, n %{customdata[2]}<extra></extra>"
                ),
            )
        )  # fmt: skip
    figure.update_xaxes(
        type="category", tickangle=-60, categoryorder="array",
        categoryarray=[safe(name) for name in rows["module"]],
    )  # fmt: skip
    figure.update_yaxes(title="time of an image [ms]", rangemode="tozero")
    title = f"Layers at batch {chosen}: {name_of(rows)} [ms/image]"
    return finish(figure, title, has_synthetic(rows), note=note_of(modules))
