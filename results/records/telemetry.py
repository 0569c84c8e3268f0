"""What the GPU and the machine did while a case was measured."""

from __future__ import annotations

from .quantities import Amount, Bytes, Count, Samples, Strict


class OtherProcess(Strict):
    """A process that computed on a GPU and is none of ours."""

    pid: Count
    used_bytes: Bytes | None = None  # the most that was seen; None where the driver does not tell


class CoTenant(Strict):
    """Another worker of ours on the same machine, which shares its CPU, its PCIe and its power."""

    pid: Count
    gpu: str | None = None  # that it was bound to, as CUDA_VISIBLE_DEVICES says


class Telemetry(Strict):
    """What the GPU did while the case was measured, from NVML; a list for each quantity.

    What a GPU does not tell is None, and `missing` says why.
    """

    at_s: Samples = ()  # since the measuring began; the first look is before, the last after
    sm_clock_hz: tuple[Count | None, ...] = ()
    memory_clock_hz: tuple[Count | None, ...] = ()
    power_watts: tuple[Amount | None, ...] = ()
    temperature_celsius: tuple[Count | None, ...] = ()
    used_bytes: tuple[Bytes | None, ...] = ()  # of the whole device, by any process
    event_reasons: tuple[tuple[str, ...] | None, ...] = ()  # why clocks are not at their highest
    process_count: tuple[Count | None, ...] = ()  # that computed on it, ours among them
    energy_joules: Amount | None = None  # of the board, from the first look to the last
    power_limit_watts: Amount | None = None
    uncorrected_errors: Count | None = None  # of the memory (ECC), since the driver was loaded
    is_mig: bool | None = None  # whether the GPU is split into instances
    other_processes: tuple[OtherProcess, ...] | None = None  # of all looks
    missing: dict[str, str] = {}  # quantity: why it is not known
