"""Self-checks: whether a measurement can be trusted, with the evidence that says so.

A check whose verdict is "invalid" makes the case so: kept and shown, but out of every comparison.
Any other only warns. What noise alone can explain never makes a case invalid; and trends do so on a
GPU alone, for a CPU is hardly ever without other work that comes and goes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from scipy import stats

from results.answers.limits import LAUNCH_BOUND, launch_share, spec_roof
from results.hardware.specs import Spec, find_spec
from results.records.case import Case
from results.records.measurement import ENCODER, Measurement, Output, Work
from results.records.schema import Check, Record, Verdict
from results.records.telemetry import Telemetry
from results.tables.stats import RESOLUTION_S, median_interval

from ..choices.families import family_of, find_model
from ..choices.precision import PRECISIONS
from ..machine.telemetry import slowdowns

FEWEST_FOR_TREND = 10  # samples
STILL = 0.02  # the most that the median may move from the first sample to the last
# At 0.95 plain noise would make up to one case in twenty invalid: a sweep has many.
TREND_CONFIDENCE = 0.9999
SPREAD = 0.05
STATE_GAP = 0.03  # between two clock states, of the median
HOOK_OVERHEAD = 0.05
COVERAGE = (0.90, 1.02)
EVENTS_SHARE = (0.90, 1.01)
SLACK = 0.10  # of monotony over the batch size
DRIFT_WARN, DRIFT_INVALID = 0.02, 0.05
LINEAR = 0.02
# Relative L2 distance of one image's embedding at two batch sizes: other kernels, other rounding.
BATCH_ERROR = {"float32": 1e-4, "bfloat16": 0.03, "float16": 0.005}
TF32_BATCH_ERROR = 0.005


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


@dataclass(frozen=True)
class SelfCheck:
    """A check; `judge` gives None where the pass that it looks at was not run."""

    summary: str
    limit: str
    judge: Callable[[Evidence], Finding | None]


def judge(evidence: Evidence) -> dict[str, Check]:
    """The findings of all checks that apply, by name."""
    findings = {name: look(check, evidence) for name, check in CHECKS.items()}
    return {
        name: Check(
            value=finding.value if is_finite(finding.value) else None,
            limit=CHECKS[name].limit,
            verdict=finding.verdict,
            reason=finding.reason,
        )
        for name, finding in findings.items()
        if finding is not None
    }


def look(check: SelfCheck, evidence: Evidence) -> Finding | None:
    """What a check finds. A defect of its own must not cost the measurement that it looks at."""
    try:
        return check.judge(evidence)
    except Exception as error:
        return Finding(None, "unknown", f"the check itself failed: {error!r:.200}")


def is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def found(value: float, doubt: str | None, otherwise: Verdict = "warn") -> Finding:
    """A finding that passes where there is nothing to doubt."""
    return Finding(value, "pass" if doubt is None else otherwise, doubt)


def found_within(share: float, limits: tuple[float, float], too_low: str, too_high: str) -> Finding:
    """A share that can't be above its limits, and should not be below."""
    low, high = limits
    if share > high:
        return found(share, too_high, "invalid")
    return found(share, None if share >= low else too_low)


def check_output(evidence: Evidence) -> Finding | None:
    output = evidence.measurement.output
    if output is None:
        return None
    case = evidence.record.case
    shape, dtype = expected_output(case, output)
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


def expected_output(case: Case, output: Output) -> tuple[tuple[int, ...], str]:
    """Shape and type that an output must have; all but the batch is free if nothing is known."""
    shape_of = family_of(case.model).embedding_shape
    if shape_of is None:
        return (case.batch_size, *output.shape[1:]), output.dtype
    shape = shape_of(find_model(case.model).config, case.batch_size, case.image_size)
    return shape, PRECISIONS[case.precision].dtype


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


def check_steady(evidence: Evidence) -> Finding | None:
    """The trend over all samples, by Theil and Sen, with its interval."""
    samples = evidence.forward_s
    if len(samples) < 2:
        return None
    slope, _, low, high = stats.theilslopes(samples, alpha=TREND_CONFIDENCE)
    moved, least, most = (
        value * (len(samples) - 1) / float(np.median(samples)) for value in (slope, low, high)
    )
    if abs(moved) <= STILL:
        return Finding(moved, "pass")
    is_certain = len(samples) >= FEWEST_FOR_TREND and (least > STILL or most < -STILL)
    reason = f"forwards became {'slower' if moved > 0 else 'faster'} while they were timed"
    return Finding(moved, grave(evidence.record) if is_certain else "warn", reason)


def grave(record: Record) -> Verdict:
    """What becomes of a case whose machine did not hold still."""
    return "invalid" if record.case.device.startswith("cuda") else "warn"


def check_spread(evidence: Evidence) -> Finding | None:
    if len(evidence.forward_s) < 4:
        return None
    ordered = np.sort(evidence.forward_s)
    q1, median, q3 = np.quantile(ordered, [0.25, 0.5, 0.75])
    spread = float((q3 - q1) / median)
    reason = "two clock states" if has_two_states(ordered) else None
    if reason is None and spread > SPREAD:
        reason = "samples lie far apart"
    return found(spread, reason)


def has_two_states(ordered: np.ndarray) -> bool:
    """Whether sorted samples fall into two groups, of a fifth each at least, with a gap between."""
    fifth = len(ordered) // 5
    if fifth < 4:
        return False
    gaps = np.diff(ordered)[fifth - 1 : len(ordered) - fifth]
    split = fifth + int(np.argmax(gaps))
    groups = ordered[:split], ordered[split:]
    widest = max(float(np.subtract(*np.quantile(group, [0.75, 0.25]))) for group in groups)
    gap = float(np.max(gaps))
    return gap > STATE_GAP * float(np.median(ordered)) and gap > widest


def check_events(evidence: Evidence) -> Finding | None:
    """Whether the clock's forwards fill the wall time between two synchronises."""
    latency = evidence.measurement.latency
    if latency is None:
        return None
    ends = np.cumsum(latency.chunk_forwards)
    sums = [
        sum(latency.forward_s[end - n : end])
        for n, end in zip(latency.chunk_forwards, ends, strict=True)
    ]
    walls = latency.chunk_wall_s
    share = float(
        np.median([total / wall for total, wall in zip(sums, walls, strict=True) if wall])
    )
    return found_within(
        share,
        EVENTS_SHARE,
        too_low="time goes by outside the forwards",
        too_high="the clock counts more time than went by",
    )


def check_host(evidence: Evidence) -> Finding | None:
    latency = evidence.measurement.latency
    if latency is None or not evidence.record.case.device.startswith("cuda"):
        return None
    share = launch_share(latency)
    reason = "host-bound: the GPU waits for launches" if share > LAUNCH_BOUND else None
    return found(share, reason)


def check_coverage(evidence: Evidence) -> Finding | None:
    modules = evidence.measurement.modules
    if not modules or ENCODER not in modules or not modules[ENCODER].total_s:
        return None
    whole = np.asarray(modules[ENCODER].total_s)
    inner = [
        np.asarray(timing.self_s)
        for name, timing in modules.items()
        if name != ENCODER and timing.self_s  # one that is never called takes no time
    ]
    share = float(np.median(np.sum(inner, axis=0) / whole))
    return found_within(
        share,
        COVERAGE,
        too_low="much of the forward is in no timed module",
        too_high="modules take longer than the forward that they are in",
    )


def check_hooks(evidence: Evidence) -> Finding | None:
    """Hooked forwards over plain ones, measured in turn."""
    plain, modules = evidence.measurement.plain_forward_s, evidence.measurement.modules
    if not plain or not modules or ENCODER not in modules:
        return None
    ratios = np.asarray(modules[ENCODER].total_s) / np.asarray(plain)
    overhead = float(np.median(ratios)) - 1
    low, _ = median_interval(ratios)
    if overhead > HOOK_OVERHEAD and math.isnan(low):
        return Finding(overhead, "unknown", f"{len(ratios)} forwards are too few to tell")
    is_fine = overhead <= HOOK_OVERHEAD or low <= 1 + HOOK_OVERHEAD
    return found(overhead, None if is_fine else "trust the modules' shares only")


def check_physics(evidence: Evidence) -> Finding | None:
    """The roofline's floor over the time, of the whole or of the module that comes nearest.

    By the maker's peaks: what was calibrated is no limit that nature sets.
    """
    gpu, works = evidence.record.gpu, timed_works(evidence)
    if gpu is None or not works:
        return None
    if find_spec(gpu.name, evidence.peaks) is None:
        return Finding(None, "unknown", f"results/hardware/specs.py has no row for '{gpu.name}'")
    roof = spec_roof(evidence.record, evidence.peaks)
    if roof is None:
        precision = evidence.record.case.precision
        return Finding(None, "unknown", f"no peak of '{gpu.name}' in {precision} is known")
    shares = {
        name: roof.floor_s(work.flops, work.least_bytes) / float(np.median(samples))
        for name, (work, samples) in works.items()
    }
    nearest = max(shares, key=lambda name: shares[name])
    is_possible = shares[nearest] <= 1
    reason = None if is_possible else f"{nearest} was faster than the hardware can be"
    return found(shares[nearest], reason, "invalid")


def timed_works(evidence: Evidence) -> dict[str, tuple[Work, Sequence[float]]]:
    """What the forward and each module had to do, and their samples."""
    measurement = evidence.measurement
    found = {"the forward": (measurement.work, evidence.forward_s)}
    found |= {name: (each.work, each.total_s) for name, each in (measurement.modules or {}).items()}
    return {
        name: (work, samples)
        for name, (work, samples) in found.items()
        if work is not None and len(samples) and np.median(samples) > 0
    }


def check_monotony(evidence: Evidence) -> Finding | None:
    """t(B) = a + b B over the batch sizes so far, with a not below zero, and never falling."""
    records = [*evidence.smaller, evidence.record]
    points = [
        (each.case.batch_size, float(np.median(each.measurement.latency.forward_s)))
        for each in records
        if each.measurement is not None and each.measurement.latency is not None
    ]
    if len(points) < 2:
        return None
    steps = [later[1] / earlier[1] for earlier, later in pairwise(points)]
    smallest = min(steps)
    line = stats.linregress(*zip(*points, strict=True))
    share = line.intercept / points[0][1]
    if smallest < 1 - SLACK:
        return Finding(smallest, "warn", "a larger batch took less time than a smaller one")
    if share < -SLACK:
        return Finding(share, "warn", "time grows faster than the batch: a is below zero")
    return Finding(smallest, "pass")


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


def check_timer(evidence: Evidence) -> Finding | None:
    """How far three known delays, each twice the one before, are from 1 : 2 : 4."""
    delays = evidence.measurement.timer_test_s
    if not delays:
        return None
    error = max(abs(later / earlier / 2 - 1) for earlier, later in pairwise(delays))
    reason = None if error <= LINEAR else "the timer does not tell 1 : 2 : 4"
    # On a CPU the delays are sleeps, which a busy machine makes longer now and then.
    return found(error, reason, grave(evidence.record))


def check_resolution(evidence: Evidence) -> Finding | None:
    modules = evidence.measurement.modules
    if not modules:
        return None
    medians = {
        name: float(np.median(each.total_s)) for name, each in modules.items() if each.total_s
    }
    short = [name for name, seconds in medians.items() if seconds < RESOLUTION_S]
    reason = f"too short to tell: {', '.join(short)}" if short else None
    return found(min(medians.values(), default=math.nan), reason)


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
    counts = f"{planned} cases are planned, {planned - missing} have a record"
    reason = None if missing == 0 else counts
    verdict: Verdict = "pass" if reason is None else "invalid"
    return Check(value=float(missing), limit="exactly 0", verdict=verdict, reason=reason)


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
