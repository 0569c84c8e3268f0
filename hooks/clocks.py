"""Clocks that mark moments of a forward without waiting for the device."""

from __future__ import annotations

import time
from typing import Any, Protocol

import torch


class Clock(Protocol):
    """Marks moments now, and tells the seconds between two of them later."""

    def mark(self) -> Any:
        """A mark of this moment in the device's queue of work; never waits for the device."""

    def seconds(self, start: Any, end: Any) -> float:
        """Seconds between two marks; only after synchronize()."""

    def synchronize(self) -> None:
        """Wait until all work queued so far is done."""

    def release(self, *marks: Any) -> None:
        """Give marks back that are no longer needed, for reuse."""


class WallClock:
    """The host's clock: right for devices whose operations return when they are done (CPU)."""

    def mark(self) -> int:
        return time.perf_counter_ns()

    def seconds(self, start: int, end: int) -> float:
        return (end - start) * 1e-9

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def release(self, *marks: int) -> None:
        """Integers need no reuse."""


class CudaClock:
    """CUDA events on the current stream.

    Args:
        device: The GPU.
        pool_size: Events made beforehand, since making one costs more than recording it.
    """

    def __init__(self, device: torch.device | str, pool_size: int = 256) -> None:
        self.device = torch.device(device)
        self._pool = [new_event() for _ in range(pool_size)]
        for event in self._pool:
            event.record(torch.cuda.current_stream(self.device))  # the first record makes it

    def mark(self) -> torch.cuda.Event:
        event = self._pool.pop() if self._pool else new_event()
        event.record(torch.cuda.current_stream(self.device))
        return event

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        return float(start.elapsed_time(end)) * 1e-3  # elapsed_time is in ms

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.device)

    def release(self, *marks: torch.cuda.Event) -> None:
        self._pool.extend(marks)


def new_event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch's gap


def clock_for(device: torch.device | str) -> Clock:
    """The clock that times work on this device."""
    device = torch.device(device)
    return CudaClock(device) if device.type == "cuda" else WallClock()
