"""Peak memory of the forward calls of modules."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from .calls import CallHooks


class MemoryMeter(Protocol):
    """Reads how much memory is held, and the most that was held since the last reset.

    settle() lets go of what is kept for reuse, so that earlier work does not show.
    """

    source: str  # what is read, for a person

    def settle(self) -> None: ...
    def held_bytes(self) -> int: ...
    def peak_bytes(self) -> int: ...
    def reset_peak(self) -> None: ...


class CudaMeter:
    """What torch's caching allocator has handed out on a GPU; exact, and without waiting."""

    source = "torch's CUDA allocator"

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)

    def settle(self) -> None:
        gc.collect()
        torch.cuda.synchronize(self.device)
        torch.cuda.empty_cache()
        torch.cuda.reset_accumulated_memory_stats(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)

    def held_bytes(self) -> int:
        return torch.cuda.memory_allocated(self.device)

    def peak_bytes(self) -> int:
        return torch.cuda.max_memory_allocated(self.device)

    def reset_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats(self.device)


class ResidentMeter:
    """This process's resident memory, from Linux's /proc.

    It includes the interpreter and what the C allocator keeps for reuse, so it tells what a
    process needs, and small modules by a page at best.
    """

    source = "resident memory of the process"

    def settle(self) -> None:
        gc.collect()
        with suppress(AttributeError):  # a C library without it
            ctypes.CDLL(None).malloc_trim(0)

    def held_bytes(self) -> int:
        return self._status_bytes("VmRSS")

    def peak_bytes(self) -> int:
        return self._status_bytes("VmHWM")

    def reset_peak(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # 5 resets VmHWM, see man 5 proc

    @staticmethod
    def _status_bytes(field: str) -> int:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"/proc/self/status has no {field}: this meter needs Linux.")


def meter_for(device: torch.device | str) -> CudaMeter | ResidentMeter:
    """The meter that reads this device's memory."""
    device = torch.device(device)
    return CudaMeter(device) if device.type == "cuda" else ResidentMeter()


@dataclass(slots=True)
class MemoryWatch:
    """Memory during one call: what was held when it began, and the most since."""

    held_bytes: int
    peak_bytes: int


class PeakMemory(CallHooks[MemoryWatch]):
    """Watches the peak memory of modules' forward calls while it is entered.

    Args:
        modules: Name and module; a module may contain another.
        meter: Reads the memory of the device that the modules run on.
    """

    def __init__(self, modules: Mapping[str, nn.Module], meter: MemoryMeter) -> None:
        super().__init__(modules)
        self.meter = meter
        self._done: dict[str, list[MemoryWatch]] = {name: [] for name in self.modules}

    def _begin(self, name: str) -> MemoryWatch:
        self._pass_peak_on()
        held = self.meter.held_bytes()
        return MemoryWatch(held, held)  # a meter that rounds may tell a peak below

    def _end(self, name: str, has_failed: bool) -> None:
        self._pass_peak_on()
        watch = self._open.pop()
        if self._open:
            self._open[-1].peak_bytes = max(self._open[-1].peak_bytes, watch.peak_bytes)
        if not has_failed:
            self._done[name].append(watch)

    def _pass_peak_on(self) -> None:
        """Credit the peak so far to the innermost open call, and start a new one."""
        if self._open:
            self._open[-1].peak_bytes = max(self._open[-1].peak_bytes, self.meter.peak_bytes())
        self.meter.reset_peak()

    def peak_bytes(self) -> dict[str, int]:
        """The most memory held during any call, by module name; modules never called left out."""
        return self._most(lambda watch: watch.peak_bytes)

    def rise_bytes(self) -> dict[str, int]:
        """The most that a call added to what was held when it began, by module name."""
        return self._most(lambda watch: watch.peak_bytes - watch.held_bytes)

    def _most(self, bytes_of: Callable[[MemoryWatch], int]) -> dict[str, int]:
        return {name: max(map(bytes_of, calls)) for name, calls in self._done.items() if calls}
