"""Which batch size is best: what fits, from where on a larger one brings nothing, what it costs.

Told from the records of cases that differ in the batch size alone, whoever measured them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from scipy import stats

from .batching import forward_s, image_s, knee, warnings
from .frames import AXES_OF_A_FAMILY, frame
from .schema import Case, Environment, Record, TimingPlan

FITTING = ("ok", "invalid")  # what can't be trusted did fit
CAPACITY_COLUMNS = (
    *AXES_OF_A_FAMILY, "gpu", "cpu", "memory_limit_bytes", "largest_batch", "smallest_oom",
    "fixed_bytes", "image_bytes", "best_batch", "best_images_per_s", "knee_batch",
    "knee_images_per_s", "latency_budget_s", "budget_batch", "budget_images_per_s",
    "joules_batch", "image_joules", "warnings",
)  # fmt: skip


def capacity_frame(
    records: Iterable[Record], latency_budget_s: float | None = None
) -> pd.DataFrame:
    """A row for each set of cases that differ in the batch size alone.

    Args:
        records: Of any sweeps, on any devices.
        latency_budget_s: The most that a forward may take.
    """
    groups: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in records:
        groups[family_of(record.case, record.environment, record.plan)].append(record)
    rows = (capacity_row(group, latency_budget_s) for group in groups.values())
    return frame((row for row in rows if row is not None), CAPACITY_COLUMNS)


def family_of(case: Case, environment: Environment, plan: TimingPlan) -> tuple[Any, ...]:
    """What two measurements must share to tell of the same capacity."""
    axes = (getattr(case, axis) for axis in AXES_OF_A_FAMILY)
    return (*axes, environment.device_name(case.device), plan.memory_limit_bytes)


def capacity_row(group: Sequence[Record], latency_budget_s: float | None) -> dict[str, Any] | None:
    """None where no batch fitted."""
    # What did not fit in the same second came last: a search ends with it.
    by_age = sorted(group, key=lambda each: (each.started_at, each.status == "oom"))
    newest = {record.case.batch_size: record for record in by_age}
    fitting = [size for size, record in newest.items() if record.status in FITTING]
    if not fitting:
        return None
    largest = max(fitting)
    first = newest[largest]
    fixed, per_image = memory_line(newest_with("memory", by_age))
    good = [record for record in by_age if record.status == "ok"]
    family = newest_with("latency", good)
    return {
        **first.case.model_dump(include=set(AXES_OF_A_FAMILY)),
        "gpu": first.gpu.name if first.gpu is not None else None,
        "cpu": first.environment.cpu,
        "memory_limit_bytes": first.plan.memory_limit_bytes,
        "largest_batch": largest,
        "smallest_oom": smallest_oom(newest.values(), above=largest),
        "fixed_bytes": fixed,
        "image_bytes": per_image,
        **batch_columns("best", min(family, key=image_s, default=None)),
        **batch_columns("knee", knee(family) if family else None),
        "latency_budget_s": latency_budget_s,
        **batch_columns("budget", best_within(family, latency_budget_s)),
        **joules_columns(newest_with("energy", good)),
        "warnings": sum(map(warnings, newest.values())),
    }


def newest_with(part: str, by_age: Iterable[Record]) -> list[Record]:
    """Of each batch size the newest record whose measurement has a part, by size."""
    found = {
        record.case.batch_size: record
        for record in by_age
        if record.status in FITTING
        and record.measurement is not None
        and getattr(record.measurement, part) is not None
    }
    return [found[size] for size in sorted(found)]


def smallest_oom(group: Iterable[Record], above: int = 0) -> int | None:
    """The smallest batch size beyond one that ran out of memory, in any pass."""
    sizes = (record.case.batch_size for record in group if record.status == "oom")
    return min((size for size in sizes if size > above), default=None)


def memory_line(family: Iterable[Record]) -> tuple[float, float]:
    """Bytes whatever the batch, and of each image, by least squares; NaN below two batch sizes."""
    points = [
        (record.case.batch_size, record.measurement.memory.peak_bytes)
        for record in family
        if record.measurement is not None and record.measurement.memory is not None
    ]
    if len(points) < 2:
        return float("nan"), float("nan")
    line = stats.linregress(*zip(*points, strict=True))
    return float(line.intercept), float(line.slope)


def best_within(family: Iterable[Record], latency_budget_s: float | None) -> Record | None:
    """The measured batch with the most images/s whose forwards are within a budget."""
    if latency_budget_s is None:
        return None
    within = [record for record in family if forward_s(record) <= latency_budget_s]
    return min(within, key=image_s, default=None)


def batch_columns(name: str, record: Record | None) -> dict[str, Any]:
    if record is None:
        return {f"{name}_batch": None, f"{name}_images_per_s": None}
    return {
        f"{name}_batch": record.case.batch_size,
        f"{name}_images_per_s": images_per_s(record),
    }


def images_per_s(record: Record) -> float:
    """Images over the time of all forwards."""
    latency = record.measurement.latency if record.measurement is not None else None
    assert latency is not None
    return record.case.batch_size * len(latency.forward_s) / sum(latency.forward_s)


def joules_columns(family: Iterable[Record]) -> dict[str, Any]:
    """The batch that takes the least energy an image, where it was measured."""
    known = {
        record.case.batch_size: joules
        for record in family
        if (joules := image_joules(record)) is not None
    }
    if not known:
        return {"joules_batch": None, "image_joules": None}
    least = min(known, key=lambda size: known[size])
    return {"joules_batch": least, "image_joules": known[least]}


def image_joules(record: Record) -> float | None:
    """Of the whole board, for an image."""
    energy = record.measurement.energy if record.measurement is not None else None
    if energy is None or not energy.forwards:
        return None
    return energy.joules / (energy.forwards * record.case.batch_size)
