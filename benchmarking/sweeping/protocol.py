"""What a sweep and its worker say to each other: one JSON object a line.

The sweep sends a Request a case; the worker answers with a Stage for each thing that it begins,
and with one Outcome. A Beat comes between them, whatever the worker does.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Base64Bytes

from results.records.case import Case, TimingPlan
from results.records.environment import CoTenant
from results.records.measurement import Measurement
from results.records.quantities import Seconds, Strict
from results.records.schema import Status

BEAT_S = 5.0  # between two beats


class Request(Strict):
    """Measure this case."""

    case: Case
    plan: TimingPlan


class Stage(Strict):
    """The worker begins something; "ready" comes first, once torch is loaded."""

    kind: Literal["stage"] = "stage"
    name: str


class Beat(Strict):
    """The worker lives, however long what it does takes."""

    kind: Literal["beat"] = "beat"


class Refusal(Strict):
    """A person's file or setting can't be used: the sweep ends with this line."""

    kind: Literal["refusal"] = "refusal"
    message: str


class Outcome(Strict):
    """What became of a case."""

    kind: Literal["outcome"] = "outcome"
    status: Status
    stage: str | None = None
    message: str | None = None
    stderr_tail: str | None = None
    measurement: Measurement | None = None
    trace: Base64Bytes | None = None  # a Chrome trace, gzipped
    co_tenants: tuple[CoTenant, ...] | None = None  # told by the case_runner, not by the worker
    wall_s: Seconds


class Answer(Strict):
    """One line of the worker."""

    said: Stage | Beat | Refusal | Outcome
