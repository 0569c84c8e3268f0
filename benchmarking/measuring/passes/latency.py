"""Whole forwards of the image encoder, with no hook and no profiler."""

from __future__ import annotations

from results.records.case import Case, TimingPlan
from results.records.measurement import Latency

from .bench import Bench


def run(bench: Bench) -> Latency:
    from ..timing import time_forwards

    return time_forwards(bench.rotation(), bench.rig.clock, bench.plan)


def seconds(case: Case, plan: TimingPlan, forward_s: float) -> float:
    warmup_s = min(
        max(plan.warmup_s, plan.warmup_forwards * forward_s), plan.warmup_cap_s + forward_s
    )
    timed_s = min(max(plan.min_timed_s, plan.min_forwards * forward_s), plan.max_timed_s)
    return warmup_s + forward_s + timed_s
