"""What self-checks are made from, and what they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from results.hardware.specs import Spec
from results.records.measurement import Measurement
from results.records.schema import Record, Verdict


@dataclass(frozen=True)
class Evidence:
    """What the checks of one case are made from.

    record: With a measurement, not judged yet.
    smaller: Good records of the same case at smaller batch sizes, ascending.
    peaks: A person's own rows of what GPUs can do.
    """

    record: Record
    smaller: Sequence[Record] = ()
    peaks: Mapping[str, Spec] = field(default_factory=dict)

    @property
    def measurement(self) -> Measurement:
        assert self.record.measurement is not None
        return self.record.measurement

    @property
    def forward_s(self) -> tuple[float, ...]:
        latency = self.measurement.latency
        return latency.forward_s if latency is not None else ()


@dataclass(frozen=True)
class Finding:
    """What a check found; the limit is the check's."""

    value: float | None
    verdict: Verdict
    reason: str | None = None


def found(value: float, doubt: str | None, otherwise: Verdict = "warn") -> Finding:
    """A finding that passes where there is nothing to doubt."""
    return Finding(value, "pass" if doubt is None else otherwise, doubt)


def found_within(share: float, limits: tuple[float, float], too_low: str, too_high: str) -> Finding:
    """A share that can't be above its limits, and should not be below."""
    low, high = limits
    if share > high:
        return found(share, too_high, "invalid")
    return found(share, None if share >= low else too_low)


def grave(record: Record) -> Verdict:
    """What becomes of a case whose machine did not hold still."""
    return "invalid" if record.case.device.startswith("cuda") else "warn"
