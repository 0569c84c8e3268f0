"""Timing forwards: warm-up, chunks of work in flight, and when the median is known well enough.

Source: the stopping rules of nvbench and pyperf, with the median's interval by order statistics.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from hooks import Clock
from results.records.case import TimingPlan
from results.records.measurement import Latency, StopReason
from results.tables.stats import relative_half_width

CHUNK_S = 0.2  # timed work between two synchronises
MAX_CHUNK_FORWARDS = 64
SLOW_FORWARD_S = 1.0
STABLE = 0.01  # the warm-up ends when the median moves less
# The interval shrinks to 0.71 when samples double. Twice in a row above this, it has stopped:
# once alone is common in plain noise.
PLATEAU = 0.9
FEWEST_FORWARDS = 3  # of a pass that is limited in time


@dataclass(frozen=True)
class Chunk:
    """Forwards between two synchronises.

    forward_s: Each by the clock.
    wall_s: All together by the wall, the wait for the device included.
    launch_s: Until the first forward returned to the host. On a GPU whose queue was empty: about
        as long as the forward itself where launching is what limits it.
    """

    forward_s: list[float]
    wall_s: float
    launch_s: float


def time_forwards(
    forward: Callable[[], object],
    clock: Clock,
    plan: TimingPlan,
    now: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Warm up, then time forwards until the median is known well enough.

    Forwards are marked without waiting, many in flight, with one synchronise a chunk. The chunk's
    wall time is kept beside their sum, and how long the host took to launch the first of them.
    """
    with collected_garbage():
        first_s = timed_chunk(forward, clock, 1, now).wall_s
        warm_s = warm_up(forward, clock, plan, now)
        samples: list[float] = []
        chunks: list[Chunk] = []
        widths: dict[int, float] = {}
        stop_reason: StopReason | None = None
        size = chunk_size(float(np.median(warm_s)))
        while stop_reason is None:
            size = min(size, plan.max_forwards - len(samples))
            chunk = timed_chunk(forward, clock, size, now)
            samples += chunk.forward_s
            chunks.append(chunk)
            stop_reason = why_stop(samples, widths, plan)
    return Latency(
        forward_s=tuple(samples),
        chunk_forwards=tuple(len(chunk.forward_s) for chunk in chunks),
        chunk_wall_s=tuple(chunk.wall_s for chunk in chunks),
        chunk_launch_s=tuple(chunk.launch_s for chunk in chunks),
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
) -> Chunk:
    """Run some forwards with nothing between them, then wait for all."""
    clock.synchronize()
    begin = launched = now()
    marks = []
    for index in range(size):
        start = clock.mark()
        forward()
        marks.append((start, clock.mark()))
        if index == 0:
            launched = now()
    clock.synchronize()
    wall_s = now() - begin
    seconds = [clock.seconds(start, end) for start, end in marks]
    for pair in marks:
        clock.release(*pair)
    return Chunk(seconds, wall_s, launched - begin)


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
        seconds += timed_chunk(forward, clock, size, now).forward_s
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
        widths: Relative half width of the interval whenever the samples had doubled, by their
            number; added to.
        plan: The limits.
    """
    n, spent = len(samples), float(np.sum(samples))
    least = plan.min_slow_forwards if spent / n > SLOW_FORWARD_S else plan.min_forwards
    if n >= least and spent >= plan.min_timed_s:
        width = relative_half_width(samples)
        if width <= plan.target_interval:
            return "converged"
        if not widths or n >= 2 * max(widths):
            widths[n] = width
            last = list(widths.values())[-3:]
            if len(last) == 3 and last[2] > PLATEAU * last[1] > PLATEAU**2 * last[0]:
                return "plateau"
    is_capped = spent >= plan.max_timed_s and n >= plan.min_slow_forwards
    return "cap" if is_capped or n >= plan.max_forwards else None


def limited(count: int, cap_s: float, fewest: int = FEWEST_FORWARDS) -> Iterator[int]:
    """Count up to `count`, or to the cap, but to `fewest` at least."""
    begin = time.perf_counter()
    for index in range(count):
        if index >= fewest and time.perf_counter() - begin > cap_s:
            return
        yield index
