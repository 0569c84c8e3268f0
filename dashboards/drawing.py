"""A figure of a view: the same on a live page and in a report."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from .data import Frames, UnknownRecordError
from .figures import FIGURES
from .theme import Theme, themed

EMPTY_HEIGHT = 240


def drawn(name: str, frames: Frames, theme: Theme) -> go.Figure:
    """A figure with the choices of its view; where there is nothing to draw, it says so."""
    spec = FIGURES[name]
    frame = frame_or_none(frames, spec.frame)
    options = {option: frames.view.option(option) for option in spec.options}
    figure = go.Figure()
    if frame is not None:
        figure = spec.make(frame, **{name: value for name, value in options.items() if value})
    if not figure.data:
        figure = go.Figure()
        figure.add_annotation(
            text=f"No case that is shown tells of {spec.summary}.",
            showarrow=False, font={"size": 16}, xref="paper", yref="paper",
        )  # fmt: skip
        figure.update_xaxes(visible=False)
        figure.update_yaxes(visible=False)
        figure.update_layout(height=EMPTY_HEIGHT)
    # The zoom stays while it means the same.
    figure.update_layout(uirevision=f"{name} {options}")
    return themed(figure, theme)


def frame_or_none(frames: Frames, name: str) -> pd.DataFrame | None:
    """A frame; None where there are no records, or the one that was asked for is not there."""
    if frames.is_empty:
        return None
    try:
        return frames[name]
    except UnknownRecordError:
        return None
