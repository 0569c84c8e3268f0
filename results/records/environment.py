"""The machine that a record was made on, and what it did meanwhile."""

from __future__ import annotations

from .quantities import Amount, Bytes, Count, Samples, Strict


class Gpu(Strict):
    """One GPU of the machine."""

    index: int
    name: str
    uuid: str
    memory_bytes: Bytes
    compute_capability: str


# Of an environment, what differs between machines that measure the same sweep; torch tells of cuDNN
# beside a GPU alone.
OF_ONE_MACHINE = frozenset({
    "hostname", "os", "cpu", "cores", "memory_bytes", "gpus", "driver", "cudnn",
    "cuda_visible_devices", "notes",
})  # fmt: skip


class Environment(Strict):
    """Where a record was made. Nothing here comes from environment variables but CUDA's own."""

    hostname: str
    os: str
    cpu: str
    cores: int
    memory_bytes: Bytes
    gpus: tuple[Gpu, ...]
    driver: str | None
    cuda: str | None
    cudnn: str | None
    torch: str
    torchvision: str | None
    python: str
    sam_bench: str
    git_commit: str | None
    git_dirty: bool | None
    source_sha256: str  # of our own code as it ran, committed or not
    cuda_visible_devices: str | None = None
    alloc_conf: str | None = None  # PYTORCH_ALLOC_CONF, which changes the memory that is held
    notes: tuple[str, ...] = ()  # what could not be found out, and why

    def find_gpu(self, device: str) -> Gpu | None:
        """The GPU that torch names so; None for a CPU."""
        kind, _, index = device.partition(":")
        if kind != "cuda":
            return None
        return next((gpu for gpu in self.gpus if str(gpu.index) == (index or "0")), None)

    def device_name(self, device: str) -> str:
        """What tells a device from any other: a GPU's UUID, a CPU's name and its share."""
        gpu = self.find_gpu(device)
        if gpu is not None:
            return gpu.uuid
        if device != "cpu":
            return device
        return f"{self.cpu}, {self.cores} cores, {self.memory_bytes / 2**30:.0f} GiB"


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
