"""Records to tidy tables: a row a case, a row a component, a row a module.

All columns are in base units (seconds, bytes, FLOP). A case without a measurement has a row too,
with missing values and its status.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd

from ..answers.limits import (
    LIMIT_COLUMNS,
    ROOF_COLUMNS,
    launch_share,
    limit_columns,
    limits_of,
    roof_columns,
)
from ..hardware.specs import Spec
from ..records.case import AXES, MASK_GENERATOR, PROMPTS
from ..records.measurement import ENCODER, Measurement, innermost
from ..records.schema import Record
from .pass_columns import pass_values
from .stats import RESOLUTION_S, describe, summary

UNATTRIBUTED = "unattributed"
Specs = Mapping[str, Spec]  # a person's own rows of what GPUs can do

IDENTITY = (
    "record_id", "sweep_id", "case_id", *AXES, "cpu", "status", "is_synthetic", "checks",
    "warnings", "invalid_checks",
)  # fmt: skip
TIMES = ("median", "low", "high", "q1", "q3", "mad", "p90", "p99", "min", "max")
CASE_COLUMNS = (
    *IDENTITY, "stage", "message", "n", *(f"{name}_s" for name in TIMES), "outliers",
    "image_s", "images_per_s", "stop_reason", "first_forward_s", "launch_share",
    "flops_per_image", *LIMIT_COLUMNS, *ROOF_COLUMNS, "peak_bytes", "rise_bytes", "weights_bytes",
    "reserved_bytes", "image_joules", "embedding_error", "embedding_max_error", "weights_used",
    "input_source", "device_uid", "device_bytes", "memory_limit_bytes", "torch", "git_commit",
    "hostname", "started_at", "wall_s",
)  # fmt: skip
COMPONENT_COLUMNS = (
    *IDENTITY, "pipeline", "prompts", "component", "n", "median_s", "low_s", "high_s", "share",
)  # fmt: skip
CHECK_COLUMNS = (*IDENTITY, "check", "value", "limit", "verdict", "reason")
MODULE_COLUMNS = (
    *IDENTITY, "module", "kind", "parent", "is_innermost", "n", "total_s", "low_s", "high_s",
    "self_s", "share", "is_resolved", *LIMIT_COLUMNS, "peak_bytes", "rise_bytes",
)  # fmt: skip

# What tells cases of equal axes apart, and which of them is newer.
WHERE = ("device_uid", "memory_limit_bytes", "started_at")
LIMITS_COLUMNS = (
    *IDENTITY, "module", "kind", "parent", "is_innermost", "total_s", "image_s", "share",
    "launch_share",
    *LIMIT_COLUMNS, *ROOF_COLUMNS, "floor_times", *WHERE,
)  # fmt: skip

SAMPLE_COLUMNS = ("forward", "forward_s", "is_synthetic")
LOOKED_AT = (
    "at_s", "sm_clock_hz", "memory_clock_hz", "power_watts", "temperature_celsius", "used_bytes",
)  # fmt: skip
TELEMETRY_COLUMNS = (*LOOKED_AT, "event_reasons", "is_synthetic")

KERNEL_COLUMNS = (
    *IDENTITY, "module", "kind", "kernel", "calls", "total_s", "share", "busy_share",
)  # fmt: skip


def case_frame(records: Iterable[Record], peaks: Specs | None = None) -> pd.DataFrame:
    """A row per case: its axes, status, latency, throughput, limits and memory; and at the end
    what passes found that have no columns of their own.
    """
    rows = [case_row(record, peaks) for record in records]
    found = dict.fromkeys(name for row in rows for name in row if name not in CASE_COLUMNS)
    return frame(rows, (*CASE_COLUMNS, *found))


def component_frame(records: Iterable[Record]) -> pd.DataFrame:
    """A row a case and component of the pipeline, with its share of their sum."""
    return frame((row for each in records for row in component_rows(each)), COMPONENT_COLUMNS)


def module_frame(records: Iterable[Record], peaks: Specs | None = None) -> pd.DataFrame:
    """A row a case and module of the image encoder, and one for what no module accounts for."""
    rows = (row for record in records for row in module_rows(record, peaks))
    return frame(rows, MODULE_COLUMNS)


def limits_frame(records: Iterable[Record], peaks: Specs | None = None) -> pd.DataFrame:
    """A row a case and module, the whole encoder first, with how far it is from its limits."""
    records = list(records)
    return limits_of_frames(case_frame(records, peaks), module_frame(records, peaks))


def limits_of_frames(cases: pd.DataFrame, modules: pd.DataFrame) -> pd.DataFrame:
    """The same, of the frames of cases and of their modules."""
    whole = cases.assign(module=ENCODER, kind="encoder", total_s=cases["median_s"], share=np.nan)
    inner = modules[modules["module"] != UNATTRIBUTED]
    told = [name for name in (*ROOF_COLUMNS, *WHERE) if name not in inner]
    inner = inner.merge(cases[["record_id", *told]], on="record_id", how="left")
    rows = [each for each in (whole, inner) if len(each)]
    if not rows:
        return frame([], LIMITS_COLUMNS)
    # The encoder first, then its modules, in the order of the cases.
    position = {name: index for index, name in enumerate(cases["record_id"])}
    both = pd.concat([each.reindex(columns=list(LIMITS_COLUMNS)) for each in rows])
    both = both.iloc[both["record_id"].map(position).argsort(kind="stable")]
    floor_s = both["floor_measured_s"].astype(float).fillna(both["floor_s"].astype(float))
    floor_times = both["total_s"].astype(float) / floor_s.where(floor_s > 0)  # no work has no floor
    return both.assign(floor_times=floor_times).reset_index(drop=True)


def kernel_frame(records: Iterable[Record]) -> pd.DataFrame:
    """A row a case, module and kernel; calls and seconds of one forward under the profiler."""
    return frame((row for each in records for row in kernel_rows(each)), KERNEL_COLUMNS)


def sample_frame(record: Record) -> pd.DataFrame:
    """A row a timed forward of a record, in the order in which they were taken."""
    latency = record.measurement.latency if record.measurement is not None else None
    samples = latency.forward_s if latency is not None else ()
    rows = (
        {"forward": number, "forward_s": seconds, "is_synthetic": record.is_synthetic}
        for number, seconds in enumerate(samples, start=1)
    )
    return frame(rows, SAMPLE_COLUMNS)


def telemetry_frame(record: Record) -> pd.DataFrame:
    """A row a look at the GPU while a record was measured."""
    telemetry = record.telemetry
    if telemetry is None:
        return frame([], TELEMETRY_COLUMNS)
    looks = {name: getattr(telemetry, name) for name in LOOKED_AT}
    reasons = [", ".join(each or ()) for each in telemetry.event_reasons]
    looks |= {"event_reasons": reasons, "is_synthetic": [record.is_synthetic] * len(telemetry.at_s)}
    rows = zip_longest(*looks.values())
    return frame((dict(zip(looks, row, strict=True)) for row in rows), TELEMETRY_COLUMNS)


def check_frame(records: Iterable[Record]) -> pd.DataFrame:
    """A row a case and self-check."""
    rows = (
        identity(record) | {"check": name} | check.model_dump()
        for record in records
        for name, check in record.checks.items()
    )
    return frame(rows, CHECK_COLUMNS)


def frame(rows: Iterable[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(columns))


def identity(record: Record) -> dict[str, Any]:
    verdicts = Counter(check.verdict for check in record.checks.values())
    return {
        "record_id": record.record_id,
        "sweep_id": record.sweep_id,
        "case_id": record.case_id,
        **record.case.model_dump(),
        # What it ran on, not the kind that was asked for: "any" would tell nothing.
        "gpu": record.gpu.name if record.gpu is not None else None,
        "cpu": record.environment.cpu,
        "status": record.status,
        "is_synthetic": record.is_synthetic,
        "checks": len(record.checks),
        "warnings": verdicts["warn"],
        "invalid_checks": verdicts["invalid"],
    }


def case_row(record: Record, peaks: Specs | None) -> dict[str, Any]:
    environment = record.environment
    row = identity(record) | {
        "stage": record.stage,
        "message": record.message,
        "torch": environment.torch,
        "git_commit": environment.git_commit,
        "hostname": environment.hostname,
        "device_uid": environment.device_name(record.case.device),
        "device_bytes": device_bytes(record),
        "memory_limit_bytes": record.plan.memory_limit_bytes,
        "started_at": record.started_at,
        "wall_s": record.wall_s,
    }
    if record.measurement is not None:
        row |= measurement_columns(record.case.batch_size, record.measurement)
        row |= pass_values(record.measurement, CASE_COLUMNS)
        work, limits = record.measurement.work, limits_of(record, peaks)
        row |= limit_columns(work, row.get("median_s", float("nan")), limits)
        row |= roof_columns(limits)
        if work is not None:
            row["flops_per_image"] = work.flops // record.case.batch_size
    return row


def measurement_columns(batch_size: int, measurement: Measurement) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "weights_used": measurement.weights,
        "input_source": measurement.input_source,
    }
    if measurement.memory is not None:
        columns |= measurement.memory.model_dump(
            include={"peak_bytes", "rise_bytes", "weights_bytes", "reserved_bytes"}
        )
    if measurement.embedding_error is not None:
        columns["embedding_error"] = measurement.embedding_error.relative_l2
        columns["embedding_max_error"] = measurement.embedding_error.max_abs
    energy, latency = measurement.energy, measurement.latency
    if energy is not None and energy.forwards:  # of the whole board
        columns["image_joules"] = energy.joules / (energy.forwards * batch_size)
    if latency is None:
        return columns
    total_s = float(np.sum(latency.forward_s))
    described = describe(latency.forward_s)
    columns |= {"n": described["n"], "outliers": described["outliers"]}
    columns |= {f"{name}_s": described[name] for name in TIMES}
    columns |= {
        "image_s": described["median"] / batch_size,
        "images_per_s": ratio(batch_size * len(latency.forward_s), total_s),
        "stop_reason": latency.stop_reason,
        "first_forward_s": latency.first_forward_s,
        "launch_share": launch_share(latency),
    }
    return columns


def device_bytes(record: Record) -> int:
    """Memory that a case may take at most: its GPU's, or the machine's, or what the plan allows."""
    gpu = record.gpu
    own = gpu.memory_bytes if gpu is not None else record.environment.memory_bytes
    return min(own, record.plan.memory_limit_bytes or own)


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def component_rows(record: Record) -> list[dict[str, Any]]:
    """The components of each pipeline, from what goes in first to what comes out."""
    measurement = record.measurement
    if measurement is None:
        return []
    pipelines = {PROMPTS: measurement.components_s, MASK_GENERATOR: measurement.mask_generator_s}
    shared = identity(record) | {"prompts": measurement.prompts}
    rows = []
    for pipeline, samples_s in pipelines.items():
        described = {name: summary(samples) for name, samples in (samples_s or {}).items()}
        total_s = sum(values["median"] for values in described.values())
        rows += [
            shared
            | {"pipeline": pipeline, "component": name, "n": values["n"]}
            | {f"{key}_s": values[key] for key in ("median", "low", "high")}
            | {"share": ratio(values["median"], total_s)}
            for name, values in described.items()
        ]
    return rows


def module_rows(record: Record, peaks: Specs | None) -> list[dict[str, Any]]:
    """The modules in their order, and last what none of them accounts for."""
    measurement = record.measurement
    if measurement is None or not measurement.modules:
        return []
    encoder = measurement.modules.get(ENCODER)
    whole_s = median_s(encoder.total_s) if encoder is not None else float("nan")
    limits, shared = limits_of(record, peaks), identity(record)
    inner = innermost(measurement.modules)
    rows = []
    for name, timing in measurement.modules.items():
        if name == ENCODER:
            continue
        total, own_s = summary(timing.total_s), median_s(timing.self_s)
        rows.append(
            shared
            | {"module": name, "kind": timing.kind, "parent": timing.parent, "n": total["n"]}
            | {"total_s": total["median"], "low_s": total["low"], "high_s": total["high"]}
            | {"self_s": own_s, "share": ratio(own_s, whole_s), "is_innermost": name in inner}
            | {"is_resolved": total["median"] >= RESOLUTION_S}
            | limit_columns(timing.work, total["median"], limits)
            | {"peak_bytes": timing.peak_bytes, "rise_bytes": timing.rise_bytes}
        )
    if encoder is not None:
        own_s = median_s(encoder.self_s)
        rows.append(
            shared
            | {"module": UNATTRIBUTED, "kind": UNATTRIBUTED, "n": len(encoder.total_s)}
            | {"parent": ENCODER, "is_innermost": True}
            | {"total_s": own_s, "self_s": own_s, "share": ratio(own_s, whole_s)}
        )
    return rows


def median_s(samples: Sequence[float]) -> float:
    return summary(samples)["median"]


def kernel_rows(record: Record) -> list[dict[str, Any]]:
    """The longest first; `busy_share` is of the plain forward that all kernels together fill."""
    measurement = record.measurement
    kernels = measurement.kernels if measurement is not None else None
    if measurement is None or kernels is None:
        return []
    all_s = sum(each.total_s for each in kernels.times) / kernels.forwards
    latency = measurement.latency
    forward_s = median_s(latency.forward_s) if latency is not None else float("nan")
    shared = identity(record) | {"busy_share": ratio(all_s, forward_s)}
    return [
        shared
        | {"module": each.module, "kind": each.kind, "kernel": each.name}
        | {"calls": each.calls / kernels.forwards, "total_s": each.total_s / kernels.forwards}
        | {"share": ratio(each.total_s / kernels.forwards, all_s)}
        for each in kernels.times
    ]
