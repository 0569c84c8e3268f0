"""Records to tidy tables: a row a case, a row a component, a row a module.

All columns are in base units (seconds, bytes, FLOP). A case without a measurement has a row too,
with missing values and its status.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from .schema import AXES, ENCODER, MASK_GENERATOR, PROMPTS, Measurement, Record
from .stats import describe

UNATTRIBUTED = "unattributed"

IDENTITY = ("sweep_id", "case_id", *AXES, "status", "checks", "warnings", "invalid_checks")
TIMES = ("median", "low", "high", "q1", "q3", "mad", "p90", "p99", "min", "max")
CASE_COLUMNS = (
    *IDENTITY, "stage", "message", "n", *(f"{name}_s" for name in TIMES), "outliers",
    "image_s", "images_per_s", "stop_reason", "first_forward_s", "launch_share",
    "flops_per_image", "flops_per_s", "peak_bytes", "rise_bytes", "weights_bytes",
    "reserved_bytes", "embedding_error", "embedding_max_error", "weights_used", "input_source",
    "gpu", "cpu", "torch", "git_commit", "hostname", "started_at", "wall_s",
)  # fmt: skip
COMPONENT_COLUMNS = (
    *IDENTITY, "pipeline", "prompts", "component", "n", "median_s", "low_s", "high_s", "share",
)  # fmt: skip
CHECK_COLUMNS = (*IDENTITY, "check", "value", "limit", "verdict", "reason")
MODULE_COLUMNS = (
    *IDENTITY, "module", "kind", "n", "total_s", "low_s", "high_s", "self_s", "share", "flops",
    "flops_per_s", "peak_bytes", "rise_bytes",
)  # fmt: skip


def case_frame(records: Iterable[Record]) -> pd.DataFrame:
    """A row a case: its axes, status, latency, throughput, work and memory."""
    return frame(map(case_row, records), CASE_COLUMNS)


def component_frame(records: Iterable[Record]) -> pd.DataFrame:
    """A row a case and component of the pipeline, with its share of their sum."""
    rows = (row for record in records for row in component_rows(record))
    return frame(rows, COMPONENT_COLUMNS)


def module_frame(records: Iterable[Record]) -> pd.DataFrame:
    """A row a case and module of the image encoder, and one for what no module accounts for."""
    return frame((row for record in records for row in module_rows(record)), MODULE_COLUMNS)


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
        "sweep_id": record.sweep_id,
        "case_id": record.case_id,
        **record.case.model_dump(),
        "status": record.status,
        "checks": len(record.checks),
        "warnings": verdicts["warn"],
        "invalid_checks": verdicts["invalid"],
    }


def case_row(record: Record) -> dict[str, Any]:
    environment = record.environment
    row = identity(record) | {
        "stage": record.stage,
        "message": record.message,
        "gpu": gpu_name(record),
        "cpu": environment.cpu,
        "torch": environment.torch,
        "git_commit": environment.git_commit,
        "hostname": environment.hostname,
        "started_at": record.started_at,
        "wall_s": record.wall_s,
    }
    if record.measurement is not None:
        row |= measurement_columns(record.case.batch_size, record.measurement)
    return row


def gpu_name(record: Record) -> str | None:
    """The GPU that the case ran on; None on a CPU."""
    kind, _, index = record.case.device.partition(":")
    if kind != "cuda":
        return None
    wanted = index or "0"
    return next((gpu.name for gpu in record.environment.gpus if str(gpu.index) == wanted), None)


def measurement_columns(batch_size: int, measurement: Measurement) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "weights_used": measurement.weights,
        "input_source": measurement.input_source,
    }
    if measurement.memory is not None:
        columns |= measurement.memory.model_dump(
            include={"peak_bytes", "rise_bytes", "weights_bytes", "reserved_bytes"}
        )
    if measurement.flops_per_image is not None:
        columns["flops_per_image"] = measurement.flops_per_image
    if measurement.embedding_error is not None:
        columns["embedding_error"] = measurement.embedding_error.relative_l2
        columns["embedding_max_error"] = measurement.embedding_error.max_abs
    latency = measurement.latency
    if latency is None:
        return columns
    total_s = float(np.sum(latency.forward_s))
    images_per_s = ratio(batch_size * len(latency.forward_s), total_s)
    described = describe(latency.forward_s)
    columns |= {"n": described["n"], "outliers": described["outliers"]}
    columns |= {f"{name}_s": described[name] for name in TIMES}
    columns |= {
        "image_s": described["median"] / batch_size,
        "images_per_s": images_per_s,
        "stop_reason": latency.stop_reason,
        "first_forward_s": latency.first_forward_s,
        # On a GPU 1 means that launching takes as long as the forward: the host is what limits.
        "launch_share": ratio(float(np.median(latency.chunk_launch_s)), described["median"]),
    }
    if measurement.flops_per_image is not None:
        columns["flops_per_s"] = measurement.flops_per_image * images_per_s
    return columns


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def component_rows(record: Record) -> list[dict[str, Any]]:
    """The components of each pipeline, from what goes in first to what comes out."""
    measurement = record.measurement
    if measurement is None:
        return []
    pipelines = {
        PROMPTS: measurement.components_s or {},
        MASK_GENERATOR: measurement.mask_generator_s or {},
    }
    return [
        identity(record) | {"pipeline": pipeline, "prompts": measurement.prompts} | row
        for pipeline, samples in pipelines.items()
        for row in described_parts(samples)
    ]


def described_parts(samples_s: dict[str, tuple[float, ...]]) -> list[dict[str, Any]]:
    """A row a part, with its share of the sum of the parts' medians."""
    described = {name: describe(samples) for name, samples in samples_s.items()}
    total = sum(values["median"] for values in described.values())
    return [
        {
            "component": name,
            "n": values["n"],
            **{f"{key}_s": values[key] for key in ("median", "low", "high")},
            "share": ratio(values["median"], total),
        }
        for name, values in described.items()
    ]


def module_rows(record: Record) -> list[dict[str, Any]]:
    measurement = record.measurement
    if measurement is None or not measurement.modules:
        return []
    encoder = measurement.modules.get(ENCODER)
    whole = float(np.median(encoder.total_s)) if encoder and encoder.total_s else float("nan")
    rows = []
    last_encoder = sorted(measurement.modules.items(), key=lambda item: item[0] == ENCODER)
    for name, timing in last_encoder:
        total = describe(timing.total_s)
        own = float(np.median(timing.self_s)) if timing.self_s else float("nan")
        is_encoder = name == ENCODER
        rows.append(
            identity(record)
            | {
                "module": UNATTRIBUTED if is_encoder else name,
                "kind": UNATTRIBUTED if is_encoder else timing.kind,
                "n": total["n"],
                "total_s": own if is_encoder else total["median"],
                "low_s": float("nan") if is_encoder else total["low"],
                "high_s": float("nan") if is_encoder else total["high"],
                "self_s": own,
                "share": ratio(own, whole),
                "flops": None if is_encoder else timing.flops,
                "flops_per_s": (
                    timing.flops / total["median"]
                    if timing.flops and total["median"] and not is_encoder
                    else float("nan")
                ),
                "peak_bytes": None if is_encoder else timing.peak_bytes,
                "rise_bytes": None if is_encoder else timing.rise_bytes,
            }
        )
    return rows
