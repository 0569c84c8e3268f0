"""What differs between two runs: each case's ratio, and which modules make up the difference."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from results.answers.compare import matched
from results.records.case import AXES

from ..theme import PALETTE, finish, safe
from .series import has_synthetic, interval, labels, point_data, varying

MOST_CASES, MOST_MODULES = 60, 20
SLOWER, FASTER, SAME = PALETTE[3], PALETTE[2], "#8a8a8a"
SYMBOLS = {SLOWER: "triangle-right", FASTER: "triangle-left", SAME: "circle"}


def ratios_figure(frame: pd.DataFrame) -> go.Figure:
    """The ratio of each case that both runs have, with its interval; 1 means no change."""
    every = matched(frame)
    every = every.assign(label=labels(every, varying(every, tuple(AXES)) or ["model"]))
    distance = np.abs(np.log(every["ratio"].to_numpy(dtype=float)))
    rows = every.iloc[np.argsort(-distance, kind="stable")].head(MOST_CASES)
    figure = go.Figure()
    if len(rows):
        # Grey where the interval holds 1, or there is none.
        is_known = [rows["ratio_low"] > 1, rows["ratio_high"] < 1]
        colors = np.select(is_known, [SLOWER, FASTER], SAME).tolist()
        figure.add_trace(
            go.Scatter(
                x=rows["ratio"],
                y=rows["label"].map(safe),
                mode="markers",
                marker={
                    "size": 8,
                    "color": colors,
                    "symbol": [SYMBOLS[color] for color in colors],  # never colour alone
                },
                error_x=interval(
                    rows["ratio"], rows["ratio_low"], rows["ratio_high"], width=3, color=SAME
                ),
                customdata=point_data(
                    rows, rows["before_s"] * 1e3, rows["after_s"] * 1e3, rows["ratio_low"],
                    rows["ratio_high"],
                ),
                hovertemplate=(
                    "%{y}<br>%{customdata[1]:.4g} ms, then %{customdata[2]:.4g} ms: %{x:.4f}"
                    "<br>between %{customdata[3]:.4f} and %{customdata[4]:.4f}<extra></extra>"
                ),
                showlegend=False,
            )
        )  # fmt: skip
        figure.add_vline(x=1, line={"color": SAME, "width": 1})
    figure.update_xaxes(title="time after / time before")
    figure.update_yaxes(autorange="reversed", automargin=True, type="category")
    notes = list(every["compared"].dropna().unique())
    if len(rows) < len(every):
        notes.append(f"{len(rows)} of {len(every)} cases shown")
    return finish(
        figure, "Slower is to the right [ratio]", has_synthetic(rows),
        height=200 + 20 * len(rows), note=safe("; ".join(notes)),
    )  # fmt: skip


def waterfall_figure(frame: pd.DataFrame) -> go.Figure:
    """From the time before to that after, module by module; small changes together.

    Args:
        frame: Modules of two cases, the largest change first.
    """
    figure = go.Figure()
    if len(frame):
        large, rest = frame.iloc[:MOST_MODULES], frame.iloc[MOST_MODULES:]
        names = [safe(f"{row.module} ({row.kind})") for row in large.itertuples()]
        changes = list(large["change_s"])
        if len(rest):
            names.append(f"{len(rest)} others")
            changes.append(rest["change_s"].sum())
        values = [frame["before_s"].sum(), *changes, frame["after_s"].sum()]
        figure.add_trace(
            go.Waterfall(
                x=["before", *names, "after"],
                y=[seconds * 1e3 for seconds in values],
                measure=["absolute", *["relative"] * len(changes), "total"],
                increasing={"marker": {"color": SLOWER}},
                decreasing={"marker": {"color": FASTER}},
                totals={"marker": {"color": PALETTE[0]}},
                hovertemplate="%{x}: %{delta:.4g} ms, to %{y:.4g} ms<extra></extra>",
                showlegend=False,
            )
        )
        levels = (frame["before_s"].sum() + np.cumsum([0.0, *changes])) * 1e3
        space = 0.2 * (levels.max() - levels.min()) or 0.1 * levels.max()
        figure.update_yaxes(range=[max(0, levels.min() - space), levels.max() + space])
    figure.update_xaxes(type="category", tickangle=-50)
    figure.update_yaxes(title="time of a forward [ms]")
    title = "From before to after, by module; the axis does not begin at 0 [ms]"
    return finish(figure, title, has_synthetic(frame), 520)
