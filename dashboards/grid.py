"""Tables that can be sorted, for the live pages."""

from __future__ import annotations

from typing import Any

import dash_ag_grid as dag
import pandas as pd
from dash import html
from dash.development.base_component import Component

from results.tables.metrics import metric_of

from .controls import part
from .tables import heading, shown_columns, text
from .theme import Theme
from .view import ViewState

FEW = 15  # rows, that are shown whole
ROWS = 500  # of a table that is sent to a browser; its downloads have all


def grid(
    frame: pd.DataFrame, columns: tuple[str, ...], name: str, view: ViewState, theme: Theme
) -> Component:
    """A table that can be sorted; a row of a record opens it, and has a link for the keyboard."""
    shown = frame.head(ROWS)
    texts = {column: cells(shown[column], column) for column in shown_columns(frame, columns)}
    definitions: list[dict[str, Any]] = [
        {
            "field": column,
            "headerName": heading(column),
            "type": "rightAligned" if pd.api.types.is_numeric_dtype(frame[column]) else None,
            "headerTooltip": heading(column),
        }
        for column in texts
    ]
    if "record_id" in frame:
        definitions.insert(0, {"field": "run", "headerName": "run", "cellRenderer": "markdown"})
        texts |= {"run": [link(view, each) for each in shown["record_id"]]}
        # A record can have several rows, and a row of a comparison none.
        texts |= {"id": [f"{each} {row}" for row, each in enumerate(shown["record_id"])]}
    rows = [dict(zip(texts, row, strict=True)) for row in zip(*texts.values(), strict=True)]
    note = [html.P(f"{ROWS} of {len(frame)} rows shown.")] if len(frame) > ROWS else []
    mode: dict[str, Any] = {"data-ag-theme-mode": theme}
    return html.Div(
        [
            *note,
            dag.AgGrid(
                id=part("grid", name),
                rowData=rows,
                columnDefs=definitions,
                defaultColDef={"sortable": True, "resizable": True, "minWidth": 90},
                columnSize="autoSize",
                getRowId="params.data.id" if "record_id" in frame else None,
                dashGridOptions={
                    "domLayout": "autoHeight" if len(rows) < FEW else "normal",
                    "ensureDomOrder": True, "suppressColumnVirtualisation": True,
                },
                className="",
                style={"height": None if len(rows) < FEW else 480},
            ),
        ],
        **mode,
    )  # fmt: skip


def cells(values: pd.Series, column: str) -> list[Any]:
    """A column in its unit; numbers stay numbers, so that they are sorted as such."""
    metric = metric_of(column)
    if not pd.api.types.is_numeric_dtype(values):
        return [None if pd.isna(value) else text(value) for value in values]
    if metric is None:
        return [None if pd.isna(value) else value for value in values]
    return [None if pd.isna(value) else rounded(value * metric.scale) for value in values]


def link(view: ViewState, record_id: object) -> str:
    """In Markdown; a comparison has rows of one side alone, which have none."""
    return f"[open]({view.link('/run', run=record_id)})" if isinstance(record_id, str) else ""


def rounded(value: float) -> float:
    """As much as a table needs; whole numbers stay whole."""
    return value if float(value).is_integer() else float(f"{value:.5g}")
