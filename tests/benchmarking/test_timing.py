"""Timing by a clock that moves only when a forward moves it: all numbers are exact."""

from __future__ import annotations

import gc
import itertools
from types import SimpleNamespace

import pytest

from benchmarking.measuring import timing
from benchmarking.measuring.timing import (
    MAX_CHUNK_FORWARDS,
    chunk_size,
    collected_garbage,
    is_steady,
    limited,
    time_forwards,
    timed_chunk,
)
from results.records.case import TimingPlan

# Seconds of forwards, over and over.
PATTERNS = {
    "constant": (0.125,),
    "alternating": (0.125, 0.25),
    "quick": (2.0**-10,),
    "quick, alternating": (2.0**-10, 2.0**-9),
    "slow": (4.0,),
}


class Forward:
    """Spends the next of some seconds at each call; tells what it has spent.

    Args:
        clock: A FakeClock.
        name: A key of PATTERNS.
        head: Seconds before the pattern begins.
    """

    def __init__(self, clock, name, head=()):
        self.clock, self.spent = clock, []
        self.seconds = itertools.chain(head, itertools.cycle(PATTERNS[name]))

    def __call__(self):
        self.clock.log.append("forward")
        self.spent.append(next(self.seconds))
        self.clock.now_s += self.spent[-1]


@pytest.fixture
def clock(fake_clock):
    return fake_clock()


@pytest.fixture
def time_with(clock):
    """Time forwards of a pattern by a plan with these changes."""

    def run(name, head=(), **plan):
        return time_forwards(Forward(clock, name, head), clock, TimingPlan(**plan), clock.now)

    return run


# When timing stops


@pytest.mark.parametrize("least", [6, 20, 50])
def test_timing_converges_after_the_least_forwards_where_all_are_equal(time_with, least):
    latency = time_with("constant", min_forwards=least, min_timed_s=0.5)

    assert latency.stop_reason == "converged"
    assert latency.forward_s == (0.125,) * least


def test_timing_goes_on_for_the_least_time(time_with):
    latency = time_with("constant", min_forwards=6, min_timed_s=5.0)

    assert latency.forward_s == (0.125,) * 40


def test_timing_stops_at_a_plateau_where_noise_does_not_shrink(time_with):
    latency = time_with("alternating", min_forwards=20, max_timed_s=1000)

    assert latency.stop_reason == "plateau"
    assert len(latency.forward_s) == 80  # twice as many, twice in a row, and no better


def test_timing_stops_at_the_most_seconds(time_with):
    latency = time_with("alternating", min_forwards=20, max_timed_s=3.0)

    assert latency.stop_reason == "cap"
    assert sum(latency.forward_s[:-1]) < 3.0 <= sum(latency.forward_s)


@pytest.mark.parametrize("most", [1, 10, 100])
@pytest.mark.parametrize("name", ["quick, alternating", "alternating"])
def test_timing_never_takes_more_than_the_most_forwards(time_with, name, most):
    latency = time_with(name, min_forwards=10**5, max_timed_s=36_000, max_forwards=most)

    assert latency.stop_reason == "cap"
    assert len(latency.forward_s) == most


@pytest.mark.parametrize("least", [3, 5, 9])
def test_slow_forwards_have_their_own_least_number_which_the_cap_does_not_cut(time_with, least):
    latency = time_with("slow", min_slow_forwards=least, max_timed_s=5.0)

    assert len(latency.forward_s) == least


# Warm-up


def test_warm_up_takes_its_least_time_where_forwards_are_equal(time_with):
    latency = time_with("constant", warmup_s=1.0, warmup_forwards=3)

    assert (latency.warmup_s, latency.warmup_forwards) == (1.0, 8)


def test_warm_up_takes_its_least_forwards_where_they_take_longer(time_with):
    latency = time_with("constant", warmup_s=0.0, warmup_forwards=10)

    assert latency.warmup_forwards == 10


def test_warm_up_goes_on_until_the_forwards_are_steady(time_with):
    falling = [1.0, 0.8, 0.6, 0.4, 0.2]
    latency = time_with("constant", falling, warmup_s=0.0, warmup_forwards=1)

    assert latency.warmup_s > sum(falling[1:])
    assert set(latency.forward_s) == {0.125}


def test_warm_up_that_never_gets_steady_ends_at_its_cap(time_with):
    growing = (2.0**-7 * 1.25**index for index in itertools.count())
    latency = time_with(
        "constant", growing, warmup_s=0, warmup_forwards=1, warmup_cap_s=1, max_forwards=5
    )

    assert 1.0 <= latency.warmup_s < 1.5


@pytest.mark.parametrize(
    ("seconds", "steady"),
    [
        ([1.0], False),
        ([1.0, 1.0], True),
        ([1.0, 1.009], True),
        ([1.0, 1.011], False),
        ([5.0, 5.0, 1.0, 1.0, 1.0, 1.0], True),
        ([1.0, 1.0, 1.0, 1.0, 2.0, 2.0], False),
        ([1.0, 1.0, 9.0, 1.0, 1.0, 1.0, 1.0, 9.0, 1.0], True),  # an outlier moves no median
    ],
)
def test_forwards_are_steady_where_the_median_moves_less_than_1_percent(seconds, steady):
    assert is_steady(seconds) is steady


def test_the_first_forward_is_kept_apart(time_with):
    latency = time_with("constant", [3.0])

    assert latency.first_forward_s == 3.0
    assert set(latency.forward_s) == {0.125}
    assert latency.warmup_s == 0.125 * latency.warmup_forwards


# What is kept


@pytest.mark.parametrize("name", PATTERNS)
def test_every_timed_sample_is_kept(clock, name):
    forward = Forward(clock, name, [0.5, 0.25])
    latency = time_forwards(forward, clock, TimingPlan(), clock.now)

    first, *rest = forward.spent
    assert latency.first_forward_s == first
    assert latency.forward_s == pytest.approx(rest[latency.warmup_forwards :])


def test_an_outlier_is_kept(time_with):
    latency = time_with("constant", [*[0.125] * 20, 12.5], warmup_s=1.0, max_timed_s=60)

    assert 12.5 in latency.forward_s


@pytest.mark.parametrize("name", PATTERNS)
def test_chunks_hold_all_forwards_and_the_wall_time_of_each(clock, name):
    clock.wait_s = 0.5
    latency = time_forwards(Forward(clock, name), clock, TimingPlan(), clock.now)
    ends = list(itertools.accumulate(latency.chunk_forwards))
    own = [
        sum(latency.forward_s[end - size : end])
        for end, size in zip(ends, latency.chunk_forwards, strict=True)
    ]

    assert ends[-1] == len(latency.forward_s)
    assert latency.chunk_wall_s == pytest.approx([seconds + 0.5 for seconds in own])


def test_the_launch_of_a_chunks_first_forward_is_kept(clock):
    clock.wait_s = 0.5
    latency = time_forwards(Forward(clock, "constant"), clock, TimingPlan(), clock.now)

    assert set(latency.chunk_launch_s) == {0.125}  # this host is the device: without the wait
    assert len(latency.chunk_launch_s) == len(latency.chunk_forwards)


@pytest.mark.parametrize("size", [1, 5])
def test_a_chunk_waits_before_and_after_and_never_between(clock, size):
    timed_chunk(Forward(clock, "constant"), clock, size, clock.now)

    assert clock.log == ["wait", *["mark", "forward", "mark"] * size, "wait"]


@pytest.mark.parametrize("name", PATTERNS)
def test_all_marks_are_given_back(clock, name):
    time_forwards(Forward(clock, name), clock, TimingPlan(), clock.now)

    assert clock.out == 0


@pytest.mark.parametrize(
    ("forward_s", "size"), [(0.0, MAX_CHUNK_FORWARDS), (0.001, 64), (0.01, 20), (0.3, 1), (60, 1)]
)
def test_a_chunk_is_about_200_ms_of_work(forward_s, size):
    assert chunk_size(forward_s) == size


# Garbage


def test_garbage_is_not_collected_while_forwards_are_timed(clock):
    forward = Forward(clock, "constant")
    enabled = []
    time_forwards(
        lambda: (enabled.append(gc.isenabled()), forward()), clock, TimingPlan(), clock.now
    )

    assert set(enabled) == {False}
    assert gc.isenabled()


def test_garbage_is_collected_again_after_an_error(clock):
    def fail():
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        time_forwards(fail, clock, TimingPlan(), clock.now)

    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with collected_garbage():
            pass

        assert not gc.isenabled()
    finally:
        gc.enable()


# A pass that is limited in time


@pytest.fixture
def a_look_a_second(monkeypatch):
    seconds = itertools.count()
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: float(next(seconds))))


@pytest.mark.usefixtures("a_look_a_second")  # it looks from the third on
@pytest.mark.parametrize(
    ("count", "cap_s", "taken"), [(10, 100.0, 10), (10, 5.0, 8), (10, 0.0, 3), (2, 0.0, 2)]
)
def test_a_limited_pass_ends_at_its_count_or_cap_but_not_before_three(count, cap_s, taken):
    assert len(list(limited(count, cap_s))) == taken


@pytest.mark.usefixtures("a_look_a_second")
@pytest.mark.parametrize(("cap_s", "taken"), [(100.0, 10), (5.0, 6), (0.0, 1)])
def test_a_pass_may_be_limited_to_once(cap_s, taken):
    assert len(list(limited(10, cap_s, fewest=1))) == taken
