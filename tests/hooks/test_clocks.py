"""Clocks: the host's, and CUDA events, whose logic a fake event proves without a GPU."""

from __future__ import annotations

import time

import pytest
import torch

from hooks import CudaClock, WallClock, clock_for, clocks

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class FakeEvent:
    """Records the moment at which a fake stream is; the device is ever behind."""

    now_ms = 0.0
    made = 0

    def __init__(self) -> None:
        FakeEvent.made += 1
        self.at_ms = -1.0

    def record(self, stream: str) -> None:
        assert stream == "stream of cuda:1"
        self.at_ms = FakeEvent.now_ms

    def elapsed_time(self, end: FakeEvent) -> float:
        return end.at_ms - self.at_ms


@pytest.fixture
def fake_cuda(monkeypatch):
    """CUDA without a GPU; the list of the devices that were waited for."""
    waited = []
    monkeypatch.setattr(FakeEvent, "made", 0)
    monkeypatch.setattr(FakeEvent, "now_ms", 0.0)
    monkeypatch.setattr(clocks, "new_event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: waited.append(str(device)))
    return waited


def test_wall_clock_tells_seconds_from_nanoseconds():
    assert WallClock().seconds(2_000_000_000, 3_500_000_000) == 1.5


def test_wall_clock_marks_the_hosts_monotonic_time(monkeypatch):
    monkeypatch.setattr(time, "perf_counter_ns", lambda: 42)

    assert WallClock().mark() == 42


def test_cuda_clock_tells_seconds_from_milliseconds(fake_cuda):
    clock = CudaClock("cuda:1")
    start = clock.mark()
    FakeEvent.now_ms += 250.0
    end = clock.mark()

    assert clock.seconds(start, end) == 0.25


def test_cuda_clock_waits_only_when_told_to(fake_cuda):
    clock = CudaClock("cuda:1")
    clock.seconds(clock.mark(), clock.mark())
    before = list(fake_cuda)
    clock.synchronize()

    assert (before, fake_cuda) == ([], ["cuda:1"])


def test_cuda_clock_marks_with_events_made_beforehand(fake_cuda):
    clock = CudaClock("cuda:1", pool_size=3)
    made = FakeEvent.made
    marks = [clock.mark() for _ in range(3)]

    assert (made, FakeEvent.made, len(set(marks))) == (3, 3, 3)


def test_cuda_clock_makes_events_when_its_pool_is_empty(fake_cuda):
    clock = CudaClock("cuda:1", pool_size=1)
    marks = [clock.mark() for _ in range(3)]

    assert len(set(marks)) == 3


def test_released_events_are_used_again(fake_cuda):
    clock = CudaClock("cuda:1", pool_size=2)
    for _ in range(10):
        clock.release(clock.mark(), clock.mark())

    assert FakeEvent.made == 2


@pytest.mark.parametrize(("device", "kind"), [("cpu", WallClock), ("cuda:1", CudaClock)])
def test_each_device_has_its_clock(fake_cuda, device, kind):
    assert type(clock_for(device)) is kind


@pytest.mark.gpu
@needs_cuda
def test_events_see_work_on_the_gpu_within_the_hosts_time():
    matrix = torch.randn(2048, 2048, device="cuda")
    clock, wall = CudaClock("cuda"), WallClock()
    clock.synchronize()
    begin = wall.mark()
    start = clock.mark()
    for _ in range(20):
        matrix = matrix @ matrix.T / 2048
    end = clock.mark()
    clock.synchronize()
    wall_s = wall.seconds(begin, wall.mark())

    assert 0 < clock.seconds(start, end) <= wall_s
