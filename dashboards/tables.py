"""Tables: which columns of a frame are shown, each in its unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from results.records.case import AXES, SERIES_AXES
from results.tables import markdown
from results.tables.frames import CASE_COLUMNS
from results.tables.metrics import METRICS, metric_of, number_metric
from results.tables.pass_columns import pass_columns

# In the place of columns of passes that have none of their own, if any row has such a value.
OF_OTHER_PASSES = "of other passes"
KEPT = ("gpu", "batch_size", "model")  # also where they are the same in all rows
OTHER_AXES = tuple(axis for axis in AXES if axis != "gpu")  # which the device's name tells


@dataclass(frozen=True)
class TableSpec:
    """A table, and the frame that it is made of."""

    frame: str
    title: str
    columns: tuple[str, ...]


def shown_columns(frame: pd.DataFrame, columns: tuple[str, ...]) -> list[str]:
    """Without axes that are the same in all rows, and without what no row tells."""
    return [
        column
        for column in with_passes(frame, columns)
        if column in frame
        and not frame[column].isna().all()
        and (column not in AXES or column in KEPT or frame[column].nunique() > 1)
    ]


def with_passes(frame: pd.DataFrame, columns: tuple[str, ...]) -> list[str]:
    """The columns, with those of other passes in their place."""
    found = {OF_OTHER_PASSES: pass_columns(frame, CASE_COLUMNS)}
    return [name for column in columns for name in found.get(column, [column])]


def shown_table(frame: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    """Texts, headed with units."""
    table = pd.DataFrame(index=frame.index)
    for column in shown_columns(frame, columns):
        show: Callable[[Any], str] = text
        if column in METRICS:
            show = METRICS[column].show
        elif column in pass_columns(frame, CASE_COLUMNS):
            show = number_metric(column).show
        table[heading(column)] = frame[column].map(show)
    return table


def heading(column: str) -> str:
    metric = metric_of(column)
    return metric.heading if metric is not None else column.replace("_", " ")


def text(value: str | float | None) -> str:
    """A missing value is a dash; a whole number that pandas made a float is whole again."""
    if pd.isna(value):
        return "-"
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)


def csv_text(frame: pd.DataFrame, columns: tuple[str, ...]) -> str:
    """In base units, with the columns' own names: for other programs."""
    table = frame[[column for column in with_passes(frame, columns) if column in frame]]
    texts = table.select_dtypes(exclude="number").columns
    plain = table.assign(**{name: table[name].map(no_formula) for name in texts})
    # The ending of RFC 4180, with which a lone carriage return in a text is quoted too.
    return plain.to_csv(index=False, lineterminator="\r\n")


def no_formula(value: object) -> object:
    """Anybody's text, that a spreadsheet must not compute."""
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if is_formula else value


def markdown_text(frame: pd.DataFrame, columns: tuple[str, ...]) -> str:
    """As it is shown, for an issue or a chat."""
    table = shown_table(frame, columns)
    return markdown.table(list(table.columns), table.itertuples(index=False))


TABLES: dict[str, TableSpec] = {
    "cases": TableSpec(
        "cases",
        "Cases",
        (
            "device_name", *OTHER_AXES, "status", "median_s", "low_s", "high_s", "n", "image_s",
            "images_per_s",
            "flops_per_s", "mfu", "mfu_measured", "bound_by", "peak_bytes", "million_usd",
            "embedding_error", "warnings", OF_OTHER_PASSES,
        ),
    ),
    "sweeps": TableSpec(
        "sweeps",
        "Latest sweeps",
        ("started_at", "sweep_id", "devices", "models", "cases", "ok", "failed", "git_commit"),
    ),
    "latest": TableSpec(
        "latest",
        "Latest cases",
        (
            "started_at", "device_name", *OTHER_AXES, "status", "image_s", "images_per_s",
            "git_commit", "message",
        ),
    ),
    "capacity": TableSpec(
        "capacity",
        "Which batch size is best",
        (
            "gpu", *(axis for axis in SERIES_AXES if axis != "gpu"), "largest_batch",
            "smallest_oom", "predicted_batch", "best_batch", "best_images_per_s", "knee_batch",
            "knee_images_per_s", "fixed_s", "marginal_s", "fixed_bytes", "image_bytes",
            "joules_batch", "image_joules",
        ),
    ),
    "prices": TableSpec(
        "prices",
        "Prices",
        ("gpu", "usd_per_hour", "price_source", "price_date"),
    ),
    "comparison": TableSpec(
        "comparison",
        "Case by case",
        (*AXES, "before_s", "after_s", "ratio", "ratio_low", "ratio_high", "verdict"),
    ),
}  # fmt: skip
