"""What a person can click: filters, choices, buttons below a figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dash_mantine_components as dmc
import pandas as pd
from dash.development.base_component import Component

from results.records.case import case_label

from .data import Frames
from .figures.layers import series_names
from .view import FILTERS, OPTIONS, ViewState

PLENTY = 15  # of values, that one wants to search


def part(kind: str, name: Any) -> dict[str, Any]:
    """The id of a part of a page: of what kind, and of which figure, table or choice."""
    return {"part": kind, "name": name}


def button(label: str, name: str | Mapping[str, str], **more: Any) -> Component:
    return dmc.Button(label, id=name, variant="default", size="compact-sm", n_clicks=0, **more)


def named(text: str) -> dict[str, Any]:
    """A name for those who hear the page."""
    return {"aria-label": text}


def filter_controls(cases: pd.DataFrame | None, view: ViewState) -> list[Component]:
    """A control for each axis in which cases differ, or that is filtered already."""
    controls = []
    for name, each in FILTERS.items():
        values = values_of(cases, each.column) if cases is not None else []
        if len(values) < 2 and name not in view.filters:
            continue
        controls.append(
            dmc.MultiSelect(
                id=part("filter", name),
                label=each.title,
                data=values,
                value=list(view.filters.get(name, ())),
                searchable=len(values) > PLENTY,
                clearable=True,
                placeholder="all",
                size="xs",
                mt=6,
                clearButtonProps={"aria-label": f"Show every {each.title.lower()}"},
            )
        )
    return controls


def values_of(cases: pd.DataFrame, column: str) -> list[str]:
    """As they stand in addresses; numbers in their order."""
    values = cases[column].dropna().unique()
    is_number = pd.api.types.is_numeric_dtype(cases[column])
    return [str(value) for value in sorted(values, key=None if is_number else str)]


def option_control(name: str, view: ViewState, frames: Frames) -> Component:
    """A control for one choice."""
    option, value = OPTIONS[name], view.option(name)
    shared: dict[str, Any] = {"id": part("option", name), "label": option.title, "size": "xs"}
    if option.choices:
        data = list(option.choices)
        return dmc.Select(data=data, value=value, allowDeselect=False, w=160, **shared)
    if name == "prices":
        example = "L4=0.5, H200=3"
        return dmc.TextInput(value=value or "", debounce=600, placeholder=example, w=320, **shared)
    return dmc.Select(
        data=choices(name, frames), value=value, clearable=True, searchable=True, w=320,
        placeholder="by default", clearButtonProps=named(f"Default {option.title.lower()}"),
        **shared,
    )  # fmt: skip


def choices(name: str, frames: Frames) -> list[dict[str, str]]:
    """What an option can be, of what is shown: its value and its name."""
    if frames.is_empty:
        return []
    if name in ("series", "against"):
        labels = series_names(frames["modules"])
    elif name in ("batch", "layer_batch"):
        labels = {value: value for value in values_of(frames["cases"], "batch_size")}
    elif name in ("before", "after"):
        sweep_ids = sorted(frames["cases"]["sweep_id"].unique(), reverse=True)
        labels = dict(zip(sweep_ids, sweep_ids, strict=True))
    elif name == "case":
        both = frames["comparison"]
        known = both[both["ratio"].notna()].to_dict("records")
        labels = {row["record_id"]: case_label(row) for row in known}
    else:
        labels = {}
    return [{"value": value, "label": label} for value, label in labels.items()]
