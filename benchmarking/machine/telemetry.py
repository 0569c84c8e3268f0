"""What a GPU does while a case is measured, from NVML: clocks, power, temperature, company.

Read by a thread of the process that runs the sweep, never by the one whose work is timed.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Self

import psutil
import pynvml

from results.records.environment import OtherProcess, Telemetry

INTERVAL_S = 0.5  # NVML's own power readings change about ten times a second
MEGA, MILLI = 1_000_000, 1e-3
HOST_PIDS = "pid:[4026531836]"  # Linux's PROC_PID_INIT_INO: the namespace that NVML's pids are of

# NVML's bits for why clocks are not at their highest.
REASONS = {
    pynvml.nvmlClocksEventReasonGpuIdle: "idle",
    pynvml.nvmlClocksEventReasonApplicationsClocksSetting: "application clocks",
    pynvml.nvmlClocksEventReasonSwPowerCap: "power cap",
    pynvml.nvmlClocksEventReasonHwSlowdown: "hardware slowdown",
    pynvml.nvmlClocksEventReasonSyncBoost: "sync boost",
    pynvml.nvmlClocksEventReasonSwThermalSlowdown: "thermal slowdown by the driver",
    pynvml.nvmlClocksEventReasonHwThermalSlowdown: "thermal slowdown by the hardware",
    pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown: "power brake",
    pynvml.nvmlClocksEventReasonDisplayClockSetting: "display clocks",
}
# Under these a GPU is slower than it should be. A power cap is not among them: it is the normal
# state of a card of 72 W.
SLOWDOWNS = (
    "hardware slowdown",
    "thermal slowdown by the driver",
    "thermal slowdown by the hardware",
    "power brake",
)


def reasons_of(bits: int) -> tuple[str, ...]:
    return tuple(name for bit, name in REASONS.items() if bits & bit)


# Read at each look.
SERIES: dict[str, Callable[[Any], Any]] = {
    "sm_clock_hz": lambda gpu: MEGA * pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM),
    "memory_clock_hz": lambda gpu: MEGA * pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_MEM),
    "power_watts": lambda gpu: MILLI * pynvml.nvmlDeviceGetPowerUsage(gpu),
    "temperature_celsius": lambda gpu: pynvml.nvmlDeviceGetTemperature(
        gpu, pynvml.NVML_TEMPERATURE_GPU
    ),
    "used_bytes": lambda gpu: int(pynvml.nvmlDeviceGetMemoryInfo(gpu).used),
    "event_reasons": lambda gpu: reasons_of(pynvml.nvmlDeviceGetCurrentClocksEventReasons(gpu)),
    "processes": lambda gpu: {
        process.pid: process.usedGpuMemory
        for process in pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)
    },
}
# Read once, before the case.
FACTS: dict[str, Callable[[Any], Any]] = {
    "power_limit_watts": lambda gpu: MILLI * pynvml.nvmlDeviceGetEnforcedPowerLimit(gpu),
    "uncorrected_errors": lambda gpu: pynvml.nvmlDeviceGetTotalEccErrors(
        gpu, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
    ),
    "is_mig": lambda gpu: bool(pynvml.nvmlDeviceGetMigMode(gpu)[0]),
}


class Gauge:
    """Reads one GPU; what fails is remembered with its reason, and is None from then on."""

    def __init__(self, uuid: str) -> None:
        self.missing: dict[str, str] = {}
        self.gpu: Any = None
        try:
            pynvml.nvmlInit()
            full = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"  # torch's is short
            self.gpu = pynvml.nvmlDeviceGetHandleByUUID(full)
        except pynvml.NVMLError as error:
            self.missing = dict.fromkeys((*SERIES, *FACTS, "energy_joules"), str(error))

    def read(self, name: str, reader: Callable[[Any], Any]) -> Any:
        if name in self.missing:
            return None
        try:
            return reader(self.gpu)
        except pynvml.NVMLError as error:
            self.missing[name] = str(error)
            return None

    def look(self) -> dict[str, Any]:
        return {name: self.read(name, reader) for name, reader in SERIES.items()}

    def energy_joules(self) -> float | None:
        """Since the driver was loaded."""
        joules: float | None = self.read(
            "energy_joules",
            lambda gpu: MILLI * pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu),
        )
        return joules


class TelemetryWatch:
    """Looks at a GPU before, during and after the work in its body.

    Args:
        uuid: The GPU's, as torch or NVML names it.
        find_own_pids: Tells the processes that are ours just now.
        interval_s: Between two looks.
    """

    def __init__(
        self,
        uuid: str,
        find_own_pids: Callable[[], Iterable[int]] | None = None,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self.gauge, self.interval_s = Gauge(uuid), interval_s
        self.find_own_pids = find_own_pids or own_pids
        self.own_pids: set[int] = set()
        self.at_s: list[float] = []
        self.looks: list[dict[str, Any]] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, daemon=True)

    def __enter__(self) -> Self:
        self.facts = {name: self.gauge.read(name, reader) for name, reader in FACTS.items()}
        self.began = time.monotonic()
        self.energy_before = self.gauge.energy_joules()
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._look()
        self.energy_after = self.gauge.energy_joules()

    def _keep_looking(self) -> None:
        while not self._is_over.wait(self.interval_s):
            self._look()

    def _look(self) -> None:
        self.at_s.append(time.monotonic() - self.began)
        self.looks.append(self.gauge.look())
        self.own_pids.update(self.find_own_pids())  # at each look, since workers come and go

    def telemetry(self) -> Telemetry:
        """What was seen; after the body."""
        energy_joules = None
        if self.energy_before is not None and self.energy_after is not None:
            energy_joules = max(0.0, self.energy_after - self.energy_before)
        series: dict[str, Any] = {name: tuple(look[name] for look in self.looks) for name in SERIES}
        processes = series.pop("processes")
        missing = dict(self.gauge.missing)
        if "processes" in missing:
            missing["other_processes"] = missing["process_count"] = missing.pop("processes")
        elif not sees_host_pids():
            missing["other_processes"] = "in a container NVML's pids can't be told from our own"
        return Telemetry(
            at_s=tuple(self.at_s),
            **series,
            **self.facts,
            energy_joules=energy_joules,
            process_count=tuple(None if look is None else len(look) for look in processes),
            other_processes=(
                None if "other_processes" in missing else strangers(processes, self.own_pids)
            ),
            missing=missing,
        )


def strangers(
    looks: Iterable[dict[int, int | None] | None], own_pids: Iterable[int]
) -> tuple[OtherProcess, ...]:
    """The processes of all looks that are none of ours, each with the most memory it had."""
    most: dict[int, int | None] = {}
    for look in looks:
        for pid, used_bytes in (look or {}).items():
            known = [each for each in (most.get(pid), used_bytes) if each is not None]
            most[pid] = max(known, default=None)
    own = set(own_pids)
    return tuple(
        OtherProcess(pid=pid, used_bytes=most[pid]) for pid in sorted(most) if pid not in own
    )


def own_pids() -> frozenset[int]:
    """This process and its workers, which are no strangers on a GPU."""
    process = psutil.Process()
    return frozenset({process.pid, *(child.pid for child in process.children(recursive=True))})


def sees_host_pids() -> bool:
    """Whether this process knows itself by the pid that NVML knows it by."""
    try:
        return os.readlink("/proc/self/ns/pid") == HOST_PIDS
    except OSError:
        return False


def slowdowns(telemetry: Telemetry) -> tuple[str, ...]:
    """Why the GPU was slower than it should be while the case ran, if it was."""
    seen = {reason for reasons in telemetry.event_reasons[1:] for reason in reasons or ()}
    return tuple(reason for reason in SLOWDOWNS if reason in seen)
