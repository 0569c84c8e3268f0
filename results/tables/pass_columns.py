"""Columns of passes that have none of their own: their results name and describe themselves.

A number `depth_m` that the pass `lidar` found is the column `lidar_depth_m`; of a list of seconds
it is the median. The unit at the end of the name says how the column is shown.
"""

from __future__ import annotations

from collections.abc import Collection
from statistics import median
from typing import TypeGuard

import pandas as pd

from ..records.measurement import Measurement
from .metrics import METRICS


def pass_values(measurement: Measurement, taken: Collection[str]) -> dict[str, float]:
    """The numbers of results that have no model, by column.

    Args:
        taken: Columns that mean something else; one of these gets "pass_" before its name.
    """
    values: dict[str, float] = {}
    for name, result in measurement.other_passes.items():
        for field, value in result.fields.items():
            number = number_of(field, value)
            if number is not None:
                column = f"{name}_{field}"
                is_taken = column in taken or column in METRICS
                values[f"pass_{column}" if is_taken else column] = number
    return values


def number_of(field: str, value: object) -> float | None:
    """A field's number; None if it has none, such as text."""
    if isinstance(value, list) and field.endswith("_s"):
        seconds = [each for each in value if is_number(each)]
        return float(median(seconds)) if seconds and len(seconds) == len(value) else None
    return value if is_number(value) else None


def is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def pass_columns(cases: pd.DataFrame, own: Collection[str]) -> list[str]:
    """The columns of such numbers in a frame of cases, if any row has a value.

    Args:
        own: Columns that every frame of cases has.
    """
    return [
        name
        for name in cases.columns
        if name not in own
        and name not in METRICS
        and pd.api.types.is_numeric_dtype(cases[name])
        and cases[name].notna().any()
    ]
