"""Does our latency agree with what others measure? Referees that time forwards in their own way.

Run as a process of its own, it prints one JSON line for the doctor, which never loads torch.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils import benchmark

from hooks import Clock, clock_for
from results.tables.stats import median_interval

from .timing import CHUNK_S, chunk_size, collected_garbage, limited, timed_chunk

Forward = Callable[[], object]

GOAL = 0.02  # how far from a referee we may be
# From here on the GPU waits for the host in places, which isn't in a kernel's time.
LAUNCH_BOUND = 0.8
KERNEL_FORWARDS = 5
EXAM_TRIES, EXAM_CAP_S = 100, 5.0


@dataclass(frozen=True)
class ReferenceTimer:
    """Somebody else's stopwatch.

    seconds: Seconds of one forward, from the forward and its device.
    devices: Types of the devices that it serves.
    sees_gaps: Whether its time has the gaps between kernels, as ours has.
    """

    seconds: Callable[[Forward, torch.device], float]
    devices: tuple[str, ...]
    sees_gaps: bool = True


@dataclass(frozen=True)
class Agreement:
    """Our time of a forward and a referee's, from rounds that took both in turn.

    launch_share: The host's time to launch a forward over the forward's; None where a forward
        returns when it is done (CPU).
    sees_gaps: Whether the referee sees the gaps that launching leaves between kernels.
    """

    own_s: tuple[float, ...]
    referee_s: tuple[float, ...]
    launch_share: float | None = None
    sees_gaps: bool = True

    @property
    def ratio(self) -> float:
        """Ours over the referee's: the median of the rounds' ratios."""
        return float(np.median(self.ratios))

    @property
    def spread(self) -> tuple[float, float]:
        """The 95 % interval of the ratio; all rounds where they are too few for one."""
        low, high = median_interval(self.ratios)
        return (low, high) if low == low else (min(self.ratios), max(self.ratios))

    @property
    def ratios(self) -> tuple[float, ...]:
        return tuple(own / other for own, other in zip(self.own_s, self.referee_s, strict=True))

    @property
    def is_launch_bound(self) -> bool:
        return self.launch_share is not None and self.launch_share >= LAUNCH_BOUND

    @property
    def label(self) -> str:
        """Whether we are within the goal: '~' where the spread crosses it, or why not judged."""
        if self.is_launch_bound and not self.sees_gaps:
            return "launch-bound"
        low, high = self.spread
        if low >= 1 - GOAL and high <= 1 + GOAL:
            return "yes"
        return "no" if high < 1 - GOAL or low > 1 + GOAL else "~"


@dataclass(frozen=True)
class TimerComparison:
    """How the doctor holds us against a referee.

    side: Of the square matrix that is multiplied.
    span_s: Of the referee's turn.
    limit: How far from 1 the ratio may be.
    """

    side: int
    span_s: float
    rounds: int
    limit: float


def agreement(
    forward: Forward,
    clock: Clock,
    rounds: int,
    device: torch.device,
    referees: Mapping[str, ReferenceTimer] | None = None,
    now: Callable[[], float] = time.perf_counter,
) -> dict[str, Agreement]:
    """Time a forward as the latency pass does and as each referee does, in turn.

    The order is reversed every other round, so that drift cancels.

    Args:
        forward: What is timed.
        clock: Ours.
        rounds: How often everyone gets a turn.
        device: Where the forward runs; referees that don't serve it stay out.
        referees: Instead of REFERENCE_TIMERS.
        now: The host's clock, in seconds.
    """
    called = REFERENCE_TIMERS if referees is None else referees
    called = {name: each for name, each in called.items() if device.type in each.devices}
    size = chunk_size(timed_chunk(forward, clock, 2, now).forward_s[-1])
    own_s, launch_shares = [], []
    others_s: dict[str, list[float]] = {name: [] for name in called}
    for index in range(rounds):
        for name in [None, *called][:: -1 if index % 2 else 1]:
            if name is not None:
                others_s[name].append(called[name].seconds(forward, device))
                continue
            timed_chunk(forward, clock, 1, now)  # the referees warm up, too
            chunk = timed_chunk(forward, clock, size, now)
            own_s.append(float(np.median(chunk.forward_s)))
            launch_shares.append(chunk.launch_s / own_s[-1])
    share = float(np.median(launch_shares)) if device.type == "cuda" else None
    return {
        name: Agreement(tuple(own_s), tuple(others_s[name]), share, each.sees_gaps)
        for name, each in called.items()
    }


def timer_seconds(forward: Forward, device: torch.device, span_s: float = CHUNK_S) -> float:
    """The host's clock around blocks of forwards, the device waited for after each block."""
    timer = benchmark.Timer(
        "forward()",
        globals={"forward": forward},
        num_threads=torch.get_num_threads(),  # otherwise it sets one
    )
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        return float(timer.blocked_autorange(min_run_time=span_s).median)


def do_bench_seconds(forward: Forward, device: torch.device) -> float:
    """Events around each forward, the L2 cache cleared before it."""
    from triton.testing import do_bench

    with torch.cuda.device(device):
        return float(do_bench(forward, rep=CHUNK_S * 1e3, return_mode="median")) * 1e-3  # ms


def kernel_seconds(forward: Forward, device: torch.device) -> float:
    """The sum of what the device did, the gaps in between left out."""
    with torch.cuda.device(device):
        forward()
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            for _ in range(KERNEL_FORWARDS):
                forward()
            torch.cuda.synchronize()
    return device_seconds(profiler.events()) / KERNEL_FORWARDS


def device_seconds(events: Iterable[Any]) -> float:
    """The sum of kernels, copies and fills on the GPU among a profiler's events."""
    durations_us = [
        event.time_range.elapsed_us()
        for event in events
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation
    ]
    if not durations_us:
        raise RuntimeError(
            "torch.profiler must record kernels, got none: CUPTI may be missing, or counters be "
            "closed to users (NVreg_RestrictProfilingToAdminUsers)."
        )
    return sum(durations_us) * 1e-6


def examine(device: torch.device) -> dict[str, float]:
    """Hold our time of a matrix product against a referee's, by the least of either.

    Other work on the machine makes a time longer, never shorter: the minima of more rounds come
    closer to the truth, so a machine that fails is tried again. A wrong clock stays wrong.
    """
    exam = EXAMS[device.type]
    timer = ReferenceTimer(partial(timer_seconds, span_s=exam.span_s), (device.type,))
    own_s: list[float] = []
    referee_s: list[float] = []
    ratio = float("inf")
    with torch.inference_mode(), collected_garbage():
        matrix = torch.randn(exam.side, exam.side, device=device)
        product = partial(torch.mm, matrix, matrix)
        for _ in limited(EXAM_TRIES, EXAM_CAP_S, fewest=1):
            met = agreement(product, clock_for(device), exam.rounds, device, {TIMER: timer})
            own_s += met[TIMER].own_s
            referee_s += met[TIMER].referee_s
            ratio = min(own_s) / min(referee_s)
            if abs(ratio - 1) <= exam.limit:
                break
    least = {"own_s": min(own_s), "referee_s": min(referee_s), "ratio": ratio}
    return least | {"limit": exam.limit, "rounds": len(own_s)}


EXAMS = {
    # So short that some rounds come between other work.
    "cpu": TimerComparison(side=192, span_s=0.002, rounds=10, limit=0.10),
    "cuda": TimerComparison(side=4096, span_s=CHUNK_S, rounds=3, limit=GOAL),
}
TIMER = "torch.utils.benchmark.Timer"
REFERENCE_TIMERS: dict[str, ReferenceTimer] = {
    TIMER: ReferenceTimer(timer_seconds, ("cpu", "cuda")),
    "triton.testing.do_bench": ReferenceTimer(do_bench_seconds, ("cuda",)),
    "torch.profiler, sum of kernels": ReferenceTimer(kernel_seconds, ("cuda",), sees_gaps=False),
}


if __name__ == "__main__":
    torch.set_num_threads(1)  # threads that wait for each other would make a busy CPU noisier
    print(json.dumps(examine(torch.device(sys.argv[1]))))
