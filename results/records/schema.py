"""A record of one case, and the files of a sweep.

Every field carries its unit in its name and its meaning beside it. Times are raw samples in
seconds; medians and intervals are computed when a record is read, so that a new statistic works
on old records.

History of SCHEMA_VERSION:
    1: the first.
    2: `work` in place of FLOPs alone; other processes with their memory.
    3: `passes` by name in place of a field for each; modules with the one that contains them.

Files of version 2 are read too: see `upgrades.py`.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from .case import Case, TimingPlan
from .environment import CoTenant, Environment, Gpu, Telemetry
from .measurement import MeasuredRoofs, Measurement
from .quantities import FILE_NAME, SCHEMA_VERSION, Count, Finite, Samples, Seconds, Strict

Status = Literal[
    "ok",
    "oom",
    "timeout",
    "crashed",
    "cuda_error",
    "invalid",
    "skipped",
    "unsupported",
    "interrupted",
    "not_run",
]
STATUSES: tuple[Status, ...] = get_args(Status)
# A resumed sweep offers these again; the others are answers, also where the answer is "does not
# fit". not_run is never stored: it is what a planned case without a record is.
RETRIED: tuple[Status, ...] = ("timeout", "crashed", "cuda_error", "interrupted", "not_run")
FAILED: tuple[Status, ...] = ("timeout", "crashed", "cuda_error", "invalid")
Verdict = Literal["pass", "warn", "invalid", "unknown"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


class Check(Strict):
    """One look at whether a measurement can be trusted."""

    value: Finite | None  # None where it can't be told
    limit: str
    verdict: Verdict
    reason: str | None = None  # what a person should know


class Record(Strict):
    """What became of one case."""

    schema_version: int = SCHEMA_VERSION
    sweep_id: str = Field(pattern=FILE_NAME)
    case_id: str = Field(pattern=FILE_NAME)
    case: Case
    plan: TimingPlan
    status: Status
    stage: str | None = None  # where it ended, if not ok
    message: str | None = None  # why, in one line
    stderr_tail: str | None = None
    measurement: Measurement | None = None
    telemetry: Telemetry | None = None  # None on a CPU
    co_tenants: tuple[CoTenant, ...] | None = None  # None where nobody looked
    roofs: MeasuredRoofs | None = None  # of the device, where it was calibrated before
    checks: dict[str, Check] = {}
    attempts: Annotated[int, Field(ge=1)] = 1  # more where the GPU was throttled
    is_synthetic: bool = False  # made up for a demonstration: nothing was measured
    environment: Environment
    command: str  # that repeats the sweep
    started_at: str  # UTC, ISO 8601
    wall_s: Seconds  # of the whole case in its worker

    @property
    def record_id(self) -> str:
        """A short name for addresses: it tells nothing of paths, and is looked up, never opened."""
        return hashlib.sha256(f"{self.sweep_id}/{self.case_id}".encode()).hexdigest()[:16]

    @property
    def gpu(self) -> Gpu | None:
        """That the case ran on; None on a CPU."""
        return self.environment.find_gpu(self.case.device)

    @model_validator(mode="after")
    def _is_of_one_piece(self) -> Self:
        if self.case_id != self.case.case_id:
            raise ValueError("case_id is not that of the case")
        if self.status == "not_run" or (self.status == "ok" and self.measurement is None):
            raise ValueError(f"a record without a measurement can't be '{self.status}'")
        return self


class SweepFile(Strict):
    """What a sweep planned; its records lie beside it."""

    schema_version: int = SCHEMA_VERSION
    sweep_id: str = Field(pattern=FILE_NAME)
    definition_sha256: str  # of cases, plan and machine: what a resumed sweep must share
    command: str
    created_at: str  # UTC, ISO 8601
    plan: TimingPlan
    cases: tuple[Case, ...]
    environment: Environment

    def record(self, case: Case, **outcome: Any) -> Record:
        """What became of one of its cases.

        Args:
            case: That was planned.
            outcome: All fields of Record that the sweep does not know.
        """
        return Record(
            sweep_id=self.sweep_id,
            case_id=case.case_id,
            case=case,
            plan=self.plan,
            environment=self.environment,
            command=self.command,
            **outcome,
        )


class SweepEnd(Strict):
    """What a sweep that came to its end says of itself."""

    schema_version: int = SCHEMA_VERSION
    sweep_id: str = Field(pattern=FILE_NAME)
    ended_at: str  # UTC, ISO 8601
    planned: Count
    statuses: dict[str, Count]  # of all its records
    wall_s: Seconds  # of this run of the sweep; a resumed one had others before
    measured_s: Seconds  # of it, timed and warm-up work
    drift_case_id: str | None = None  # the case that was measured again last
    drift_forward_s: Samples | None = None
    drift_telemetry: Telemetry | None = None
    checks: dict[str, Check] = {}
