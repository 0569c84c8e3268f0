"""One case from close by: its samples, and what its GPU did meanwhile."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from results.tables.stats import median_interval

from ..theme import PALETTE, finish, safe
from .series import has_synthetic

QUANTITIES = {
    "sm_clock_hz": ("SM clock [GHz]", 1e-9),
    "power_watts": ("power [W]", 1.0),
    "temperature_celsius": ("temperature [°C]", 1.0),
    "used_bytes": ("memory used [GiB]", 2.0**-30),
}


def samples_figure(frame: pd.DataFrame) -> go.Figure:
    """Every timed forward in its order, beside how many took at most so long.

    Args:
        frame: A row a sample.
    """
    figure = make_subplots(
        rows=1, cols=2, subplot_titles=["in the order they were taken", "sorted (ECDF)"]
    )
    values = frame["forward_s"].to_numpy(dtype=float) * 1e3
    if len(values):
        low, high = median_interval(values)
        color = PALETTE[0]
        figure.add_trace(
            go.Scatter(
                x=np.arange(1, len(values) + 1), y=values, mode="markers", showlegend=False,
                marker={"size": 6, "color": color},
                hovertemplate="forward %{x}: %{y:.5g} ms<extra></extra>",
            ),
            row=1, col=1,
        )  # fmt: skip
        figure.add_trace(
            go.Scatter(
                x=np.sort(values), y=np.arange(1, len(values) + 1) / len(values) * 100,
                mode="lines", line={"shape": "hv", "color": color}, showlegend=False,
                hovertemplate="%{y:.3g} % took at most %{x:.5g} ms<extra></extra>",
            ),
            row=1, col=2,
        )  # fmt: skip
        median = float(np.median(values))
        figure.add_hline(y=median, line={"width": 1, "dash": "dash"}, row=1, col=1)
        if np.isfinite(low):
            figure.add_hrect(
                y0=low, y1=high, opacity=0.15, line_width=0, fillcolor=color, row=1, col=1
            )
    figure.update_xaxes(title="forward", row=1, col=1)
    figure.update_yaxes(title="time of a forward [ms]", row=1, col=1)
    figure.update_xaxes(title="time of a forward [ms]", row=1, col=2)
    figure.update_yaxes(title="forwards [%]", row=1, col=2)
    title = "Timed forwards: dashed the median, shaded its 95 % interval [ms]"
    return finish(figure, title, has_synthetic(frame), 420)


def telemetry_figure(frame: pd.DataFrame) -> go.Figure:
    """What NVML told while the case was measured.

    Args:
        frame: A row a look.
    """
    known = [name for name in QUANTITIES if len(frame) and frame[name].notna().any()]
    figure = make_subplots(rows=max(1, len(known)), cols=1, shared_xaxes=True)
    for row, name in enumerate(known, start=1):
        title, scale = QUANTITIES[name]
        figure.add_trace(
            go.Scatter(
                x=frame["at_s"], y=frame[name].astype(float) * scale, mode="lines+markers",
                line={"color": PALETTE[row % len(PALETTE)]}, showlegend=False,
                text=frame["event_reasons"].fillna("").map(safe),
                hovertemplate=f"%{{x:.3g}} s: %{{y:.4g}} {title}<br>%{{text}}<extra></extra>",
            ),
            row=row, col=1,
        )  # fmt: skip
        figure.update_yaxes(title=title, row=row, col=1)
    if known:
        figure.update_xaxes(title="since measuring began [s]", row=len(known), col=1)
    title = "What the GPU did meanwhile [clock, power, temperature, memory]"
    return finish(figure, title, has_synthetic(frame), 160 + 130 * max(1, len(known)))
