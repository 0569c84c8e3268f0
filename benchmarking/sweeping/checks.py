"""Self-checks: whether a measurement can be trusted, with the evidence that says so.

A check whose verdict is "invalid" makes the case so: kept and shown, but out of every comparison.
Any other only warns. What noise alone can explain never makes a case invalid; and trends do so on a
GPU alone, for a CPU is hardly ever without other work that comes and goes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from results.answers.limits import LAUNCH_BOUND, spec_roof
from results.hardware.specs import find_spec
from results.records.environment import Telemetry
from results.records.schema import Check, Record, Verdict
from results.tables.stats import RESOLUTION_S, median_interval

from ..choices.families import family_of, find_model
from ..choices.precision import PRECISIONS
from ..machine.telemetry import slowdowns
from .evidence import Evidence, Finding, found, grave
from .time_checks import (
    COVERAGE,
    EVENTS_SHARE,
    HOOK_OVERHEAD,
    LINEAR,
    SLACK,
    SPREAD,
    STILL,
    check_coverage,
    check_events,
    check_hooks,
    check_host,
    check_monotony,
    check_resolution,
    check_spread,
    check_steady,
    check_timer,
)

DRIFT_WARN, DRIFT_INVALID = 0.02, 0.05
# Relative L2 distance of one image's embedding at two batch sizes: other kernels, other rounding.
BATCH_ERROR = {"float32": 1e-4, "bfloat16": 0.03, "float16": 0.005}
TF32_BATCH_ERROR = 0.005


@dataclass(frozen=True)
class SelfCheck:
    """A check; `judge` gives None where the pass that it looks at was not run."""

    summary: str
    limit: str
    judge: Callable[[Evidence], Finding | None]


def judge(evidence: Evidence) -> dict[str, Check]:
    """The findings of all checks that apply, by name."""
    judged = {}
    for name, check in CHECKS.items():
        try:
            finding = check.judge(evidence)
        except Exception as error:  # a defect of its own must not cost the measurement
            finding = Finding(None, "unknown", f"the check itself failed: {error!r:.200}")
        if finding is not None:
            is_finite = finding.value is not None and math.isfinite(finding.value)
            value = finding.value if is_finite else None
            judged[name] = Check(
                value=value, limit=check.limit, verdict=finding.verdict, reason=finding.reason
            )
    return judged


def check_output(evidence: Evidence) -> Finding | None:
    output = evidence.measurement.output
    if output is None:
        return None
    case = evidence.record.case
    # All but the batch is free if nothing is known.
    shape, dtype = (case.batch_size, *output.shape[1:]), output.dtype
    shape_of = family_of(case.model).embedding_shape
    if shape_of is not None:
        shape = shape_of(find_model(case.model).config, case.batch_size, case.image_size)
        dtype = PRECISIONS[case.precision].dtype
    wrong = [
        text
        for text, is_wrong in (
            ("it holds NaN or infinity", not output.finite),
            (f"its shape is {output.shape}, not {shape}", output.shape != shape),
            (f"its type is {output.dtype}, not {dtype}", output.dtype != dtype),
        )
        if is_wrong
    ]
    return found(float(len(wrong)), "; ".join(wrong) or None, "invalid")


def check_batches(evidence: Evidence) -> Finding | None:
    error, precision = evidence.measurement.batch_error, evidence.record.case.precision
    if error is None:
        return None
    dtype, budget = PRECISIONS[precision].dtype, PRECISIONS[precision].budget or 1
    most = TF32_BATCH_ERROR if PRECISIONS[precision].tf32 else BATCH_ERROR[dtype] * budget
    reason = None if error <= most else f"an image's embedding depends on the batch: over {most}"
    return found(error, reason, "invalid")


def check_approximation(evidence: Evidence) -> Finding | None:
    """How many times bf16's own error an approximate precision has, on the same weights."""
    error, precision = evidence.measurement.embedding_error, evidence.record.case.precision
    budget = PRECISIONS[precision].budget
    if budget is None or error is None:
        return None
    if not error.bf16_relative_l2:
        return Finding(None, "unknown", "bf16's own error was not measured")
    times = error.relative_l2 / error.bf16_relative_l2
    doubt = f"its embeddings err {times:.1f} times as much as bf16's; {precision} may {budget:g}"
    return found(times, doubt if times > budget else None, "invalid")


def check_physics(evidence: Evidence) -> Finding | None:
    """The roofline's floor over the time, of the whole or of the module that comes nearest.

    By the maker's peaks: what was calibrated is no limit that nature sets.
    """
    gpu, measurement = evidence.record.gpu, evidence.measurement
    works = {"the forward": (measurement.work, evidence.forward_s)}
    works |= {name: (each.work, each.total_s) for name, each in (measurement.modules or {}).items()}
    timed = {
        name: (work, samples)
        for name, (work, samples) in works.items()
        if work is not None and len(samples) and np.median(samples) > 0
    }
    if gpu is None or not timed:
        return None
    if find_spec(gpu.name, evidence.peaks) is None:
        return Finding(None, "unknown", f"results/hardware/specs.py has no row for '{gpu.name}'")
    roof = spec_roof(evidence.record, evidence.peaks)
    if roof is None:
        precision = evidence.record.case.precision
        return Finding(None, "unknown", f"no peak of '{gpu.name}' in {precision} is known")
    shares = {
        name: roof.floor_s(work.flops, work.least_bytes) / float(np.median(samples))
        for name, (work, samples) in timed.items()
    }
    nearest = max(shares, key=lambda name: shares[name])
    is_possible = shares[nearest] <= 1
    reason = None if is_possible else f"{nearest} was faster than the hardware can be"
    return found(shares[nearest], reason, "invalid")


def check_clocks(evidence: Evidence) -> Finding | None:
    telemetry = evidence.record.telemetry
    if telemetry is None:
        return None
    if all(reasons is None for reasons in telemetry.event_reasons):
        return Finding(None, "unknown", telemetry.missing.get("event_reasons", "NVML was not read"))
    slow = slowdowns(telemetry)
    if slow:
        return Finding(float(len(slow)), "invalid", ", ".join(slow))
    seen = {reason for reasons in telemetry.event_reasons for reason in reasons or ()}
    # A power cap is the normal state of a small card: kept and labelled.
    return found(0.0, "power cap" if "power cap" in seen else None)


def check_company(evidence: Evidence) -> Finding | None:
    telemetry = evidence.record.telemetry
    if telemetry is None:
        return None
    others = telemetry.other_processes
    if others is not None:
        pids = ", ".join(str(process.pid) for process in others)
        reason = f"processes {pids} used the GPU too" if others else None
        return found(float(len(others)), reason)
    most = max((count for count in telemetry.process_count if count), default=0)
    if most == 0:  # not even ours was seen
        return Finding(None, "unknown", telemetry.missing.get("other_processes", "not read"))
    reason = f"{most} processes used the GPU at once, of which ours is one" if most > 1 else None
    return found(float(most - 1), reason)


def check_co_tenants(evidence: Evidence) -> Finding | None:
    tenants = evidence.record.co_tenants
    if tenants is None:
        return None
    beside = ", ".join(each.gpu or f"process {each.pid}" for each in tenants)
    reason = f"other cases ran on this machine at once: {beside}" if tenants else None
    return found(float(len(tenants)), reason)


def judge_drift(record: Record, last: Sequence[float], telemetry: Telemetry | None = None) -> Check:
    """The first case of a sweep, and its forwards measured again last.

    Args:
        record: The first case.
        last: Its forwards, measured again.
        telemetry: What the GPU did meanwhile.
    """
    first = Evidence(record).forward_s
    drift = float(np.median(last) / np.median(first)) - 1
    (low, high), (low_again, high_again) = median_interval(first), median_interval(last)
    is_certain = low_again > high or high_again < low  # never, where there is no interval
    verdict: Verdict = "pass"
    if abs(drift) > DRIFT_WARN:
        verdict = grave(record) if is_certain and abs(drift) > DRIFT_INVALID else "warn"
    reason = None if verdict == "pass" else "the machine changed while the sweep ran"
    slow = slowdowns(telemetry) if telemetry is not None else ()
    if slow:  # what it says of the sweep can't be told from what the heat does
        verdict, reason = "unknown", f"the GPU was throttled the second time: {', '.join(slow)}"
    limit = f"<= {DRIFT_WARN}, invalid above {DRIFT_INVALID}"
    return Check(value=drift, limit=limit, verdict=verdict, reason=reason)


def judge_accounting(planned: int, statuses: dict[str, int]) -> Check:
    """Every planned case is a record, and no other is."""
    missing = planned - sum(statuses.values())
    if missing == 0:
        return Check(value=0.0, limit="exactly 0", verdict="pass", reason=None)
    reason = f"{planned} cases are planned, {planned - missing} have a record"
    return Check(value=float(missing), limit="exactly 0", verdict="invalid", reason=reason)


CHECKS: dict[str, SelfCheck] = {
    "output": SelfCheck(
        "the output is finite, of the right shape and type", "0 faults", check_output
    ),
    "same_for_any_batch": SelfCheck(
        "an image's embedding is the same at any batch size", "rounding", check_batches
    ),
    "approximation": SelfCheck(
        "an approximate precision errs no more than it may", "its budget", check_approximation
    ),
    "steady": SelfCheck("no trend over the samples", f"-{STILL} to {STILL}", check_steady),
    "spread": SelfCheck("quartiles near the median, one clock state", f"<= {SPREAD}", check_spread),
    "events": SelfCheck(
        "forwards fill the wall time", f"{EVENTS_SHARE[0]} to {EVENTS_SHARE[1]}", check_events
    ),
    "host": SelfCheck("launching does not limit", f"<= {LAUNCH_BOUND}", check_host),
    "coverage": SelfCheck(
        "modules make up the forward", f"{COVERAGE[0]} to {COVERAGE[1]}", check_coverage
    ),
    "hooks": SelfCheck("hooks cost little", f"<= {HOOK_OVERHEAD}", check_hooks),
    "physics": SelfCheck("never faster than the hardware", "<= 1", check_physics),
    "monotony": SelfCheck(
        "larger batches take longer, by a + b B",
        f"t(B) ratio >= {1 - SLACK}, a / t >= -{SLACK}",
        check_monotony,
    ),
    "clocks": SelfCheck("no thermal or hardware slowdown", "none", check_clocks),
    "company": SelfCheck("no other process on the GPU", "none", check_company),
    "co_tenants": SelfCheck("no other case on the machine", "none", check_co_tenants),
    "timer": SelfCheck("known delays are told right", f"<= {LINEAR}", check_timer),
    "resolution": SelfCheck(
        "modules are long enough to time", f">= {RESOLUTION_S} s", check_resolution
    ),
}
