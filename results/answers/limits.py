"""How far a measured time is from what the hardware could do, and what holds it back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..hardware.specs import Spec, find_spec
from ..records.measurement import Latency, MeasuredRoofs, Work
from ..records.schema import Record

Bound = Literal["launch", "compute", "memory"]

LAUNCH_BOUND = 0.9  # of a forward's time spent launching it
# Other work on a machine makes a time longer, never shorter: what it reached is the fastest tenth.
REACHED = 0.1


@dataclass(frozen=True)
class Roof:
    """What a device can do in one precision.

    cache_bytes: What may stay in its last cache from one forward to the next.
    """

    flops_per_s: float
    bytes_per_s: float
    cache_bytes: int

    def compute_s(self, flops: float) -> float:
        return flops / self.flops_per_s

    def memory_s(self, moved_bytes: float) -> float:
        return moved_bytes / self.bytes_per_s

    def floor_s(self, flops: float, least_bytes: float) -> float:
        """No implementation can be faster: what does not fit the cache must come from memory."""
        uncached = max(0.0, least_bytes - self.cache_bytes)
        return max(self.compute_s(flops), self.memory_s(uncached))


def spec_roof(record: Record, peaks: Mapping[str, Spec] | None = None) -> Roof | None:
    """What the GPU's maker says of it; None where nobody does.

    Args:
        record: Of a case.
        peaks: More rows than the table's own.
    """
    gpu = record.gpu
    peak = find_spec(gpu.name, peaks or {}) if gpu is not None else None
    flops_per_s = peak.flops_per_s.get(record.case.precision) if peak is not None else None
    if peak is None or flops_per_s is None:
        return None
    return Roof(flops_per_s, peak.bytes_per_s, peak.cache_bytes)


def measured_roof(record: Record) -> Roof | None:
    """What the device reached when it was calibrated; None where it was not."""
    roofs = record.roofs
    products = roofs.products.get(record.case.precision) if roofs is not None else None
    if roofs is None or products is None:
        return None
    return Roof(
        2 * products.side**3 / reached_s(products.product_s),
        2 * roofs.copied_bytes / reached_s(roofs.copy_s),
        roofs.cache_bytes,
    )


def reached_s(samples: Iterable[float]) -> float:
    return float(np.quantile(np.asarray(list(samples)), REACHED))


def launch_share(latency: Latency) -> float:
    """The host's time to launch a forward over the forward's; 1 where it returns when it is done.

    On a GPU 1 means that launching takes as long as the forward: the host is what limits.
    """
    forward_s = float(np.median(latency.forward_s))
    return float(np.median(latency.chunk_launch_s)) / forward_s if forward_s else float("nan")


def is_launch_bound(record: Record) -> bool:
    latency = record.measurement.latency if record.measurement is not None else None
    if latency is None or not record.case.device.startswith("cuda"):
        return False
    return launch_share(latency) > LAUNCH_BOUND


def bound_by(work: Work, roof: Roof, launches: bool) -> Bound:
    """What holds work back: launching it, or the one of computing and memory that takes longer.

    Args:
        work: Its operations as they are run; the least bytes where these are not known.
        roof: Of the device.
        launches: Whether the whole case waits for launches.
    """
    if launches:
        return "launch"
    moved = work.least_bytes if work.moved_bytes is None else work.moved_bytes
    return "compute" if roof.compute_s(work.flops) >= roof.memory_s(moved) else "memory"


LIMIT_COLUMNS = (
    "flops", "least_flops", "least_bytes", "moved_bytes", "flops_per_s", "mfu", "mfu_measured",
    "floor_s", "floor_measured_s", "bound_by",
)  # fmt: skip


ROOF_COLUMNS = (
    "roof_flops_per_s", "roof_bytes_per_s", "measured_roof_flops_per_s",
    "measured_roof_bytes_per_s",
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What the device of a record can do, and whether the record's case waits for launches."""

    makers: Roof | None
    measured: Roof | None
    launches: bool


def limits_of(record: Record, peaks: Mapping[str, Spec] | None = None) -> Limits:
    return Limits(spec_roof(record, peaks), measured_roof(record), is_launch_bound(record))


def roof_columns(limits: Limits) -> dict[str, float]:
    """What the device can do, by its maker and as measured, where they are known."""
    return {
        f"{prefix}roof_{name}": getattr(roof, name)
        for prefix, roof in (("", limits.makers), ("measured_", limits.measured))
        if roof is not None
        for name in ("flops_per_s", "bytes_per_s")
    }


def limit_columns(work: Work | None, time_s: float, limits: Limits) -> dict[str, Any]:
    """How far a time is from its limits, by the columns' names.

    Args:
        work: What was done in this time.
        time_s: Of one call.
        limits: Of its record.
    """
    columns: dict[str, Any] = dict.fromkeys(LIMIT_COLUMNS)
    if work is None:
        return columns
    columns |= work.model_dump()
    if not time_s > 0:
        return columns
    columns["flops_per_s"] = work.flops / time_s
    columns["bound_by"] = "launch" if limits.launches else None
    for suffix, roof in (("", limits.makers), ("_measured", limits.measured)):
        if roof is None:
            continue
        columns[f"mfu{suffix}"] = roof.compute_s(work.least_flops) / time_s
        columns[f"floor{suffix}_s"] = roof.floor_s(work.least_flops, work.least_bytes)
        # Last, by what this very device reached, where that is known.
        columns["bound_by"] = bound_by(work, roof, limits.launches)
    return columns


def with_roofs(records: Iterable[Record], roofs: Iterable[MeasuredRoofs]) -> list[Record]:
    """Records with what their device reached when it was calibrated, also if that was later."""
    newest_last = sorted(roofs, key=lambda each: each.measured_at)
    told = []
    for record in records:
        measurement = record.measurement
        threads = measurement.flags.get("threads") if measurement is not None else None
        found = [
            each
            for each in newest_last
            if each.device == record.environment.device_name(record.case.device)
            and each.torch == record.environment.torch
            and (record.gpu is not None or each.threads == threads)
        ]
        own = record.roofs is not None or not found
        told.append(record if own else record.model_copy(update={"roofs": found[-1]}))
    return told
