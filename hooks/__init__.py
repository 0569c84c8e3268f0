"""Stopwatches for any torch module: forward hooks that time calls and watch memory."""

from .clocks import Clock, CudaClock, WallClock, clock_for
from .memory import CudaMeter, MemoryMeter, PeakMemory, ResidentMeter, meter_for
from .timer import ForwardTimer

__all__ = [
    "Clock",
    "CudaClock",
    "CudaMeter",
    "ForwardTimer",
    "MemoryMeter",
    "PeakMemory",
    "ResidentMeter",
    "WallClock",
    "clock_for",
    "meter_for",
]
