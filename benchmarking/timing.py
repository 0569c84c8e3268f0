"""Timing forwards: warm-up, chunks of work in flight, and when the median is known well enough.

Source: the stopping rules of nvbench and pyperf, with the median's interval by order statistics.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from hooks import Clock
from results.schema import Latency, StopReason, TimingPlan
from results.stats import relative_half_width

CHUNK_S = 0.2  # timed work between two synchronises
MAX_CHUNK_FORWARDS = 64
SLOW_FORWARD_S = 1.0
STABLE = 0.01  # the warm-up ends when the median moves less
PLATEAU = 0.9  # noise falls by 0.71 when samples double; above this it has stopped falling
FEWEST_FORWARDS = 3  # of a pass that is limited in time


def time_forwards(
    forward: Callable[[], object],
    clock: Clock,
    plan: TimingPlan,
    now: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Warm up, then time forwards until the median is known well enough.

    Forwards are marked without waiting, many in flight, with one synchronise a chunk; the chunk's
    wall time is kept beside their sum: far above it, the host is what limits.
    """
    with collected_garbage():
        first_s = timed_chunk(forward, clock, 1, now)[1]
        warm_s = warm_up(forward, clock, plan, now)
        samples: list[float] = []
        chunks: list[int] = []
        walls: list[float] = []
        widths: dict[int, float] = {}
        stop_reason: StopReason | None = None
        size = chunk_size(float(np.median(warm_s)))
        while stop_reason is None:
            size = min(size, plan.max_forwards - len(samples))
            seconds, wall = timed_chunk(forward, clock, size, now)
            samples += seconds
            chunks.append(size)
            walls.append(wall)
            stop_reason = why_stop(samples, widths, plan)
    return Latency(
        forward_s=tuple(samples),
        chunk_forwards=tuple(chunks),
        chunk_wall_s=tuple(walls),
        stop_reason=stop_reason,
        first_forward_s=first_s,
        warmup_s=sum(warm_s),
        warmup_forwards=len(warm_s),
    )


@contextmanager
def collected_garbage() -> Iterator[None]:
    """Collect garbage now, and not in between."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def timed_chunk(
    forward: Callable[[], object],
    clock: Clock,
    size: int,
    now: Callable[[], float] = time.perf_counter,
) -> tuple[list[float], float]:
    """Seconds of each forward by the clock, and of all by the wall, which includes the wait."""
    clock.synchronize()
    begin = now()
    marks = []
    for _ in range(size):
        start = clock.mark()
        forward()
        marks.append((start, clock.mark()))
    clock.synchronize()
    wall = now() - begin
    seconds = [clock.seconds(start, end) for start, end in marks]
    for pair in marks:
        clock.release(*pair)
    return seconds, wall


def chunk_size(forward_s: float) -> int:
    return max(1, min(MAX_CHUNK_FORWARDS, int(CHUNK_S / max(forward_s, 1e-9))))


def warm_up(
    forward: Callable[[], object], clock: Clock, plan: TimingPlan, now: Callable[[], float]
) -> list[float]:
    """Run until time, forwards and a still median are reached, or the cap; seconds of each."""
    begin = now()
    seconds: list[float] = []
    size = 1
    while True:
        seconds += timed_chunk(forward, clock, size, now)[0]
        spent = now() - begin
        if spent >= plan.warmup_cap_s:
            return seconds
        enough = spent >= plan.warmup_s and len(seconds) >= plan.warmup_forwards
        if enough and is_steady(seconds):
            return seconds
        size = min(chunk_size(float(np.median(seconds))), len(seconds))


def is_steady(seconds: Sequence[float]) -> bool:
    """Whether the median of the last third is within 1 % of that of the third before."""
    if len(seconds) < 2:
        return False
    third = max(1, len(seconds) // 3)
    last, before = np.median(seconds[-third:]), np.median(seconds[-2 * third : -third])
    return bool(abs(last - before) <= STABLE * before)


def why_stop(
    samples: Sequence[float], widths: dict[int, float], plan: TimingPlan
) -> StopReason | None:
    """The reason to end the timing, or None to go on.

    Args:
        samples: Seconds of all forwards so far.
        widths: Number of samples and relative half width of the interval then; added to.
        plan: The limits.
    """
    n, spent = len(samples), float(np.sum(samples))
    least = plan.min_slow_forwards if spent / n > SLOW_FORWARD_S else plan.min_forwards
    if n >= least and spent >= plan.min_timed_s:
        width = widths[n] = relative_half_width(samples)
        if width <= plan.target_interval:
            return "converged"
        half = [widths[earlier] for earlier in widths if earlier <= n / 2]
        if half and width > PLATEAU * half[-1]:
            return "plateau"
    is_capped = spent >= plan.max_timed_s and n >= plan.min_slow_forwards
    return "cap" if is_capped or n >= plan.max_forwards else None


def limited(count: int, cap_s: float) -> Iterator[int]:
    """Count up to `count`, or to the cap, but to three at least."""
    begin = time.perf_counter()
    for index in range(count):
        if index >= FEWEST_FORWARDS and time.perf_counter() - begin > cap_s:
            return
        yield index
