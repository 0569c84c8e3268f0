"""The machine that a record was made on."""

from __future__ import annotations

from .quantities import Bytes, Strict


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
