"""What a larger batch changed, by the part of the encoder and by what held that part back.

A part's time an image at two batch sizes differs for one of these causes:

launch: At the smaller batch the GPU waited for the host; the same launches now serve more images.
memory: The part waits for memory; weights, for one, are read once for more images.
compute: The part computes; only a better use of the hardware can change its time.
clock: The GPU's clock was another, mostly a lower one under its power cap.
unknown: Nothing tells what held the part back: the device has no roofs.

The changes of all parts and causes add up to the change of the whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Any

import numpy as np
import pandas as pd

from ..hardware.specs import Spec
from ..records.case import SERIES_AXES
from ..records.measurement import ENCODER, ModuleTiming, Work, innermost
from ..records.schema import Record
from ..tables.frames import UNATTRIBUTED, frame
from .limits import Limits, bound_by, limits_of

CAUSES = ("launch", "memory", "compute", "clock", "unknown")
REST = "rest of blocks"  # what of a block its timed parts do not account for
WHOLE = "whole"

BATCHING_COLUMNS = (
    "sweep_id", *SERIES_AXES, "from_batch", "to_batch", "part", "cause", "before_s",
    "after_s", "change_s", "warnings",
)  # fmt: skip


@dataclass(frozen=True)
class ModuleShare:
    """A part's share of an image's time, and what holds it back."""

    kind: str
    image_s: float
    cause: str


def batching_frame(
    records: Iterable[Record], peaks: Mapping[str, Spec] | None = None
) -> pd.DataFrame:
    """A row a step to the next batch size, part of the encoder and cause; seconds of an image."""
    rows = (
        row
        for series in series_of(records).values()
        for smaller, larger in pairwise(series)
        for row in step_rows(smaller, larger, peaks)
    )
    return frame(rows, BATCHING_COLUMNS)


def series_of(records: Iterable[Record]) -> dict[tuple[Any, ...], list[Record]]:
    """Good records that differ in the batch size alone, by size; of equal ones the last."""
    found: dict[tuple[Any, ...], dict[int, Record]] = defaultdict(dict)
    for record in records:
        if record.status == "ok" and forward_s(record) > 0:
            device = record.environment.device_name(record.case.device)
            found[record.sweep_id, *record.case.series_key, device][record.case.batch_size] = record
    return {axes: [sizes[size] for size in sorted(sizes)] for axes, sizes in found.items()}


def step_rows(
    smaller: Record, larger: Record, peaks: Mapping[str, Spec] | None
) -> Iterator[dict[str, Any]]:
    """The change of each part, split by cause."""
    before, after = parts(smaller, peaks), parts(larger, peaks)
    if before.keys() != after.keys():  # one of them has no modules
        before, after = whole(smaller, peaks), whole(larger, peaks)
    before_hz, after_hz = sm_clock_hz(smaller), sm_clock_hz(larger)
    changes: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros(3))
    for name, part in before.items():
        later = after[name]
        slowed_s = 0.0  # which a part that computes would not have taken at the clock of before
        if later.cause == "compute" and before_hz and after_hz:
            slowed_s = later.image_s * (1 - after_hz / before_hz)
        own_s = later.image_s - part.image_s - slowed_s
        changes[part.kind, part.cause] += (part.image_s, later.image_s, own_s)
        if slowed_s:
            changes[part.kind, "clock"] += (0.0, 0.0, slowed_s)
    shared = {
        "sweep_id": larger.sweep_id,
        **larger.case.model_dump(include=set(SERIES_AXES)),
        "gpu": larger.gpu.name if larger.gpu is not None else None,
        "from_batch": smaller.case.batch_size,
        "to_batch": larger.case.batch_size,
        "warnings": sum(  # self-checks of both
            check.verdict == "warn" for each in (smaller, larger) for check in each.checks.values()
        ),
    }
    for (kind, cause), seconds in changes.items():
        times = zip(("before_s", "after_s", "change_s"), seconds, strict=True)
        yield shared | {"part": kind, "cause": cause, **dict(times)}


def parts(record: Record, peaks: Mapping[str, Spec] | None) -> dict[str, ModuleShare]:
    """The modules by name: their own times, scaled so that they add up to the plain forward."""
    measurement = record.measurement
    modules = measurement.modules if measurement is not None else None
    modules = {name: each for name, each in (modules or {}).items() if each.self_s}
    if not modules:
        return whole(record, peaks)
    own_s = {name: float(np.median(timing.self_s)) for name, timing in modules.items()}
    scale = image_s(record) / sum(own_s.values())
    limits = limits_of(record, peaks)
    # What a module's own time is counted as; of one with timed parts it is the rest.
    kinds = dict.fromkeys(modules, REST)
    kinds |= {name: modules[name].kind for name in innermost(modules)} | {ENCODER: UNATTRIBUTED}
    return {
        name: ModuleShare(
            kind=kinds[name],
            image_s=own_s[name] * scale,
            cause=cause(own_work(name, modules), limits),
        )
        for name in modules
    }


def own_work(name: str, modules: Mapping[str, ModuleTiming]) -> Work | None:
    """The work of a module without that of the timed modules in it."""
    work = modules[name].work
    known = [
        each.work for each in modules.values() if each.parent == name and each.work is not None
    ]
    if work is None or not known:
        return work
    moved = sum(each.moved_bytes or 0 for each in known)
    return Work(
        flops=max(0, work.flops - sum(each.flops for each in known)),
        least_flops=0,
        least_bytes=0,
        moved_bytes=None if work.moved_bytes is None else max(0, work.moved_bytes - moved),
    )


def whole(record: Record, peaks: Mapping[str, Spec] | None) -> dict[str, ModuleShare]:
    work = record.measurement.work if record.measurement is not None else None
    return {WHOLE: ModuleShare(WHOLE, image_s(record), cause(work, limits_of(record, peaks)))}


def cause(work: Work | None, limits: Limits) -> str:
    """What holds work back."""
    if limits.launches:
        return "launch"
    roof = limits.measured or limits.makers
    if roof is None or work is None:
        return "unknown"
    return bound_by(work, roof, launches=False)


def forward_s(record: Record) -> float:
    """The median of a forward; 0 where there is none."""
    latency = record.measurement.latency if record.measurement is not None else None
    return float(np.median(latency.forward_s)) if latency is not None else 0.0


def image_s(record: Record) -> float:
    return forward_s(record) / record.case.batch_size


def sm_clock_hz(record: Record) -> float | None:
    """The median of the looks while the case was measured, those at an idle GPU left out."""
    telemetry = record.telemetry
    if telemetry is None:
        return None
    looks = list(zip_longest(telemetry.sm_clock_hz, telemetry.event_reasons))[1:-1]
    known = [hz for hz, reasons in looks if hz and "idle" not in (reasons or ())]
    return float(np.median(known)) if known else None
