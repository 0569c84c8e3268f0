"""Which batch size is best: what fits, from where on a larger one brings nothing, what it costs.

Told from cases that differ in the batch size alone, whoever measured them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from ..records.case import SERIES_AXES, Case, TimingPlan
from ..records.environment import Environment
from ..records.schema import Record
from ..tables.frames import case_frame, frame

FITTING = ("ok", "invalid")  # what can't be trusted did fit
KNEE = 0.95  # of the best images/s
CAPACITY_COLUMNS = (
    *SERIES_AXES, "cpu", "memory_limit_bytes", "largest_batch", "smallest_oom",
    "predicted_batch", "fixed_bytes", "image_bytes", "fixed_s", "marginal_s", "best_batch",
    "best_images_per_s", "knee_batch", "knee_images_per_s", "latency_budget_s", "budget_batch",
    "budget_images_per_s", "joules_batch", "image_joules", "warnings", "is_synthetic", "device_uid",
)  # fmt: skip
# What of a case tells of capacity.
USED = (
    *SERIES_AXES, "batch_size", "cpu", "device_uid", "device_bytes",
    "memory_limit_bytes", "status", "started_at", "peak_bytes", "median_s", "image_s",
    "images_per_s", "image_joules", "warnings", "is_synthetic",
)  # fmt: skip

Row = dict[Any, Any]  # of a case, by column


def capacity_frame(
    records: Iterable[Record], latency_budget_s: float | None = None
) -> pd.DataFrame:
    """A row for each set of cases that differ in the batch size alone.

    Args:
        records: Of any sweeps, on any devices.
        latency_budget_s: The most that a forward may take.
    """
    return capacity_of_cases(case_frame(records), latency_budget_s)


def capacity_of_cases(cases: pd.DataFrame, latency_budget_s: float | None = None) -> pd.DataFrame:
    """The same, of a frame of cases."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    known = cases[list(USED)].astype(object)
    for row in known.where(known.notna(), None).to_dict("records"):
        axes = (row[axis] for axis in SERIES_AXES)
        apart = (row["device_uid"], row["memory_limit_bytes"], bool(row["is_synthetic"]))
        groups[*axes, *apart].append(row)
    rows = (capacity_row(group, latency_budget_s) for group in groups.values())
    return frame((row for row in rows if row is not None), CAPACITY_COLUMNS)


def capacity_key(case: Case, environment: Environment, plan: TimingPlan) -> tuple[Any, ...]:
    """What two measurements must share to tell of the same capacity."""
    return (*case.series_key, environment.device_name(case.device), plan.memory_limit_bytes)


def capacity_row(group: Sequence[Row], latency_budget_s: float | None) -> Row | None:
    """None where no batch fitted."""
    # What did not fit in the same second came last: a search ends with it.
    by_age = sorted(group, key=lambda row: (row["started_at"], row["status"] == "oom"))
    newest = {row["batch_size"]: row for row in by_age}
    fitting = [size for size, row in newest.items() if row["status"] in FITTING]
    if not fitting:
        return None
    first = newest[max(fitting)]
    fixed, per_image = line(newest_with("peak_bytes", by_age), "peak_bytes")
    good = [row for row in by_age if row["status"] == "ok"]
    series = newest_with("image_s", good)
    fixed_s, marginal_s = line(series, "median_s")
    has_budget = latency_budget_s is not None
    within = [row for row in series if has_budget and row["median_s"] <= latency_budget_s]
    least = min(
        newest_with("image_joules", good), key=lambda row: row["image_joules"], default=None
    )
    return {
        **{name: first[name] for name in (*SERIES_AXES, "cpu", "memory_limit_bytes")},
        "largest_batch": first["batch_size"],
        "smallest_oom": smallest_oom(newest.values(), above=first["batch_size"]),
        "predicted_batch": predicted_batch(first["device_bytes"], fixed, per_image),
        "fixed_bytes": fixed,
        "image_bytes": per_image,
        "fixed_s": fixed_s,
        "marginal_s": marginal_s,
        **batch_columns("best", series),
        **batch_columns("knee", [knee(series)] if series else []),
        "latency_budget_s": latency_budget_s,
        **batch_columns("budget", within),
        "joules_batch": least["batch_size"] if least is not None else None,
        "image_joules": least["image_joules"] if least is not None else None,
        "warnings": sum(row["warnings"] for row in newest.values()),
        "is_synthetic": first["is_synthetic"],
        "device_uid": first["device_uid"],
    }


def newest_with(column: str, by_age: Iterable[Row]) -> list[Row]:
    """Of each batch size the newest row that has a value, by size."""
    found = {
        row["batch_size"]: row
        for row in by_age
        if row["status"] in FITTING and row[column] is not None
    }
    return [found[size] for size in sorted(found)]


def smallest_oom(group: Iterable[Row], above: int = 0) -> int | None:
    """The smallest batch size beyond one that ran out of memory, in any pass."""
    sizes = (row["batch_size"] for row in group if row["status"] == "oom")
    return min((size for size in sizes if size > above), default=None)


def line(series: Sequence[Row], column: str) -> tuple[float, float]:
    """What a column is whatever the batch, and for each image, by least squares.

    NaN below two batch sizes.
    """
    if len(series) < 2:
        return float("nan"), float("nan")
    from scipy import stats  # here, since it takes as long to load as all else together

    points = [(row["batch_size"], row[column]) for row in series]
    fitted = stats.linregress(*zip(*points, strict=True))
    return float(fitted.intercept), float(fitted.slope)


def knee(series: Sequence[Row]) -> Row:
    """The smallest batch whose images/s are within 5 % of the best."""
    best_s = min(row["image_s"] for row in series)
    return next(row for row in series if row["image_s"] <= best_s / KNEE)


def predicted_batch(device_bytes: int, fixed: float, per_image: float) -> int | None:
    """The largest batch that the line leaves room for; None where it tells nothing."""
    if not per_image > 0:
        return None
    return max(0, int((device_bytes - fixed) / per_image))


def batch_columns(name: str, rows: Iterable[Row]) -> Row:
    """The batch with the most images/s."""
    none: Row = {"batch_size": None, "images_per_s": None}
    row = min(rows, key=lambda row: row["image_s"], default=none)
    return {f"{name}_batch": row["batch_size"], f"{name}_images_per_s": row["images_per_s"]}
