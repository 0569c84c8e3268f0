"""Self-checks of times: samples, the clock, hooks, and how batches and modules add up."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from scipy import stats

from results.answers.limits import LAUNCH_BOUND, launch_share
from results.records.measurement import ENCODER
from results.tables.stats import RESOLUTION_S, median_interval

from .evidence import Evidence, Finding, found, found_within, grave

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
LINEAR = 0.02


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
