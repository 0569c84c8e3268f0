"""Tables of a report: which columns of a frame are shown, each in its unit."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from results.metrics import METRICS
from results.schema import AXES


@dataclass(frozen=True)
class TableSpec:
    """A table, and the frame that it is made of."""

    frame: str
    title: str
    columns: tuple[str, ...]


def shown_table(frame: pd.DataFrame, spec: TableSpec) -> pd.DataFrame:
    """Texts, headed with units; axes that are the same in all rows are left out, and so is what no
    row tells.
    """
    table = pd.DataFrame(index=frame.index)
    for column in spec.columns:
        if column in AXES and column != "batch_size" and frame[column].nunique() <= 1:
            continue
        if frame[column].isna().all():
            continue
        metric = METRICS.get(column)
        if metric is not None:
            table[metric.heading] = frame[column].map(metric.show)
        else:
            table[column.replace("_", " ")] = frame[column].map(text)
    return table


def text(value: str | float | None) -> str:
    """A missing value is a dash; a whole number that pandas made a float is whole again."""
    if pd.isna(value):
        return "-"
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)


TABLES: dict[str, TableSpec] = {
    "cases": TableSpec(
        "cases",
        "Cases",
        (
            "gpu", *AXES, "status", "median_s", "low_s", "high_s", "n", "image_s", "images_per_s",
            "flops_per_s", "mfu", "mfu_measured", "bound_by", "peak_bytes", "embedding_error",
            "warnings",
        ),
    ),
    "capacity": TableSpec(
        "capacity",
        "Which batch size is best",
        (
            "gpu", *(axis for axis in AXES if axis != "batch_size"), "largest_batch",
            "smallest_oom", "best_batch", "best_images_per_s", "knee_batch", "knee_images_per_s",
            "fixed_bytes", "image_bytes", "joules_batch", "image_joules",
        ),
    ),
}  # fmt: skip
