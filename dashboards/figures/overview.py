"""What was measured at all, and what became of it."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from results.records.schema import FAILED

from ..theme import STATUS_MARKS, finish, safe
from .series import has_synthetic, newest

MARKS: dict[str, str] = {  # the one of four that stands for a status, if it is not the status
    **dict.fromkeys(FAILED, "failed"),
    **dict.fromkeys(("unsupported", "interrupted", "not_run"), "not run"),
    "skipped": "oom",  # since a smaller batch was out of memory
}
WORST_FIRST = ("failed", "oom", "ok", "not run")


def coverage_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a device, model and batch size: how many cases have each mark, and the mark to show.

    Where cases differ in precision or attention, a failure shows before what went well.
    """
    cases = newest(frame)
    cases = cases.assign(mark=cases["status"].replace(MARKS))
    place = ["device_name", "model", "batch_size"]
    counts = cases.pivot_table(
        index=place, columns="mark", values="case_id", aggfunc="size", fill_value=0, sort=False
    ).reindex(columns=list(WORST_FIRST), fill_value=0)
    everywhere = pd.MultiIndex.from_product(
        [list(dict.fromkeys(cases[name])) for name in place], names=place
    )
    counts = counts.reindex(everywhere, fill_value=0).astype(int)
    shown = counts.gt(0).idxmax(axis=1).where(counts.sum(axis=1) > 0, "not run")
    return counts.assign(shown=shown).reset_index()


def coverage_figure(frame: pd.DataFrame) -> go.Figure:
    """A mark for each device, model and batch size; what was never tried has one too."""
    figure = go.Figure()
    rows = coverage_rows(frame) if len(frame) else pd.DataFrame({"shown": [], "batch_size": []})
    sizes = sorted(rows["batch_size"].unique())
    for mark, (symbol, color) in STATUS_MARKS.items():
        own = rows[rows["shown"] == mark]
        if own.empty:
            continue
        figure.add_trace(
            go.Scatter(
                x=own["batch_size"].astype(str),
                y=[safe(f"{row.device_name} {row.model}") for row in own.itertuples()],
                name=mark,
                mode="markers",
                marker={"symbol": symbol, "color": color, "size": 15, "line": {"width": 2}},
                customdata=[[None, row.ok, row.oom, row.failed] for row in own.itertuples()],
                hovertemplate=(
                    "%{y}, batch %{x}: %{customdata[1]} ok, %{customdata[2]} out of memory, "
                    "%{customdata[3]} failed<extra></extra>"
                ),
            )
        )
    figure.update_xaxes(
        type="category", title="batch size", categoryorder="array",
        categoryarray=[str(size) for size in sizes],
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", automargin=True, type="category")
    height = 200 + 26 * len(rows[["device_name", "model"]].drop_duplicates()) if len(rows) else 300
    return finish(figure, "What was measured [a mark a batch size]", has_synthetic(frame), height)
